"""Real sockets on loopback: each upstream server is a script of what it does with a question."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import socket
import time
from collections.abc import AsyncIterator, Callable

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from atoll.core.errors import Unavailable
from atoll.egress import resolver as module
from atoll.egress.answers import Stored
from atoll.egress.resolver import Cache, Question, Resolver
from atoll.wire import dns_message as message
from atoll.wire.dns_message import Type

NAME = b"\7example\3com\0"
A = Question(NAME, Type.A)
ADDRESS = ipaddress.ip_address("192.0.2.1")

Script = Callable[[dns.message.Message, bool], "bytes | list[bytes] | None"]


def reply(query: dns.message.Message, *records: str, rcode: int = 0, soa: int | None = None) -> dns.message.Message:
    made = dns.message.make_response(query, recursion_available=True)
    made.set_rcode(dns.rcode.Rcode(rcode))
    name = query.question[0].name
    for record in records:
        made.answer.append(dns.rrset.from_text(name, *record.split(maxsplit=3)))
    if soa is not None:
        made.authority.append(dns.rrset.from_text(name, soa, "IN", "SOA", f"a. b. 1 2 3 4 {soa}"))
    return made


def good(query: dns.message.Message, tcp: bool) -> bytes:
    kind = query.question[0].rdtype
    return reply(query, *(["60 IN A 192.0.2.1"] if kind == Type.A else []), soa=30).to_wire()


class Upstream:
    """One address, over UDP and TCP."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.questions: list[tuple[str, int, bool]] = []
        """Name as it was written, port it came from, and whether over TCP."""
        self.came = asyncio.Event()

    def answers(self, data: bytes, port: int, tcp: bool) -> list[bytes]:
        query = dns.message.from_wire(data)
        self.questions.append((query.question[0].name.to_text(), port, tcp))
        self.came.set()
        made = self.script(query, tcp)
        return made if isinstance(made, list) else [made] if made is not None else []

    async def start(self, address: str, port: int) -> tuple[asyncio.BaseTransport, asyncio.Server]:
        upstream = self

        class Udp(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, addr):
                for wire in upstream.answers(data, addr[1], False):
                    self.transport.sendto(wire, addr)

        async def tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer), contextlib.suppress(EOFError, ConnectionError):
                while True:
                    data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                    for wire in upstream.answers(data, writer.get_extra_info("peername")[1], True):
                        writer.write(len(wire).to_bytes(2, "big") + wire)

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Udp, local_addr=(address, port))
        return transport, await asyncio.start_server(tcp, address, port)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def upstreams(*scripts: Script, now: Callable[[], float] = time.monotonic) -> AsyncIterator[tuple]:
    """A resolver that asks one server for each script."""
    port = free_port()
    servers = [Upstream(script) for script in scripts]
    started = [await each.start(f"127.0.0.{number}", port) for number, each in enumerate(servers, 1)]
    resolver = Resolver([f"127.0.0.{number}" for number in range(1, len(servers) + 1)], port, now)
    try:
        yield resolver, *servers
    finally:
        await resolver.close()
        for transport, server in started:
            transport.close()
            server.close()
            await server.wait_closed()


async def test_a_name_has_its_addresses():
    async with upstreams(good) as (resolver, server):
        assert await resolver.addresses("example.com") == [ADDRESS]
        assert len(server.questions) == 1


async def test_ipv6_addresses_are_for_names_without_others():
    def six(query, tcp):
        kind = query.question[0].rdtype
        return reply(query, *(["60 IN AAAA 2001:db8::1"] if kind == Type.AAAA else []), soa=30).to_wire()

    async with upstreams(six) as (resolver, _):
        assert await resolver.addresses("example.com") == [ipaddress.ip_address("2001:db8::1")]


async def test_aliases_are_followed_by_whoever_is_asked():
    def alias(query, tcp):
        made = reply(query, "60 IN CNAME www.example.net.")
        made.answer.append(dns.rrset.from_text("www.example.net.", 60, "IN", "A", "192.0.2.1"))
        return made.to_wire()

    async with upstreams(alias) as (resolver, _):
        assert await resolver.addresses("example.com") == [ADDRESS]


