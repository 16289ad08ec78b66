"""The seams of the control plane. Each has a shipped fake or a real one small enough to use in tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .audit import AuditEntry
from .keys import ApiKey
from .lifecycle import State
from .limits import Limits
from .quota import Quota, Used
from .rates import Rates
from .sandbox import Sandbox
from .template import Template


class Clock(Protocol):
    def now(self) -> float:
        """Unix seconds."""
        ...


# ---- the node


@dataclass(frozen=True)
class NodeHello:
    node_id: str
    region: str
    version: str
    templates: tuple[Template, ...]


@dataclass(frozen=True)
class Birth:
    """What the node is told to make."""

    id: str
    incarnation: int
    template: str
    limits: Limits
    env: Mapping[str, str]
    internet_access: bool = True
    network: Mapping[str, Any] = field(default_factory=dict, repr=False)  # Any: JSON values
    """`core.policy.given_form` with its secrets."""


@dataclass(frozen=True)
class NodeSandbox:
    id: str
    incarnation: int
    state: State
    policy: str = ""
    """`core.policy.fingerprint` of what holds for it."""


@dataclass(frozen=True)
class Capacity:
    memory_available_mib: int
    memory_reserve_mib: int
    memory_total_mib: int
    disk_available_mib: int
    disk_reserve_mib: int
    disk_total_mib: int


@dataclass(frozen=True)
class EgressPage:
    entries: Sequence[Mapping[str, Any]]  # Any: JSON values; `core.egress.Entry.to_wire` and `seq`
    cursor: int
    """To be given as `after` for what comes next."""


class Node(Protocol):
    """One machine. Everything is bounded in time and raises `Unavailable` when the node does not answer."""

    @property
    def node_id(self) -> str: ...

    @property
    def region(self) -> str: ...

    async def hello(self) -> NodeHello: ...

    async def create(self, birth: Birth) -> str:
        """The path of the sandbox's socket; its agent has answered."""
        ...

    async def start(self, birth: Birth) -> str: ...

    async def stop(self, sandbox_id: str, incarnation: int) -> None: ...

    async def destroy(self, sandbox_id: str, incarnation: int) -> None: ...

    async def pause(self, sandbox_id: str, incarnation: int) -> None: ...

    async def resume(self, sandbox_id: str, incarnation: int) -> None: ...

    async def set_network(
        self,
        sandbox_id: str,
        incarnation: int,
        policy: Mapping[str, Any],  # Any: JSON values
    ) -> None:
        """`policy`: `core.policy.to_wire`. It holds when this returns. What runs is one thing, what is kept another:
        a sandbox that does neither run nor pause is a `Conflict`."""
        ...

    async def egress_log(self, sandbox_id: str, after: int, limit: int, wait_s: float) -> EgressPage:
        """Also of a sandbox that is gone, while its log is kept; `NotFound` where nothing goes out."""
        ...

    async def egress_totals(self, sandbox_id: str | None) -> dict[str, Any]:  # Any: JSON values
        """Of all together without an id."""
        ...

    async def list(self) -> Sequence[NodeSandbox]: ...

    async def usage(self, sandbox_id: str) -> dict[str, Any]: ...  # Any: JSON values

    async def live(self, sandbox_id: str) -> int:
        """How many processes and cells started by a call still run: the sandbox's own word."""
        ...

    async def capacity(self) -> Capacity: ...


class Placement(Protocol):
    def place(self, template: str, region: str | None) -> Node:
        """The machine for a new sandbox; `Unavailable` when there is none, `InvalidInput` for a region without any."""
        ...

    def node(self, node_id: str) -> Node:
        """The machine that has a sandbox; `Unavailable` while it is not connected."""
        ...

    def nodes(self) -> Sequence[Node]:
        """Those that are connected."""
        ...

    def templates(self) -> Mapping[str, Template]: ...

    async def refresh_templates(self) -> None: ...


# ---- the store; every method is one transaction


@dataclass(frozen=True)
class SandboxFilter:
    organization_id: int
    state: State | None = None
    region: str | None = None


Admit = Callable[[Used], None]
"""Raises when what is used already leaves no room."""


class SandboxRepository(Protocol):
    async def insert(self, sandbox: Sandbox) -> None: ...

    async def insert_if(self, sandbox: Sandbox, admit: Admit) -> None:
        """`admit` is told what the living sandboxes of the same key use, in the transaction that inserts."""
        ...

    async def get(self, sandbox_id: str) -> Sandbox | None:
        """Tombstones included."""
        ...

    async def replace(self, old: Sandbox, new: Sandbox) -> bool:
        """Compare-and-set: False when the row is no longer in `old`'s state and incarnation."""
        ...

    async def list(self, where: SandboxFilter, after: tuple[float, str] | None, limit: int) -> Sequence[Sandbox]:
        """Newest first, without tombstones, from behind (created_at, id)."""
        ...

    async def on_node(self, node_id: str) -> Sequence[Sandbox]:
        """Tombstones included."""
        ...

    async def executing_or_kept(self) -> Sequence[Sandbox]: ...

    async def to_check(self, now: float, limit: int) -> Sequence[Sandbox]:
        """Those whose `check_at` has come."""
        ...

    async def set_check_at(self, times: Iterable[tuple[str, float | None]]) -> None: ...

    async def tombstones(self, before: float) -> Sequence[Sandbox]: ...

    async def unfinished(self, before: float) -> Sequence[Sandbox]:
        """Those that are being created since before that."""
        ...

    async def purge(self, sandbox_id: str) -> None:
        """Removes a tombstone; anything else stays."""
        ...


class KeyRepository(Protocol):
    async def insert(self, key: ApiKey) -> None: ...

    async def by_digest(self, digest: str) -> ApiKey | None: ...

    async def list(self) -> Sequence[ApiKey]: ...

    async def set_limits(self, key_id: str, quota: Quota, rates: Rates) -> bool:
        """False when there is no such key."""
        ...

    async def set_used(self, key_id: str, at: float) -> None: ...

    async def revoke(self, key_id: str, at: float) -> bool:
        """False when there is no such key. Revoking twice keeps the first time."""
        ...


class AuditRepository(Protocol):
    async def append(self, entry: AuditEntry) -> None: ...

    async def forget(self, before: float, most: int) -> None:
        """Removes what is older, and the oldest beyond `most`."""
        ...

    async def list(self, limit: int) -> Sequence[AuditEntry]: ...

    async def creator(self, sandbox_id: str) -> str | None:
        """The id of the key by which it was asked for, also when the sandbox is long gone."""
        ...


@dataclass(frozen=True)
class NodeRecord:
    id: str
    region: str
    seen_at: float
    lease_until: float


class NodeRepository(Protocol):
    async def put(self, node: NodeRecord) -> None: ...

    async def list(self) -> Sequence[NodeRecord]: ...


class Store(Protocol):
    @property
    def sandboxes(self) -> SandboxRepository: ...

    @property
    def keys(self) -> KeyRepository: ...

    @property
    def audit(self) -> AuditRepository: ...

    @property
    def nodes(self) -> NodeRepository: ...
