"""The resolver that sandboxes see, whatever address they ask: one UDP and one TCP socket in the fabric.

A sandbox is known by the address its question comes from. Each question gets a verdict by name; one that is refused is
answered at once and nobody hears of it. Answers that are kept are given in the same turn; the others are waited for in
tasks, of which each sandbox has a share. One that asks too fast loses its own packets, or is read from more slowly.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from atoll.core.blocklist import BlockList
from atoll.core.egress import Entry, Kind, Outcome
from atoll.core.errors import Unavailable
from atoll.core.policy import Policy
from atoll.core.uplink import PROXY_ADDRESS
from atoll.egress import answers
from atoll.egress.answers import Ask, Rules, Stored
from atoll.egress.resolver import Question
from atoll.egress.sandboxes import Known
from atoll.egress.services import Services
from atoll.egress.shares import Allowance, Places
from atoll.wire import dns_message as message
from atoll.wire.dns_message import Faulty, Flag, NoQuery, Query, Rcode

QUESTIONS_PER_S, BURST = 200.0, 500.0
WAITING_IN_ALL, WAITING_OF_ONE = 4096, 64
CONNECTIONS_IN_ALL, CONNECTIONS_OF_ONE = 2048, 32
MAX_QUERY = 4096
"""A question with all that EDNS may add; longer ones are nobody's."""
READS_IN_A_TURN = 64
IDLE_S = 10.0
"""Of a TCP connection between questions, within one, and of one whose answers are not fetched."""
OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
PAUSE_S = 0.2
RECEIVE_BUFFER = 4 * 1024 * 1024
TELL_S = 1.0
"""How often questions that were dropped are said in the log."""
SO_RCVBUFFORCE = 33
AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: RST

VIP = ipaddress.IPv4Address(PROXY_ADDRESS)


