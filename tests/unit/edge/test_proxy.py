from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL


async def test_request_reaches_the_server_as_sent_and_the_answer_comes_back(server, session, origin) -> None:
    server.sends("POST", "/v1/sandboxes", b'{"id":"x"}', 201, **{"X-RateLimit-Limit": "100", "X-Request-ID": "req_s"})
    headers = {"X-API-Key": "k", "X-Forwarded-For": "6.6.6.6", "Connection": "X-Private", "X-Private": "1"}
    async with session.post(
        URL(f"{origin}/v1/sandboxes?a=%2Fb&c=1", encoded=True), json={"t": 1}, headers=headers
    ) as answer:
        assert answer.status == 201
        assert await answer.json(content_type=None) == {"id": "x"}
        assert answer.headers["X-RateLimit-Limit"] == "100"
        assert answer.headers["X-Request-ID"] == "req_s"
        assert answer.headers["Server"] == "atoll"
    (seen,) = server.asked("POST", "/v1/sandboxes")
    assert seen.json == {"t": 1}
    assert seen.live.raw_path == "/v1/sandboxes?a=%2Fb&c=1"
    assert seen.headers["X-API-Key"] == "k"
    assert seen.headers["X-Forwarded-For"] == "127.0.0.1"
    assert seen.headers["X-Forwarded-Host"] == origin.removeprefix("http://")
    assert seen.headers["X-Request-ID"].startswith("req_")
    assert "X-Private" not in seen.headers


async def test_health_is_the_servers(server, session, origin) -> None:
    server.answers("GET", "/health", {"status": "ok"})
    async with session.get(f"{origin}/health") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})


async def test_large_bodies_pass_both_ways(server, session, origin) -> None:
    async def echo(seen: Any) -> web.StreamResponse:
        return web.Response(body=seen.body)

    body = bytes(range(256)) * 4096
    server.on("PUT", "/v1/blob", echo)
    async with session.put(f"{origin}/v1/blob", data=body) as answer:
        assert await answer.read() == body


async def test_connections_to_the_server_are_kept(server, session, origin) -> None:
    server.answers("GET", "/v1/x", {})
    for _ in range(3):
        async with session.get(f"{origin}/v1/x") as answer:
            assert answer.status == 200
    assert len({id(seen.live.transport) for seen in server.asked("GET", "/v1/x")}) == 1


async def test_internal_paths_are_not_there(server, session, origin) -> None:
    for path in ("/internal/routes", "/internal/activity"):
        async with session.get(origin + path) as answer:
            assert answer.status == 404
            body = await answer.json()
            assert body["code"] == "ROUTE_NOT_FOUND"
            assert body["error"]["message"] == body["message"]


async def test_dot_segments_cannot_leave_v1(edge, server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"GET /v1/../internal/authenticate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"404" in (await reader.read()).split(b"\r\n")[0]
    writer.close()
    assert not server.asked("GET", "/internal/authenticate")


async def test_expect_continue_is_answered_before_the_body(edge, server) -> None:
    server.answers("POST", "/v1/x", {})
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    writer.close()


async def test_without_a_server_the_answer_is_503_in_the_control_planes_form(places) -> None:
    from atoll.core.settings import EdgeSettings
    from atoll.edge.main import serving

    async with (
        serving(EdgeSettings(places, "127.0.0.1", 0)) as edge,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{edge.port}/v1/sandboxes") as answer,
    ):
        assert answer.status == 503
        body = await answer.json()
    assert body["error"]["code"] == body["code"] == "SERVICE_UNAVAILABLE"


async def test_without_a_server_e2bs_clients_are_told_to_come_back(places) -> None:
    from atoll.core.settings import EdgeSettings
    from atoll.edge.main import serving

    async with (
        serving(EdgeSettings(places, "127.0.0.1", 0)) as edge,
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{edge.port}/v2/sandboxes", json={}) as answer,
    ):
        assert (answer.status, answer.headers["Should-Retry"]) == (503, "true")
        body = await answer.json()
    assert body == {"code": 503, "message": "the control plane does not answer; try again"}


async def test_what_may_have_been_done_is_not_to_be_repeated(server, session, origin) -> None:
    async def cut(seen: Any) -> web.StreamResponse:
        seen.live.transport.abort()
        raise ConnectionResetError

    server.on("POST", "/v2/sandboxes", cut)
    async with session.post(f"{origin}/v2/sandboxes", json={}) as answer:
        assert (answer.status, answer.headers["Should-Retry"]) == (503, "false")
    assert len(server.asked("POST", "/v2/sandboxes")) == 1


async def test_root_is_json_or_a_page(session, origin) -> None:
    async with session.get(f"{origin}/") as answer:
        assert (await answer.json())["name"] == "atoll"
    async with session.get(f"{origin}/", headers={"Accept": "text/html"}) as answer:
        assert answer.content_type == "text/html"


async def test_answer_that_breaks_off_breaks_off_for_the_client(server, session, origin) -> None:
    async def half(seen: Any) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(seen.live)
        await response.write(json.dumps({"n": 1}).encode())
        seen.live.transport.abort()
        return response

    server.on("GET", "/v1/half", half)
    async with session.get(f"{origin}/v1/half") as answer:
        try:
            await answer.read()
        except aiohttp.ClientError:
            return
    raise AssertionError("half an answer looked whole")
