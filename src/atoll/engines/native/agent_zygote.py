"""The agent, imported once, cloned into every sandbox of a template as its PID 1.

    ← {"hostname", "limits", "config"} + [netns, U_S, tree, listening socket, seed channel, birth channel,
                                             cgroup doors …]
    → {"pid": host pid} or {"error": …}

Single-threaded, trusted code only, unprivileged on the host. The first message carries the filter.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from typing import Any

from atoll.agent import main as agent

from . import syscalls as sc
from .birth import BirthFailed, be_born


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a dead sandbox must not wait for us to reap it
    control = socket.socket(fileno=3)
    first, _ = sc.receive_message(control)
    if first is None:
        return
    bpf = bytes.fromhex(first["bpf"])
    gc.collect()
    gc.freeze()
    sc.send_message(control, {"ready": True})
    while True:
        request, fds = sc.receive_message(control)
        if request is None:
            return
        answer = answer_request(control, request, fds, bpf)
        for fd in fds:
            os.close(fd)
        sc.send_message(control, answer)


def answer_request(control: socket.socket, request: dict[str, Any], fds: list[int], bpf: bytes) -> dict[str, Any]:
    try:
        pid = sc.clone_process(sc.CLONE_NEWPID)
    except OSError as error:
        return {"error": str(error)}
    if pid == 0:
        try:
            control.close()
            live(request, fds, bpf)
        finally:
            os._exit(1)
    return {"pid": pid}


def live(request: dict[str, Any], fds: list[int], bpf: bytes) -> None:
    netns, userns, tree, listening, seed, channel_fd, *cgroup_doors = fds
    channel = socket.socket(fileno=channel_fd)
    try:
        be_born(request, bpf, netns, userns, tree, channel, cgroup_doors)
    except BirthFailed:
        return
    for fd in (netns, userns, tree):
        os.close(fd)
    channel.close()
    seed_socket = socket.socket(fileno=seed) if request["config"]["python"] else None
    if seed_socket is None:
        os.close(seed)
    agent.serve(socket.socket(fileno=listening), seed_socket, request["config"])


if __name__ == "__main__":
    main()