@dataclass
class Share:
    """Of one sandbox."""

    allowance: Allowance
    policy: Policy | None = None
    blocked: BlockList | None = None
    rules: Rules = field(init=False)
    servers: tuple[str, ...] = ()
    """Made of the two above, as are the rules."""
    dropped: int = 0
    told_at: float = float("-inf")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that was read and judged, and who is to be asked."""

    known: Known
    share: Share
    query: Query
    name: str
    protocol: str
    rule: str
    at: float
    started: float
    servers: tuple[str, ...]

    @property
    def question(self) -> Question:
        flags = self.query.flags
        return Question(self.query.name.lower(), self.query.rdtype, self.query.do, bool(flags & Flag.CHECKING_DISABLED))

    @property
    def limit(self) -> int:
        return _limit(self.query, self.protocol)


class DnsServer:
    def __init__(
        self,
        services: Services,
        now: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
        idle_s: float = IDLE_S,
    ) -> None:
        self._services = services
        self._now, self._clock = now, clock
        self._idle_s = idle_s
        self._shares: dict[str, Share] = {}
        self._waiting = Places(WAITING_IN_ALL, WAITING_OF_ONE)
        self._connections = Places(CONNECTIONS_IN_ALL, CONNECTIONS_OF_ONE)
        self._open: defaultdict[str, set[asyncio.StreamWriter]] = defaultdict(set)
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []

    def start(self, udp: socket.socket, tcp: socket.socket) -> None:
        """Both bound and not blocking, `tcp` listening; they are the server's from now on."""
        loop = asyncio.get_running_loop()
        self._sockets = [udp, tcp]
        loop.add_reader(udp, self._read, udp)
        loop.add_reader(tcp, self._accept, tcp)

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        while self._sockets:
            sock = self._sockets.pop()
            loop.remove_reader(sock)
            sock.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def forget(self, sandbox_id: str) -> None:
        """What it still waits for is answered to nobody."""
        self._shares.pop(sandbox_id, None)
        for writer in self._open.pop(sandbox_id, ()):
            writer.transport.abort()

    # ---- UDP

    def _read(self, udp: socket.socket) -> None:
        for _ in range(READS_IN_A_TURN):
            try:
                data, peer = udp.recvfrom(MAX_QUERY)
            except BlockingIOError:
                return
            except OSError:  # what an earlier answer met
                continue
            known = self._services.sandboxes.by_address(peer[0])
            if known is not None:
                self._datagram(udp, known, data, peer)

    def _datagram(self, udp: socket.socket, known: Known, data: bytes, peer: tuple[str, int]) -> None:
        share = self._share(known)
        if not share.allowance.take(self._now()):
            self._drop(known, share)
            return
        answer = self._answer(known, share, data, "udp")
        if isinstance(answer, Asked):
            self._wait(answer, lambda wire: _send(udp, wire, peer))
        elif answer is not None:
            _send(udp, answer, peer)

    # ---- TCP

    def _accept(self, tcp: socket.socket) -> None:
        for _ in range(READS_IN_A_TURN):
            try:
                connection, peer = tcp.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OUT_OF_DESCRIPTORS:
                    self._accept_later(tcp)
                return
            known = self._services.sandboxes.by_address(peer[0])
            if known is None or not self._connections.take(known.id):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                connection.close()
                continue
            connection.setblocking(False)
            self._spawn(self._serve(connection, known.id, peer[0]))

    def _accept_later(self, tcp: socket.socket) -> None:
        """Who waits stays in the queue; a reader would be called again at once."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(tcp)
        loop.call_later(PAUSE_S, lambda: None if tcp.fileno() < 0 else loop.add_reader(tcp, self._accept, tcp))

    async def _serve(self, connection: socket.socket, sandbox_id: str, address: str) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=connection)
        except OSError:
            connection.close()
            self._connections.give_back(sandbox_id)
            return
        self._open[sandbox_id].add(writer)
        try:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                await self._converse(reader, writer, sandbox_id, address)
        finally:
            self._connections.give_back(sandbox_id)
            self._close(writer, sandbox_id)

    def _close(self, writer: asyncio.StreamWriter, sandbox_id: str) -> None:
        writer.transport.abort()
        others = self._open.get(sandbox_id, set())
        others.discard(writer)
        if not others:
            self._open.pop(sandbox_id, None)

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sandbox_id: str, address: str
    ) -> None:
        """Questions may follow each other without waiting; answers come as they are there (RFC 7766)."""
        pending: set[asyncio.Task[None]] = set()

        def write(wire: bytes) -> None:
            if not writer.is_closing():
                writer.write(message.LENGTH.pack(len(wire)) + wire)

        while True:
            async with asyncio.timeout(self._idle_s):
                data = await _next_message(reader)
            if data is None:
                break
            known = self._services.sandboxes.by_address(address)
            if known is None or known.id != sandbox_id:
                return
            share = self._share(known)
            await asyncio.sleep(share.allowance.take_later(self._now()))
            answer = self._answer(known, share, data, "tcp")
            if isinstance(answer, Asked):
                task = self._wait(answer, write)
                if task is not None:
                    pending.add(task)
                    task.add_done_callback(pending.discard)
            elif answer is not None:
                write(answer)
            async with asyncio.timeout(self._idle_s):
                await writer.drain()
        if pending:
            await asyncio.wait(pending)
        async with asyncio.timeout(self._idle_s):
            await writer.drain()
            writer.write_eof()
            await reader.read(1)

    # ---- one question

    def _answer(self, known: Known, share: Share, data: bytes, protocol: str) -> bytes | Asked | None:
        """At once, when there is one; None: nobody waits for it."""
        started, at = self._now(), self._clock()
        query = message.parse_query(data)
        if isinstance(query, NoQuery):
            return None
        if isinstance(query, Faulty):
            self._services.log.write(_entry(known, protocol, at, Outcome.DENIED, "malformed", query.rcode.name))
            return message.error(query)
        name = message.name_text(query.name)
        blocked = self._services.blocked()
        if share.policy is not known.policy or share.blocked is not blocked:
            self._refresh(share, known.policy, blocked)
        decision = answers.decide(query, name, share.rules, share.servers, self._own)
        if isinstance(decision, Ask):
            asked = Asked(known, share, query, name, protocol, decision.rule, at, started, share.servers)
            stored = self._services.resolver.cached(asked.question, asked.servers)
            return asked if stored is None else self._answered(asked, stored)
        if decision.address is not None:
            self._services.recent.add(known.id, name, (decision.address,), answers.OWN_TTL)
        said = answers.detail(query.rdtype, decision.rcode)
        entry = _entry(known, protocol, at, decision.outcome, decision.rule, said, name, self._now() - started)
        self._services.log.write(entry)
        return answers.render(query, decision, _limit(query, protocol))

    @property
    def _own(self) -> tuple[str, ipaddress.IPv4Address] | None:
        domain = self._services.domain
        return (domain, VIP) if domain else None

    def _refresh(self, share: Share, policy: Policy, blocked: BlockList) -> None:
        share.policy, share.blocked, share.rules = policy, blocked, Rules(policy, blocked)
        share.servers = (
            self._services.resolver.nameservers
            if policy.dns_servers is None
            else answers.usable(policy.dns_servers, self._services.opened, blocked)
        )

    def _wait(self, asked: Asked, send: Callable[[bytes], None]) -> asyncio.Task[None] | None:
        if not self._waiting.take(asked.known.id):
            send(self._failed(asked, "rate"))
            return None
        return self._spawn(self._ask(asked, send))

    async def _ask(self, asked: Asked, send: Callable[[bytes], None]) -> None:
        try:
            stored = await self._services.resolver.answer(asked.question, asked.servers)
        except Unavailable:
            wire = self._failed(asked, asked.rule)
        else:
            wire = self._answered(asked, stored) if self._is_there(asked) else b""
        finally:
            self._waiting.give_back(asked.known.id)
        if wire and self._is_there(asked):
            send(wire)

    def _is_there(self, asked: Asked) -> bool:
        return self._shares.get(asked.known.id) is asked.share

    def _answered(self, asked: Asked, stored: Stored) -> bytes:
        if stored.addresses:
            self._services.recent.add(asked.known.id, asked.name, stored.addresses, stored.lifetime)
        outcome = Outcome.FAILED if stored.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN) else Outcome.ALLOWED
        self._write_asked(asked, outcome, asked.rule, stored.rcode)
        wire = answers.render_stored(asked.query, stored, self._now(), asked.limit)
        asked.share.allowance.spend(answers.cost(asked.query.rdtype, stored))
        return wire

    def _failed(self, asked: Asked, rule: str) -> bytes:
        outcome = Outcome.DENIED if rule == "rate" else Outcome.FAILED
        self._write_asked(asked, outcome, rule, Rcode.SERVFAIL)
        if asked.query.rdtype in answers.SERVICES:
            asked.share.allowance.spend(answers.FAILED_SERVICE)
        return message.answer(asked.query, Rcode.SERVFAIL, limit=asked.limit)

    # ---- limits and the log

    def _share(self, known: Known) -> Share:
        share = self._shares.get(known.id)
        if share is None:
            share = self._shares[known.id] = Share(Allowance(QUESTIONS_PER_S, BURST, self._now()))
        return share

    def _drop(self, known: Known, share: Share) -> None:
        """Each is counted, and said once in a while."""
        share.dropped += 1
        now = self._now()
        entry = _entry(known, "udp", self._clock(), Outcome.DENIED, "rate", f"{share.dropped} dropped")
        if now - share.told_at < TELL_S:
            self._services.log.totals.count(entry)
            return
        self._services.log.write(entry)
        share.dropped, share.told_at = 0, now

    def _write_asked(self, asked: Asked, outcome: Outcome, rule: str, rcode: int) -> None:
        took = self._now() - asked.started
        said = answers.detail(asked.query.rdtype, rcode)
        self._services.log.write(_entry(asked.known, asked.protocol, asked.at, outcome, rule, said, asked.name, took))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def listen(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    """The two sockets, in this thread's network namespace. Port 0 is one that is free for UDP, and tried for TCP."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        udp.bind((address, port))
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        with contextlib.suppress(OSError):  # SO_RCVBUFFORCE: beyond net.core.rmem_max, for who may
            udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        tcp = socket.create_server(udp.getsockname(), backlog=512)
    except BaseException:
        udp.close()
        raise
    tcp.setblocking(False)
    return udp, tcp


async def _next_message(reader: asyncio.StreamReader) -> bytes | None:
    """None at the end of the stream."""
    head = await reader.read(1)
    if not head:
        return None
    (length,) = message.LENGTH.unpack(head + await reader.readexactly(1))
    if length > MAX_QUERY:
        raise EOFError(f"a question of {length} bytes")
    return await reader.readexactly(length)


def _send(udp: socket.socket, wire: bytes, peer: tuple[str, int]) -> None:
    with contextlib.suppress(OSError):  # its buffer is full, or the sandbox is gone: it asks again
        udp.sendto(wire, peer)


def _limit(query: Query, protocol: str) -> int:
    return message.udp_limit(query) if protocol == "udp" else message.MAX_MESSAGE


def _entry(
    known: Known,
    protocol: str,
    at: float,
    outcome: Outcome,
    rule: str,
    detail: str,
    name: str | None = None,
    took: float = 0.0,
) -> Entry:
    return Entry(
        at=at,
        sandbox_id=known.id,
        kind=Kind.QUESTION,
        verdict=outcome,
        rule=rule,
        protocol=protocol,
        name="" if name is None else answers.shown_name(name),
        duration_s=round(took, 4),
        detail=detail,
    )
