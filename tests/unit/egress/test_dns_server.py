"""The server on loopback, where each address of 127/8 can be a sandbox; behind it are a resolver and its upstream."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from atoll.core.blocklist import NOTHING_BLOCKED, parse_blocklist
from atoll.core.egress import Entry, Kind, Outcome
from atoll.core.policy import CLOSED, OPEN, parse
from atoll.egress import dns_server as module
from atoll.egress import resolver as resolver_module
from atoll.egress.dns_server import DnsServer, listen
from atoll.egress.recent import RecentNames
from atoll.egress.resolver import Resolver
from atoll.egress.sandboxes import Known, Sandboxes

HOST = "127.53.0.1"  # no other program's: both kinds of sockets find the same port free
ONE, TWO, STRANGER = "127.0.1.1", "127.0.1.2", "127.0.1.9"


@dataclass
class Log:
    entries: list[Entry] = field(default_factory=list)
    counted: list[Entry] = field(default_factory=list)
    totals: SimpleNamespace = None

    def __post_init__(self):
        self.totals = SimpleNamespace(count=self.counted.append)

    def write(self, entry: Entry) -> None:
        self.entries.append(entry)


class Upstream(asyncio.DatagramProtocol):
    """Names below `slow` are answered when told; `long` has more addresses than a datagram takes."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.go = asyncio.Event()
        self.waits = asyncio.Event()
        self.tasks: list[asyncio.Task] = []

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.tasks.append(asyncio.create_task(self.answer(data, addr)))

    async def answer(self, data, addr):
        query = dns.message.from_wire(data)
        name = query.question[0].name
        text = name.to_text().lower().rstrip(".")
        self.names.append(text)
        if text.endswith("slow"):
            self.waits.set()
            await self.go.wait()
        made = dns.message.make_response(query)
        for last in range(100 if text == "long" else 1):
            made.answer.append(dns.rrset.from_text(name, 60, "IN", "A", f"192.0.2.{last + 1}"))
        self.transport.sendto(made.to_wire(max_size=65_535), addr)