@pytest.mark.parametrize(("rcode", "said"), [(3, "there is no host example.com"), (0, "example.com has no address"),
                                             (2, "answered with error 2"), (5, "answered with error 5")])  # fmt: skip
async def test_a_name_without_addresses_is_unavailable_and_says_why(rcode, said):
    async with upstreams(lambda query, tcp: reply(query, rcode=rcode).to_wire()) as (resolver, _):
        with pytest.raises(Unavailable, match=said):
            await resolver.addresses("example.com")


async def test_what_no_question_can_hold_is_unavailable():
    with pytest.raises(Unavailable):
        await Resolver(()).addresses("a..b")


async def test_nobody_to_ask_is_said_at_once():
    with pytest.raises(Unavailable):
        await Resolver(("127.0.0.1",)).addresses("example.com", ())


# ---- one server after the other


def silent(query, tcp):
    return None


def fails(query, tcp):
    return reply(query, rcode=2).to_wire()


@pytest.mark.parametrize("first", [silent, fails])
async def test_the_next_server_is_asked(first):
    async with upstreams(first, good) as (resolver, *servers):
        assert await resolver.addresses("example.com") == [ADDRESS]
        assert [len(each.questions) for each in servers] == [1, 1]


@pytest.fixture
def patience(monkeypatch):
    """Whoever waits for a server that does not answer waits for longer than a machine ever stands still."""
    monkeypatch.setattr(module, "ANSWER_S", 50.0)
    monkeypatch.setattr(module, "STAGGER_S", 10.0)


@pytest.mark.usefixtures("patience")
async def test_a_port_that_is_closed_costs_no_time():
    async with upstreams(good) as (resolver, _server):
        resolver.nameservers = ("127.0.0.9", "127.0.0.1")
        started = time.monotonic()
        assert await resolver.addresses("example.com") == [ADDRESS]
        assert time.monotonic() - started < module.STAGGER_S / 2


async def test_a_server_that_kept_silent_is_asked_last_for_a_while():
    async with upstreams(silent, good) as (resolver, dead, alive):
        await resolver.addresses("example.com")
        await resolver.addresses("example.org")
        assert [len(each.questions) for each in (dead, alive)] == [1, 2]


async def test_silence_everywhere_is_said_within_three_seconds(monkeypatch):
    assert module.ANSWER_S < 3.0
    monkeypatch.setattr(module, "ANSWER_S", 2.0)
    async with upstreams(silent, silent) as (resolver, *servers):
        started = time.monotonic()
        with pytest.raises(Unavailable, match="no resolver answers"):
            await resolver.answer(A)
        assert time.monotonic() - started < 2 * module.ANSWER_S
        assert [len(each.questions) for each in servers] == [2, 2]


async def test_when_all_fail_their_failure_is_the_answer():
    async with upstreams(fails, fails) as (resolver, *_):
        assert (await resolver.answer(A)).rcode == 2


@pytest.mark.usefixtures("patience")
async def test_one_dead_server_set_holds_up_no_other():
    async with upstreams(silent, good) as (resolver, _, _alive):
        waiting = [asyncio.create_task(resolver.answer(Question(bytes([1, each]) + NAME, Type.A), ("127.0.0.1",)))
                   for each in range(97, 122)]  # fmt: skip
        started = time.monotonic()
        assert await resolver.addresses("example.com", ("127.0.0.2",)) == [ADDRESS]
        assert time.monotonic() - started < module.STAGGER_S
        for task in waiting:
            task.cancel()


# ---- only answers to our question


def other_id(query):
    made = reply(query, "60 IN A 203.0.113.66")
    made.id ^= 1
    return made.to_wire()


def other_name(query):
    made = dns.message.make_query("other.example", "A", id=query.id)
    return reply(made, "60 IN A 203.0.113.66").to_wire()


