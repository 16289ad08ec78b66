"""Volumes: make, list, delete, and what a new sandbox asks to have mounted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence

from atoll.core.audit import Caller
from atoll.core.errors import AtollError, Conflict, InvalidInput, NotFound, Unavailable
from atoll.core.ids import is_sandbox_id, new_sandbox_id
from atoll.core.ports import Clock, Node, Placement, Store
from atoll.core.volumes import (
    DEFAULT_MIB,
    INODES_PER_MIB,
    MAX_MOUNTS,
    MAX_VOLUMES,
    Volume,
    VolumeMount,
    check_inodes,
    check_name,
    check_size,
    grown,
    path_error,
)

from .capacity import Room
from .deadline import UNDO_S, deadline
from .journal import Journal
from .tokens import Token, TokenIssuer

log = logging.getLogger(__name__)


class Volumes:
    def __init__(self, store: Store, placement: Placement, clock: Clock, journal: Journal, tokens: TokenIssuer) -> None:
        self._store = store
        self._placement = placement
        self._clock = clock
        self._journal = journal
        self._tokens = tokens
        self._room = Room(clock)

    async def create(
        self, caller: Caller, name: str, size_mib: int = DEFAULT_MIB, inodes: int | None = None
    ) -> tuple[Volume, Token]:
        """The row comes first: what the node has made is always somebody's. `inodes`: room for so many files and
        directories at least (ext4 rounds up, by less than 16 for each 128 MiB); None: what its size makes usual."""
        check_name(name)
        check_size(size_mib)
        inodes = size_mib * INODES_PER_MIB if inodes is None else inodes
        check_inodes(inodes, size_mib)
        async with self._journal.operation(caller, "volume.create") as operation, deadline("volume create"):
            operation.detail = name
            node = self._any_node()
            await self._room.check(node)
            organization, now = caller.principal.organization_id, self._clock.now()
            volume = Volume(new_sandbox_id(), name, organization, node.node_id, size_mib, now, inodes)
            await self._store.volumes.insert(volume, MAX_VOLUMES)
            try:
                await node.make_volume(volume.id, size_mib, inodes)
            except BaseException:
                await asyncio.shield(self._undo(node, volume))
                raise
            return volume, self._tokens.volume(volume.id)

    async def _undo(self, node: Node, volume: Volume) -> None:
        """The node may have made it, or a part of it."""
        try:
            async with deadline("volume delete", UNDO_S):
                await node.remove_volume(volume.id)
        except AtollError as error:
            log.warning("of volume %s something may be left on its machine: %s", volume.id, error.message)
        await self._store.volumes.remove(volume.id)

    async def list(self, caller: Caller) -> Sequence[Volume]:
        async with self._journal.operation(caller, "volume.list"):
            return await self._store.volumes.list(caller.principal.organization_id)

    async def get(self, caller: Caller, volume_id: str) -> tuple[Volume, Token]:
        async with self._journal.operation(caller, "volume.get"):
            volume = await self._owned(caller, volume_id)
            return volume, self._tokens.volume(volume.id)

    async def resize(
        self, caller: Caller, volume_id: str, size_mib: int | None = None, inodes: int | None = None
    ) -> tuple[Volume, Token]:
        """Larger only, and `Conflict` while a sandbox has it mounted. `inodes` are checked against what there is room
        for then. The node comes first: a volume is never smaller than its row says."""
        async with self._journal.operation(caller, "volume.resize") as operation, deadline("volume resize"):
            operation.detail = f"{volume_id[:64]} {size_mib} MiB"
            old = await self._owned(caller, volume_id)
            new = grown(old, size_mib, inodes)
            if new != old:
                await self._placement.node(old.node_id).grow_volume(old.id, new.size_mib)
                if not await self._store.volumes.replace(old, new):
                    raise Conflict("the volume was changed by somebody else meanwhile: look at it, and try again")
            return new, self._tokens.volume(new.id)

    async def used_bytes(self, volumes: Sequence[Volume]) -> Mapping[str, int]:
        """By id, what each takes on its machine; without those whose machine is away."""
        found: dict[str, int] = {}
        for node_id in sorted({volume.node_id for volume in volumes}):
            with contextlib.suppress(Unavailable):
                found |= await self._placement.node(node_id).volume_usage()
        return {volume.id: found[volume.id] for volume in volumes if volume.id in found}

    async def delete(self, caller: Caller, volume_id: str) -> None:
        """The node first: while it has sandboxes that use the volume, it is not deleted."""
        async with self._journal.operation(caller, "volume.delete") as operation, deadline("volume delete"):
            operation.detail = volume_id[:64]
            volume = await self._owned(caller, volume_id)
            await self._placement.node(volume.node_id).remove_volume(volume.id)
            await self._store.volumes.remove(volume.id)

    async def open(self, volume_id: str) -> str:
        """For the edge, which has checked who asks: the socket of an agent that has the volume's files."""
        volume = await self._store.volumes.get(volume_id)
        if volume is None:
            raise _no_such_volume(volume_id)
        return await self._placement.node(volume.node_id).open_volume(volume.id)

    async def mounts(self, caller: Caller, wished: Sequence[tuple[str, str]]) -> tuple[VolumeMount, ...]:
        """`wished`: names and paths. All that is wrong with them is said at once."""
        mounts: list[VolumeMount] = []
        wrong: list[str] = []
        if len(wished) > MAX_MOUNTS:
            raise InvalidInput(f"invalid mounts: more than {MAX_MOUNTS}", field="volumes")
        for number, (name, path) in enumerate(wished):
            volume = await self._store.volumes.by_name(caller.principal.organization_id, name)
            missing = None if volume else f"volume '{name[:128]}' not found"
            why = missing or path_error(path, [earlier.path for earlier in mounts])
            if volume is None or why is not None:
                wrong.append(f"- volume mount #{number}: {why}")
            else:
                mounts.append(VolumeMount(volume.id, path, volume.name))
        if wrong:
            raise InvalidInput("\n".join(("invalid mounts:", *wrong)), field="volumes")
        return tuple(mounts)

    async def another(self, caller: Caller, there: Sequence[VolumeMount], name: str, path: str) -> VolumeMount:
        """Beside those that are mounted already."""
        if len(there) >= MAX_MOUNTS:
            raise InvalidInput(f"a sandbox has {MAX_MOUNTS} volumes at most", field="volumes")
        volume = await self._store.volumes.by_name(caller.principal.organization_id, name)
        if volume is None:
            raise InvalidInput(f"volume '{name[:128]}' not found", field="name")
        if (why := path_error(path, [each.path for each in there])) is not None:
            raise InvalidInput(why, field="path")
        return VolumeMount(volume.id, path, volume.name)

    async def check_node(self, node: Node, mounts: Sequence[VolumeMount]) -> None:
        """A volume is on one machine."""
        for mount in mounts:
            volume = await self._store.volumes.get(mount.volume_id)
            if volume is None or volume.node_id != node.node_id:
                raise Unavailable(f"volume '{mount.name}' is on another machine than the sandbox would be")

    def _any_node(self) -> Node:
        nodes = self._placement.nodes()
        if not nodes:
            raise Unavailable("no machine is connected; try again")
        return nodes[0]

    async def _owned(self, caller: Caller, volume_id: str) -> Volume:
        volume = await self._store.volumes.get(volume_id) if is_sandbox_id(volume_id) else None
        if volume is None or volume.organization_id != caller.principal.organization_id:
            raise _no_such_volume(volume_id)
        return volume


def _no_such_volume(volume_id: str) -> AtollError:
    return NotFound(f"Volume '{volume_id[:64]}' not found", volume=volume_id[:64])
