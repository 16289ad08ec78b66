"""What was found out for one request serves those that follow it on the connection; whatever differs is looked at anew.

A real edge, the agent's real port handler, a program that writes down every byte of what arrives."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

import own_ports
from atoll.control.clock import SystemClock
from atoll.control.tokens import TokenIssuer
from atoll.core.settings import EdgeSettings
from atoll.edge import auth
from atoll.edge.gate import errand, gate
from atoll.edge.gate.noted import DOOR
from atoll.edge.main import RunningEdge, serving
from atoll.edge.routes import Route

DOMAIN = "sandboxes.test"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
REQUEST_ID = re.compile(rb"req_[0-9a-f]+")


@dataclass
class Program:
    """Reads like a server of one mind with us, and answers `head` and a body of five bytes."""

    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    head: bytes = HELLO
    body: bytes = b"hello"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.bodies.append(await self._body(head.lower(), reader))
                self.heads.append(head)
                writer.write(self.head + (b"" if head.startswith(b"HEAD ") else self.body))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _body(self, head: bytes, reader: asyncio.StreamReader) -> bytes:
        if b"\r\ntransfer-encoding: chunked" in head:
            return await reader.readuntil(b"\r\n0\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head)
        return await reader.readexactly(int(length[1])) if length else b""

    def taken(self) -> list[bytes]:
        heads, self.heads = [REQUEST_ID.sub(b"req_", head) for head in self.heads], []
        return heads


@dataclass
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, raw: bytes) -> tuple[bytes, bytes]:
        """The head of the answer, and its body."""
        self.writer.write(raw)
        async with asyncio.timeout(20):
            head = await self.reader.readuntil(b"\r\n\r\n")
            while head.startswith(b"HTTP/1.1 100 "):
                head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: *(\d+)", head.lower())
            without = raw.startswith(b"HEAD ") or length is None
            return head, b"" if without else await self.reader.readexactly(int(length[1]))  # type: ignore[index]


@dataclass
class Clock:
    """Of the gate."""

    later: float = 0.0
    time = staticmethod(time.time)

    def monotonic(self) -> float:
        return time.monotonic() + self.later


@dataclass
class Site:
    edge: RunningEdge
    program: Program
    sandbox: str
    port: int
    clock: Clock
    anew: list[object]
    """Requests for which everything was found out."""
    open: list[Connection] = field(default_factory=list)

    @property
    def host(self) -> bytes:
        return f"{self.port}-{self.sandbox}.{DOMAIN}".encode()

    async def connect(self) -> Connection:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self.edge.port))
        self.open.append(connection)
        return connection

    def get(self, *fields: bytes, method: bytes = b"GET", target: bytes = b"/a?b") -> bytes:
        lines = (method + b" " + target + b" HTTP/1.1", b"Host: " + self.host, *fields)
        return b"\r\n".join((*lines, b"", b""))

    def table(self, **changes: Any) -> None:
        route = self.edge.routes.table.get(self.sandbox)
        assert route is not None
        self.edge.routes.table.put(Route(**{**{name: getattr(route, name) for name in Route.__slots__}, **changes}))


@pytest.fixture
async def site(places, server, ports_socket, kit, monkeypatch) -> AsyncIterator[Site]:
    clock, anew, whole = Clock(), [], gate.Gate._dispatch

    def counted(self, asked):
        anew.append(asked)
        whole(self, asked)

    monkeypatch.setattr(gate.Gate, "_dispatch", counted)
    monkeypatch.setattr(gate, "QUICK_S", 3600.0)
    monkeypatch.setattr(gate, "LEASE_S", 3600.0)
    monkeypatch.setattr(errand, "time", clock)
    program = Program()
    listening = await asyncio.start_server(program.serve, sock=own_ports.bound())
    server.routes[kit.SANDBOX] = kit.route(kit.SANDBOX, ports_socket, inbound_auth="token")
    async with serving(EdgeSettings(places, "127.0.0.1", 0, domain=DOMAIN)) as edge:
        await edge.routes.ready.wait()
        made = Site(edge, program, kit.SANDBOX, listening.sockets[0].getsockname()[1], clock, anew)
        yield made
        for connection in made.open:
            connection.writer.transport.abort()
    listening.close()


def kinds(site: Site, kit: Any) -> dict[str, bytes]:
    key = b"X-API-Key: " + kit.API_KEY.encode()
    token = b"Authorization: Bearer " + kit.token_for(kit.SANDBOX).encode()
    door = DOOR + b"=x; own=1"
    below = b"/s/%b/%d/a?b" % (site.sandbox.encode(), site.port)
    named = b"GET " + below + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n" + key + b"\r\nCookie: atoll-mine=1; theirs=2\r\n\r\n"
    return {
        "plain": site.get(key),
        "token": site.get(token),
        "another's authorization": site.get(key, b"Authorization: Basic YTpi"),
        "cookies": site.get(key, b"Cookie: a=1", b"cookie: b=2", b"Cookie: " + door),
        "claims": site.get(key, b"X-Forwarded-For: 1.2.3.4", b"Forwarded: for=x", b"X_Real_IP: 1", b"X-Atoll-A: b"),
        "for one hop": site.get(key, b"Connection: x-one, keep-alive", b"X-One: 1", b"X_One: 2", b"TE: trailers"),
        "odd spelling": site.get(b"x-api-KEY:" + key.split(b" ")[1] + b" \t", b"A:", b"B:\t b  ", b"a: again"),
        "HEAD": site.get(key, method=b"HEAD"),
        "OPTIONS": site.get(key, b"Origin: https://a.example", method=b"OPTIONS"),
        "POST": site.get(key, b"Content-Length: 3", method=b"POST") + b"abc",
        "chunked": site.get(key, b"Transfer-Encoding: chunked", method=b"PUT") + b"3\r\nabc\r\n0\r\n\r\n",
        "waits": site.get(key, b"Content-Length: 3", b"Expect: 100-continue", method=b"POST") + b"abc",
        "upgrade": site.get(key, b"Connection: Upgrade", b"Upgrade: thing"),
        "HTTP/1.0": site.get(key, b"Connection: keep-alive").replace(b" HTTP/1.1\r", b" HTTP/1.0\r", 1),
        "whole URL": site.get(key).replace(b"/a?b", b"http://" + site.host + b"/a?b"),
        "a page": site.get(key, b"Accept: text/html"),
        "below a path": named,
    }


async def test_what_arrives_is_the_same_the_first_time_and_again(site, kit):
    for name, raw in kinds(site, kit).items():
        kept, other = await site.connect(), raw.replace(b"/a?b", b"/other/%23?c=%0d", 1)
        site.anew.clear()
        said = [await kept.ask(each) for each in (raw, raw, other, raw)]
        assert len(site.anew) == 1, name
        first, *again = site.program.taken()
        fresh = [await (await site.connect()).ask(each) for each in (raw, other)]
        assert len(site.anew) == 3, name
        told, told_other = site.program.taken()
        assert [first, *again] == [told, told, told_other, told], name
        assert [said[0], said[2]] == fresh, name
        assert said[0] == said[1] == said[3], name
        assert (kit.API_KEY.encode() in b"".join(again)) is (DOOR in b"".join(again)) is False, name


async def test_requests_of_several_kinds_may_alternate(site, kit):
    some = [raw for name, raw in kinds(site, kit).items() if name not in ("token", "below a path")]
    alone = []
    for raw in some:
        await (await site.connect()).ask(raw)
        alone += site.program.taken()
    kept = await site.connect()
    for _ in range(3):
        for raw, wanted in zip(some, alone, strict=True):
            await kept.ask(raw)
            assert site.program.taken() == [wanted]


async def test_each_has_an_id_of_its_own(site, kit):
    kept = await site.connect()
    for _ in range(3):
        await kept.ask(kinds(site, kit)["plain"])
    assert len({REQUEST_ID.search(head)[0] for head in site.program.heads}) == 3  # type: ignore[index]


def otherwise(site: Site, kit: Any) -> dict[str, tuple[int, bytes]]:
    key, sandbox = b"X-API-Key: " + kit.API_KEY.encode(), site.sandbox.encode()
    plain = site.get(key)
    return {
        "no credential": (401, site.get()),
        "another credential": (401, site.get(b"X-API-Key: e2b_" + b"1" * 40)),
        "two of them": (400, site.get(key, key)),
        "another host": (502, plain.replace(sandbox, b"c" * 20)),
        "no host": (400, plain.replace(b"Host:", b"Hos:")),
        "a link": (401, site.get(key, target=b"/a?atoll_link=x")),
        "a method": (405, site.get(key, method=b"TRACE")),
        "a fragment": (400, site.get(key, target=b"/a#b")),
        "a control character": (400, site.get(key, target=b"/a\x01")),
        "a blank": (400, site.get(key, target=b"/a b")),
        "no path": (400, site.get(key, target=b"a")),
        "a version": (505, plain.replace(b"HTTP/1.1", b"HTTP/1.2")),
        "a line end": (400, plain.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n")),
        "a folded line": (400, site.get(key, b" more")),
        "two lengths": (400, site.get(key, b"Content-Length: 1", b"Content-Length: 1")),
    }


async def test_on_a_connection_with_a_lease_nothing_passes_that_would_not_on_a_fresh_one(site, kit):
    plain = kinds(site, kit)["plain"]
    for name, (status, raw) in otherwise(site, kit).items():
        kept, fresh = await site.connect(), await site.connect()
        await kept.ask(plain)
        await kept.ask(plain)
        assert len(site.program.taken()) == 2
        for connection in (kept, fresh):
            head, _ = await connection.ask(raw)
            assert int(head[9:12]) == status, (name, head)
        assert site.program.taken() == [], name


async def test_below_a_path_the_lease_is_for_that_path_alone(site, kit):
    kept, raw = await site.connect(), kinds(site, kit)["below a path"]
    await kept.ask(raw)
    mount = b"/s/%b/%d" % (site.sandbox.encode(), site.port)
    assert len(site.program.taken()) == 1
    for target, status in (
        (mount, 308),
        (mount + b"9/a", 404),
        (mount.replace(site.sandbox.encode(), b"c" * 20) + b"/a", 404),
        (b"/", 200),
    ):
        head, _ = await kept.ask(raw.replace(mount + b"/a?b", target))
        assert int(head[9:12]) == status, (target, head)
    assert site.program.taken() == []


async def test_it_ends_when_the_route_goes(site, server, kit):
    kept, raw = await site.connect(), kinds(site, kit)["plain"]
    await kept.ask(raw)
    del server.routes[kit.SANDBOX]
    site.edge.routes.table.remove(kit.SANDBOX)
    head, _ = await kept.ask(raw)
    assert head.startswith(b"HTTP/1.1 502 ")


async def test_it_ends_when_the_route_changes(site, kit):
    site.table(public=True)
    kept, raw = await site.connect(), site.get()
    for _ in range(2):
        assert (await kept.ask(raw))[0].startswith(b"HTTP/1.1 200 ")
    site.table(public=False)
    assert (await kept.ask(raw))[0].startswith(b"HTTP/1.1 401 ")
    assert len(site.program.taken()) == 2


async def test_a_key_that_is_revoked_opens_nothing_when_it_and_what_is_known_of_the_key_have_ended(
    site, server, kit, monkeypatch
):
    monkeypatch.setattr(auth, "REMEMBER_S", 0.0)
    kept, raw = await site.connect(), kinds(site, kit)["plain"]
    await kept.ask(raw)

    async def denied(seen) -> web.StreamResponse:
        return web.json_response({"allowed": False})

    server.reactions[("POST", "/internal/authenticate")] = [denied]
    assert (await kept.ask(raw))[0].startswith(b"HTTP/1.1 200 ")
    site.clock.later = gate.LEASE_S + 1
    assert (await kept.ask(raw))[0].startswith(b"HTTP/1.1 401 ")
    assert len(site.program.taken()) == 1 + 1


async def test_a_browser_is_let_in_by_its_cookie_and_by_no_other(site, kit):
    link = TokenIssuer(bytes.fromhex(kit.KEY), SystemClock()).link(kit.SANDBOX, site.port, 60).text.encode()
    kept = await site.connect()
    head, _ = await kept.ask(site.get(target=b"/a?atoll_link=" + link))
    cookie = re.search(rb"\r\nset-cookie: ([^;]+)", head, re.IGNORECASE)[1]  # type: ignore[index]
    for shown, status in ((cookie, 200), (cookie, 200), (cookie + b"x", 401), (b"a=1", 401), (cookie + b"; a=1", 200)):
        head, _ = await kept.ask(site.get(b"Cookie: " + shown))
        assert int(head[9:12]) == status, shown
    assert not any(cookie in head for head in site.program.taken())


# ---- answers that are known again


async def test_an_answer_with_the_head_of_the_last_has_a_body_of_its_own(site, kit):
    kept, raw = await site.connect(), kinds(site, kit)["plain"]
    for body in (b"hello", b"world", b"again"):
        site.program.body = body
        assert await kept.ask(raw) == (HELLO, body)


async def test_the_answer_to_head_is_not_that_to_get(site, kit):
    kept, told = await site.connect(), kinds(site, kit)
    for _ in range(2):
        assert await kept.ask(told["plain"]) == (HELLO, b"hello")
        assert await kept.ask(told["HEAD"]) == (HELLO, b"")


async def test_what_has_to_stay_inside_stays_there_every_time(site, kit):
    fields = (
        *(b"Alt-Svc: h3", b"Connection: x-hop", b"X-Hop: 1", b"Keep-Alive: timeout=5", b"Content-Length: 5"),
        *(b"set-cookie: a=1; Domain=" + DOMAIN.encode(), b"Set-Cookie:b=2;  Path=/x", b"Set-Cookie: " + DOOR + b"=1"),
    )
    for kind in ("plain", "below a path"):
        kept, raw = await site.connect(), kinds(site, kit)[kind]
        for left_out in (fields, fields[:5], fields[5:], fields[:1], ()):
            site.program.head = b"\r\n".join((b"HTTP/1.1 200 OK", *left_out, b"X-Own: 1"))
            site.program.head += b"\r\n\r\n" if b"Content-Length: 5" in left_out else b"\r\nContent-Length: 5\r\n\r\n"
            heads = [(await kept.ask(raw))[0].lower() for _ in range(3)]
            assert heads[0] == heads[1] == heads[2]
            for name in (b"alt-svc", b"x-hop", b"keep-alive", b"domain=", DOOR):
                assert name not in heads[0], (name, heads[0])
            assert b"\r\nx-own: 1" in heads[0]
            assert heads[0].count(b"\r\nset-cookie: ") == (1 if len(left_out) in (8, 3) else 0)
