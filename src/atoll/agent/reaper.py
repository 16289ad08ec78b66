"""The only place that waits for children. As PID 1 the agent also inherits every orphan of the sandbox, and a
`waitpid` elsewhere could steal a status that somebody waits for."""

from __future__ import annotations

import os
from collections.abc import Callable

OnExit = Callable[[int], None]


class Reaper:
    def __init__(self) -> None:
        self._watched: dict[int, OnExit] = {}

    def watch(self, pid: int, on_exit: OnExit) -> None:
        """In the same loop step as the fork, so that `reap` cannot come between. `on_exit` gets the wait status."""
        self._watched[pid] = on_exit

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            on_exit = self._watched.pop(pid, None)
            if on_exit is not None:
                on_exit(status)