def other_type(query):
    made = dns.message.make_query(query.question[0].name, "TXT", id=query.id)
    return reply(made, '60 IN TXT "x"').to_wire()


def a_question(query):
    return query.to_wire()


@pytest.mark.parametrize("forged", [other_id, other_name, other_type, a_question], ids=lambda each: each.__name__)
async def test_a_forged_answer_is_passed_over(forged):
    async with upstreams(lambda query, tcp: [*([] if tcp else [forged(query)]), good(query, tcp)]) as (resolver, _):
        assert await resolver.addresses("example.com") == [ADDRESS]


async def test_an_answer_of_another_address_is_not_received():
    """From the right port, with everything right."""
    async with upstreams(silent, silent) as (resolver, asked, _other):
        seen = asyncio.get_running_loop().create_future()

        def tell(query, tcp):
            if not seen.done():
                seen.set_result((query, asked.questions[-1][1]))

        asked.script = tell
        waiting = asyncio.create_task(resolver.answer(A, ("127.0.0.1",)))
        query, port = await seen
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forger:
            forger.bind(("127.0.0.3", 0))
            forger.sendto(reply(query, "60 IN A 203.0.113.66").to_wire(), ("127.0.0.1", port))
        asked.script = good
        assert (await waiting).addresses == (ADDRESS,)


async def test_questions_come_from_many_ports_in_letters_of_random_case():
    names = [f"a{number}-example-of-some-length.com" for number in range(20)]
    async with upstreams(good) as (resolver, server):
        for name in names:
            await resolver.addresses(name)
        assert len({port for _, port, _ in server.questions}) > 10
        assert sum(name != name.lower() for name, *_ in server.questions) == 20
        assert [name.lower().rstrip(".") for name, *_ in server.questions] == names


async def test_an_answer_in_another_case_is_asked_for_over_tcp():
    def lower(query, tcp):
        if tcp:
            return good(query, tcp)
        return good(dns.message.make_query(query.question[0].name.to_text().lower(), "A", id=query.id), tcp)

    async with upstreams(lower) as (resolver, server):
        assert await resolver.addresses("a-name-with-letters.example.com") == [ADDRESS]
        assert [tcp for *_, tcp in server.questions] == [False, True]


async def test_an_answer_too_long_for_udp_is_asked_for_over_tcp():
    def long(query, tcp):
        made = reply(query, *([f"60 IN A 192.0.2.{last}" for last in range(200)] if tcp else []))
        made.flags |= 0 if tcp else dns.flags.TC
        return made.to_wire(max_size=65_535)

    async with upstreams(long) as (resolver, _server):
        found = await resolver.answer(A)
        assert found.counts == (200, 0)
        assert len(found.addresses) == 64


async def test_an_answer_longer_than_anybody_needs_is_not_read():
    def endless(query, tcp):
        made = reply(query, *(f"60 IN A 192.{high}.2.{low}" for high in range(5) for low in range(250) if tcp))
        made.flags |= 0 if tcp else dns.flags.TC
        return made.to_wire(max_size=65_535)

    async with upstreams(endless) as (resolver, _server):
        with pytest.raises(Unavailable):
            await resolver.answer(A)


@pytest.mark.parametrize("bad", [b"", b"\0", b"\xff" * 40])
async def test_rubbish_is_passed_over(bad):
    async with upstreams(lambda query, tcp: [bad, good(query, tcp)]) as (resolver, _):
        assert await resolver.addresses("example.com") == [ADDRESS]


async def test_rubbish_with_the_right_identity_is_asked_again_over_tcp():
    def half(query, tcp):
        return good(query, tcp)[: None if tcp else -3]

    async with upstreams(half) as (resolver, _server):
        assert await resolver.addresses("example.com") == [ADDRESS]


# ---- what is kept


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


async def test_an_answer_is_kept_for_its_ttl_and_no_longer():
    clock = Clock()
    async with upstreams(good, now=clock) as (resolver, server):
        await resolver.addresses("example.com")
        clock.time += 59
        await resolver.addresses("example.com")
        assert len(server.questions) == 1
        clock.time += 2
        await resolver.addresses("example.com")
        assert len(server.questions) == 2


