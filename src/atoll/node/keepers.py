"""Who shows a volume's files to those who hold its token: a tiny sandbox with the volume mounted and no way out.

So everything that is done to a volume's files from outside is done by an agent inside, like all else, and nothing on
the host walks a tree that hostile programs wrote. A keeper is made when somebody asks (some milliseconds) and ends when
nobody has for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from atoll.core.errors import AtollError, Unavailable
from atoll.core.ids import new_sandbox_id
from atoll.core.limits import Limits
from atoll.core.template import Template
from atoll.core.volumes import KEEPER_ROOT, VolumeMount

from .sandboxes import Order

log = logging.getLogger(__name__)

IDLE_S = 60.0
LIMITS = Limits(vcpu=1, memory_mib=128, disk_mib=64, processes=32, open_files=1024)
INCARNATION = 1
MAX_KEEPERS = 64
"""At once; each is some MB."""


class Sandboxes(Protocol):
    async def create(self, order: Order) -> dict[str, str]: ...

    async def destroy(self, sandbox_id: str, incarnation: int) -> object: ...

    async def check_alive(self, sandbox_id: str) -> None: ...


class Keeper:
    def __init__(self) -> None:
        self.sandbox_id = ""
        self.socket = ""
        self.asked = asyncio.Event()
        self.turn = asyncio.Lock()
        self.watch: asyncio.Task[None] | None = None


class Keepers:
    def __init__(
        self, sandboxes: Sandboxes, templates: Callable[[], Sequence[Template]], idle_s: float = IDLE_S
    ) -> None:
        self._sandboxes = sandboxes
        self._templates = templates
        self._idle_s = idle_s
        self._keepers: dict[str, Keeper] = {}

    async def open(self, volume_id: str) -> dict[str, str]:
        """Its agent's socket; it stays for `idle_s` at least."""
        keeper = self._keepers.get(volume_id)
        if keeper is None:
            if len(self._keepers) >= MAX_KEEPERS:
                raise Unavailable(f"the files of {MAX_KEEPERS} volumes are being looked at; try again in a minute")
            keeper = self._keepers[volume_id] = Keeper()
            keeper.watch = asyncio.create_task(self._end_when_idle(volume_id, keeper))
        keeper.asked.set()
        async with keeper.turn:
            if self._keepers.get(volume_id) is not keeper:
                raise Unavailable("the volume is being removed")
            if not await self._lives(keeper):
                await self._make(keeper, volume_id)
        return {"id": keeper.sandbox_id, "socket": keeper.socket}

    async def close(self, volume_id: str) -> None:
        keeper = self._keepers.pop(volume_id, None)
        if keeper is None:
            return
        if keeper.watch is not None:
            keeper.watch.cancel()
        async with keeper.turn:
            await self._end(keeper)

    async def shut(self) -> None:
        """What lives is cleaned up by the next recovery."""
        watches = [keeper.watch for keeper in self._keepers.values() if keeper.watch]
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    def forget(self) -> None:
        """Recovery has ended all of them, or is about to."""
        for keeper in self._keepers.values():
            keeper.sandbox_id = ""

    async def _make(self, keeper: Keeper, volume_id: str) -> None:
        sandbox_id = new_sandbox_id()
        order = Order(
            id=sandbox_id,
            incarnation=INCARNATION,
            template=self._smallest(),
            limits=LIMITS,
            hostname="volume",
            volumes=(VolumeMount(volume_id, KEEPER_ROOT),),
            keeper=True,
        )
        made = await self._sandboxes.create(order)
        keeper.sandbox_id, keeper.socket = sandbox_id, made["socket"]

    def _smallest(self) -> str:
        """Nothing but the agent runs in it."""
        templates = sorted(self._templates(), key=lambda each: (each.python is not None, len(each.preload), each.name))
        if not templates:
            raise Unavailable("no template is built yet, so nothing can show the volume's files")
        return templates[0].name

    async def _lives(self, keeper: Keeper) -> bool:
        if not keeper.sandbox_id:
            return False
        try:
            await self._sandboxes.check_alive(keeper.sandbox_id)
        except AtollError:
            await self._end(keeper)
            return False
        return True

    async def _end_when_idle(self, volume_id: str, keeper: Keeper) -> None:
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(self._idle_s):
                    await keeper.asked.wait()
                keeper.asked.clear()
        del self._keepers[volume_id]
        async with keeper.turn:
            await self._end(keeper)

    async def _end(self, keeper: Keeper) -> None:
        sandbox_id, keeper.sandbox_id = keeper.sandbox_id, ""
        if not sandbox_id:
            return
        try:
            await self._sandboxes.destroy(sandbox_id, INCARNATION)
        except AtollError as error:
            log.warning("a keeper is left to recovery: %s", error.message)
