"""What clients and programs do that mean harm, or only die at a bad moment: a real edge, a program that is scripted
byte by byte, clients that are sockets."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import jwt
import pytest

import own_ports
from atoll.agent.handlers import ports as handlers
from atoll.agent.http_server import Counters, Request
from atoll.agent.http_server import listen as agent_listen
from atoll.core.settings import EdgeSettings
from atoll.edge.gate import client as gate_client
from atoll.edge.main import RunningEdge, serving

DOMAIN = "sandboxes.test"
PROMPT_S = 10.0
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Inside:
    """One program, and the agent that connects to it."""

    socket_path: str
    talk: Talk | None = None
    heads: list[bytes] = field(default_factory=list)
    dialled: asyncio.Event = field(default_factory=asyncio.Event)
    may_connect: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    async def connect(self, request: Request) -> object:
        self.dialled.set()
        await self.may_connect.wait()
        request.parameters = {"id": request.path.split("/")[2]}
        return await handlers.connect(None, request)  # type: ignore[arg-type]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                assert self.talk is not None
                await self.talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def inside(places, agent) -> AsyncIterator[Inside]:
    made = Inside(str(places.run / "ports.sock"))
    made.may_connect.set()
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(made.socket_path)
    listening = await agent_listen(sock, made.connect, Counters())  # type: ignore[arg-type]
    program = await asyncio.start_server(made.serve, sock=own_ports.bound())
    made.port = program.sockets[0].getsockname()[1]
    yield made
    made.may_connect.set()
    program.close()
    listening.close()


@pytest.fixture
async def edge(places, server, kit, inside) -> AsyncIterator[RunningEdge]:
    server.routes[kit.SANDBOX] = kit.route(kit.SANDBOX, inside.socket_path, inbound_auth="public")
    async with serving(EdgeSettings(places, "127.0.0.1", 0, domain=DOMAIN)) as running:
        await running.routes.ready.wait()
        yield running


def says(content: bytes, *more: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(content), *more, b"", b""])
        writer.write(head + content)

    return talk


def get(inside: Inside, kit, path: str = "/", *more: str) -> bytes:
    host = f"{inside.port}-{kit.SANDBOX}.{DOMAIN}"
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *more, "", ""]).encode()


# ---- a sandbox that goes at a bad moment


async def test_a_sandbox_that_goes_while_somebody_is_being_connected_takes_nothing_else_along(
    edge, server, inside, kit
):
    inside.may_connect.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(get(inside, kit))
    async with asyncio.timeout(PROMPT_S):
        await inside.dialled.wait()
        server.publish({"id": kit.SANDBOX, "removed": True})
        server.publish(kit.route(kit.OTHER, inside.socket_path, inbound_auth="public"))
        while edge.routes.table.get(kit.OTHER) is None:
            assert not edge.failed.done(), edge.failed.exception()
            await asyncio.sleep(0)
        assert edge.routes.table.get(kit.SANDBOX) is None
        inside.may_connect.set()
        answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 502 "))
    assert inside.heads == []
    writer.close()


# ---- programs that break off


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"rubbish\r\n\r\n"])
async def test_only_a_program_that_said_nothing_is_asked_again(edge, inside, kit, said):
    """On a connection that was used before, its end may have been on its way when we wrote."""
    inside.talk = says(b"first")
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(get(inside, kit))
    async with asyncio.timeout(PROMPT_S):
        await reader.readuntil(b"first")

        async def break_off(_: asyncio.StreamReader, inner: asyncio.StreamWriter) -> None:
            inside.talk = says(b"again")
            inner.write(said)
            raise ConnectionError

        inside.talk = break_off
        writer.write(get(inside, kit, "/", "Connection: close"))
        answer = await reader.read(-1)
    assert len(inside.heads) == (2 if said else 3)
    assert (b" 502 " in answer) == bool(said)
    assert answer.endswith(b"again") != bool(said)
    writer.close()


# ---- clients that do not read


async def deaf_client(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock


async def at_rest(edge: RunningEdge, counted: Callable[[], object]) -> object:
    """What it comes to when nothing changes while others are served."""
    before, now = object(), object()
    while now != before:
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
            writer.write(b"GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            await reader.read()
            writer.close()
        before, now = now, counted()
    return now


async def test_who_pipelines_and_does_not_read_is_served_no_further(edge, inside, kit):
    inside.talk = says(b"x" * 100_000)
    client, loop = await deaf_client(edge.port), asyncio.get_running_loop()
    many = 400
    sending = asyncio.create_task(loop.sock_sendall(client, get(inside, kit) * many))
    async with asyncio.timeout(PROMPT_S):
        assert 0 < await at_rest(edge, lambda: len(inside.heads)) < 100
        size = 0
        while size < many * 100_000:
            size += len(await loop.sock_recv(client, 1 << 20))
        await sending
    assert len(inside.heads) == many
    client.close()


async def test_nor_is_who_is_refused(edge, inside, kit, monkeypatch):
    connections: list[gate_client.Client] = []
    made = gate_client.Client.connection_made

    def connection_made(self: gate_client.Client, transport: asyncio.BaseTransport) -> None:
        connections.append(self)
        made(self, transport)

    monkeypatch.setattr(gate_client.Client, "connection_made", connection_made)
    client, loop = await deaf_client(edge.port), asyncio.get_running_loop()
    nobody = f"GET / HTTP/1.1\r\nHost: 1-{'z' * 20}.{DOMAIN}\r\nAccept: text/html\r\n\r\n".encode()
    sending = asyncio.create_task(loop.sock_sendall(client, nobody * 6000))
    async with asyncio.timeout(PROMPT_S):
        await at_rest(edge, lambda: (connections[0].transport.get_write_buffer_size(), len(connections[0]._buffer)))
    assert 0 < connections[0].transport.get_write_buffer_size() < 2 * gate_client.HIGH_WATER
    assert 0 < len(connections[0]._buffer) < 1024 * 1024
    sending.cancel()
    client.close()


class Behind(asyncio.Transport):
    """Its reader takes nothing."""

    size = 0

    def get_write_buffer_size(self) -> int:
        return self.size

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.size += len(data)


def test_what_waits_in_small_pieces_is_not_taken_for_little():
    client, transport = gate_client.Client(None), Behind()  # type: ignore[arg-type]
    client.transport = transport
    for _ in range(1001):
        client.carried(b"x")
    assert client.waiting() == 1001 + 1000 * gate_client.PIECE_COST
    transport.size = 0
    assert client.waiting() == 0
    client.carried(b"x" * 5000)
    assert client.waiting() == 5000


# ---- links


@pytest.mark.parametrize("path", ["//elsewhere.test/a", "/\\elsewhere.test/a", "/x.vms.hopx.dev//elsewhere.test/a"])
async def test_a_link_leads_to_no_other_host(edge, inside, kit, path):
    claims = {"sub": kit.SANDBOX, "aud": "atoll-link", "port": inside.port, "exp": time.time() + 60}
    link = jwt.encode(claims, bytes.fromhex(kit.KEY), algorithm="HS256")
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(get(inside, kit, f"{path}?atoll_link={link}"))
    async with asyncio.timeout(PROMPT_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 303 ")
    (place,) = re.findall("\r\nLocation: (.*)\r\n", head)
    host = f"{inside.port}-{kit.SANDBOX}.{DOMAIN}"
    assert urljoin(f"http://{host}/", place.replace("\\", "/")).startswith(f"http://{host}/")
    writer.close()
