"""A client that reads slowly holds its cell back; what is said waits nowhere."""

from __future__ import annotations

import asyncio
import json
import socket

from aiohttp import web

from atoll.edge.agent_link import AT_ONCE
from atoll.edge.e2b.code.execute import Said

EXECUTE = "/contexts/default-python/execute"
BODY = json.dumps({"code": "1"}).encode()
MUCH = 64 * 1024 * 1024
HELD = 8 * 1024 * 1024
"""Sockets on the way, and what each hop reads ahead."""


async def test_who_does_not_read_stops_the_cell_and_who_reads_on_gets_all_of_it(code, edge, agent, kit, start):
    written: list[int] = []

    async def endless(seen):
        response = web.StreamResponse()
        await response.prepare(seen.live)
        await response.write(start)
        piece = kit.out(b"x" * 65536)
        for _ in range(MUCH // 65536):
            await response.write(piece)
            written.append(65536)
        await response.write(kit.cell_end())
        return response

    agent.on("POST", EXECUTE, endless)
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", edge.port)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.setblocking(False)
        fields = {**code.headers, "Host": "127.0.0.1", "Content-Length": len(BODY)}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await loop.sock_sendall(sock, f"POST /execute HTTP/1.1\r\n{head}\r\n".encode() + BODY)
        got = bytearray(await loop.sock_recv(sock, 15))
        before = -1
        async with asyncio.timeout(20):
            while before != sum(written) or not written:
                before = sum(written)
                await asyncio.sleep(0.2)  # what does not happen nobody announces
        assert before < HELD
        while not got.endswith(b"0\r\n\r\n"):
            got += await loop.sock_recv(sock, 1 << 20)
    assert sum(written) == MUCH
    assert got.count(b"x") >= MUCH
    assert b'{"type":"end_of_execution"}' in got[-64:]


async def test_what_comes_in_tiny_frames_lets_others_have_their_turn(code, agent, kit, start, monkeypatch):
    """A frame of a byte costs as much as one of thousands, and tens of thousands of them arrive at once."""
    handled = most = 0
    add = Said.add

    async def counted(said, frame):
        nonlocal handled, most
        handled += 1
        most = max(most, handled)
        await add(said, frame)

    async def others():
        nonlocal handled
        while True:
            handled = 0
            await asyncio.sleep(0)

    monkeypatch.setattr(Said, "add", counted)
    agent.streams("POST", EXECUTE, start, (kit.out(b"a") + kit.err("b")) * 20_000, kit.cell_end())
    task = asyncio.create_task(others())
    _, *events = await code.execute()
    task.cancel()
    assert len(events) == 40_001
    assert most <= 2 * AT_ONCE
