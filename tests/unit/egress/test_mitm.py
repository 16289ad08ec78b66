"""Connections with header rules, over real sockets of loopback: what the name gets, and what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h11
import pytest

from atoll.core.errors import PermissionDenied, Unavailable
from atoll.core.policy import Transform
from atoll.core.secrets import new_placeholder
from atoll.egress import mitm
from atoll.egress.authority import Authority, make, now_utc
from atoll.egress.http_side import EVENTS_PER_TURN, Side
from atoll.egress.mitm import Carried, End, Visit
from atoll.egress.streams import trusting as trusting_system

NAME = "api.example.com"
SECRET = "Bearer 5ecret-value"
RULES = (("Authorization", SECRET), ("X-Team", "blue"))
RULED = Transform(NAME, RULES)
WORD = new_placeholder()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def ours() -> Authority:
    return Authority(*make("test", now_utc()))


@pytest.fixture(scope="module")
def public() -> Authority:
    return Authority(*make("the public's", now_utc()))


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.pem)


@dataclass
class Name:
    """What stands at the name's address."""

    answer: Answering
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self.answer(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@dataclass
class Stand:
    ours: Authority
    public: Authority
    name: Name
    port: int
    requests: list[tuple[str, str]]
    tls: bool
    dial_error: Exception | None = None
    transform: Transform = RULED
    carried: list[asyncio.Task[Carried]] = field(default_factory=list)
    opened: list[asyncio.StreamWriter] = field(default_factory=list)

    async def dial(self) -> socket.socket:
        if self.dial_error is not None:
            raise self.dial_error
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        return sock

    def begin(self, sock: socket.socket, received: bytes = b"") -> asyncio.Task[Carried]:
        sock.setblocking(False)
        visit = Visit(sock, received, self.tls, self.transform, self.dial, lambda *seen: self.requests.append(seen))
        upstream_tls = trusting_system(protocols=mitm.PROTOCOLS)
        upstream_tls.load_verify_locations(cadata=self.public.pem)
        self.carried.append(asyncio.ensure_future(mitm.serve(visit, self.ours, upstream_tls)))
        return self.carried[-1]

    async def connect(self, context: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As a program in a sandbox that trusts the installation's authority."""
        inside, outside = socket.socketpair()
        self.begin(outside)
        inside.setblocking(False)
        context = context or (trusting(self.ours) if self.tls else None)
        name = NAME if context else None
        try:
            opened = await asyncio.open_connection(sock=inside, ssl=context, server_hostname=name, limit=1 << 22)
        except BaseException:
            inside.close()
            raise
        self.opened.append(opened[1])
        return opened

    async def outcome(self) -> Carried:
        async with asyncio.timeout(5):
            return await self.carried[-1]


@asynccontextmanager
async def stand(
    ours: Authority, public: Authority, answer: Answering, tls: bool = True, certificate_for: str = NAME
) -> AsyncIterator[Stand]:
    name = Name(answer)
    context = public.context(certificate_for) if tls else None
    server = await asyncio.start_server(name.serve, "127.0.0.1", 0, ssl=context, limit=1 << 22)
    made = Stand(ours, public, name, server.sockets[0].getsockname()[1], [], tls)
    try:
        yield made
    finally:
        server.close()
        for task in made.carried:
            task.cancel()
        await asyncio.gather(*made.carried, return_exceptions=True)
        for writer in made.opened:
            if not writer.is_closing():
                writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in made.opened), return_exceptions=True)


