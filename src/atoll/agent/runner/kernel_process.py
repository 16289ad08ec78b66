"""The kernel as a process: a child that does not outlive the bridge, in a session of its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Mapping
from typing import NoReturn

PR_SET_PDEATHSIG = 1


class KernelProcess:
    def __init__(self, argv: list[str], env: Mapping[str, str]) -> None:
        """Raises OSError. It inherits the working directory, and standard output and error: what a kernel's own
        libraries print, past Jupyter, is output of the cell too."""
        self._process = subprocess.Popen(argv, env=env, start_new_session=True, preexec_fn=_dies_with(os.getpid()))

    def status(self) -> int | None:
        """Of a kernel that has ended, as Popen has it: negative is a signal."""
        return self._process.poll()

    def interrupt(self) -> None:
        """The whole group, as a terminal does: what the kernel runs hears of it too."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGINT)


def _dies_with(parent: int) -> Callable[[], None]:
    library = ctypes.CDLL(None)

    def prepare() -> None:
        library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def end_like(status: int) -> NoReturn:
    """To the agent the bridge is the interpreter: it ends as the kernel has ended."""
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status & 0xFF if status >= 0 else 128 - status)
