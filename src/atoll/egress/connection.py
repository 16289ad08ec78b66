"""One connection of a sandbox that came to the proxy: its two sockets, what was decided of it, and what is logged.

Nothing of it is anybody's before `reach`: until then no packet has left for the other side.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import ipaddress
import socket
import struct
import time
from dataclasses import dataclass, field

from atoll.core.egress import Entry, Kind, NameSource, Outcome, shown
from atoll.core.errors import PermissionDenied
from atoll.core.policy import OPEN, Policy
from atoll.core.reach import Address

from . import ingress_exit, socks, streams
from .decision import Onward, Refused, Surroundings, decide
from .outward import connect_name
from .pump import End, Pump, Way
from .services import Services
from .shares import Allowance

SO_ORIGINAL_DST = 80
RESET = struct.pack("ii", 1, 0)
NOWHERE = struct.pack("=H14x", socket.AF_UNSPEC)
PIECE = 64 * 1024
MAX_PATH = 512


_libc = ctypes.CDLL(None, use_errno=True)

Facts = tuple[Onward, Address, Address | None, int, str | None, bool]


class Refusal(Exception):
    """The connection is reset, and its entry says why."""

    def __init__(self, rule: str, detail: str = "") -> None:
        super().__init__(rule)
        self.rule, self.detail = rule, detail


class Broken(Exception):
    """One side is gone; the other one is told by a reset."""


@dataclass(eq=False)
class Connection:
    client: socket.socket
    sandbox_id: str
    address: Address
    """Where the sandbox thinks that it goes."""
    port: int
    services: Services
    pump: Pump
    requests: Allowance
    """Of the sandbox's connections together."""
    name: str | None = None
    name_from: NameSource | None = None
    ech: bool = False
    onward: Onward | None = None
    remote: Address | None = None
    """Where it really goes; None while nobody knows, or when a SOCKS5 server does."""
    upstream: socket.socket | None = None
    ways: list[Way] = field(default_factory=list)
    at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.monotonic)
    active_at: float = 0.0
    sent: int = 0
    received: int = 0
    """Without what the ways have carried."""
    verdict: Outcome = Outcome.ALLOWED
    rule: str = ""
    detail: str = ""
    logged: bool = False
    """Its refusal is in the log already, as one of a request."""
    task: asyncio.Task[None] | None = None
    ending: bool = False
    """Its task is on its last words, and is not to be cancelled any more."""
    bridge: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.active_at = self.started

    # ---- deciding

    @property
    def policy(self) -> Policy:
        """The one in force now."""
        known = self.services.sandboxes.by_id(self.sandbox_id)
        if known is None:
            raise Refusal("no sandbox")
        return known.policy

    @property
    def surroundings(self) -> Surroundings:
        return Surroundings(self.services.opened, self.services.blocked(), self.services.domain)

    def decide(self, name: str | None, ech: bool = False) -> Onward:
        """Raises `Refusal`."""
        decision = decide(self.policy, self.address, self.port, name, ech, self.surroundings)
        if isinstance(decision, Refused):
            self.name, self.ech = name, ech
            raise Refusal(decision.rule)
        return decision

    def take(self, onward: Onward, name: str | None, source: NameSource, ech: bool = False) -> None:
        self.onward, self.name, self.ech, self.rule = onward, name, ech, onward.rule
        self.name_from = source if name is not None else None

    @property
    def facts(self) -> Facts | None:
        """None: it has shown no name yet, and is judged when it does."""
        if self.onward is None:
            return None
        return self.onward, self.address, self.remote, self.port, self.name, self.ech

    def may_still_be_allowed(self) -> bool:
        """Of one that has shown no name yet: by its address, or by the name that it may show."""
        try:
            return self.policy.reads_names or bool(self.decide(None))
        except Refusal:
            return False

    # ---- the other side

    async def dial(self, onward: Onward) -> socket.socket | streams.Stream:
        if onward.ingress:
            return await ingress_exit.connect(self.services.ingress_socket, self.sandbox_id)
        if onward.proxy is not None:
            return await socks.connect(
                onward.proxy, onward.host, self.port, self._dial_checked, self.services.proxy_tls
            )
        judged = OPEN if onward.by_name else self.policy
        sock, self.remote = await connect_name(onward.host, self.port, self.services, self.policy.dns_servers, judged)
        return sock

    async def _dial_checked(self, host: str, port: int) -> socket.socket:
        sock, _ = await connect_name(host, port, self.services, self.policy.dns_servers)
        return sock

    async def reach(self, onward: Onward) -> None:
        """Raises `Refusal`, or `Unavailable`."""
        try:
            dialled = await self.dial(onward)
        except PermissionDenied as error:
            raise Refusal(str(error.details.get("rule", "never")), error.message) from error
        if isinstance(dialled, streams.TlsStream):
            dialled = self._bridged(dialled)
        elif isinstance(dialled, streams.PlainStream):
            dialled, _ = dialled.take()
        self.upstream = dialled

    def _bridged(self, stream: streams.TlsStream) -> socket.socket:
        """TLS to a SOCKS5 server is made in Python; the rest sees a socket like any other."""
        here, there = socket.socketpair()
        here.setblocking(False)
        there.setblocking(False)
        self.bridge = asyncio.create_task(_bridge(stream, streams.PlainStream(there)))
        return here

    # ---- bytes

    async def await_turn(self) -> None:
        """Before a further request."""
        if (delay_s := self.requests.take_later(time.monotonic())) > 0:
            await asyncio.sleep(delay_s)

    async def receive(self) -> bytes:
        """Of the client; b"" at its end. Raises `Broken`."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self.client, PIECE)
        except OSError as error:
            raise Broken from error
        self.active_at = time.monotonic()
        return data

    async def send(self, data: bytes) -> None:
        assert self.upstream is not None
        await self._send_all(self.upstream, data)
        self.sent += len(data)

    async def hear(self) -> bytes:
        """Of the other side; b"" at its end."""
        assert self.upstream is not None
        try:
            data = await asyncio.get_running_loop().sock_recv(self.upstream, PIECE)
        except OSError as error:
            raise Broken from error
        self.active_at = time.monotonic()
        return data

    async def tell(self, data: bytes) -> None:
        await self._send_all(self.client, data)
        self.received += len(data)

    async def _send_all(self, sock: socket.socket, data: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(sock, data)
        except OSError as error:
            raise Broken from error
        self.active_at = time.monotonic()

    def finish(self) -> None:
        """Nothing more goes out."""
        if self.upstream is not None:
            with contextlib.suppress(OSError):
                self.upstream.shutdown(socket.SHUT_WR)

    def carry_out(self, count: int | None = None) -> Way:
        assert self.upstream is not None
        return self._carry(self.client, self.upstream, count)

    def carry_in(self) -> Way:
        assert self.upstream is not None
        return self._carry(self.upstream, self.client, None)

    def _carry(self, source: socket.socket, target: socket.socket, count: int | None) -> Way:
        way = self.pump.carry(source, target, self.sandbox_id, count)
        self.ways = [each for each in self.ways if each.end is None or self._booked(each)]
        self.ways.append(way)
        return way

    def _booked(self, way: Way) -> bool:
        """A way that is over is counted and forgotten, so that a long life of many requests does not add up."""
        if way.source is self.client:
            self.sent += way.bytes
        else:
            self.received += way.bytes
        return False

    async def wait(self, *ways: Way) -> None:
        """Until all of them have ended well; raises `Broken` when one has not."""
        waiting = {way.over for way in ways}
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(each.result() in (End.FAILED, End.RELEASED) for each in done):
                raise Broken

    async def both_ways(self) -> None:
        await self.wait(self.carry_out(), self.carry_in())

    # ---- its end

    def reset_outside(self) -> None:
        """While the socket stays open for whoever still uses it."""
        if self.upstream is not None:
            disconnect(self.upstream)

    def reset_inside(self) -> None:
        disconnect(self.client)

    @property
    def is_whole(self) -> bool:
        """What is outside of it is `upstream`, and nothing is still to come."""
        return self.upstream is not None and self.bridge is None

    async def release(self) -> None:
        await self.pump.release(self.ways)

    def close(self, clean: bool) -> None:
        """After `release`."""
        if self.bridge is not None and not clean:
            self.bridge.cancel()
        for sock in (self.client, self.upstream):
            if sock is not None:
                if not clean:
                    with contextlib.suppress(OSError):
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                sock.close()

    @property
    def bytes_out(self) -> int:
        return self.sent + sum(way.bytes for way in self.ways if way.source is self.client)

    @property
    def bytes_in(self) -> int:
        return self.received + sum(way.bytes for way in self.ways if way.source is not self.client)

    def idle_s(self, now: float) -> float:
        return now - max((self.active_at, *(way.moved_at for way in self.ways)))

    @property
    def half_closed(self) -> bool:
        return any(way.end is End.EOF for way in self.ways)

    # ---- the log

    def write_request(self, method: str, path: str, rule: str, verdict: Outcome) -> None:
        self.services.log.write(
            Entry(
                at=time.time(),
                sandbox_id=self.sandbox_id,
                kind=Kind.REQUEST,
                verdict=verdict,
                rule=rule,
                protocol="tcp",
                address=str(self.remote or self.address),
                port=self.port,
                name=shown(self.name or ""),
                name_from=self.name_from,
                method=shown(method, 32),
                path=shown(path, MAX_PATH),
            )
        )

    def write_entry(self) -> None:
        name, source = self.name, self.name_from
        if name is None:
            name = self.services.recent.name_of(self.sandbox_id, self.address)
            source = NameSource.DNS if name is not None else None
        self.services.log.write(
            Entry(
                at=self.at,
                sandbox_id=self.sandbox_id,
                kind=Kind.CONNECTION,
                verdict=self.verdict,
                rule=self.rule,
                protocol="tcp",
                address=str(self.remote or self.address),
                port=self.port,
                name=shown(name or ""),
                name_from=source,
                bytes_out=self.bytes_out,
                bytes_in=self.bytes_in,
                duration_s=time.monotonic() - self.started,
                detail=shown(self.detail),
            )
        )


async def _bridge(stream: streams.TlsStream, inner: streams.PlainStream) -> None:
    try:
        await streams.join(stream, inner)
    except OSError:
        stream.abort()
        inner.abort()
    except BaseException:
        stream.abort()
        inner.abort()
        raise
    else:
        stream.close()
        inner.close()


def disconnect(sock: socket.socket) -> None:
    """connect(2) to nowhere: the one way to reset a connection without closing it."""
    if sock.family == socket.AF_UNIX:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    elif sock.fileno() >= 0:
        _libc.connect(sock.fileno(), NOWHERE, len(NOWHERE))


def original_destination(sock: socket.socket) -> tuple[Address, int]:
    """Before the kernel translated it to us."""
    raw = sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    port, address = struct.unpack("!2xH4s8x", raw)
    return ipaddress.IPv4Address(address), port
