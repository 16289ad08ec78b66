"""The JVM of the Java kernel; Main.java is its other end and tells how the two talk. Standard library only.

A cell's output comes as frames of the JVM's; what programs that a cell has started print comes by pipes.
"""

import contextlib
import os
import select
import struct
import subprocess
from collections.abc import Callable, Iterator

HERE = os.path.dirname(os.path.abspath(__file__))
ARCHIVE = os.path.join(HERE, "kernel.jsa")
"""Of loaded classes, see rehearse.py: a JVM that maps it has less to do at its start."""
JAR = os.path.join(HERE, "kernel.jar")
OPENED = ("java.base/java.lang", "java.base/java.util")  # Environment.java
JVM = (
    "java",
    "-Xlog:disable",
    "-XX:-UsePerfData",  # no file for each in /tmp
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",  # the compiler works in the same heap, and nothing useful could be said any more
    "-Xms64m",  # grows with what is alive; a start by the machine's size would be more than some sandboxes have
    "-Xss2m",
    "-Dfile.encoding=UTF-8",
    "-Djava.awt.headless=true",
    *(f"--add-opens={package}=ALL-UNNAMED" for package in OPENED),
    "-cp",
    JAR,
    "atoll.jshell.Main",
)
PIECE = 1 << 16
PAUSE = b"P"

Frame = tuple[bytes, list[bytes]]
"""A kind and its texts."""


class Ended(Exception):
    """The JVM is gone."""


class Jvm:
    def __init__(self, archive: str = "-XX:SharedArchiveFile=" + ARCHIVE) -> None:
        commands, self._commands = os.pipe()
        self._events, events = os.pipe()
        out, stdout = os.pipe()
        err, stderr = os.pipe()
        self.process = subprocess.Popen(
            [JVM[0], archive, *JVM[1:], str(commands), str(events)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(commands, events),
        )
        for theirs in (commands, events, stdout, stderr):
            os.close(theirs)
        self._pipes = {out: b"O", err: b"F"}
        self._interrupts, self._interrupt = os.pipe()
        for pipe in (self._interrupts, self._interrupt, self._events, *self._pipes):
            os.set_blocking(pipe, False)
        self._held = bytearray()

    def execute(self, code: bytes) -> None:
        _read(self._interrupts)  # too late for the cell that they were for
        self._send(b"E" + struct.pack(">i", len(code)) + code)

    def interrupt(self, *_: object) -> None:
        """A signal's handler: `frames` does the rest, for another frame may be half written."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._interrupt, b"!")

    def _send(self, frame: bytes) -> None:
        rest = memoryview(struct.pack(">i", len(frame)) + frame)
        while rest:
            rest = rest[os.write(self._commands, rest) :]

    def frames(self, pause_s: Callable[[], float | None] = lambda: None) -> Iterator[Frame]:
        """As they come; after so many seconds without any, one of the kind PAUSE. Raises Ended."""
        while True:
            ready, _, _ = select.select([self._interrupts, self._events, *self._pipes], [], [], pause_s())
            if not ready:
                yield PAUSE, []
            if self._interrupts in ready:
                _read(self._interrupts)
                self._send(b"S")
            for pipe in set(ready) & set(self._pipes):
                yield from self._printed(pipe)
            if self._events in ready:
                yield from self._framed()

    def wait(self, wanted: bytes) -> None:
        for kind, _ in self.frames():
            if kind == wanted:
                return

    def left(self) -> Iterator[Frame]:
        """What the pipes hold at this moment."""
        for pipe in list(self._pipes):
            yield from self._printed(pipe)

    def _printed(self, pipe: int) -> Iterator[Frame]:
        while piece := _read(pipe):
            yield self._pipes[pipe], [piece]
        if piece == b"":
            os.close(pipe)
            del self._pipes[pipe]

    def _framed(self) -> Iterator[Frame]:
        piece = _read(self._events)
        if piece == b"":
            raise Ended
        self._held += piece or b""
        while len(self._held) >= 4:
            (size,) = struct.unpack_from(">i", self._held)
            if len(self._held) < 4 + size:
                return
            frame = bytes(self._held[4 : 4 + size])
            del self._held[: 4 + size]
            yield frame[:1], list(_texts(frame))


def _read(pipe: int) -> bytes | None:
    """None: nothing now; empty: nothing ever."""
    try:
        return os.read(pipe, PIECE)
    except BlockingIOError:
        return None


def _texts(frame: bytes) -> Iterator[bytes]:
    at = 1
    while at < len(frame):
        (size,) = struct.unpack_from(">i", frame, at)
        yield frame[at + 4 : at + 4 + size]
        at += 4 + size