def answering(*answers: bytes) -> tuple[Answering, list[bytes]]:
    """One answer for each head that comes, and the heads."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for each in answers:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(each)
            await writer.drain()
        await reader.read()

    return answer, heads


def request(text: str = "GET / HTTP/1.1", *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([text, f"Host: {NAME}", *headers, "", ""]).encode() + body


def fields(head: bytes, name: str) -> list[str]:
    lines = (line.partition(":") for line in head.decode().split("\r\n")[1:])
    return [value.strip() for found, _, value in lines if found.lower() == name.lower()]


both = pytest.mark.parametrize("tls", [True, False], ids=["https", "http"])


@both
async def test_headers_are_set_and_replace_those_of_the_sandbox_in_any_case(ours, public, tls):
    answer, heads = answering(OK)
    async with stand(ours, public, answer, tls) as here:
        reader, writer = await here.connect()
        writer.write(request("GET /a?b=c HTTP/1.1", "authorization: mine", "AUTHORIZATION: too", "x_team: red", "A: b"))
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK\r\n")
    (head,) = heads
    assert head.startswith(b"GET /a?b=c HTTP/1.1\r\n")
    assert fields(head, "Authorization") == [SECRET]
    assert fields(head, "X-Team") == ["blue"]
    assert fields(head, "x_team") == []
    assert fields(head, "A") == ["b"]
    assert fields(head, "Host") == [NAME]
    assert here.requests == [("GET", "/a")]


async def test_requests_of_one_connection_leave_on_one_and_pipelined_ones_wait_for_their_turn(ours, public):
    answer, heads = answering(OK, OK, OK)
    async with stand(ours, public, answer) as here:
        reader, writer = await here.connect()
        writer.write(request("GET /1 HTTP/1.1") + request("GET /2 HTTP/1.1"))
        await reader.readuntil(b"ok")
        await reader.readuntil(b"ok")
        writer.write(request("GET /3 HTTP/1.1"))
        await reader.readuntil(b"ok")
        assert here.name.connections == 1
    assert [head.split()[1] for head in heads] == [b"/1", b"/2", b"/3"]
    assert all(fields(head, "Authorization") == [SECRET] for head in heads)


async def test_nothing_is_dialled_before_a_request_is_there(ours, public):
    answer, _ = answering(OK)
    async with stand(ours, public, answer) as here:
        _, writer = await here.connect()
        writer.write(request()[:-4])
        await writer.drain()
        writer.close()
        assert (await here.outcome()).end is End.DONE
        assert here.name.connections == 0


MALFORMED = {
    "another host": b"GET / HTTP/1.1\r\nHost: other.example.com\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: api.example.com\r\nHost: api.example.com\r\n\r\n",
    "absolute form to another host": b"GET http://o.example/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
    "user in absolute form": b"GET http://a@api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
    "length and chunks": request(
        "POST / HTTP/1.1", "Content-Length: 3", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "two lengths": request("POST / HTTP/1.1", "Content-Length: 3", "Content-Length: 4", body=b"abcd"),
    "chunks in HTTP/1.0": request("POST / HTTP/1.0", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "two codings": request("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "a folded line": request("GET / HTTP/1.1", "A: b\r\n c"),
    "a bare line feed": request("GET / HTTP/1.1", "A: b\nC: d"),
    "bare line feeds only": f"GET / HTTP/1.1\nHost: {NAME}\n\n".encode(),
    "a bare carriage return": request("GET / HTTP/1.1", "A: b\rC: d"),
    "a zero byte": request("GET / HTTP/1.1", "A: b\0"),
    "blank before the colon": request("GET / HTTP/1.1", "A : b"),
    "TRACE": request("TRACE / HTTP/1.1"),
    "CONNECT": request("CONNECT api.example.com:443 HTTP/1.1"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "a fragment": request("GET /a#b HTTP/1.1"),
    "endless head": b"GET / HTTP/1.1\r\nA: " + b"a" * (200 * 1024),
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_what_is_no_request_for_this_name_is_cut_and_nothing_leaves(ours, public, what):
    answer, heads = answering(OK)
    async with stand(ours, public, answer, tls=False) as here:
        reader, writer = await here.connect()
        writer.write(MALFORMED[what])
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        carried = await here.outcome()
        assert carried.end is End.MALFORMED
        assert here.name.connections == 0
    assert heads == []


async def test_the_host_of_a_second_request_counts_too(ours, public):
    answer, heads = answering(OK, OK)
    async with stand(ours, public, answer) as here:
        reader, writer = await here.connect()
        writer.write(request())
        await reader.readuntil(b"ok")
        writer.write(b"GET / HTTP/1.1\r\nHost: other.example.com\r\n\r\n")
        assert (await here.outcome()).end is End.MALFORMED
    assert len(heads) == 1


@pytest.mark.parametrize("host", ["API.example.com", "api.example.com.", "api.example.com:443"])
async def test_case_a_last_dot_and_a_port_do_not_make_another_host(ours, public, host):
    answer, heads = answering(OK)
    async with stand(ours, public, answer) as here:
        reader, writer = await here.connect()
        writer.write(f"GET https://{host}/x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        await reader.readuntil(b"ok")
    assert heads[0].startswith(b"GET /x HTTP/1.1\r\n")


async def test_what_concerns_one_hop_stays_and_cannot_take_a_rule_along(ours, public):
    answer, heads = answering(OK)
    async with stand(ours, public, answer) as here:
        reader, writer = await here.connect()
        writer.write(
            request(
                "GET / HTTP/1.1",
                "Connection: keep-alive, Authorization, Upgrade, HTTP2-Settings",
                "Upgrade: h2c",
                "HTTP2-Settings: AAMAAABkAAQAAP__",
                "Proxy-Connection: keep-alive",
            )
        )
        await reader.readuntil(b"ok")
    (head,) = heads
    assert fields(head, "Connection") == ["keep-alive"]
    assert fields(head, "Upgrade") == fields(head, "HTTP2-Settings") == fields(head, "Proxy-Connection") == []
    assert fields(head, "Authorization") == [SECRET]


# ---- bodies


@both
async def test_bodies_pass_both_ways_with_their_framing(ours, public, tls):
    body = bytes(range(256)) * 4096 * 4
    got: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readuntil(b"\r\n\r\n"))
        data = await reader.readexactly(len(body))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        await writer.drain()

    async with stand(ours, public, echo, tls) as here:
        reader, writer = await here.connect()
        writer.write(request("POST /up HTTP/1.1", f"Content-Length: {len(body)}", body=body))
        head = await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(body)) == body
        assert fields(head, "Content-Length") == fields(got[0], "Content-Length") == [str(len(body))]


async def test_chunks_and_trailers_pass_and_a_trailer_sets_no_header_of_a_rule(ours, public):
    got = bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not got.endswith(b"\r\n\r\n") or b"0\r\n" not in got.partition(b"\r\n\r\n")[2]:
            got.extend(await reader.read(1))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n")
        writer.write(b"3\r\nabc\r\n0\r\nSum: 3\r\n\r\n")

    async with stand(ours, public, answer) as here:
        reader, writer = await here.connect()
        chunks = b"2;ext=1\r\nhi\r\n0\r\nAuthorization: mine\r\nChecked: yes\r\nHost: o\r\n\r\n"
        writer.write(request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=chunks))
        assert (await reader.readuntil(b"0\r\nSum: 3\r\n\r\n")).endswith(b"3\r\nabc\r\n0\r\nSum: 3\r\n\r\n")
    assert bytes(got).endswith(b"2\r\nhi\r\n0\r\nChecked: yes\r\n\r\n")


async def test_a_piece_of_an_answer_is_passed_on_when_it_comes(ours, public):
    go_on = asyncio.Event()

    async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await go_on.wait()
        writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
        await writer.drain()

    async with stand(ours, public, events) as here:
        reader, writer = await here.connect()
        writer.write(request())
        await reader.readuntil(b"first\r\n")
        go_on.set()
        await reader.readuntil(b"second\r\n0\r\n\r\n")


async def test_a_body_waits_for_the_names_100_continue(ours, public):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await reader.readexactly(4) == b"body"
        writer.write(OK)
        await writer.drain()
        await reader.read()

    async with stand(ours, public, answer) as here:
        reader, writer = await here.connect()
        writer.write(request("PUT / HTTP/1.1", "Content-Length: 4", "Expect: 100-continue"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"body")
        await reader.readuntil(b"ok")


async def test_an_answer_before_the_end_of_the_body_arrives(ours, public):
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch")
        await writer.drain()
        while await reader.read(1 << 16):
            pass

    async with stand(ours, public, refuse) as here:
        reader, writer = await here.connect()
        writer.write(request("PUT / HTTP/1.1", "Content-Length: 1000000", body=b"x" * 1000))
        assert (await reader.readuntil(b"much")).startswith(b"HTTP/1.1 413 ")
        writer.close()
        await here.outcome()


async def test_a_body_that_does_not_come_after_its_answer_is_not_waited_for(ours, public, monkeypatch):
    monkeypatch.setattr(mitm, "LATE_BODY_S", 0.1)
    answer, _ = answering(OK)
    async with stand(ours, public, answer) as here:
        reader, writer = await here.connect()
        writer.write(request("PUT / HTTP/1.1", "Content-Length: 1000000", body=b"x"))
        assert (await reader.read()).endswith(b"ok")
        writer.close()
        assert await here.outcome()


async def test_an_answer_to_head_has_no_body_and_the_connection_goes_on(ours, public):
    answer, _ = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", OK)
    async with stand(ours, public, answer) as here:
        reader, writer = await here.connect()
        writer.write(request("HEAD / HTTP/1.1"))
        assert fields(await reader.readuntil(b"\r\n\r\n"), "Content-Length") == ["500"]
        writer.write(request())
        await reader.readuntil(b"ok")


async def test_an_answer_without_length_ends_with_its_connection(ours, public):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        await writer.drain()

    async with stand(ours, public, answer, tls=False) as here:
        reader, writer = await here.connect()
        writer.write(request("GET / HTTP/1.0"))
        assert (await reader.read()).endswith(b"\r\n\r\nall of it")


async def test_an_answer_that_breaks_off_is_not_taken_for_whole(ours, public):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()

    async with stand(ours, public, answer) as here:
        reader, writer = await here.connect()
        writer.write(request())
        with contextlib.suppress(ConnectionResetError):
            assert not (await reader.read()).endswith(b"0\r\n\r\n")
        assert (await here.outcome()).end is End.FAILED


async def test_an_answer_without_length_that_was_cut_off_is_not_taken_for_whole_either(ours, public):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nhalf")
        await writer.drain()
        writer.transport.abort()  # no word of TLS that this is the end

    async with stand(ours, public, answer) as here:
        reader, writer = await here.connect()
        writer.write(request())
        with contextlib.suppress(ConnectionResetError):
            assert not (await reader.read()).endswith(b"0\r\n\r\n")
        assert (await here.outcome()).end is End.FAILED


async def test_a_body_of_chunks_of_one_byte_leaves_time_for_others(ours, public, monkeypatch):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(OK)
        await writer.drain()
        await reader.read()

    passed = most = 0
    say = Side.say

    def counted(side: Side, event: h11.Event) -> None:
        nonlocal passed, most
        passed += 1
        most = max(most, passed)
        say(side, event)

    async def others() -> None:
        nonlocal passed
        while True:
            passed = 0
            await asyncio.sleep(0)

    monkeypatch.setattr(Side, "say", counted)
    async with stand(ours, public, answer, tls=False) as here:
        reader, writer = await here.connect()
        beside = asyncio.ensure_future(others())
        body = b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n"
        writer.write(request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=body))
        await reader.readuntil(b"ok")
        beside.cancel()
    assert 0 < most <= 2 * EVENTS_PER_TURN


async def test_a_reader_that_stands_still_stops_the_sender(ours, public):
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.set_write_buffer_limits(0)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            try:
                async with asyncio.timeout(0.5):
                    await writer.drain()
            except TimeoutError:
                stuck.set()
                return
            writer.write(b"x" * 65536)
            sent += 65536

    stuck = asyncio.Event()
    async with stand(ours, public, pour, tls=False) as here:
        reader, writer = await here.connect()
        writer.transport.pause_reading()
        writer.write(request())
        async with asyncio.timeout(10):
            await stuck.wait()
        del reader
    assert 0 < sent < 64 << 20


# ---- other protocols


@both
async def test_a_websocket_passes_bytes_both_ways_after_its_headers_were_set(ours, public, tls):
    heads: list[bytes] = []

    async def socket_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
        while data := await reader.read(1000):
            writer.write(data.upper())
            await writer.drain()

    async with stand(ours, public, socket_server, tls) as here:
        reader, writer = await here.connect()
        writer.write(request("GET /ws HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: a"))
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 101 ")
        writer.write(b"GET / HTTP/1.1\r\n\r\nping")
        assert await reader.readexactly(22) == b"GET / HTTP/1.1\r\n\r\nPING"
        writer.close()
        assert (await here.outcome()).end is End.DONE
    assert fields(heads[0], "Upgrade") == ["websocket"]
    assert fields(heads[0], "Connection") == ["Upgrade"]
    assert fields(heads[0], "Authorization") == [SECRET]


# ---- failures


async def test_a_certificate_for_another_name_is_a_502_that_says_so(ours, public):
    answer, heads = answering(OK)
    async with stand(ours, public, answer, certificate_for="other.example.com") as here:
        reader, writer = await here.connect()
        writer.write(request())
        text = (await reader.read()).decode()
        assert text.startswith("HTTP/1.1 502 Bad Gateway\r\n")
        assert "api.example.com could not be reached: its certificate was not accepted: Hostname mismatch" in text
        carried = await here.outcome()
    assert carried.end is End.FAILED
    assert "certificate" in carried.detail
    assert SECRET not in text + carried.detail
    assert heads == []


async def test_a_certificate_of_an_unknown_authority_is_a_502(ours, public):
    answer, heads = answering(OK)
    async with stand(ours, Authority(*make("nobody's", now_utc())), answer) as here:
        here.public = public
        reader, writer = await here.connect()
        writer.write(request("HEAD / HTTP/1.1"))
        assert (await reader.read()).startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        assert "not accepted" in (await here.outcome()).detail
    assert heads == []


@both
async def test_a_name_that_cannot_be_reached_is_a_502(ours, public, tls):
    answer, _ = answering(OK)
    async with stand(ours, public, answer, tls) as here:
        here.dial_error = Unavailable("nobody answers at 203.0.113.7")
        reader, writer = await here.connect()
        writer.write(request("POST / HTTP/1.1", "Content-Length: 5", body=b"12345"))
        assert b"nobody answers at 203.0.113.7" in await reader.read()
        writer.close()
        assert await here.outcome() == Carried(End.FAILED, "nobody answers at 203.0.113.7")


async def test_without_the_secret_that_a_rule_needs_no_request_leaves_and_a_502_names_it(ours, public):
    answer, heads = answering(OK)
    async with stand(ours, public, answer) as here:
        here.transform = Transform(NAME, (), missing=("openai",))
        reader, writer = await here.connect()
        writer.write(request() + request())
        text = (await reader.read()).decode()
        carried = await here.outcome()
    assert text.startswith("HTTP/1.1 502 Bad Gateway\r\n")
    assert text.count("HTTP/1.1") == 1
    assert "openai" in text
    assert (carried.end, carried.bytes_out) == (End.FAILED, 0)
    assert heads == []


async def test_a_placeholder_leaves_as_the_value_which_is_in_no_report(ours, public):
    answer, heads = answering(OK)
    async with stand(ours, public, answer) as here:
        here.transform = Transform(NAME, (), ((WORD, "sk-value"),))
        reader, writer = await here.connect()
        writer.write(request(f"GET /{WORD} HTTP/1.1", f"X-Key: {WORD}"))
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        carried = await here.outcome()
    assert fields(heads[0], "X-Key") == ["sk-value"]
    assert here.requests == [("GET", f"/{WORD}")]
    assert "sk-value" not in carried.detail + repr(carried)


async def test_a_name_that_may_not_be_reached_is_cut(ours, public):
    answer, _ = answering(OK)
    async with stand(ours, public, answer) as here:
        here.dial_error = PermissionDenied("api.example.com is at 10.0.0.1", rule="never: private")
        reader, writer = await here.connect()
        writer.write(request())
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert await here.outcome() == Carried(End.DENIED, "api.example.com is at 10.0.0.1", rule="never: private")


async def test_what_is_not_http_from_the_name_is_cut_and_its_words_are_nowhere(ours, public):
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"???" + await reader.readuntil(b"\r\n\r\n"))
        await writer.drain()
        await reader.read()

    async with stand(ours, public, echo) as here:
        reader, writer = await here.connect()
        writer.write(request())
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        carried = await here.outcome()
    assert carried.end is End.FAILED
    assert "5ecret" not in carried.detail


async def test_cancelled_it_resets_both_sides(ours, public):
    stopped: asyncio.Future[type[BaseException] | bytes] = asyncio.get_running_loop().create_future()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        try:
            stopped.set_result(await reader.read())
        except OSError as error:
            stopped.set_result(type(error))

    begun = asyncio.Event()
    async with stand(ours, public, wait, tls=False) as here:
        reader, writer = await here.connect()
        writer.write(request())
        await begun.wait()
        here.carried[0].cancel()
        assert await stopped is ConnectionResetError
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""


async def test_a_sandbox_that_leaves_frees_what_it_asked(ours, public):
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        with contextlib.suppress(OSError):
            await reader.read()
        left.set()

    begun = asyncio.Event()
    async with stand(ours, public, silent) as here:
        _, writer = await here.connect()
        writer.write(request())
        await begun.wait()
        writer.close()
        async with asyncio.timeout(5):
            await left.wait()


async def test_when_the_name_closes_between_requests_so_do_we(ours, public):
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()

    async with stand(ours, public, once) as here:
        reader, writer = await here.connect()
        writer.write(request())
        assert (await reader.read()).endswith(b"ok")
        writer.close()
        assert (await here.outcome()).end is End.DONE


# ---- TLS


async def test_bytes_that_were_read_before_come_first_and_http_1_is_chosen(ours, public):
    answer, heads = answering(OK)
    async with stand(ours, public, answer) as here:
        inside, outside = socket.socketpair()
        outside.setblocking(False)
        inside.setblocking(False)
        context = trusting(ours)
        context.set_alpn_protocols(["h2", "http/1.1"])
        opening = asyncio.ensure_future(asyncio.open_connection(sock=inside, ssl=context, server_hostname=NAME))
        hello = await asyncio.get_running_loop().sock_recv(outside, 65536)
        here.begin(outside, hello)
        reader, writer = await opening
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.write(request())
        await reader.readuntil(b"ok")
    assert len(heads) == 1


async def test_a_client_that_does_not_trust_us_gets_nothing_and_nothing_is_dialled(ours, public):
    answer, _ = answering(OK)
    async with stand(ours, public, answer) as here:
        with pytest.raises(ssl.SSLCertVerificationError):
            await here.connect(context=ssl.create_default_context())
        assert "TLS handshake" in (await here.outcome()).detail
        assert here.name.connections == 0


async def test_tls_1_1_is_refused(ours, public):
    answer, _ = answering(OK)
    async with stand(ours, public, answer) as here:
        old = trusting(ours)
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await here.connect(context=old)


async def test_the_bytes_counted_are_those_on_the_wire(ours, public):
    answer, heads = answering(OK)
    async with stand(ours, public, answer, tls=False) as here:
        reader, writer = await here.connect()
        writer.write(request())
        await reader.readuntil(b"ok")
        writer.close()
        carried = await here.outcome()
    assert (carried.bytes_out, carried.bytes_in) == (len(heads[0]), len(OK))
