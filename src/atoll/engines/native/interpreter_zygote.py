"""The template's own Python with the template's preloaded modules, forked into sandboxes as their seed.

    ← {"limits"} + [pidfd of PID 1, U_S, seed channel, join channel, cgroup doors …]

It runs the template's files, so it is not trusted: root of U_T only, no proc of the host, and what it could
hurt is its own template's sandboxes. Syntax of Python 3.9; standard library of the template.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

from atoll.agent.runner import pages, preload, seed

from . import syscalls as sc
from . import zygote
from .birth import await_go, enter_cgroups
from .privileges import become_sandbox_root, limits_of

JOINED = sc.CLONE_NEWNS | sc.CLONE_NEWNET | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS | sc.CLONE_NEWCGROUP


def main() -> None:
    zygote.serve(lambda first: preload.preload(first["preload"]).failed, fork_into, join)


def fork_into(fds: list[int]) -> int:
    sc.setns(fds[0], sc.CLONE_NEWPID)
    return os.fork()


def join(request: dict[str, Any], fds: list[int], bpf: bytes) -> None:
    pidfd, userns, seed_fd, channel_fd, *cgroup_doors = fds
    channel = socket.socket(fileno=channel_fd)
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        await_go(channel)
        enter_cgroups(cgroup_doors)
        sc.setns(pidfd, JOINED)
        os.chdir("/")
        pages.look_ahead()
        become_sandbox_root(userns, limits_of(request), bpf)
        for fd in (pidfd, userns):
            os.close(fd)
        sc.send_message(channel, {"ready": True})
    except OSError as error:
        sc.send_message(channel, {"error": str(error)})
        return
    channel.close()
    seed.serve_seed(socket.socket(fileno=seed_fd))


if __name__ == "__main__":
    main()
