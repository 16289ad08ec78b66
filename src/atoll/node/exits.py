"""Processes that are not our children: is this still the one we mean, and when does it end?

A pid alone is not a name, the kernel gives it out again. Pid and start time are one, and a pidfd holds on to it. The
node watches PID 1 of every sandbox itself, so an end is noticed also while no launcher is there to tell.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from atoll.core.engine import EngineHandle


def start_time(pid: int) -> int | None:
    """Clock ticks since boot, or None when the process is gone or only waits to be reaped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *numbers = text.rpartition(b")")[2].split()  # the name before it may hold blanks and brackets
    return None if state in (b"Z", b"X") else int(numbers[18])


def lives(handle: EngineHandle | None) -> bool:
    return handle is not None and start_time(handle["pid"]) == handle["start_time"]


class ExitWatch:
    """Calls back once for every watched process that ends."""

    def __init__(self, on_exit: Callable[[str, int], None]) -> None:
        self._on_exit = on_exit
        self._pidfds: dict[str, int] = {}

    def watch(self, sandbox_id: str, handle: EngineHandle) -> None:
        """A process that is gone already is reported in the next turn of the loop, like any other."""
        self.forget(sandbox_id)
        pid = handle["pid"]
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            asyncio.get_running_loop().call_soon(self._on_exit, sandbox_id, pid)
            return
        if not lives(handle):  # looked at after the open: the pid may have gone to somebody else before it
            os.close(pidfd)
            asyncio.get_running_loop().call_soon(self._on_exit, sandbox_id, pid)
            return
        self._pidfds[sandbox_id] = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._ended, sandbox_id, pid)

    def forget(self, sandbox_id: str) -> None:
        pidfd = self._pidfds.pop(sandbox_id, None)
        if pidfd is not None:
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)

    def close(self) -> None:
        for sandbox_id in list(self._pidfds):
            self.forget(sandbox_id)

    def _ended(self, sandbox_id: str, pid: int) -> None:
        self.forget(sandbox_id)
        self._on_exit(sandbox_id, pid)
