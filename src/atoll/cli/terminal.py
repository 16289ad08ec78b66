"""The local terminal: raw while a remote one is shown on it, and as it was before, whatever happens."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from atoll.core.errors import InvalidInput

from .ending import orderly_end

if TYPE_CHECKING:
    from atoll.sdk import Program

DETACH_KEYS = "ctrl-],d"
PIECE = 64 * 1024
DEFAULT_SIZE = (80, 24)
# What a full-screen program may have left switched on: the other screen, a hidden cursor, mouse, pasting, colours.
CALM = b"\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[0m"


def parse_keys(text: str) -> bytes:
    """
    >>> parse_keys("ctrl-p,ctrl-q")
    b'\\x10\\x11'
    """
    return b"".join(_key(each.strip()) for each in text.split(","))


def _key(text: str) -> bytes:
    name = text.lower().removeprefix("ctrl-")
    if len(name) == 1 and name != text.lower() and "@" <= name.upper() <= "_":
        return bytes([ord(name.upper()) & 0x1F])
    if len(text) == 1 and text.isascii() and text.isprintable():
        return text.encode()
    raise InvalidInput(f"{text!r} is no key: say a letter or ctrl-LETTER, several with commas between them")


class Keys:
    """Looks for the keys that detach, which may come in pieces. What only begins like them is passed on. Pure."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What is to be sent, and whether to detach."""
        held = self._held + data
        at = held.find(self._keys)
        if at >= 0:
            self._held = b""
            return held[:at], True
        kept = next(
            (n for n in range(min(len(held), len(self._keys) - 1), 0, -1) if self._keys.startswith(held[-n:])), 0
        )
        self._held = held[len(held) - kept :]
        return held[: len(held) - kept], False


def size_of(fd: int) -> tuple[int, int]:
    """Columns and rows."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return DEFAULT_SIZE
    return (size.columns or DEFAULT_SIZE[0], size.lines or DEFAULT_SIZE[1])


@contextlib.contextmanager
def raw(fd: int) -> Iterator[None]:
    """Every key goes to the program. Put back at the end, also at SIGTERM and SIGHUP, which end us as usual then."""
    before = termios.tcgetattr(fd)
    with orderly_end():
        try:
            tty.setraw(fd, termios.TCSADRAIN)
            yield
        finally:
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


class Wakes:
    """Signals as something to wait for beside a descriptor: SIGWINCH here."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._handler = signal.signal(signal.SIGWINCH, lambda *_: self.wake())
        self._open = True

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"w")

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)

    def close(self) -> None:
        signal.signal(signal.SIGWINCH, self._handler)
        os.close(self.fd)
        os.close(self._write)


def feed_keys(program: Program, fd: int, wakes: Wakes, keys: Keys, over: Callable[[], bool]) -> bool:
    """Keys and sizes from the terminal to the program until it is over; True when the person detaches.

    Runs in a thread of its own. `over` is asked at each wake.
    """
    from atoll.sdk import NetworkError

    try:
        while True:
            ready, _, _ = select.select((fd, wakes.fd), (), ())
            if wakes.fd in ready:
                wakes.clear()
                if over():
                    return False
                program.resize(*size_of(fd))
            if fd in ready:
                data = os.read(fd, PIECE)
                if not data:
                    program.end_input()
                    return False
                sent, detach = keys.feed(data)
                program.write(sent)
                if detach:
                    return True
    except NetworkError:
        return False
