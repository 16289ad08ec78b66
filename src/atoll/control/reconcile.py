"""A node has connected: make its sandboxes and our rows agree.

| row                             | the node has it                                 | the node has it not     |
|---------------------------------|-------------------------------------------------|-------------------------|
| none                            | destroy                                         | –                       |
| creating (its create was cut)   | destroy, remove the row                         | the same: the node may  |
| deleted (a tombstone)           | destroy, remove the row                         | still be busy making it |
| running, paused, stopped, error | the node's word on the state and the incarnation | lost: remove the row    |
|                                 | (an earlier life: destroy, lost);               |                         |
|                                 | the row's word on its policy                    |                         |

`decide` is pure; `Reconciler` looks at each row again, with its turn taken, before it acts.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from atoll.core.errors import AtollError
from atoll.core.lifecycle import Event, State
from atoll.core.policy import fingerprint
from atoll.core.ports import Node, NodeSandbox, Store
from atoll.core.sandbox import Sandbox

from .sandboxes import Sandboxes
from .secret_values import SecretValues

log = logging.getLogger(__name__)

FOUND: dict[State, Event] = {
    State.RUNNING: Event.FOUND_RUNNING,
    State.PAUSED: Event.FOUND_PAUSED,
    State.STOPPED: Event.FOUND_STOPPED,
}


class Action(StrEnum):
    DESTROY = "destroy"
    """A stranger."""
    CLEAR = "clear"
    """Destroy whatever the node has or is making of it, then the row goes."""
    LOSE = "lose"
    OUTDATED = "outdated"
    OBSERVE = "observe"
    NOTHING = "nothing"


def decide(row: Sandbox | None, found: NodeSandbox | None) -> Action:
    if row is None:
        return Action.DESTROY if found else Action.NOTHING
    if row.state in (State.CREATING, State.DELETED):
        return Action.CLEAR
    if found is None:
        return Action.LOSE
    return Action.OUTDATED if found.incarnation < row.incarnation else Action.OBSERVE


@dataclass(frozen=True)
class Pair:
    id: str
    found: NodeSandbox | None


def pairs(rows: Iterable[Sandbox], found: Iterable[NodeSandbox]) -> list[Pair]:
    by_id = {sandbox.id: sandbox for sandbox in found}
    ids = dict.fromkeys([row.id for row in rows] + list(by_id))
    return [Pair(sandbox_id, by_id.get(sandbox_id)) for sandbox_id in ids]


class Reconciler:
    def __init__(self, store: Store, sandboxes: Sandboxes, values: SecretValues) -> None:
        self._store = store
        self._values = values
        self._sandboxes = sandboxes

    async def run(self, node: Node) -> None:
        """Rows first: a sandbox made after them is in neither, one made between them is found with its row."""
        rows = await self._store.sandboxes.on_node(node.node_id)
        counts: Counter[str] = Counter()
        for pair in pairs(rows, await node.list()):
            async with self._sandboxes.turns(pair.id):
                counts[await self._settle(node, pair)] += 1
        log.info("reconciled with node %s: %s", node.node_id, dict(counts))

    async def _settle(self, node: Node, pair: Pair) -> Action:
        row = await self._store.sandboxes.get(pair.id)
        action = decide(row, pair.found)
        try:
            await self._act(node, action, row, pair.found)
        except AtollError as error:
            log.warning("sandbox %s is not settled (%s): %s", pair.id, action.value, error.message)
        return action

    async def _act(self, node: Node, action: Action, row: Sandbox | None, found: NodeSandbox | None) -> None:
        if action in (Action.DESTROY, Action.OUTDATED) and found:
            await node.destroy(found.id, found.incarnation)
        if action is Action.CLEAR and row:
            await self._sandboxes.clear(node, row, Event.LOST, "cut off")
        if action in (Action.LOSE, Action.OUTDATED) and row:
            await self._sandboxes.vanish(row, Event.LOST, "its node does not have it")
        if action is Action.OBSERVE and row and found:
            await self._sandboxes.observed(row, FOUND[found.state], found.incarnation)
            if found.state is not State.STOPPED and found.policy != fingerprint(await self._values.policy_form(row)):
                await self._sandboxes.enforce(node, replace(row, incarnation=found.incarnation))
