"""A sandbox begins anew on its disk: its processes and its memory are gone, its files, its id and its settings stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from atoll.core import clocks
from atoll.core.audit import Caller
from atoll.core.lifecycle import Event
from atoll.core.policy import Policy, given_form
from atoll.core.ports import Clock
from atoll.core.sandbox import Sandbox
from atoll.core.settings import Clocks

from .held import Changes
from .network import summary
from .sandboxes import Sandboxes
from .secret_values import SecretValues


class Resets:
    def __init__(self, sandboxes: Sandboxes, values: SecretValues, clock: Clock, limits: Clocks) -> None:
        self._sandboxes = sandboxes
        self._values = values
        self._clock = clock
        self._clocks = limits

    async def reset(
        self,
        caller: Caller,
        sandbox_id: str,
        resume: bool = True,
        *,
        policy: Policy | None = None,
        ingress: Mapping[str, Any] = {},  # Any: `core.ingress.changes`
        timeout_s: int | None = None,
    ) -> Sandbox:
        """Whatever state it is in, but `Conflict` while it is being created. Without `resume` it is stopped, and its
        next start is its new life. What is not given stays; a timeout that is given begins now."""
        if timeout_s is not None:
            clocks.check_timeout(timeout_s, 0.0, self._clocks)
        detail = " ".join((f"resume={str(resume).lower()}", summary(policy, ingress))).strip()
        async with self._sandboxes.hold(caller, sandbox_id, "reset", detail) as held:
            if policy is not None:
                await self._values.check(held.sandbox.organization_id, given_form(policy), {})
            await held.advance(Event.STOP)
            await held.renetwork(policy, ingress)
            changes: Changes = {} if timeout_s is None else {"timeout_s": timeout_s, "timeout_from": self._clock.now()}
            if resume:
                return await held.advance(Event.START, **changes)
            return await held.commit(replace(held.sandbox, **changes))
