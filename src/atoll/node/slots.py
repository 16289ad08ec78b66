"""Slots made ahead, so that a create does not wait for its disk, namespaces and network.

A slot belongs to a template and to the two limits that shape it. It is made while no create is under way, so a burst
drains the pool and then makes its own: slower, never refused. A slot is worth nothing without its launcher: the pool
forgets all of them when that is lost, and recovery removes their disks as it removes every disk without a handle.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from atoll.core.engine import SlotMaker, SlotSpec
from atoll.core.errors import AtollError
from atoll.core.limits import Limits
from atoll.core.template import Template

log = logging.getLogger(__name__)

READY = 4
"""Slots per shape: two bursts of one per core. Each costs a loop device, a veth and about 0.3 MB."""

Shape = tuple[str, int, int]


class SlotDisks(Protocol):
    def make(self, sandbox_id: str, size_mib: int) -> None: ...

    def path(self, sandbox_id: str) -> Path: ...

    def remove(self, sandbox_id: str) -> None: ...

    def fresh_key(self) -> bytes: ...


@dataclass(frozen=True)
class Ready:
    name: str
    key: bytes = field(repr=False)


class SlotPool:
    def __init__(self, maker: SlotMaker, disks: SlotDisks, size: int = READY) -> None:
        self._maker = maker
        self._disks = disks
        self._size = size
        self._ready: dict[Shape, list[Ready]] = {}
        self._wanted: dict[Shape, tuple[Template, Limits]] = {}
        self._creating = 0
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    def open(self) -> None:
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._keep_full(), name="slot-pool")
        self._wake.set()

    async def close(self) -> None:
        """What is ready is left to the launcher's end and to recovery."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        self._forget()

    def want(self, template: Template, limits: Limits) -> None:
        self._wanted.setdefault(_shape(template, limits), (template, limits))
        self._wake.set()

    @contextlib.contextmanager
    def creating(self, template: Template, limits: Limits) -> Iterator[Ready | None]:
        """Around a create: a ready slot if there is one, and no slot is made until it is over. Slots are made ahead for
        the template's own size alone: callers may ask for thousands of others."""
        if _shape(template, limits) == _shape(template, template.limits):
            self.want(template, template.limits)
        ready = self._ready.get(_shape(template, limits), [])
        self._creating += 1
        try:
            yield ready.pop(0) if ready else None
        finally:
            self._creating -= 1
            self._wake.set()

    async def _keep_full(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._creating == 0 and (shape := self._lacking()) is not None:
                if not await self._make(shape):
                    break

    def _lacking(self) -> Shape | None:
        return next((shape for shape in self._wanted if len(self._ready.get(shape, ())) < self._size), None)

    async def _make(self, shape: Shape) -> bool:
        template, limits = self._wanted[shape]
        ready = Ready(f"slot{secrets.token_hex(8)}", self._disks.fresh_key())
        try:
            self._disks.make(ready.name, limits.disk_mib)
            spec = SlotSpec(ready.name, template, limits, self._disks.path(ready.name), ready.key)
            await self._maker.prepare_slot(spec)
        except (AtollError, OSError) as error:
            log.warning("no slot for %s was made: %s", template.name, error)
            self._disks.remove(ready.name)
            return False
        self._ready.setdefault(shape, []).append(ready)
        return True

    def _forget(self) -> None:
        for ready in (slot for slots in self._ready.values() for slot in slots):
            self._disks.remove(ready.name)
        self._ready.clear()


def _shape(template: Template, limits: Limits) -> Shape:
    return template.digest, limits.disk_mib, limits.memory_mib
