"""The agent, imported once, cloned into every sandbox of a template as its PID 1.

    ← {"limits", "config"} + [netns, U_S, tree, listening socket, seed channel, birth channel, cgroup doors …]
    ← by the birth channel, each answered {"ready"}: {"rehearse"}, and {"hostname", "nameservers"} + [a file with the
      agent's configuration] when it becomes somebody's

Single-threaded, trusted code only, unprivileged on the host.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from atoll.agent import main as agent
from atoll.agent import rehearsal
from atoll.agent.runner import pages

from . import syscalls as sc
from . import zygote
from .birth import BirthFailed, be_born, take_identity


def main() -> None:
    zygote.serve(lambda first: rehearsal.rehearse(), lambda fds: sc.clone_process(sc.CLONE_NEWPID), be_pid_1)


def be_pid_1(request: dict[str, Any], fds: list[int], bpf: bytes) -> None:
    pages.look_ahead()
    netns, userns, tree, listening, seed, channel_fd, *cgroup_doors = fds
    channel = socket.socket(fileno=channel_fd)
    try:
        be_born(request, bpf, netns, userns, tree, channel, cgroup_doors)
    except BirthFailed:
        return
    for fd in (netns, userns, tree):
        os.close(fd)
    seed_socket = socket.socket(fileno=seed) if request["config"]["python"] else None
    if seed_socket is None:
        os.close(seed)
    agent.serve(socket.socket(fileno=listening), seed_socket, request["config"], Maker(channel))


class Maker:
    """The launcher, at the other end of the birth channel."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def fileno(self) -> int:
        return self._channel.fileno()

    def hear(self) -> dict[str, Any] | None:
        return take_identity(self._channel)

    def answer(self) -> None:
        sc.send_message(self._channel, {"ready": True})

    def leave(self) -> None:
        self._channel.close()


if __name__ == "__main__":
    main()
