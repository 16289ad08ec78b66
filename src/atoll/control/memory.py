"""Memory added to a sandbox while it runs, and taken back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from atoll.core.audit import Caller
from atoll.core.errors import InvalidInput
from atoll.core.limits import sized
from atoll.core.ports import Admit, Store
from atoll.core.quota import UNLIMITED, Quota, Used, check_quota
from atoll.core.sandbox import Sandbox

from .capacity import Room
from .held import Held
from .sandboxes import Sandboxes
from .templates import Templates


class Memory:
    def __init__(self, store: Store, sandboxes: Sandboxes, templates: Templates, room: Room) -> None:
        self._store = store
        self._sandboxes = sandboxes
        self._templates = templates
        self._room = room

    async def plug(self, caller: Caller, sandbox_id: str, mib: int) -> Sandbox:
        """From now on it has `mib` MiB more than it was born with, so 0 takes all back and the same again changes
        nothing. `CapacityExceeded` when so much does not fit; `Conflict` when it does not run, or has more in use than
        would be left."""
        async with self._sandboxes.hold(caller, sandbox_id, "plug_memory", str(mib)[:32]) as held:
            if mib < 0:
                raise InvalidInput(f"memory to be added is 0 MiB or more, not {mib}", field="memory_mib", minimum=0)
            held.must_run("a change of its memory")
            if mib > held.sandbox.plugged_mib:
                return await self._add(held, mib)
            new = plugged(held.sandbox, mib)
            await _tell(held, new)
            return await held.commit(new)

    async def _add(self, held: Held, mib: int) -> Sandbox:
        """The row comes first: what two ask for at the same time is counted together."""
        old, new = held.sandbox, plugged(held.sandbox, mib)
        template = await self._templates.find(old.template)
        sized(old.limits, {"memory_mib": new.limits.memory_mib}, template.min_size, template.max_size)
        more_mib = mib - old.plugged_mib
        await self._room.check(held.node, more_mib)
        await held.commit(new, await self._admission(old.key_id, more_mib))
        try:
            await _tell(held, new)
        except BaseException:
            await asyncio.shield(held.commit(old))
            raise
        return new

    async def _admission(self, key_id: str, more_mib: int) -> Admit | None:
        """The quota is that of the key which made the sandbox, whoever asks."""
        keys = [key for key in await self._store.keys.list() if key.id == key_id]
        quota = Quota(memory_mib=keys[0].quota.memory_mib) if keys else UNLIMITED
        if quota == UNLIMITED:
            return None
        return lambda used: check_quota(quota, used, Used(memory_mib=more_mib))


def plugged(sandbox: Sandbox, mib: int) -> Sandbox:
    born_mib = sandbox.limits.memory_mib - sandbox.plugged_mib
    return replace(sandbox, plugged_mib=mib, limits=replace(sandbox.limits, memory_mib=born_mib + mib))


async def _tell(held: Held, new: Sandbox) -> None:
    await held.node.set_memory(new.id, new.incarnation, new.limits.memory_mib)