@dataclass
class Bed:
    server: DnsServer
    port: int
    sandboxes: Sandboxes
    log: Log
    recent: RecentNames
    upstream: Upstream
    blocked: list
    clients: list[asyncio.StreamWriter] = field(default_factory=list)

    async def over_udp(self, source: str, *queries: bytes, answers: int | None = None) -> list[dns.message.Message]:
        loop = asyncio.get_running_loop()
        with udp_from(source) as sock:
            for query in queries:
                await loop.sock_sendto(sock, query, (HOST, self.port))
            got = [await loop.sock_recv(sock, 65_535) for _ in range(len(queries) if answers is None else answers)]
        return [dns.message.from_wire(wire) for wire in got]

    async def ask(self, source: str, name: str, rdtype: str = "A", **options) -> dns.message.Message:
        return (await self.over_udp(source, question(name, rdtype, **options)))[0]

    async def connect(self, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(HOST, self.port, local_addr=(source, 0))
        self.clients.append(writer)
        return reader, writer


def question(name: str, rdtype: str = "A", id: int = 7, **options) -> bytes:
    return dns.message.make_query(name, rdtype, id=id, **options).to_wire()


@contextlib.contextmanager
def udp_from(source: str):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind((source, 0))
        yield sock


def framed(*queries: bytes) -> bytes:
    return b"".join(len(query).to_bytes(2, "big") + query for query in queries)


async def next_answer(reader: asyncio.StreamReader) -> dns.message.Message:
    length = int.from_bytes(await reader.readexactly(2), "big")
    return dns.message.from_wire(await reader.readexactly(length))


@contextlib.asynccontextmanager
async def made_bed(idle_s: float = module.IDLE_S) -> AsyncIterator[Bed]:
    loop = asyncio.get_running_loop()
    transport, upstream = await loop.create_datagram_endpoint(Upstream, local_addr=(HOST, 0))
    resolver = Resolver([HOST], transport.get_extra_info("sockname")[1])
    sandboxes, log, recent, blocked = Sandboxes(), Log(), RecentNames(), [NOTHING_BLOCKED]
    services = SimpleNamespace(
        sandboxes=sandboxes, resolver=resolver, log=log, recent=recent, blocked=lambda: blocked[0],
        opened=(), domain="own.example",
    )  # fmt: skip
    server = DnsServer(services, idle_s=idle_s)
    udp, tcp = listen(HOST, 0)
    server.start(udp, tcp)
    sandboxes.put(Known("one", ONE, OPEN))
    sandboxes.put(Known("two", TWO, OPEN))
    try:
        yield (bed := Bed(server, udp.getsockname()[1], sandboxes, log, recent, upstream, blocked))
    finally:
        for client in bed.clients:
            client.transport.abort()
        upstream.go.set()
        await server.close()
        await resolver.close()
        transport.close()
        for task in upstream.tasks:
            task.cancel()


@pytest.fixture
async def bed():
    async with made_bed() as bed:
        yield bed


def addresses(made: dns.message.Message) -> list[str]:
    return [record.address for rrset in made.answer for record in rrset]


# ---- one question


async def test_a_question_is_forwarded_answered_and_kept(bed):
    for _ in range(3):
        made = await bed.ask(ONE, "Example.com")
        assert (made.id, made.rcode(), addresses(made)) == (7, dns.rcode.NOERROR, ["192.0.2.1"])
    assert addresses(await bed.ask(TWO, "example.com")) == ["192.0.2.1"]
    assert bed.upstream.names == ["example.com"]


async def test_a_refused_one_is_heard_of_by_nobody(bed):
    bed.sandboxes.put(Known("one", ONE, CLOSED))
    assert (await bed.ask(ONE, "example.com")).rcode() == dns.rcode.REFUSED
    assert bed.upstream.names == []


async def test_a_policy_counts_from_the_moment_it_is_replaced(bed):
    assert (await bed.ask(ONE, "example.com")).rcode() == dns.rcode.NOERROR
    bed.sandboxes.put(Known("one", ONE, CLOSED))
    assert (await bed.ask(ONE, "example.com")).rcode() == dns.rcode.REFUSED
    bed.sandboxes.put(Known("one", ONE, parse({"dns_servers": []})))
    assert (await bed.ask(ONE, "example.com")).rcode() == dns.rcode.REFUSED


async def test_a_block_list_counts_from_the_moment_it_is_replaced(bed):
    await bed.ask(ONE, "www.evil.example")
    bed.blocked[0] = parse_blocklist(["evil.example"])
    assert (await bed.ask(ONE, "www.evil.example")).rcode() == dns.rcode.REFUSED
    assert bed.log.entries[-1].rule == "blocklist: evil.example"


async def test_own_names_lead_to_the_proxy(bed):
    assert addresses(await bed.ask(ONE, "8080-box.own.example")) == ["192.0.0.8"]
    assert (await bed.ask(ONE, "8080-box.own.example", "AAAA")).answer == []
    assert bed.upstream.names == []
    assert bed.recent.name_of("one", ipaddress.ip_address("192.0.0.8")) == "8080-box.own.example"


async def test_each_question_is_one_entry(bed):
    await bed.ask(ONE, "example.com")
    await bed.ask(ONE, "example.com")
    bed.sandboxes.put(Known("two", TWO, CLOSED))
    await bed.ask(TWO, "example.com", "AAAA")
    seen = [(each.sandbox_id, each.verdict, each.rule, each.name, each.detail, each.protocol)
            for each in bed.log.entries]  # fmt: skip
    allowed = ("one", Outcome.ALLOWED, "default", "example.com", "A NOERROR", "udp")
    refused = ("two", Outcome.DENIED, "internet_access: false", "example.com", "AAAA REFUSED", "udp")
    assert seen == [allowed, allowed, refused]
    assert {each.kind for each in bed.log.entries} == {Kind.QUESTION}
    assert bed.log.entries[0].duration_s > 0


async def test_what_a_sandbox_wrote_comes_into_the_log_without_control_characters(bed):
    await bed.ask(ONE, r"evil\010\027[31mname\"x.example")
    assert bed.log.entries[-1].name == r"evil\010\027\09131mname\034x.example"


async def test_answers_are_remembered_for_the_names_of_connections(bed):
    await bed.ask(ONE, "Example.com")
    assert bed.recent.name_of("one", ipaddress.ip_address("192.0.2.1")) == "example.com"
    assert bed.recent.name_of("two", ipaddress.ip_address("192.0.2.1")) is None


MALFORMED = {
    "too short": (b"\0" * 11, None),
    "an answer": (b"\0\7\x81\x80\0\1\0\0\0\0\0\0\1a\0\0\1\0\1", None),
    "a header alone": (b"\0\7\1\0\0\1\0\0\0\0\0\0", dns.rcode.FORMERR),
    "a pointer to itself": (b"\0\7\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", dns.rcode.FORMERR),
    "two questions": (b"\0\7\1\0\0\2\0\0\0\0\0\0\1a\0\0\1\0\1\1b\0\0\1\0\1", dns.rcode.FORMERR),
    "an update": (b"\0\7\x28\0\0\1\0\0\0\0\0\0\1a\0\0\6\0\1", dns.rcode.NOTIMP),
    "a transfer": (question("example.com", "AXFR"), dns.rcode.REFUSED),
    "of any type": (question("example.com", "ANY"), dns.rcode.NOTIMP),
    "of another class": (dns.message.make_query("version.bind", "TXT", "CH", id=7).to_wire(), dns.rcode.REFUSED),
    "of another EDNS": (question("example.com", use_edns=1), dns.rcode.BADVERS),
}


@pytest.mark.parametrize(("data", "rcode"), MALFORMED.values(), ids=MALFORMED)
async def test_what_is_odd_is_answered_by_its_error_or_not_at_all(bed, data, rcode):
    made = await bed.over_udp(ONE, data, question("example.com", id=8), answers=1 if rcode is None else 2)
    codes = {each.id: each.rcode() for each in made}
    assert codes == ({8: 0} if rcode is None else {7: rcode, 8: 0})
    assert bed.upstream.names == ["example.com"]


async def test_a_stranger_is_not_answered(bed):
    with udp_from(STRANGER) as stranger:
        await asyncio.get_running_loop().sock_sendto(stranger, question("example.com"), (HOST, bed.port))
        await bed.ask(ONE, "example.org")
        with pytest.raises(BlockingIOError):
            stranger.recv(100)
    assert bed.upstream.names == ["example.org"]


async def test_a_long_answer_is_cut_over_udp_and_whole_over_tcp(bed):
    reader, writer = await bed.connect(ONE)
    plain = await bed.ask(ONE, "long", use_edns=False)
    assert plain.flags & dns.flags.TC
    assert plain.answer == []
    assert (await bed.ask(ONE, "long", use_edns=0, payload=60_000)).flags & dns.flags.TC
    writer.write(framed(question("long")))
    assert len(addresses(await next_answer(reader))) == 100


async def test_a_dead_upstream_is_an_error_in_time(bed, monkeypatch):
    monkeypatch.setattr(resolver_module, "ANSWER_S", 0.1)
    made = await bed.ask(ONE, "dead.slow")
    assert made.rcode() == dns.rcode.SERVFAIL
    assert (bed.log.entries[-1].verdict, bed.log.entries[-1].detail) == (Outcome.FAILED, "A SERVFAIL")


# ---- TCP


async def test_over_tcp_questions_follow_each_other_and_quick_answers_overtake_slow_ones(bed):
    reader, writer = await bed.connect(ONE)
    writer.write(framed(question("a.slow", id=1), question("example.com", id=2), question("example.org", id=3)))
    assert {(await next_answer(reader)).id for _ in range(2)} == {2, 3}
    bed.upstream.go.set()
    assert (await next_answer(reader)).id == 1
    assert {each.protocol for each in bed.log.entries} == {"tcp"}


async def test_a_question_may_come_in_pieces(bed):
    reader, writer = await bed.connect(ONE)
    for byte in framed(question("example.com")):
        writer.write(bytes([byte]))
        await writer.drain()
    assert addresses(await next_answer(reader)) == ["192.0.2.1"]


async def test_who_has_said_all_still_gets_the_answers(bed):
    reader, writer = await bed.connect(ONE)
    writer.write(framed(question("a.slow")))
    writer.write_eof()
    await bed.upstream.waits.wait()
    bed.upstream.go.set()
    assert addresses(await next_answer(reader)) == ["192.0.2.1"]
    assert await reader.read() == b""


async def ends(reader: asyncio.StreamReader) -> bool:
    with contextlib.suppress(ConnectionError):
        return await reader.read() == b""
    return True


@pytest.mark.parametrize("sent", [b"", b"\0", b"\0\x20abc", framed(question("example.com"))[:-1]])
async def test_a_connection_on_which_nothing_comes_is_ended(sent):
    async with made_bed(idle_s=0.05) as bed:
        reader, writer = await bed.connect(ONE)
        writer.write(sent)
        assert await ends(reader)


async def test_a_question_of_no_sensible_length_ends_the_connection(bed):
    reader, writer = await bed.connect(ONE)
    writer.write(b"\xff\xff")
    assert await ends(reader)


async def test_a_strangers_connection_is_reset(bed):
    with pytest.raises(ConnectionResetError):
        await (await bed.connect(STRANGER))[0].readexactly(1)


async def test_one_has_so_many_connections_and_another_still_gets_one(bed):
    for _ in range(module.CONNECTIONS_OF_ONE):
        await bed.connect(ONE)
    with pytest.raises(ConnectionResetError):
        await (await bed.connect(ONE))[0].readexactly(1)
    other_reader, other = await bed.connect(TWO)
    other.write(framed(question("example.com")))
    assert addresses(await next_answer(other_reader)) == ["192.0.2.1"]


async def test_a_policy_counts_on_connections_that_are_there(bed):
    reader, writer = await bed.connect(ONE)
    bed.sandboxes.put(Known("one", ONE, CLOSED))
    writer.write(framed(question("example.com")))
    assert (await next_answer(reader)).rcode() == dns.rcode.REFUSED


async def test_the_next_owner_of_an_address_does_not_inherit_a_connection(bed):
    reader, writer = await bed.connect(ONE)
    bed.sandboxes.put(Known("three", ONE, OPEN))
    writer.write(framed(question("example.com")))
    assert await ends(reader)
    assert bed.log.entries == []


async def test_a_client_that_fetches_no_answers_is_ended(monkeypatch):
    monkeypatch.setattr(module, "BURST", 1e6)
    async with made_bed(idle_s=0.2) as bed:
        loop = asyncio.get_running_loop()
        more_than_buffers_hold = framed(*[question("long")] * 500_000)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.setblocking(False)
            client.bind((ONE, 0))
            await loop.sock_connect(client, (HOST, bed.port))
            with pytest.raises(ConnectionError):
                await loop.sock_sendall(client, more_than_buffers_hold)


# ---- what one takes of the others


async def test_one_that_asks_too_fast_loses_its_own_questions_and_they_are_counted(bed, monkeypatch):
    monkeypatch.setattr(module, "BURST", 10.0)
    monkeypatch.setattr(module, "QUESTIONS_PER_S", 0.001)
    await bed.over_udp(ONE, *[question("example.com")] * 30, answers=10)
    assert addresses(await bed.ask(TWO, "example.com")) == ["192.0.2.1"]
    assert sum(each.rule == "rate" for each in (*bed.log.entries, *bed.log.counted)) == 20
    assert sum(each.rule == "rate" for each in bed.log.entries) == 1
    assert {each.verdict for each in bed.log.counted} == {Outcome.DENIED}


async def test_over_tcp_one_that_asks_too_fast_waits(bed, monkeypatch):
    monkeypatch.setattr(module, "BURST", 1.0)
    monkeypatch.setattr(module, "QUESTIONS_PER_S", 50.0)
    reader, writer = await bed.connect(ONE)
    started = asyncio.get_running_loop().time()
    writer.write(framed(*[question("example.com")] * 6))
    for _ in range(6):
        await next_answer(reader)
    assert asyncio.get_running_loop().time() - started >= 0.09


async def test_one_waits_for_so_many_and_another_waits_for_none_of_them(bed):
    with udp_from(ONE) as sock:
        for number in range(module.WAITING_OF_ONE + 1):
            sock.sendto(question(f"a{number}.slow", id=number), (HOST, bed.port))
        wire = await asyncio.get_running_loop().sock_recv(sock, 1000)
    assert dns.message.from_wire(wire).rcode() == dns.rcode.SERVFAIL
    assert [each.rule for each in bed.log.entries] == ["rate"]
    assert addresses(await bed.ask(TWO, "example.com")) == ["192.0.2.1"]


async def test_what_a_forgotten_sandbox_waits_for_comes_to_nobody(bed):
    reader, writer = await bed.connect(ONE)
    writer.write(framed(question("a.slow")))
    await bed.upstream.waits.wait()
    bed.sandboxes.forget("one")
    bed.server.forget("one")
    assert await ends(reader)
    bed.upstream.go.set()
    await bed.ask(TWO, "a.slow")
    assert {each.sandbox_id for each in bed.log.entries} == {"two"}
    assert bed.recent.name_of("one", ipaddress.ip_address("192.0.2.1")) is None


async def test_a_process_without_descriptors_goes_on_when_there_are_some(bed, monkeypatch):
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    accept = socket.socket.accept
    tries: list[None] = []

    def none_left(sock):
        tries.append(None)
        if len(tries) < 3:
            raise OSError(24, "Too many open files")
        return accept(sock)

    monkeypatch.setattr(socket.socket, "accept", none_left)
    reader, writer = await bed.connect(ONE)
    writer.write(framed(question("example.com")))
    assert addresses(await next_answer(reader)) == ["192.0.2.1"]
    assert len(tries) < 10


async def test_nothing_is_left_of_it(bed):
    reader, writer = await bed.connect(ONE)
    writer.write(framed(question("a.slow")))
    await bed.upstream.waits.wait()
    await bed.server.close()
    assert await ends(reader)
    assert bed.server._tasks == set()
