"""What the node asks of an engine. An engine makes an isolated place with our agent in it, and nothing else.

An `EngineHandle` is plain JSON data that an engine gives and takes back. Of its keys the node reads two: `pid`, the
host's number of the sandbox's PID 1, and `start_time`, field 22 of /proc/PID/stat; together they name one process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from .limits import Limits
from .packet_policy import REFUSE_ALL, KernelPolicy
from .policy import DEFAULT_DNS
from .template import Template

EngineHandle = dict[str, Any]  # Any: JSON values; the engine alone knows their shape


@dataclass(frozen=True)
class VolumeSpec:
    image: Path
    key: bytes = field(repr=False)
    path: str
    """Where the sandbox has it."""


@dataclass(frozen=True)
class SandboxSpec:
    """All that a birth needs. `key` is the disk's, in clear: it is for the engine's memory only."""

    id: str
    template: Template
    limits: Limits
    hostname: str
    disk: Path
    key: bytes = field(repr=False)
    socket: Path
    config: Mapping[str, Any]
    """The agent's configuration, docs/agent-protocol.md."""
    egress: KernelPolicy = REFUSE_ALL
    nameservers: Sequence[str] = DEFAULT_DNS
    """In its resolv.conf."""
    slot: str | None = None
    """Made ahead by a `SlotMaker`, on this disk; one that is not there any more is no error."""
    volumes: Sequence[VolumeSpec] = ()


@dataclass(frozen=True)
class SlotSpec:
    """A slot belongs to no sandbox yet. Its disk may be renamed while it is in use."""

    name: str
    template: Template
    limits: Limits
    disk: Path
    key: bytes = field(repr=False)
    config: Mapping[str, Any]
    """The agent's, as far as the template says it."""


@dataclass(frozen=True)
class EngineUsage:
    cpu_seconds: float
    memory_bytes: int
    processes: int
    memory_cache_bytes: int = 0
    """Of `memory_bytes`, what gives way when memory is needed."""


class Engine(Protocol):
    """`destroy` is idempotent and cleans half-made things: a `create` that failed, was cut off or never began."""

    async def probe(self) -> dict[str, EngineHandle]:
        """The sandboxes that the engine itself knows of, with at least `pid` and `start_time` each."""
        ...

    async def prepare(self, template: Template) -> None: ...

    async def create(self, spec: SandboxSpec) -> EngineHandle:
        """Its agent serves when this returns."""
        ...

    async def destroy(self, sandbox_id: str, handle: EngineHandle | None, behind: bool = False) -> None:
        """`behind`: returns when nothing of it runs and nothing gets out in its name; the rest is `swept` behind."""
        ...

    async def swept(self, sandbox_id: str) -> None:
        """Returns when nothing is left of one that was destroyed: its disk is nobody's any more."""
        ...

    async def usage(self, sandbox_id: str, handle: EngineHandle) -> EngineUsage: ...

    async def shutdown(self) -> None:
        """Ends the engine's own processes. Sandboxes that still run are not touched."""
        ...


@runtime_checkable
class Pausable(Protocol):
    """Both are idempotent."""

    async def pause(self, sandbox_id: str, handle: EngineHandle) -> None: ...

    async def resume(self, sandbox_id: str, handle: EngineHandle) -> None: ...


@runtime_checkable
class Governed(Protocol):
    """Engines that judge what goes out of a sandbox. All are idempotent."""

    async def set_egress(self, sandbox_id: str, policy: KernelPolicy) -> None:
        """In the place of what held; what it forbids is cut when this returns."""
        ...

    async def punish(self, sandbox_id: str, seconds: int) -> None:
        """No new connections for so long. A sandbox that is gone is no error."""
        ...

    async def blocked(self, networks: Sequence[str], ports: Sequence[str]) -> None:
        """What no sandbox reaches, in the place of what was: `203.0.113.0/24`, `tcp/25`."""
        ...


@runtime_checkable
class Adjustable(Protocol):
    """Engines that change what a running sandbox was born with. All are idempotent; `Conflict` when it is paused."""

    async def set_memory(self, sandbox_id: str, limits: Limits) -> None:
        """`Conflict`, and nothing changed, when it uses too much of what is to be taken from it."""
        ...

    async def mount(self, sandbox_id: str, volume: VolumeSpec) -> None:
        """`InvalidInput` when its own files stand against it."""
        ...

    async def unmount(self, sandbox_id: str, image: Path, path: str, force: bool, known: int) -> None:
        """`Conflict` while files of it are in use, unless `force`: they are out of reach then, but still there for who
        has them open. `known`: how often the sandbox is to have it mounted; when it is not at `path`, and as often as
        that elsewhere, it was moved, which is a `Conflict` too."""
        ...

    async def mounted(self, sandbox_id: str, image: Path, path: str) -> bool:
        """Whether the volume is there in truth, also of one that is paused."""
        ...

    async def attached(self, image: Path) -> bool:
        """Whether anybody at all has that volume mounted, or files of it open."""
        ...


@runtime_checkable
class SlotMaker(Protocol):
    """Engines for which part of a create can be done ahead."""

    async def prepare_slot(self, spec: SlotSpec) -> None: ...

    async def discard_slot(self, name: str) -> None:
        """One that is not there any more is no error."""
        ...
