"""Clients that read slowly or not at all, and streams that last."""

from __future__ import annotations

import asyncio
import base64
import socket
import time

import pytest
from aiohttp import web

from atoll.edge.gate.client import SILENCE_S, STALL_S
from atoll.wire import connect

LINE = connect.message({"process": {"cmd": "x"}})
MUCH = 64 * 1024 * 1024
HELD = 8 * 1024 * 1024
"""Sockets on the way, and what each hop reads ahead."""


@pytest.fixture
def written(agent, kit) -> list[int]:
    """How much of an endless output the agent has got rid of."""
    sizes: list[int] = []

    async def reaction(seen):
        response = web.StreamResponse()
        await response.prepare(seen.live)
        await response.write(kit.process_start())
        piece = kit.out(b"x" * 65536)
        for _ in range(MUCH // 65536):
            await response.write(piece)
            sizes.append(65536)
        await response.write(kit.process_end())
        return response

    agent.on("POST", "/processes", reaction)
    return sizes


@pytest.fixture
async def reader(gates, edge, envd, written):
    """A client that has asked and has read the head of the answer, and no more."""
    sock = socket.create_connection(("127.0.0.1", edge.port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.setblocking(False)
    fields = {**envd.headers, "Host": "127.0.0.1", "Content-Type": connect.STREAM_TYPE, "Content-Length": len(LINE)}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, f"POST /process.Process/Start HTTP/1.1\r\n{head}\r\n".encode() + LINE)
    assert (await loop.sock_recv(sock, 15)) == b"HTTP/1.1 200 OK"
    yield sock
    sock.close()


async def settled(written) -> int:
    """When nothing more is got rid of."""
    before = -1
    async with asyncio.timeout(20):
        while before != sum(written) or not written:
            before = sum(written)
            await asyncio.sleep(0.2)  # what does not happen nobody announces
    return before


async def test_who_does_not_read_stops_the_program_and_is_cut_off_in_the_end(reader, written, gates, agent):
    assert await settled(written) < HELD
    gates[0].crowd.sweep(time.monotonic() + STALL_S - 5)
    assert not agent.left.is_set()
    gates[0].crowd.sweep(time.monotonic() + STALL_S + 1)
    await asyncio.wait_for(agent.left.wait(), 5)


async def test_who_reads_on_gets_all_of_it(reader, written):
    assert await settled(written) < HELD
    loop, got = asyncio.get_running_loop(), bytearray()
    while not got.endswith(b"0\r\n\r\n"):
        got += await loop.sock_recv(reader, 1 << 20)
    assert sum(written) == MUCH
    assert got.count(b'{"event":{"data":{"stdout":"') == MUCH // 32768


async def test_a_stream_that_only_says_that_it_lives_is_not_taken_for_dead(gates, envd, agent, kit, monkeypatch):
    monkeypatch.setattr("atoll.edge.e2b.rpc.keepalive_of", lambda text: 0.05)
    agent.streams("POST", "/processes", kit.process_start(), asyncio.Event())
    headers = {"Content-Type": connect.STREAM_TYPE}
    alive = connect.message({"event": {"keepalive": {}}})
    begun = time.monotonic()
    async with envd.request("POST", "/process.Process/Start", data=LINE, headers=headers) as response:
        await response.content.readuntil(b"}}}")
        for _ in range(10):
            assert await response.content.readexactly(len(alive)) == alive
        gates[0].crowd.sweep(begun + SILENCE_S + 0.3)  # as seen from its beginning it has been silent for too long
        assert await response.content.readexactly(len(alive)) == alive
        gates[0].crowd.sweep(time.monotonic() + SILENCE_S + 1)
        await asyncio.wait_for(agent.left.wait(), 5)


async def test_many_streams_at_once_keep_their_own_order(envd, agent, kit):
    async def count(seen):
        first = int(seen.json["argv"][1])
        response = web.StreamResponse()
        await response.prepare(seen.live)
        await response.write(kit.process_start(pid=first))
        for number in range(first, first + 50):
            await response.write(kit.out(f"{number} "))
            await asyncio.sleep(0)
        await response.write(kit.process_end())
        return response

    agent.on("POST", "/processes", count)

    async def one(first: int) -> None:
        events, error = await envd.stream("Start", {"process": {"cmd": "x", "args": [str(first)]}})
        assert error is None
        assert events[0] == {"start": {"pid": first}}
        said = b"".join(base64.b64decode(event["data"]["stdout"]) for event in events[1:-1])
        assert said.decode().split() == [str(number) for number in range(first, first + 50)]

    await asyncio.gather(*(one(first) for first in range(0, 1000, 10)))
