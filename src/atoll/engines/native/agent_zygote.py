"""The agent, imported once, cloned into every sandbox of a template as its PID 1.

    ← {"hostname", "nameservers", "limits", "config"} + [netns, U_S, tree, listening socket, seed channel,
                                                         birth channel, cgroup doors …]

Single-threaded, trusted code only, unprivileged on the host.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from atoll.agent import main as agent

from . import syscalls as sc
from . import zygote
from .birth import BirthFailed, be_born


def main() -> None:
    zygote.serve(lambda first: [], lambda fds: sc.clone_process(sc.CLONE_NEWPID), be_pid_1)


def be_pid_1(request: dict[str, Any], fds: list[int], bpf: bytes) -> None:
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
