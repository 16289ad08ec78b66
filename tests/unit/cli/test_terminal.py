"""The local terminal: keys that leave, and that it is as it was, whatever happens."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest

from atoll.cli.terminal import DETACH_KEYS, Keys, parse_keys, raw, size_of
from atoll.core.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "keys"),
    [("ctrl-],d", b"\x1dd"), ("ctrl-p,ctrl-q", b"\x10\x11"), ("CTRL-A", b"\x01"), ("~,.", b"~."), ("ctrl-@", b"\0")],
)
def test_keys_are_named(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["", "ctrl-", "ctrl-1", "escape", "é", "a,,b", "\x1b"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="no key"):
        parse_keys(text)


@pytest.mark.parametrize("sent", [b"abc\x1dd", b"\x1d\x1dd", b"x\x1dx\x1dd", b"\x1d", b"plain", b"\x1dx", b""])
def test_keys_are_found_however_they_are_cut(sent: bytes) -> None:
    """All ways to cut what is typed into two pieces say the same as one piece does."""
    whole = Keys(parse_keys(DETACH_KEYS)).feed(sent)
    assert whole[1] is sent.endswith(b"\x1dd")
    for at in range(len(sent) + 1):
        keys = Keys(parse_keys(DETACH_KEYS))
        first, left = keys.feed(sent[:at])
        second, left_then = (b"", left) if left else keys.feed(sent[at:])
        assert (first + second, left or left_then) == whole


def test_what_only_began_like_them_is_passed_on() -> None:
    keys = Keys(b"\x1dd")
    assert keys.feed(b"\x1d") == (b"", False)
    assert keys.feed(b"x") == (b"\x1dx", False)


@pytest.fixture
def screen() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


def test_a_terminal_is_put_back_after_an_error(screen: tuple[int, int]) -> None:
    _, slave = screen
    before, handlers = termios.tcgetattr(slave), signal.getsignal(signal.SIGTERM)
    changed = None
    with contextlib.suppress(ZeroDivisionError), raw(slave):
        changed = termios.tcgetattr(slave)
        raise ZeroDivisionError
    assert changed is not None
    assert changed != before
    assert termios.tcgetattr(slave) == before
    assert signal.getsignal(signal.SIGTERM) == handlers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminal_is_put_back_when_we_are_told_to_end(screen: tuple[int, int], number: signal.Signals) -> None:
    _, slave = screen
    before = termios.tcgetattr(slave)
    code = (
        "import signal, sys\nfrom atoll.cli.terminal import raw\n"
        "with raw(0):\n    print('raw', flush=True)\n    signal.pause()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=slave, stdout=subprocess.PIPE, env=environment) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"raw\n"
        assert termios.tcgetattr(slave) != before
        running.send_signal(number)
        assert running.wait(10) == 128 + number
    assert termios.tcgetattr(slave) == before


def test_without_a_terminal_the_size_is_the_usual_one(tmp_path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert size_of(file.fileno()) == (80, 24)
