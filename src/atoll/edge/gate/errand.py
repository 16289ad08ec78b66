"""A request for a program in a sandbox: what is known of it on its way there, and of its answer on the way back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from atoll.edge.activity import Use
from atoll.edge.exchange import new_request_id
from atoll.edge.routes import Route
from atoll.edge.routing import SUFFIX as HOPX_SUFFIX
from atoll.edge.routing import Target
from atoll.wire.http1 import Request

from .fields import Passing
from .noted import LINK, Noted

if TYPE_CHECKING:
    from .grpc import Call
    from .upstream import Ports, Upstream

SUFFIX = HOPX_SUFFIX.encode()
REFUSED_METHODS = frozenset((b"CONNECT", b"TRACE"))


@dataclass(slots=True)
class Visit:
    """Where a request wants to go."""

    request: Request
    sandbox_id: str
    port: int | None
    """None: the sandbox's web port."""
    path: bytes
    """Without its query."""
    mount: str = ""
    """What stands before `path` in the URL of a sandbox without a host of its own."""
    shared: bool = False
    """It is named by header fields, on a host that is others' too."""
    grpc: bool = False
    """By HTTP/2 on the way in as well."""
    fresh: bool = False
    """Not on a connection that was used before: it may be closing just now."""

    @property
    def is_named(self) -> bool:
        """As E2B's clients name a port: by a host, or by fields."""
        return self.port is not None and not self.mount

    @property
    def repeatable(self) -> bool:
        request = self.request
        return request.method in (b"GET", b"HEAD", b"OPTIONS") and request.length == 0 and not request.upgrade


class Asked:
    """What is known of a request while it is dealt with."""

    __slots__ = ("at", "caller", "e2b", "id", "noted", "port", "request", "sandbox_id", "since")

    def __init__(self, caller: Caller, request: Request, noted: Noted) -> None:
        self.caller = caller
        self.request = request
        self.noted = noted
        self.id = new_request_id()
        self.at, self.since = time.time(), time.monotonic()
        self.e2b = False
        """Answers of our own are in E2B's words."""
        self.sandbox_id = ""
        self.port: int | None = None


class Errand:
    """A visit that is let in; of one client, to one port of one sandbox."""

    __slots__ = ("asked", "port", "ports", "received", "sent", "status", "target", "use", "visit", "way")

    def __init__(
        self, asked: Asked, visit: Visit, port: int, target: bytes, way: Passing, ports: Ports, use: Use
    ) -> None:
        self.asked = asked
        self.visit = visit
        self.port = port
        self.target = target
        """As the program is to see it: path and query."""
        self.way = way
        self.ports = ports
        self.use = use
        self.status = 0
        """0: no answer was begun."""
        self.received = self.sent = 0
        """Bytes of bodies: from the client, and to it."""


@dataclass(slots=True)
class Lease:
    """What was found out for one request, for those that follow it on the connection and ask for the same."""

    request: Request
    """The last of them whose fields were read; most that follow have the same, byte for byte."""
    noted: Noted
    mount: bytes
    sandbox_id: str
    port: int
    route: Route
    ports: Ports
    way: Passing
    e2b: bool
    ends_at: float
    block: bytes = b""
    """Of the fields that go in: lines, each behind a line end, up to the value of the last, the request's id."""

    def is_for(self, request: Request) -> bool:
        """The fields are the very ones: `read_again` has compared them."""
        return request.fields is self.request.fields

    def covers(self, request: Request, noted: Noted) -> bool:
        """But for the time and the route, which may have changed."""
        if not self.is_for(request) and not self._is_as_good(request, noted):
            return False
        target = request.target
        return (
            target.startswith(self.mount)
            and target.startswith(b"/", len(self.mount))
            and not target.startswith(SUFFIX)
            and LINK not in target
            and request.method not in REFUSED_METHODS
        )

    def _is_as_good(self, request: Request, noted: Noted) -> bool:
        as_good = (
            request.host == self.request.host
            and noted.said == self.noted.said
            and noted.cookies == self.noted.cookies
            and not noted.doubled
        )
        if as_good:
            self.request, self.noted, self.block = request, noted, b""
        return as_good


class Arrived(Protocol):
    """A connection of a client."""

    transport: asyncio.Transport
    moved_at: float

    def sweep(self, now: float) -> None: ...

    def waiting(self) -> int: ...

    def is_idle(self) -> bool: ...


class Caller(Protocol):
    """Who asks: a connection of HTTP/1.1, a stream of HTTP/2."""

    source: bytes
    """An address, `sandbox ID`, or `unknown`."""
    scheme: bytes
    multiplexes: bool
    """It speaks HTTP/2."""
    inside: tuple[str, int] | None
    """A program in this sandbox, at this port of ours in there."""
    deciding: asyncio.Task[None] | None
    """What finds out where its request goes; ended when it leaves."""

    @property
    def lease(self) -> Lease | None: ...

    @lease.setter
    def lease(self, lease: Lease) -> None: ...

    def attach(self, upstream: Upstream | Call, errand: Errand) -> None:
        """The request goes in and the answer comes out by this connection."""
        ...

    def reply(self, status: int, fields: list[tuple[bytes, bytes]], content: bytes, last: bool = False) -> None:
        """An answer of our own. `last`: nothing more is read from the connection."""
        ...

    def again(self) -> None:
        """Its errand ended without an answer and is begun anew."""
        ...

    def to_surface(self, target: Target) -> None:
        """To the API or the agents' surface."""
        ...
