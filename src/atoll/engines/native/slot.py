"""A slot: all of a sandbox but its processes – ids, namespaces, tree, network, cgroup, socket."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from atoll.core.limits import Limits

from . import tree
from .cgroup import Cgroup, Cgroups
from .ids import Slice
from .network import Fabric
from .zygotes import Generation

SOCKET_BACKLOG = 512


@dataclass(frozen=True)
class SlotRequest:
    sandbox_id: str
    image: str
    key: bytes
    limits: Limits
    socket_path: Path


@dataclass(frozen=True)
class Slot:
    ids: Slice
    userns_fd: int
    netns_fd: int
    tree_fd: int
    listening: socket.socket
    cgroup: Cgroup
    cgroup_doors: list[int]

    def close(self) -> None:
        """Lets go of our references; a sandbox that was born keeps its own."""
        for fd in (self.userns_fd, self.netns_fd, self.tree_fd, *self.cgroup_doors):
            os.close(fd)
        self.listening.close()


async def make_slot(
    request: SlotRequest, generation: Generation, ids: Slice, stage: tree.Stage, fabric: Fabric, cgroups: Cgroups
) -> Slot:
    """Undone in reverse when a step fails."""
    async with contextlib.AsyncExitStack() as undo:
        _, fds = await generation.helper.request({"inner_base": ids.inner_base})
        for fd in fds:
            undo.callback(os.close, fd)
        userns_fd, netns_fd = fds
        cgroup = cgroups.of(request.sandbox_id)
        undo.push_async_callback(cgroup.destroy)
        cgroup.create(request.limits)
        with stage.place(request.sandbox_id) as place:
            built = tree.build(
                place,
                stage,
                layers=generation.spec.layers,
                runtime=generation.spec.runtime,
                image=request.image,
                key=request.key,
                userns_fd=userns_fd,
                base_id=ids.host_base,
                shm_mib=max(64, request.limits.memory_mib // 2),
            )
        undo.callback(os.close, built.fd)
        undo.callback(fabric.disconnect, ids.number)
        fabric.connect(ids.number, netns_fd)
        listening = listen(request.socket_path)
        undo.pop_all()
    return Slot(ids, userns_fd, netns_fd, built.fd, listening, cgroup, cgroup.doors())


def listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(SOCKET_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening
