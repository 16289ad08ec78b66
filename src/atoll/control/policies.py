"""Tells nodes the policies of sandboxes again: after a change that failed, and when a secret in them has changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from atoll.core.errors import AtollError
from atoll.core.lifecycle import State
from atoll.core.ports import Node, Placement, SandboxFilter, Store
from atoll.core.sandbox import Sandbox
from atoll.core.secrets import Secret

from .deadline import UNDO_S, deadline
from .secret_values import SecretValues, secrets_of
from .turns import Turns

log = logging.getLogger(__name__)

LOOKED_AT_ONCE, TOLD_AT_ONCE = 100, 16
"""Sandboxes, when a secret has changed."""


class Policies:
    def __init__(self, store: Store, placement: Placement, values: SecretValues, turns: Turns) -> None:
        """`turns`: those that all operations on sandboxes take."""
        self._store = store
        self._placement = placement
        self._values = values
        self._turns = turns

    async def restore(self, node: Node, sandbox: Sandbox) -> None:
        """As its row has it. When nobody answers, reconciliation finds the difference."""
        try:
            async with deadline("set_network", UNDO_S):
                await node.set_network(sandbox.id, sandbox.incarnation, await self._values.policy_form(sandbox))
        except AtollError as error:
            log.warning("the policy of %s is restored when its node connects: %s", sandbox.id, error.message)

    async def secret_changed(self, secret: Secret) -> None:
        """It is new, has another value or other hosts, or is gone: sandboxes that use it are told when this returns.
        The others are told when their node connects, or when they start."""
        telling = asyncio.Semaphore(TOLD_AT_ONCE)
        using = [each async for each in self._using(secret)]
        await asyncio.gather(*(self._tell(sandbox_id, telling) for sandbox_id in using))

    async def _using(self, secret: Secret) -> AsyncIterator[str]:
        """Rows that come meanwhile are told what holds by now when they are made."""
        everyone, after = SandboxFilter(secret.organization_id), None
        while page := await self._store.sandboxes.list(everyone, after, LOOKED_AT_ONCE):
            for row in page:
                if secret.name in secrets_of(row):
                    yield row.id
            after = (page[-1].created_at, page[-1].id)
            await asyncio.sleep(0)  # others have their turn: opening the policies of a thousand takes a while

    async def _tell(self, sandbox_id: str, telling: asyncio.Semaphore) -> None:
        async with telling, self._turns(sandbox_id):
            found = await self._store.sandboxes.get(sandbox_id)
            if found is None or found.state not in (State.RUNNING, State.PAUSED):
                return
            try:
                node = self._placement.node(found.node_id)
            except AtollError as error:
                log.warning("%s is told of a secret when its node connects: %s", sandbox_id, error.message)
            else:
                await self.restore(node, found)
