"""A sandbox with its turn taken: what an operation of its own file may do with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from atoll.core.errors import Conflict
from atoll.core.lifecycle import Event, State
from atoll.core.policy import Policy
from atoll.core.ports import Admit, Node
from atoll.core.sandbox import Sandbox

Changes = Mapping[str, Any]  # Any: fields of a sandbox


@dataclass
class Held:
    sandbox: Sandbox
    """As it is by now."""
    node: Node
    _advance: Callable[[Sandbox, Event, Changes], Awaitable[Sandbox]]
    _renetwork: Callable[[Sandbox, Policy | None, Changes], Awaitable[Sandbox]]
    _commit: Callable[[Sandbox, Sandbox, Admit | None], Awaitable[Sandbox]]

    async def advance(self, event: Event, **changes: Any) -> Sandbox:  # Any: as `Changes`
        """Stop or start; `Conflict` where that is no step from here."""
        self.sandbox = await self._advance(self.sandbox, event, changes)
        return self.sandbox

    async def renetwork(self, policy: Policy | None, ingress: Changes) -> Sandbox:
        """As `Sandboxes.set_network`, in any state: of one that only has its disk its start brings it."""
        self.sandbox = await self._renetwork(self.sandbox, policy, ingress)
        return self.sandbox

    async def commit(self, new: Sandbox, admit: Admit | None = None) -> Sandbox:
        """`admit`: as `SandboxRepository.replace` says."""
        self.sandbox = await self._commit(self.sandbox, new, admit)
        return self.sandbox

    def must_run(self, what: str) -> None:
        state = self.sandbox.state
        if state is not State.RUNNING:
            raise Conflict(f"the sandbox is {state.value}: {what} needs one that runs", state=state.value)
