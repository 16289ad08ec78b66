"""The standard streams of a program to be: pipes or a terminal, and what makes output leave at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from atoll.wire.frames import STDERR, STDOUT

from .pipes import set_window
from .process_spec import Spec
from .users import User, Users

LINEFLUSH = "/.atoll/lib/lineflush.so"


@dataclass
class Plumbing:
    """The agent's sides of a program's standard streams."""

    readers: list[tuple[bytes, int]]
    stdin: int | None
    terminal: bool


def unbuffered(env: Mapping[str, str], stdout: int, lineflush: str | None) -> dict[str, str]:
    """Programs fully buffer a standard output that is no terminal; a caller who watches wants lines as they come.

    The mark names our pipe, so that `lineflush.so` leaves alone every program that writes to another one."""
    added = {"PYTHONUNBUFFERED": env.get("PYTHONUNBUFFERED", "1")}
    if lineflush is not None:
        pipe = os.fstat(stdout)
        added["ATOLL_STDOUT"] = f"{pipe.st_dev}:{pipe.st_ino}"
        added["LD_PRELOAD"] = ":".join(filter(None, (env.get("LD_PRELOAD"), lineflush)))
    return added


class Streams:
    """Descriptors made for a start: the program's ends are closed in any case, ours when the start fails."""

    def __init__(self) -> None:
        self._theirs: list[int] = []
        self._ours: list[int] = []

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (*self._theirs, *self._ours):
            os.close(fd)

    def theirs(self, fd: int) -> int:
        self._theirs.append(fd)
        return fd

    def ours(self, fd: int) -> int:
        self._ours.append(fd)
        return fd

    def keep_ours(self) -> None:
        self._ours.clear()

    def output(self) -> tuple[int, int]:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        return self.ours(reading), self.theirs(writing)


def open_pipes(spec: Spec, streams: Streams, users: Users, user: User) -> tuple[Plumbing, tuple[int, int, int]]:
    stdin = None
    if spec.stdin:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        child_in, stdin = streams.theirs(reading), streams.ours(writing)
    else:
        child_in = streams.theirs(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    out, child_out = streams.output()
    err, child_err = streams.output()
    for fd in (child_in, child_out, child_err) if spec.stdin else (child_out, child_err):
        users.give(fd, user)
    return Plumbing([(STDOUT, out), (STDERR, err)], stdin, False), (child_in, child_out, child_err)


def open_terminal(spec: Spec, streams: Streams, users: Users, user: User) -> tuple[Plumbing, tuple[int, int, int]]:
    """Opened with the user's ids, so that the device in /dev/pts is the user's."""
    assert spec.pty is not None
    with users.acting_as(user):
        ours, theirs = os.openpty()
    streams.ours(ours)
    streams.theirs(theirs)
    set_window(ours, spec.pty.cols, spec.pty.rows)
    stdin = streams.ours(os.dup(ours))  # its own number: reading ends on its own terms
    return Plumbing([(STDOUT, ours)], stdin, True), (theirs, theirs, theirs)
