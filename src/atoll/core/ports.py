"""The seams of the control plane. Each has a shipped fake or a real one small enough to use in tests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .audit import AuditEntry
from .events import Event, EventQuery
from .keys import ApiKey
from .lifecycle import State
from .limits import Limits
from .quota import Quota, Used
from .rates import Rates
from .sandbox import Sandbox
from .secrets import Secret, SecretValue
from .template import Template, Unbuilt
from .volumes import Volume, VolumeMount


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
    unbuilt: tuple[Unbuilt, ...] = ()


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
    volumes: tuple[VolumeMount, ...] = ()
    """Of a first life; later ones mount the same."""


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

    async def set_memory(self, sandbox_id: str, incarnation: int, memory_mib: int) -> None:
        """Of one that runs, else `Conflict`; also when it uses too much of what is taken from it. Idempotent."""
        ...

    async def mount_volume(self, sandbox_id: str, incarnation: int, mount: VolumeMount) -> None:
        """Into one that runs, else `Conflict`; `InvalidInput` when nothing can be mounted at its path. Idempotent."""
        ...

    async def unmount_volume(self, sandbox_id: str, incarnation: int, path: str, force: bool) -> None:
        """`Conflict` while its files are in use, unless `force`: who has them open then keeps them, nobody else.
        Idempotent."""
        ...

    async def make_volume(self, volume_id: str, size_mib: int, inodes: int) -> None:
        """Idempotent."""
        ...

    async def grow_volume(self, volume_id: str, size_mib: int) -> None:
        """Idempotent; `Conflict` while anybody has it mounted."""
        ...

    async def volume_usage(self) -> Mapping[str, int]:
        """Bytes that each volume takes on the machine."""
        ...

    async def remove_volume(self, volume_id: str) -> None:
        """Idempotent; `Conflict` while sandboxes have it mounted."""
        ...

    async def open_volume(self, volume_id: str) -> str:
        """The socket of an agent that has its files at `core.volumes.KEEPER_ROOT`, for a minute at least."""
        ...

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

    def unbuilt(self) -> Mapping[str, Unbuilt]: ...

    async def refresh_templates(self) -> None: ...


# ---- the store; every method is one transaction


@dataclass(frozen=True)
class SandboxFilter:
    organization_id: int
    state: State | None = None
    region: str | None = None
    states: Collection[State] = ()
    """Any of these; empty: every one."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """All of these pairs."""
    template: str | None = None
    created_after: float | None = None


Admit = Callable[[Used], None]
"""Raises when what is used already leaves no room."""


class SandboxRepository(Protocol):
    async def begin(self, sandbox: Sandbox, admit: Admit | None = None) -> None:
        """It is being made: from now on it is found and counted like any other, and written with its first `replace`.
        Until then it is this server's alone, and ends with it. `admit` is told what the living sandboxes of the same
        key use, and nothing comes between."""
        ...

    async def get(self, sandbox_id: str) -> Sandbox | None:
        """Tombstones included."""
        ...

    async def replace(
        self, old: Sandbox, new: Sandbox, *, admit: Admit | None = None, entry: AuditEntry | None = None
    ) -> bool:
        """Compare-and-set: False when the row is no longer in `old`'s state and incarnation. `admit`: as in `begin`;
        what is used includes `old`. `entry` is written to the audit with it."""
        ...

    async def used(self, key_id: str) -> Used:
        """By all living sandboxes of a key."""
        ...

    async def list(
        self, where: SandboxFilter, after: tuple[float, str] | None, limit: int, oldest_first: bool = False
    ) -> Sequence[Sandbox]:
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

    async def correct(self, entry: AuditEntry, outcome: str) -> None:
        """Of one that was written: it has ended otherwise."""
        ...

    async def forget(self, before: float, most: int) -> None:
        """Removes what is older, and the oldest beyond `most`."""
        ...

    async def list(self, limit: int) -> Sequence[AuditEntry]: ...

    async def of_sandbox(self, sandbox_id: str, limit: int, without: Collection[str]) -> Sequence[AuditEntry]:
        """What was done to it, newest first; `without` names operations that do not count."""
        ...

    async def events(self, organization_id: int, query: EventQuery) -> tuple[Sequence[Event], int]:
        """Of all sandboxes that keys of this organization asked for, and how many there are in all."""
        ...

    async def creator(self, sandbox_id: str) -> str | None:
        """The id of the key by which it was asked for, also when the sandbox is long gone."""
        ...


@dataclass(frozen=True)
class KeptAnswer:
    request: str
    """Digest of the request that it answers."""
    attempt: str
    """Whose it was to answer: one server process."""
    answer: Mapping[str, Any]  # Any: JSON values
    """Empty until there is one."""


class AnswerRepository(Protocol):
    """Answers to requests that may be sent again, under a digest of their key."""

    async def begin(self, key: str, request: str, attempt: str, at: float) -> KeptAnswer | None:
        """None: the key is new, and from now on this attempt's."""
        ...

    async def finish(self, key: str, answer: Mapping[str, Any]) -> None: ...  # Any: JSON values

    async def abandon(self, key: str, attempt: str) -> None:
        """Nothing was done: the key is free again."""
        ...

    async def forget(self, before: float) -> None: ...


class VolumeRepository(Protocol):
    async def insert(self, volume: Volume, most: int) -> None:
        """`Conflict` when its organization has one of this name, `CapacityExceeded` when it has `most` already."""
        ...

    async def get(self, volume_id: str) -> Volume | None: ...

    async def by_name(self, organization_id: int, name: str) -> Volume | None: ...

    async def list(self, organization_id: int) -> Sequence[Volume]:
        """Oldest first."""
        ...

    async def replace(self, old: Volume, new: Volume) -> bool:
        """Compare-and-set: False when it is gone, or has another size by now."""
        ...

    async def remove(self, volume_id: str) -> None: ...


class SecretRepository(Protocol):
    """Values are sealed; none but `values` gives one back."""

    async def insert(self, secret: Secret, value: str, admit: Callable[[int], None]) -> None:
        """`Conflict` when its organization has one of this name. `admit` is told how many it has, and raises when
        there is no room."""
        ...

    async def get(self, organization_id: int, name_or_id: str) -> Secret | None: ...

    async def list(self, organization_id: int, after: tuple[float, str] | None, limit: int) -> Sequence[Secret]:
        """Newest first, from behind (created_at, id)."""
        ...

    async def replace(self, old: Secret, new: Secret, value: str | None) -> bool:
        """Compare-and-set: False when there is another version by now, or none. Without a value it keeps its own."""
        ...

    async def remove(self, secret_id: str) -> None: ...

    async def values(self, organization_id: int, names: Collection[str]) -> Sequence[SecretValue]:
        """Of those that are there; without placeholders."""
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
    def answers(self) -> AnswerRepository: ...

    @property
    def nodes(self) -> NodeRepository: ...

    @property
    def volumes(self) -> VolumeRepository: ...

    @property
    def secrets(self) -> SecretRepository: ...
