"""Sandboxes that are being made: in memory, until the first change of state writes them.

Whoever looks for a sandbox finds these among the rows. A server that ends forgets them, and nothing of them stays:
what the node was making for a caller that has gone it undoes, and what it has without a row is destroyed when the next
server connects.
"""

from __future__ import annotations

from atoll.core.ports import SandboxFilter
from atoll.core.quota import Used, used_by
from atoll.core.sandbox import Sandbox

Place = tuple[float, str]
"""In a list: when it was asked for, and its id."""


class Drafts:
    def __init__(self) -> None:
        self._drafts: dict[str, Sandbox] = {}

    def put(self, sandbox: Sandbox) -> None:
        self._drafts[sandbox.id] = sandbox

    def get(self, sandbox_id: str) -> Sandbox | None:
        return self._drafts.get(sandbox_id)

    def drop(self, sandbox_id: str) -> None:
        self._drafts.pop(sandbox_id, None)

    def on_node(self, node_id: str) -> list[Sandbox]:
        return [each for each in self._drafts.values() if each.node_id == node_id]

    def unfinished(self, before: float) -> list[Sandbox]:
        return [each for each in self._drafts.values() if each.state_since < before]

    def used(self, key_id: str) -> Used:
        return sum((used_by(each.limits) for each in self._drafts.values() if each.key_id == key_id), Used())

    def among(self, where: SandboxFilter, after: Place | None, oldest_first: bool) -> list[Sandbox]:
        """Those that belong into a list."""
        found = (each for each in self._drafts.values() if _fits(each, where))
        if after is None:
            return list(found)
        return [each for each in found if (place(each) > after if oldest_first else place(each) < after)]


def place(sandbox: Sandbox) -> Place:
    return sandbox.created_at, sandbox.id


def _fits(sandbox: Sandbox, where: SandboxFilter) -> bool:
    return (
        sandbox.organization_id == where.organization_id
        and where.state in (None, sandbox.state)
        and (not where.states or sandbox.state in where.states)
        and where.region in (None, sandbox.region)
        and where.template in (None, sandbox.template)
        and (where.created_after is None or sandbox.created_at > where.created_after)
        and where.metadata.items() <= sandbox.metadata.items()
    )
