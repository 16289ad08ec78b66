from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from atoll.egress.pump import COPIED, End, Pipes, Pump

PIECE = 64 * 1024


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    for sock in (ours, theirs):
        sock.setblocking(False)
    return ours, theirs


class Line:
    """A sandbox's program – `client` … `inner` (the pump) `outer` … – `server`."""

    def __init__(self, pump: Pump, held: contextlib.ExitStack) -> None:
        self.client, self.inner = map(held.enter_context, tcp_pair())
        self.outer, self.server = map(held.enter_context, tcp_pair())
        self.out = pump.carry(self.inner, self.outer, "one")
        self.back = pump.carry(self.outer, self.inner, "one")


@pytest.fixture
async def held() -> AsyncIterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(params=[4, 0], ids=["with pipes", "without"])
async def pump(request, held) -> AsyncIterator[Pump]:
    made = Pump(Pipes(request.param))
    yield made
    await made.close()  # before the sockets are


async def send(sock: socket.socket, content: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, content)


async def receive(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        more = await asyncio.get_running_loop().sock_recv(sock, min(1 << 20, count - len(data)))
        assert more
        data += more
    return bytes(data)


async def at_end(sock: socket.socket) -> bool:
    return await asyncio.get_running_loop().sock_recv(sock, 1) == b""


@pytest.mark.parametrize("size", [1, COPIED - 1, COPIED, COPIED + 1, 20 << 20])
async def test_every_byte_arrives_in_order_and_is_counted(pump, held, size):
    line = Line(pump, held)
    content = os.urandom(min(size, 1 << 20)) * max(1, size >> 20)
    received, _ = await asyncio.gather(receive(line.server, len(content)), send(line.client, content))
    assert received == content
    answered, _ = await asyncio.gather(receive(line.client, len(content)), send(line.server, content))
    assert answered == content
    line.client.shutdown(socket.SHUT_WR)
    assert await line.out.over is End.EOF
    await pump.release((line.out, line.back))
    assert (line.out.bytes, line.back.bytes) == (len(content), len(content))


async def test_an_end_is_passed_on_and_the_other_way_goes_on(pump, held):
    line = Line(pump, held)
    await send(line.client, b"question")
    line.client.shutdown(socket.SHUT_WR)
    assert await receive(line.server, 8) == b"question"
    assert await at_end(line.server)
    await send(line.server, b"answer")
    assert await receive(line.client, 6) == b"answer"
    line.server.close()
    assert await line.back.over is End.EOF
    assert await at_end(line.client)


async def test_a_way_with_a_count_leaves_the_rest_where_it_is(pump, held):
    client, inner = map(held.enter_context, tcp_pair())
    outer, server = map(held.enter_context, tcp_pair())
    for size in (5, COPIED + 5, 3 << 20):
        way = pump.carry(inner, outer, "one", size)
        content = os.urandom(size)
        received, _ = await asyncio.gather(receive(server, size), send(client, content + b"rest"))
        assert received == content
        assert await way.over is End.COUNT
        assert way.bytes == size
        assert await receive(inner, 4) == b"rest"


async def test_who_does_not_listen_holds_up_nobody_else(pump, held):
    stuck = Line(pump, held)
    blocked = asyncio.ensure_future(send(stuck.client, bytes(48 << 20)))
    other = Line(pump, held)
    received, _ = await asyncio.gather(receive(other.server, 4 << 20), send(other.client, bytes(4 << 20)))
    assert len(received) == 4 << 20
    assert not blocked.done()
    assert len(await receive(stuck.server, 48 << 20)) == 48 << 20
    await blocked
    await pump.release((stuck.out, stuck.back, other.out, other.back))


async def test_a_reset_ends_both_ways_also_where_nothing_is_said(pump, held):
    line = Line(pump, held)
    line.client.shutdown(socket.SHUT_WR)
    assert await line.out.over is End.EOF
    line.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.client.close()
    assert await line.back.over is End.FAILED


async def test_what_was_released_is_touched_no_more(pump, held):
    line = Line(pump, held)
    await pump.release((line.out, line.back))
    assert {await line.out.over, await line.back.over} == {End.RELEASED}
    await send(line.client, b"for us")
    assert await receive(line.inner, 6) == b"for us"
    await pump.release((line.out, line.back))


async def test_a_pipe_with_something_in_it_goes_back_empty(held):
    pump = Pump(Pipes(1))
    try:
        stuck = Line(pump, held)
        sending = asyncio.ensure_future(send(stuck.client, bytes(64 << 20)))
        await receive(stuck.server, 2 << 20)
        await pump.release((stuck.out, stuck.back))
        sending.cancel()
        line = Line(pump, held)
        content = os.urandom(4 << 20)
        received, _ = await asyncio.gather(receive(line.server, len(content)), send(line.client, content))
        assert received == content
        await pump.release((line.out, line.back))
    finally:
        await pump.close()


async def test_unix_sockets_are_carried_too(pump, held):
    client, inner = map(held.enter_context, tcp_pair())
    outer, server = map(held.enter_context, socket.socketpair())
    outer.setblocking(False)
    server.setblocking(False)
    out, back = pump.carry(inner, outer, "one"), pump.carry(outer, inner, "one")
    content = os.urandom(3 << 20)
    received, _ = await asyncio.gather(receive(server, len(content)), send(client, content))
    assert received == content
    received, _ = await asyncio.gather(receive(client, len(content)), send(server, content))
    assert received == content
    server.close()
    assert await back.over is End.EOF
    await pump.release((out, back))


async def test_many_ways_all_get_there(pump, held):
    lines = [Line(pump, held) for _ in range(60)]
    size = 300_000
    work = [work for each in lines for work in (receive(each.server, size), send(each.client, bytes(size)))]
    await asyncio.gather(*work)
    await pump.release(way for each in lines for way in (each.out, each.back))
    assert [each.out.bytes for each in lines] == [size] * len(lines)
