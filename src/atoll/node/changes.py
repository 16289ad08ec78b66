"""What changes in a sandbox that runs: its memory, its mounts. Called with the sandbox's turn taken.

A handle names every volume that may be mounted, so it is written before a mount and after an unmount. What was cut off
in between is looked up where it is true: in the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from atoll.core.engine import Adjustable, Engine, VolumeSpec
from atoll.core.errors import AtollError, Conflict, Unavailable, Unsupported
from atoll.core.settings import Places
from atoll.core.volumes import VolumeMount, check_mounts

from . import health
from .handles import Handle, HandleState, HandleStore

log = logging.getLogger(__name__)

TELL_S = 2.0


class Volumes(Protocol):
    def specs(self, mounts: Sequence[VolumeMount]) -> Sequence[VolumeSpec]: ...

    def image(self, volume_id: str) -> Path: ...


class Changes:
    def __init__(self, places: Places, engine: Engine, handles: HandleStore, volumes: Volumes) -> None:
        self._places = places
        self._engine = engine
        self._handles = handles
        self._volumes = volumes

    async def set_memory(self, handle: Handle, memory_mib: int) -> None:
        handle = await self._ready(handle)
        wanted = replace(handle.limits, memory_mib=memory_mib)
        async with self._unsettled(handle):
            await self._adjustable.set_memory(handle.id, wanted)
        handle = await self._save(replace(handle, limits=wanted))
        await self._tell(handle)

    async def mount(self, handle: Handle, mount: VolumeMount) -> None:
        handle = await self._ready(handle)
        if mount in handle.volumes:
            return
        check_mounts((*handle.volumes, mount))
        (spec,) = self._volumes.specs((mount,))  # and the next line: nothing between, so no volume goes meanwhile
        async with self._unsettled(handle, mount):
            await self._adjustable.mount(handle.id, spec)
        await self._save(replace(handle, volumes=(*handle.volumes, mount)))

    async def unmount(self, handle: Handle, path: str, force: bool) -> None:
        handle = await self._ready(handle)
        for mount in handle.volumes:
            if mount.path == path:
                image = self._volumes.image(mount.volume_id)
                known = sum(each.volume_id == mount.volume_id for each in handle.volumes)
                async with self._unsettled(handle):
                    await self._adjustable.unmount(handle.id, image, path, force, known)
                rest = tuple(each for each in handle.volumes if each is not mount)
                await self._save(replace(handle, volumes=rest))
                return

    async def settle(self, handle: Handle) -> Handle:
        """One that runs or is paused, after a change of it was cut off."""
        if not handle.unsettled:
            return handle
        there = [each for each in handle.volumes if await self._is_mounted(handle, each)]
        try:
            await self._adjustable.set_memory(handle.id, handle.limits)
        except Conflict as error:
            log.warning("sandbox %s keeps more memory than it should have: %s", handle.id, error.message)
        return await self._save(replace(handle, volumes=tuple(there)))

    async def _ready(self, handle: Handle) -> Handle:
        if handle.state is not HandleState.RUNNING:
            raise Conflict(f"the sandbox is {handle.state.value}", state=handle.state.value)
        return await self.settle(handle)

    @contextlib.asynccontextmanager
    async def _unsettled(self, handle: Handle, *coming: VolumeMount) -> AsyncIterator[None]:
        """A refusal has changed nothing. Whoever gives no answer may have done it all the same."""
        self._handles.save(replace(handle, unsettled=True, volumes=(*handle.volumes, *coming)))
        try:
            yield
        except Unavailable:
            raise
        except AtollError:
            self._handles.save(handle)
            raise

    async def _save(self, handle: Handle) -> Handle:
        """Its mounts are wanted again in its next life, so they have to be on the disk as what it wrote is."""
        saved = self._handles.save(replace(handle, unsettled=False))
        await asyncio.to_thread(self._handles.sync, handle.id)
        return saved

    async def _is_mounted(self, handle: Handle, mount: VolumeMount) -> bool:
        return await self._adjustable.mounted(handle.id, self._volumes.image(mount.volume_id), mount.path)

    async def _tell(self, handle: Handle) -> None:
        """Its agent, which shows the figure. One that does not hear it misleads its own programs alone."""
        content = json.dumps({"memory_bytes": handle.limits.memory_mib << 20}).encode()
        try:
            await health.ask(self._places.agent_socket(handle.id), "PUT", "/limits", TELL_S, content)
        except AtollError as error:
            log.warning("the agent of %s shows the memory that it had: %s", handle.id, error.message)

    @property
    def _adjustable(self) -> Adjustable:
        if not isinstance(self._engine, Adjustable):
            raise Unsupported("this engine changes nothing in a sandbox that runs")
        return self._engine
