"""What a sandbox consists of but its processes, in two parts.

A *slot* – ids, namespaces, tree with its disk, network – takes some milliseconds and belongs to nobody in particular,
so it can be made ahead. A *berth* – cgroup, listening socket – carries the sandbox's id and is made at its birth.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.core.limits import Limits

from . import tree
from .cgroup import Cgroup, Cgroups
from .ids import Slice, generation_base
from .network import Fabric
from .volumes import VolumeRequest
from .zygotes import Generation

SOCKET_BACKLOG = 512


@dataclass(frozen=True)
class SlotRequest:
    name: str
    image: str
    key: bytes
    limits: Limits
    volumes: tuple[VolumeRequest, ...] = ()

    @classmethod
    def of(cls, name: str, params: dict[str, Any]) -> SlotRequest:  # Any: JSON values
        volumes = tuple(VolumeRequest.of(each) for each in params.get("volumes", ()))
        return cls(name, params["disk"], bytes.fromhex(params["key"]), Limits.from_wire(params["limits"]), volumes)


@dataclass(frozen=True)
class Slot:
    generation: Generation
    ids: Slice
    userns_fd: int
    netns_fd: int
    tree_fd: int

    def close(self) -> None:
        """Lets go of our references; a sandbox that was born keeps its own."""
        for fd in (self.userns_fd, self.netns_fd, self.tree_fd):
            os.close(fd)


@dataclass(frozen=True)
class Berth:
    cgroup: Cgroup
    cgroup_doors: list[int]
    listening: socket.socket

    def close(self) -> None:
        for fd in self.cgroup_doors:
            os.close(fd)
        self.listening.close()


async def make_slot(request: SlotRequest, generation: Generation, stage: tree.Stage, fabric: Fabric) -> Slot:
    """Undone in reverse when a step fails."""
    with contextlib.ExitStack() as undo:
        ids = generation.take_slice()
        undo.callback(generation.give_back, ids)
        _, fds = await generation.helper.request({"inner_base": ids.inner_base})
        for fd in fds:
            undo.callback(os.close, fd)
        userns_fd, netns_fd = fds
        with stage.place(request.name) as place:
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
                mounts=request.volumes,
            )
        undo.callback(os.close, built.fd)
        undo.callback(fabric.disconnect, ids.number)
        fabric.connect(ids.number, netns_fd)
        undo.pop_all()
    return Slot(generation, ids, userns_fd, netns_fd, built.fd)


def discard_slot(slot: Slot, fabric: Fabric) -> None:
    """One in which nobody was born: its disk and namespaces end with our references."""
    fabric.disconnect(slot.ids.number)
    slot.close()
    slot.generation.give_back(slot.ids)


def open_berth(sandbox_id: str, limits: Limits, socket_path: Path, cgroups: Cgroups, generation: int) -> Berth:
    cgroup = cgroups.of(sandbox_id)
    cgroup.create(limits)
    listening = listen(socket_path)
    try:
        return Berth(cgroup, cgroup.doors(generation_base(generation)), listening)
    except BaseException:
        listening.close()
        raise


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
