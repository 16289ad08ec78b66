"""Slots made ahead, so that a create waits for next to nothing: each has its disk, namespaces and network, and in it a
sandbox that is born, its interpreter with it, and waits to hear whose it is.

A slot belongs to a template and to limits. It is made while no create is under way, so a burst
drains the pool and then makes its own: slower, never refused. One that ends while it waits is made anew. A slot is
worth nothing without its launcher: the pool forgets all of them when that is lost, and recovery removes their disks as
it removes every disk without a handle.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from atoll.core.engine import SlotMaker, SlotSpec
from atoll.core.errors import AtollError, Unavailable
from atoll.core.limits import Limits
from atoll.core.template import Template

from .backoff import Backoff

log = logging.getLogger(__name__)

FEWEST, MOST, READY_MIB, SHARE = 4, 128, 6, 0.02
"""Slots per shape: a fiftieth of the machine's memory. Each has a loop device, a veth and some MiB."""
PAUSE_S = 0.03
"""After a create: its answer is still on its way to the caller."""
IDLE_S = 0.3
"""Without a create: then the pool is filled to the brim."""
SHAPES = 4
"""Those used last."""

Shape = tuple[str, Limits]


class SlotDisks(Protocol):
    def make(self, sandbox_id: str, size_mib: int) -> None: ...

    def path(self, sandbox_id: str) -> Path: ...

    def remove(self, sandbox_id: str) -> None: ...

    def fresh_key(self) -> bytes: ...


@dataclass(frozen=True)
class Ready:
    name: str
    key: bytes = field(repr=False)
    begun_at: float


class SlotPool:
    def __init__(self, maker: SlotMaker, disks: SlotDisks, size: int = FEWEST) -> None:
        self._maker = maker
        self._disks = disks
        self._size = size
        self._ready: dict[Shape, list[Ready]] = {}
        self._wanted: dict[Shape, tuple[Template, Limits]] = {}
        self._lost: list[Ready] = []
        """Of creates that failed, and of makings: the launcher may have them."""
        self._making = ""
        self._failing: set[Shape] = set()
        self._creating = 0
        self._last = float("-inf")
        self._backoff = Backoff()
        self._not_before = float("-inf")
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
        """Of one that is built anew the earlier build is not wanted any more."""
        shape = _shape(template, limits)
        self._wanted = {
            key: wanted
            for key, wanted in self._wanted.items()
            if key != shape and (wanted[0].name != template.name or wanted[0].digest == template.digest)
        }
        self._wanted[shape] = template, limits
        self._wake.set()

    @contextlib.contextmanager
    def creating(self, template: Template, limits: Limits) -> Iterator[Ready | None]:
        """Around a create: a ready slot if there is one, and no slot is made until it is over. Slots are made ahead for
        the template's own size alone: callers may ask for thousands of others."""
        if limits == template.limits:
            self.want(template, template.limits)
        slots = self._ready.get(_shape(template, limits), [])
        ready = slots.pop(0) if slots else None
        self._creating += 1
        try:
            yield ready
        except BaseException:
            if ready:
                self._lost.append(ready)
            raise
        finally:
            self._creating -= 1
            self._last = asyncio.get_running_loop().time()
            asyncio.get_running_loop().call_later(PAUSE_S, self._wake.set)

    def lost(self, name: str) -> None:
        """It has ended by itself. A template's files can do that to each of them, so the next may have to wait."""
        if name == self._making:
            self._making = ""
        for slots in self._ready.values():
            for ready in [each for each in slots if each.name == name]:
                slots.remove(ready)
                self._lost.append(ready)
                self._put_off(ready.begun_at)
                self._wake.set()

    def _put_off(self, begun_at: float) -> None:
        """The next making, after the end of one that was begun then. Ends at the same time count once."""
        now = asyncio.get_running_loop().time()
        if now >= self._not_before:
            self._not_before = now + self._backoff.after(now - begun_at)

    async def _keep_full(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._creating == 0 and (shape := self._lacking()) is not None:
                if (wait_s := self._patience_s(shape)) > 0:
                    asyncio.get_running_loop().call_later(wait_s, self._wake.set)
                    break
                began = asyncio.get_running_loop().time()
                if not await self._make(shape):
                    self._failed(shape)
                elif len(self._ready.get(shape, ())) > FEWEST:  # no hurry: whoever was born needs the processors
                    await asyncio.sleep(asyncio.get_running_loop().time() - began)
            self._discard_others()
            await self._discard_lost()

    def _failed(self, shape: Shape) -> None:
        """Once may be chance: a newborn has died. After twice in a row it is not made until somebody asks again."""
        if shape in self._failing:
            self._wanted.pop(shape, None)
        self._failing ^= {shape}

    def _lacking(self) -> Shape | None:
        """The one asked for last is the first to be full."""
        kept = list(reversed(self._wanted))[:SHAPES]
        return next((shape for shape in kept if len(self._ready.get(shape, ())) < self._size), None)

    def _patience_s(self, shape: Shape) -> float:
        """While there are enough, creates that follow each other have the processors for themselves."""
        enough = len(self._ready.get(shape, ())) >= max(FEWEST, self._size // 2)
        at = max(self._not_before, self._last + IDLE_S) if enough else self._not_before
        return at - asyncio.get_running_loop().time()

    def _discard_others(self) -> None:
        self._wanted = dict(list(self._wanted.items())[-SHAPES:])
        for shape in self._ready.keys() - self._wanted.keys():
            self._lost += self._ready.pop(shape, [])

    async def _discard_lost(self) -> None:
        while self._lost:
            ready = self._lost.pop()
            self._disks.remove(ready.name)
            with contextlib.suppress(AtollError):
                await self._maker.discard_slot(ready.name)

    async def _make(self, shape: Shape) -> bool:
        template, limits = self._wanted[shape]
        begun_at = asyncio.get_running_loop().time()
        ready = Ready(f"slot{secrets.token_hex(8)}", self._disks.fresh_key(), begun_at)
        self._making = ready.name
        try:
            self._disks.make(ready.name, limits.disk_mib)
            disk, config = self._disks.path(ready.name), agent_config(template)
            spec = SlotSpec(ready.name, template, limits, disk, ready.key, config)
            await self._maker.prepare_slot(spec)
            if self._making != ready.name:
                raise Unavailable("it has ended already")
        except (AtollError, OSError) as error:
            log.warning("no slot for %s was made: %s", template.name, error)
            self._lost.append(ready)
            return False
        self._ready.setdefault(shape, []).append(ready)
        self._failing.discard(shape)
        return True

    def _forget(self) -> None:
        for ready in (*self._lost, *(slot for slots in self._ready.values() for slot in slots)):
            self._disks.remove(ready.name)
        self._lost.clear()
        self._ready.clear()


def fitting(memory_mib: int) -> int:
    """How many slots per shape a machine with that much memory has."""
    return max(FEWEST, min(MOST, int(memory_mib * SHARE / READY_MIB)))


def agent_config(template: Template) -> dict[str, Any]:  # Any: JSON values
    """What the template says of it, docs/agent-protocol.md."""
    return {
        "env": dict(template.env),
        "template_env": dict(template.env),
        "workdir": template.workdir,
        "python": template.python is not None,
    }


def _shape(template: Template, limits: Limits) -> Shape:
    return template.digest, limits
