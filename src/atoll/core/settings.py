"""What each process is told at its start. Read from flags and environment in `compose` only; plain data elsewhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from .uplink import NO_UPLINK, Uplink

FIRST_EGRESS_ID = 0xF000_0000
"""Where the ids of sandboxes end (`engines/native/ids.py`)."""


@dataclass(frozen=True)
class Places:
    """Where an installation keeps its things; see docs/architecture.md."""

    data: Path
    run: Path

    @classmethod
    def of(cls, data_dir: Path, run_root: Path = Path("/run/atoll")) -> Places:
        data = data_dir.resolve()
        return cls(data=data, run=run_root / installation_id(data))

    @property
    def installation(self) -> str:
        return self.run.name

    @property
    def server_socket(self) -> Path:
        return self.run / "server.sock"

    @property
    def node_socket(self) -> Path:
        return self.run / "node.sock"

    @property
    def dial_socket(self) -> Path:
        return self.run / "dial.sock"

    @property
    def egress_socket(self) -> Path:
        return self.run / "egress.sock"

    @property
    def ingress_socket(self) -> Path:
        """Of the edge, for sandboxes that use its URLs; in a directory of its own, where it may make it and where the
        egress daemon may connect."""
        return self.run / "ingress" / "edge.sock"

    @property
    def access_log(self) -> Path:
        return self.data / "edge" / "access.jsonl"

    @property
    def launcher_socket(self) -> Path:
        return self.run / "launcher.sock"

    @property
    def token_key(self) -> Path:
        return self.data / "server" / "token.key"

    @property
    def seal_key(self) -> Path:
        return self.data / "server" / "seal.key"

    @property
    def database(self) -> Path:
        return self.data / "server" / "atoll.db"

    @property
    def tls(self) -> Path:
        return self.data / "tls"

    @property
    def first_key(self) -> Path:
        return self.data / "api-key"

    def agent_socket(self, sandbox_id: str) -> Path:
        return self.run / "s" / f"{sandbox_id}.sock"


def egress_id(installation: str) -> int:
    """User and group of the egress daemon: behind the ids of sandboxes, and another for each installation."""
    return FIRST_EGRESS_ID + int(installation[:6], 16)


def installation_id(data: Path) -> str:
    """Short, because a Unix socket's path has room for 107 bytes and an interface's name for 15."""
    return hashlib.sha256(str(data).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Clocks:
    """The three clocks, in seconds; 0 switches one off."""

    inactivity_s: int = 3600
    max_life_s: int = 24 * 3600
    keep_stopped_s: int = 30 * 24 * 3600


@dataclass(frozen=True)
class Reserves:
    """Free memory and disk below which `create` is refused."""

    memory_mib: int = 1024
    disk_fraction: float = 0.05


@dataclass(frozen=True)
class TlsFiles:
    cert: Path
    key: Path


@dataclass(frozen=True)
class ServerSettings:
    places: Places
    public_url: str
    """What clients reach, without a trailing slash: http://127.0.0.1:8080"""
    domain: str | None = None
    """Sandboxes have names below it, on the same scheme and port as `public_url`."""
    region: str = "local"
    clocks: Clocks = field(default_factory=Clocks)


@dataclass(frozen=True)
class EdgeSettings:
    places: Places
    host: str
    port: int
    listen_fd: int | None = None
    """An inherited listening socket to serve instead of binding one: its queue outlives an edge that is replaced."""
    domain: str | None = None
    region: str = "local"
    tls: TlsFiles | None = None
    plain_for_all: bool = False
    """Plain HTTP also from other machines, though there is TLS: a proxy stands in front."""
    callback_ca: Path | None = None
    """Certificates that call-backs trust beside the system's."""


@dataclass(frozen=True)
class EgressSettings:
    """How outbound traffic is looked after; 0 switches a limit off."""

    nameservers: tuple[str, ...] = ("8.8.8.8", "1.1.1.1")
    """Who is asked for names, where a sandbox's policy does not say."""
    rate: int = 100
    """Connections of one sandbox per second; after a pause up to `burst` at once."""
    burst: int = 500
    mbit: int = 0
    """Of one sandbox, each direction."""
    log_mib: int = 1024
    """What the logs of all sandboxes may take together."""
    domain: str | None = None
    """The installation's own: sandboxes reach each other by the names below it."""
    authorities: tuple[Path, ...] = ()
    """Certificates that are trusted beside the system's where requests are changed on their way."""


@dataclass(frozen=True)
class NodeSettings:
    places: Places
    region: str = "local"
    reserves: Reserves = field(default_factory=Reserves)
    warm: tuple[str, ...] = ()
    """Templates whose zygotes are made at the start, not with the first sandbox."""
    ready: int | None = None
    """Sandboxes made ahead for each template in use; None: as many as the memory suggests."""
    uplink: Uplink = NO_UPLINK
    open_ranges: str = ""
    """Internal networks that sandboxes may reach all the same, separated by commas."""
    egress: EgressSettings = field(default_factory=EgressSettings)
