"""A sandbox as the control plane knows it. What the user put into it (files, variables) is not here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from .ingress import DEFAULT, Dialect, Ingress
from .lifecycle import EXECUTING, State
from .limits import Limits
from .secrets import SecretUse
from .volumes import VolumeMount


class InboundAuth(StrEnum):
    """Who may reach the programs that listen in a sandbox; its agent is never public."""

    TOKEN = "token"  # noqa: S105 - a name
    PUBLIC = "public"


class OnTimeout(StrEnum):
    """What becomes of a sandbox when its timeout is over. `delete` comes in every state. The others are about one that
    runs; what rests has no timeout, and when it goes on its timeout begins anew."""

    DELETE = "delete"
    KILL = "kill"
    """Deleted, when it runs."""
    PAUSE = "pause"
    """Processes and memory are kept."""
    STOP = "stop"
    """The disk is kept."""


@dataclass(frozen=True)
class Sandbox:
    id: str
    incarnation: int
    """Counts the lives of one id; a late action for an earlier life is refused by the node."""
    node_id: str
    state: State
    organization_id: int
    key_id: str
    template: str
    template_digest: str
    workdir: str
    python: bool
    limits: Limits
    region: str
    internet_access: bool
    """With `network`: its policy for what goes out."""
    created_at: float
    state_since: float
    last_activity_at: float
    timeout_s: int | None = None
    timeout_from: float = 0.0
    idle_timeout_s: int | None = None
    """It ends so long after its last use, with nothing open, as by its timeout."""
    ran_s: float = 0.0
    """Running time of the periods that are over; the present one began at `state_since`."""
    check_at: float | None = None
    """When a clock is to be looked at next; see `core/clocks.py`."""
    lease_until: float | None = None
    """None: as long as the lease of its node."""
    inbound_auth: InboundAuth = InboundAuth.TOKEN
    agent_per_minute: int | None = None
    """The rate limit of its key for calls to its agent, as it was at the birth: the route carries it to the edge."""
    socket: str = ""
    reason: str = ""
    """Why it is in `error`."""
    metadata: dict[str, str] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict, repr=False)  # Any: JSON values
    """`core.policy.given_form` with its secrets."""
    ingress: Ingress = DEFAULT
    dialect: Dialect = Dialect.HOPX
    on_timeout: OnTimeout = OnTimeout.DELETE
    secrets: tuple[SecretUse, ...] = ()
    """Its variables that stand for one. What header rules refer to is in `network`."""
    volumes: tuple[VolumeMount, ...] = ()
    plugged_mib: int = 0
    """Of its memory, what it was not born with."""

    @property
    def policy_form(self) -> dict[str, Any]:  # Any: JSON values
        """`core.policy.to_wire` of its policy, without the values of secrets."""
        return {"internet_access": self.internet_access, **self.network}

    @property
    def is_public(self) -> bool:
        """Whether anybody may reach its ports: only when nothing says otherwise."""
        return self.inbound_auth is InboundAuth.PUBLIC and self.ingress.allow_public_traffic

    def ran_until(self, now: float) -> float:
        running = now - self.state_since if self.state in EXECUTING else 0.0
        return self.ran_s + max(0.0, running)


def moved(sandbox: Sandbox, state: State, now: float, reason: str = "") -> Sandbox:
    """Every change of state goes through here: it closes one period of running time and opens the next."""
    return replace(sandbox, state=state, ran_s=sandbox.ran_until(now), state_since=now, reason=reason)
