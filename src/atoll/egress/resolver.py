"""Names resolved for sandboxes, and for the proxy that dials what sandboxes name. It asks resolvers; it is none itself.

A question goes out from a port and with an identity of its own, in letters of random case, and only an answer that has
all of these is taken; in another case it is asked again over TCP. The same question of several is asked once. Servers
are tried in turn, the next one when the last has not answered within `STAGGER_S` or has no good answer, and whoever is
first is believed; one that kept silent is asked last for a while.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atoll.core.errors import Unavailable
from atoll.core.reach import Address
from atoll.egress.answers import Stored, store
from atoll.wire import dns_message as message
from atoll.wire.dns_message import Flag, Malformed, Rcode, Response, Type

NAMESERVERS = ("8.8.8.8", "1.1.1.1")
PORT = 53
ANSWER_S = 2.8
"""In all; a stub resolver gives up after five, and asks twice."""
STAGGER_S = 0.7
MIN_TRIES = 4
SILENT_S = 10.0
MAX_SILENT = 1024
MAX_ASKING = 8192
MAX_CACHED = 10_000
MAX_CACHED_BYTES = 32 * 1024 * 1024
MAX_ANSWER = 16_384
"""Bytes. Nobody needs longer ones, and whoever owns a name decides how much work reading its answer is."""
RECORD_COST = 400
"""Bytes, about, that a kept answer takes beside its body."""
GOOD = {Rcode.NOERROR, Rcode.NXDOMAIN}

Servers = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Question:
    name: bytes
    """Lower case, as on the wire."""
    rdtype: int
    do: bool = False
    checking_disabled: bool = False


Key = tuple[Servers, Question]


class Cache:
    """The least used go first."""

    def __init__(self, most: int = MAX_CACHED, most_bytes: int = MAX_CACHED_BYTES) -> None:
        self._kept: OrderedDict[Key, Stored] = OrderedDict()
        self._bytes = 0
        self._most, self._most_bytes = most, most_bytes

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key, now: float) -> Stored | None:
        stored = self._kept.get(key)
        if stored is None:
            return None
        if now - stored.at >= stored.lifetime:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return stored

    def put(self, key: Key, stored: Stored) -> None:
        if stored.lifetime <= 0:
            return
        self._drop(key)
        self._kept[key] = stored
        self._bytes += _cost(stored)
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Key) -> None:
        stored = self._kept.pop(key, None)
        if stored is not None:
            self._bytes -= _cost(stored)


def _cost(stored: Stored) -> int:
    return len(stored.body) + RECORD_COST


class Resolver:
    def __init__(
        self, nameservers: Sequence[str] = NAMESERVERS, port: int = PORT, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.nameservers = tuple(nameservers)
        self._port = port
        self._now = now
        self._cache = Cache()
        self._asking: dict[Key, asyncio.Task[Stored]] = {}
        self._silent: OrderedDict[str, float] = OrderedDict()

    async def close(self) -> None:
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def addresses(self, name: str, servers: Sequence[str] | None = None) -> list[Address]:
        """Of a name in its normal form; never empty. IPv6 addresses are for names that have no other.

        Raises Unavailable. `servers`: None for the installation's.
        """
        wire = message.name_wire(name)
        if wire is None:
            raise Unavailable(f"{name} is no name that can be resolved")
        rcode = 0
        for rdtype in (Type.A, Type.AAAA):
            stored = await self.answer(Question(wire.lower(), rdtype), servers)
            if stored.addresses:
                return list(stored.addresses)
            rcode = stored.rcode
            if rcode == Rcode.NXDOMAIN:
                raise Unavailable(f"there is no host {name}")
        if rcode != Rcode.NOERROR:
            raise Unavailable(f"{name} could not be resolved: the resolver answered with error {rcode}")
        raise Unavailable(f"{name} has no address")

    def cached(self, question: Question, servers: Sequence[str] | None = None) -> Stored | None:
        return self._cache.get((self._servers(servers), question), self._now())

    async def answer(self, question: Question, servers: Sequence[str] | None = None) -> Stored:
        """Raises Unavailable when nobody answers in time."""
        key = (self._servers(servers), question)
        stored = self._cache.get(key, self._now())
        if stored is not None:
            return stored
        task = self._asking.get(key)
        if task is None:
            if len(self._asking) >= MAX_ASKING:
                raise Unavailable("too many names are being resolved")
            task = asyncio.create_task(self._ask(key))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asked(key))
        return await asyncio.shield(task)

    def _asked(self, key: Key) -> None:
        task = self._asking.pop(key)
        if not task.cancelled():
            task.exception()  # whoever asked has left

    def _servers(self, servers: Sequence[str] | None) -> Servers:
        return self.nameservers if servers is None else tuple(servers)

    async def _ask(self, key: Key) -> Stored:
        servers, question = key
        stored = await self._race(question, self._order(servers))
        self._cache.put(key, stored)
        return stored

    async def _race(self, question: Question, servers: Sequence[str]) -> Stored:
        """The first good answer; else the last bad one, if there is any."""
        end = self._now() + ANSWER_S
        tries = [servers[number % len(servers)] for number in range(max(MIN_TRIES, len(servers)))] if servers else []
        stagger = min(STAGGER_S, ANSWER_S / max(1, len(tries)))
        running: dict[asyncio.Task[Stored | None], tuple[str, float]] = {}
        bad: Stored | None = None
        try:
            while (tries or running) and (left := end - self._now()) > 0:
                if tries:
                    server = tries.pop(0)
                    running[asyncio.create_task(self._exchange(question, server))] = (server, self._now())
                done, _ = await asyncio.wait(
                    running, timeout=min(left, stagger) if tries else left, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    server, _started = running.pop(task)
                    stored = task.result()
                    self._heard(server, stored is not None)
                    if stored is not None and stored.rcode in GOOD:
                        return stored
                    bad = stored or bad
        finally:
            late = self._now() - stagger
            for task, (server, started) in running.items():
                task.cancel()
                if started <= late:
                    self._heard(server, False)
        if bad is None:
            raise Unavailable("no resolver answers")
        return bad

    def _order(self, servers: Servers) -> list[str]:
        now = self._now()
        return sorted(servers, key=lambda server: self._silent.get(server, 0.0) > now)

    def _heard(self, server: str, answered: bool) -> None:
        self._silent.pop(server, None)
        if not answered:
            self._silent[server] = self._now() + SILENT_S
            if len(self._silent) > MAX_SILENT:
                self._silent.popitem(last=False)

    async def _exchange(self, question: Question, server: str) -> Stored | None:
        """None: there is nothing to be had from that server."""
        name = message.mixed_case(question.name, secrets.randbits(8 * len(question.name)))
        wire = message.query(secrets.randbits(16), name, question.rdtype, question.do, question.checking_disabled)
        try:
            found = await self._over_udp(wire, server)
            if found is None:
                found = await self._over_tcp(wire, server)
        except (OSError, EOFError):
            return None
        if found is None:
            return None
        stored = store(*found, self._now())
        return None if isinstance(stored, Malformed) else stored

    async def _over_udp(self, wire: bytes, server: str) -> tuple[bytes, Response] | None:
        """None: it has to be asked over TCP."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
            sock.connect((server, self._port))  # from a random port; answers of others are not received
            sock.send(wire)
            while True:
                data = await loop.sock_recv(sock, 4096)
                response = message.parse_response(data)
                if isinstance(response, Malformed):
                    if data[:2] == wire[:2]:
                        return None
                    continue
                if not _answers(wire, response):
                    continue
                if response.flags & Flag.TRUNCATED or not _in_its_case(wire, response):
                    return None
                return data, response

    async def _over_tcp(self, wire: bytes, server: str) -> tuple[bytes, Response] | None:
        """None: what came is no answer."""
        reader, writer = await asyncio.open_connection(server, self._port)
        try:
            writer.write(message.LENGTH.pack(len(wire)) + wire)
            (length,) = message.LENGTH.unpack(await reader.readexactly(2))
            if length > MAX_ANSWER:
                return None
            data = await reader.readexactly(length)
        finally:
            writer.transport.abort()
        response = message.parse_response(data)
        return None if isinstance(response, Malformed) or not _answers(wire, response) else (data, response)


def _answers(wire: bytes, response: Response) -> bool:
    """Whether it has the question's identity, name in any case, and type."""
    end = message.HEADER.size + len(response.name)
    return (
        wire[:2] == response.id.to_bytes(2, "big")
        and wire[message.HEADER.size : end].lower() == response.name.lower()
        and wire[end : end + 4] == message.QUESTION_END.pack(response.rdtype, response.rdclass)
    )


def _in_its_case(wire: bytes, response: Response) -> bool:
    return wire[message.HEADER.size : message.HEADER.size + len(response.name)] == response.name