@pytest.mark.parametrize(("records", "rcode", "soa", "kept"), [
    (["0 IN A 192.0.2.1"], 0, None, 0),
    (["300 IN A 192.0.2.1"], 0, None, 300),
    (["999999 IN A 192.0.2.1"], 0, None, 86_400),
    ([], 0, 30, 30),
    ([], 3, 30, 30),
    ([], 3, 99_999, 900),
    ([], 3, None, 0),
    ([], 0, None, 0),
    (["10 IN CNAME a.example."], 0, 30, 10),
    ([], 2, 30, 0),
    ([], 5, 30, 0),
])  # fmt: skip
async def test_how_long_what_is_kept(records, rcode, soa, kept):
    async with upstreams(lambda query, tcp: reply(query, *records, rcode=rcode, soa=soa).to_wire()) as (resolver, _):
        stored = await resolver.answer(A)
        assert stored.lifetime == kept
        assert (resolver.cached(A) is not None) == (kept > 0)


async def test_two_sets_of_servers_share_nothing():
    def other(query, tcp):
        return reply(query, "60 IN A 192.0.2.2").to_wire()

    async with upstreams(good, other) as (resolver, *_):
        assert await resolver.addresses("example.com", ("127.0.0.1",)) == [ADDRESS]
        assert await resolver.addresses("example.com", ("127.0.0.2",)) == [ipaddress.ip_address("192.0.2.2")]
        assert resolver.cached(A) is None


async def test_the_same_question_of_many_is_asked_once():
    async with upstreams(good) as (resolver, server):
        found = await asyncio.gather(*(resolver.answer(A) for _ in range(50)))
        assert len({id(each) for each in found}) == 1
        assert len(server.questions) == 1


async def test_one_that_leaves_takes_the_answer_from_nobody():
    async with upstreams(silent) as (resolver, server):
        leaving, staying = (asyncio.create_task(resolver.answer(A)) for _ in range(2))
        await server.came.wait()
        leaving.cancel()
        server.script = good
        assert (await staying).addresses == (ADDRESS,)


async def test_more_than_it_can_ask_at_once_is_refused(monkeypatch):
    monkeypatch.setattr(module, "MAX_ASKING", 1)
    async with upstreams(silent) as (resolver, _):
        first = asyncio.create_task(resolver.answer(A))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="too many"):
            await resolver.answer(Question(NAME, Type.AAAA))
        first.cancel()


def stored(size: int = 10, lifetime: int = 60) -> Stored:
    return Stored(0, False, (1, 0), b"x" * size, (), lifetime, (), at=0.0)


def test_the_cache_is_bounded_in_number_and_the_least_used_go():
    cache = Cache(most=3)
    keys = [((), Question(bytes([each]), 1)) for each in range(4)]
    for key in keys[:3]:
        cache.put(key, stored())
    cache.get(keys[0], now=1.0)
    cache.put(keys[3], stored())
    assert [cache.get(key, now=1.0) is not None for key in keys] == [True, False, True, True]


def test_the_cache_is_bounded_in_bytes():
    cache = Cache(most_bytes=10_000)
    for number in range(100):
        cache.put(((), Question(number.to_bytes(2, "big"), 1)), stored(size=2000))
    assert len(cache) == 4


def test_a_kept_answer_that_is_replaced_or_gone_costs_nothing():
    cache = Cache(most_bytes=10_000)
    key = ((), A)
    for _, lifetime in itertools.product(range(50), (1, 60)):
        cache.put(key, stored(size=4000, lifetime=lifetime))
        cache.get(key, now=2.0)
    cache.put(((), Question(NAME, Type.AAAA)), stored(size=4000))
    assert len(cache) == 2


def test_messages_upstream_say_what_no_path_fragments():
    assert dns.message.from_wire(message.query(1, NAME, Type.A)).payload == 1232
