"""What the programs of a sandbox could hold up is done by a child, so that the launcher goes on meanwhile.

They can keep a directory's lock, or memory that is to be taken from them, for as long as their share of the processor
lets them. A child also comes back from nowhere: the launcher itself never enters a sandbox's mount namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from atoll.core.errors import AtollError, InternalError, Unavailable, from_wire, to_wire

from . import syscalls as sc
from .zygotes import readable

TIMEOUT_S = 10.0

Answer = dict[str, Any]  # Any: JSON values


async def in_child(work: Callable[[], Answer], what: str, timeout_s: float | None = TIMEOUT_S) -> Answer:
    """The answer of `work`, or the error that it raised. `Unavailable` when it takes too long: then it may be done.
    The child is there when this waits for the first time."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    with contextlib.closing(ours):
        with contextlib.closing(theirs):
            pid = os.fork()
            if pid == 0:
                _be_child(work, theirs)
            pidfd = os.pidfd_open(pid)  # nobody has reaped it: that is done between two steps of the loop
        try:
            async with asyncio.timeout(timeout_s):
                await readable(ours.fileno())
        except TimeoutError as error:
            raise Unavailable(f"{what} was not done within {timeout_s:g} s; it was given up, try again") from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        message, _ = sc.receive_message(ours)
    if message is None:
        raise InternalError(f"{what}: the child ended without an answer")
    if "error" in message:
        raise from_wire(message["error"])
    return dict(message)


def _be_child(work: Callable[[], Answer], answer_to: socket.socket) -> NoReturn:
    try:
        sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        answer = work()
    except AtollError as error:
        answer = {"error": to_wire(error)}
    except BaseException as error:
        answer = {"error": to_wire(InternalError(str(error)))}
    try:
        sc.send_message(answer_to, answer)
    finally:
        os._exit(0)
