"""What both zygotes do: answer the launcher's requests, each by a fork that lives on its own.

    ← a request with descriptors      → {"pid": host pid} or {"error": …}
    ← {"share": [[start, end], …]}    → {"shared": bytes}: its memory goes to a file, so that forks can give pages back

A dead sandbox must not wait for us to reap it (an un-reaped joiner blocks the end of its PID 1): SIGCHLD is ignored.
Syntax of Python 3.9: the template's interpreter loads this file too.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

from atoll.agent.runner import holes, pages

from . import syscalls as sc
from .privileges import existing_bits

Request = dict[str, Any]
Fork = Callable[[list[int]], int]
Life = Callable[[Request, list[int], bytes], None]
CONTROL_FD = 3


def serve(prepare: Callable[[Request], Sequence[str]], fork: Fork, life: Life) -> None:
    """`prepare` gets the first message, which also carries the filter, and returns what it could not do; `fork` returns
    0 in the child; `life` is the child's, and returns only when it has failed."""
    control = socket.socket(fileno=CONTROL_FD)
    first, _ = sc.receive_message(control)
    if first is None:
        return
    bpf = bytes.fromhex(first["bpf"])
    failed = prepare(first)
    existing_bits()
    pages.prepare()
    gc.collect()
    holes.fill()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sc.send_message(control, {"ready": True, "failed": failed})
    while True:
        request, fds = sc.receive_message(control)
        if request is None:
            return
        if "share" in request:
            answer = share_memory(request["share"])
        else:
            answer = answer_request(control, request, fds, bpf, fork, life)
        for fd in fds:
            os.close(fd)
        sc.send_message(control, answer)


def share_memory(regions: Sequence[Sequence[int]]) -> Request:
    try:
        shared = pages.share(regions)
    except OSError as error:
        return {"error": f"its memory cannot be shared: {error}"}
    gc.freeze()
    return {"shared": shared}


def answer_request(
    control: socket.socket, request: Request, fds: list[int], bpf: bytes, fork: Fork, life: Life
) -> Request:
    try:
        pid = fork(fds)
    except OSError as error:
        return {"error": str(error)}
    if pid == 0:
        try:
            control.close()
            life(request, fds, bpf)
        finally:
            os._exit(1)
    return {"pid": pid}
