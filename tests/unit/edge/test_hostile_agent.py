"""The agent answers as an enemy would. The caller gets a bounded error that is not repeated; the edge stays whole."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from atoll.edge.agent_link import AgentLink, AgentMisbehaved, TooManyCalls

CELL = "/contexts/default/execute"


@pytest.mark.parametrize(
    "stream",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\xff" * 100,
        struct.pack(">cI", b"O", 0xFFFFFFFF),
        struct.pack(">cI", b"J", 4) + b"nope",
        struct.pack(">cI", b"J", 2) + b"[]",
        struct.pack(">cI", b"J", 2) + b"{}",
        struct.pack(">cI", b"J", 200_000) + b"[" * 200_000,
        struct.pack(">cI", b"J", 4) + b"\xff\xff\xff\xff",
    ],
)
async def test_stream_that_is_no_frames(stream, client, agent) -> None:
    agent.streams("POST", CELL, stream)
    status, body = await client.call("POST", "/execute", {"code": "x"})
    assert (status, body["code"]) == (424, "AGENT_FAILED") if stream[:4] != b"HTTP" else (424, "AGENT_FAILED")


async def test_stream_without_an_end_is_a_sandbox_that_is_gone(client, agent, kit) -> None:
    agent.streams("POST", CELL, kit.out("part"))
    status, body = await client.call("POST", "/execute", {"code": "x"})
    assert (status, body["code"]) == (404, "SANDBOX_NOT_FOUND")


@pytest.mark.parametrize(
    "end",
    [
        {"type": "end"},
        {"type": "end", "status": ["ok"], "duration_s": "long"},
        {"type": "end", "status": "ok", "duration_s": 1e999},
        {"type": "end", "process": {"exit_code": "0"}},
        {"type": "end", "process": [], "duration_s": None},
        {"type": "end", "process": {"exit_code": 10**400}},
    ],
)
async def test_end_with_odd_types_is_still_an_answer(end, client, agent, kit) -> None:
    agent.streams("POST", CELL, kit.frame(end))
    status, body = await client.call("POST", "/execute", {"code": "x"})
    assert status == 200
    assert isinstance(body["execution_time"], float)
    assert isinstance(body["exit_code"], int)


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "result", "data": None},
        {"type": "result", "data": {"image/png": {"x": 1}, "text/plain": 5}},
        {"type": "display", "data": {"text/plain": 5}},
        {"type": "error", "name": 5, "value": None, "traceback": []},
        {"type": "start", "process": 5},
        {"type": "unheard-of"},
    ],
)
async def test_frames_with_odd_types_are_survived(odd, client, agent, kit) -> None:
    agent.streams("POST", CELL, kit.frame(odd), kit.cell_end())
    status, body = await client.call("POST", "/execute", {"code": "x"})
    assert status == 200
    assert "png" not in body


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"5", b"[" * 100_000, b'{"processes": 5}', b'{"processes": [5]}'])
async def test_json_that_is_none_or_of_another_shape(raw, client, agent) -> None:
    agent.sends("GET", "/processes", raw)
    status, _ = await client.call("GET", "/execute/processes")
    assert status in (200, 424)


@pytest.mark.parametrize(
    "record", [{}, {"argv": 5}, {"argv": [5, None]}, {"started_at": "x"}, {"started_at": 1e300}, {"status": []}]
)
async def test_record_with_odd_types_is_survived(record, client, agent) -> None:
    agent.answers("GET", "/processes", {"processes": [record]})
    status, _ = await client.call("GET", "/execute/processes")
    assert status == 200


async def test_error_without_kind_and_message(client, agent) -> None:
    agent.sends("GET", "/env", b"<html>", 500)
    status, body = await client.call("GET", "/env")
    assert (status, body["code"]) == (424, "AGENT_FAILED")


async def test_redirect_is_not_followed(client, agent) -> None:
    agent.sends("GET", "/env", b"{}", 302, Location="http://127.0.0.1:1/secret")
    await client.call("GET", "/env")
    assert len(agent.seen) == 1


async def test_compressed_answer_is_not_unpacked(client, agent) -> None:
    agent.sends("GET", "/env", b"\x1f\x8b junk", 200, **{"Content-Encoding": "gzip"})
    status, body = await client.call("GET", "/env")
    assert (status, body["code"]) == (424, "AGENT_FAILED")


async def test_answer_above_the_limit_is_refused_from_its_head_and_by_count(agent) -> None:
    async def endless(seen: Any) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(seen.live)
        while True:
            await response.write(b" " * 65536)

    agent.on("GET", "/endless", endless)
    agent.sends("GET", "/long", b"x" * 200)
    link = AgentLink(str(agent.socket))
    try:
        for path in ("/endless", "/long"):
            async with await link.open("GET", path) as answer:
                with pytest.raises(AgentMisbehaved):
                    await answer.json(limit=100)
    finally:
        await link.close()


async def test_calls_open_at_once_are_capped(agent) -> None:
    hold = asyncio.Event()
    agent.streams("GET", "/hold", b"x", hold)
    link = AgentLink(str(agent.socket), max_open_calls=2)
    try:
        first, second = await link.open("GET", "/hold"), await link.open("GET", "/hold")
        with pytest.raises(TooManyCalls):
            await link.open("GET", "/hold")
        first.close()
        first.close()
        third = await link.open("GET", "/hold")
        third.close()
        second.close()
        assert link.open_calls == 0
    finally:
        hold.set()
        await link.close()


async def test_agent_that_hangs_up_without_a_word(client, agent) -> None:
    async def hang_up(seen: Any) -> web.StreamResponse:
        seen.live.transport.abort()
        return web.Response()

    agent.on("GET", "/env", hang_up)
    status, body = await client.call("GET", "/env")
    assert (status, body["code"]) == (404, "SANDBOX_NOT_FOUND")


async def test_endless_header_is_refused(client, places, server, kit) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1_000_000)
        try:
            await reader.read()
        finally:
            writer.close()

    path = places.run / "shout.sock"
    async with await asyncio.start_unix_server(shout, str(path)):
        server.routes[kit.OTHER] = kit.route(kit.OTHER, path)
        client.sandbox, client.token = kit.OTHER, kit.token_for(kit.OTHER)
        status, _ = await client.call("GET", "/env")
        assert status == 404


async def test_time_limit_is_kept_by_the_edge_when_the_agent_does_not(client, agent, kit, monkeypatch) -> None:
    monkeypatch.setattr("atoll.edge.hopx.execution.GRACE_S", 0.5)
    agent.streams("POST", CELL, kit.out("part"), asyncio.Event())
    status, body = await client.call("POST", "/execute", {"code": "x", "timeout": 0.5})
    assert (status, body["exit_code"], body["stdout"]) == (200, 124, "part")
    await agent.left.wait()


async def test_extra_connections_of_one_sandbox_do_not_slow_another(client, agent, kit, server, places) -> None:
    other = kit.Peer(places.run / "other.sock")
    runner = await kit.listen(other)
    try:
        other.answers("GET", "/env", {"env": {"A": "1"}})
        server.routes[kit.OTHER] = kit.route(kit.OTHER, other.socket)
        hold = asyncio.Event()
        agent.streams("POST", CELL, hold)
        stuck = [asyncio.create_task(client.call("POST", "/execute", {"code": "x"})) for _ in range(20)]
        neighbour = kit.Client(client.session, client.origin, kit.token_for(kit.OTHER), kit.OTHER)
        status, _ = await neighbour.call("GET", "/env")
        assert status == 200
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
    finally:
        await runner.cleanup()


async def test_junk_json_never_reaches_the_client_as_a_5xx(client, agent) -> None:
    for value in (None, True, 5, "x", [], {"env": 5}, {"env": {"A": 5}}):
        agent.reactions.pop(("GET", "/env"), None)
        agent.sends("GET", "/env", json.dumps(value).encode())
        status, _ = await client.call("GET", "/env")
        assert status < 500


def test_aiohttp_has_its_c_parser() -> None:
    from aiohttp import http_parser

    assert http_parser.HttpResponseParser.__module__.endswith("_http_parser"), aiohttp.__version__
