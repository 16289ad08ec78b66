"""The HTTP side: who is heard, and when sessions end. No socket: the application is called as a server calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from mcp.server.mcpserver.exceptions import ToolError

from atoll.mcp import server
from atoll.mcp.sandboxes import MAX_SESSIONS, Order, Sessions

HOST = "127.0.0.1:9000"
JSON = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
BEGIN = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


class Lifespan:
    """Starts and ends an application, as a server does."""

    def __init__(self, app: server.Application) -> None:
        self._app = app
        self._to, self._from_test = anyio.create_memory_object_stream[dict[str, Any]](2)
        self._told, self.heard = anyio.create_memory_object_stream[Any](2)

    async def run(self) -> None:
        await self._app({"type": "lifespan", "asgi": {"version": "3.0"}}, self._from_test.receive, self._told.send)

    async def say(self, what: str) -> None:
        await self._to.send({"type": f"lifespan.{what}"})
        answer = await self.heard.receive()
        assert answer["type"] == f"lifespan.{what}.complete", answer

    def close(self) -> None:
        for each in (self._to, self._from_test, self._told, self.heard):
            each.close()


@asynccontextmanager
async def served(cloud: Any, token: str | None = None, **order: Any) -> AsyncIterator[httpx.AsyncClient]:
    wanted = Order(**order)
    sessions = Sessions(wanted, lambda: 0.0, 60, sdk=cloud.sdk())
    app = server.http_app(wanted, sessions, "127.0.0.1", 9000, token)
    life = Lifespan(app)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(life.run)
        await life.say("startup")
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}", headers=JSON) as client:
            yield client
        await life.say("shutdown")
    life.close()


async def begin(client: httpx.AsyncClient) -> str:
    answer = await client.post("/mcp", json=BEGIN)
    assert answer.status_code == 200, answer.text
    session_id = answer.headers["mcp-session-id"]
    told = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (await client.post("/mcp", json=told, headers={"mcp-session-id": session_id})).status_code == 202
    return session_id


async def run_code(client: httpx.AsyncClient, session_id: str) -> httpx.Response:
    params = {"name": "run_code", "arguments": {"code": "1"}}
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}
    answer = await client.post("/mcp", json=call, headers={"mcp-session-id": session_id})
    assert '"isError":true' not in answer.text, answer.text
    return answer


async def test_each_session_has_its_own_sandbox_and_deleting_it_kills_that_one(cloud):
    async with served(cloud) as client:
        one, other = await begin(client), await begin(client)
        for session_id in (one, other, one):
            await run_code(client, session_id)
        first, second = cloud.living
        assert [asked[0] for asked in cloud.asked] == [first, second, first]
        assert (await client.delete("/mcp", headers={"mcp-session-id": one})).status_code == 200
        assert list(cloud.living) == [second]
        assert (await run_code(client, other)).status_code == 200
    assert cloud.living == {}


async def test_a_session_that_is_not_there_ends_nothing(cloud):
    async with served(cloud) as client:
        await run_code(client, await begin(client))
        assert (await client.delete("/mcp", headers={"mcp-session-id": "0" * 32})).status_code == 404
        assert len(cloud.living) == 1


@pytest.mark.parametrize("said", [None, "Bearer", "Bearer wrong", "Basic dG9rZW4=", "bearer token", "Bearer token "])
async def test_nobody_without_the_token_is_heard(cloud, said):
    async with served(cloud, token="token") as client:
        headers = {} if said is None else {"Authorization": said}
        for path in ("/mcp", "/", "/other"):
            answer = await client.post(path, json=BEGIN, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_with_the_token_one_is_heard(cloud):
    async with served(cloud, token="token") as client:
        client.headers["Authorization"] = "Bearer token"
        assert (await run_code(client, await begin(client))).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:9000"}, 421),
        ({"Host": "127.0.0.1:9001"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 400),
        ({"Host": "localhost:9000", "Origin": "http://localhost:9000"}, 200),
    ],
)
async def test_a_page_of_somebody_else_in_the_browser_is_not_heard(cloud, headers, status):
    async with served(cloud) as client:
        assert (await client.post("/mcp", json=BEGIN, headers=headers)).status_code == status


async def test_a_body_over_the_limit_is_refused(cloud):
    async with served(cloud) as client:
        assert (await client.post("/mcp", content=b" " * (server.MAX_BODY + 1))).status_code == 413


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.com", False),
    ],
)
def test_this_machine_is_known_by_its_addresses(host, loopback):
    assert server.is_loopback(host) is loopback


def test_names_of_this_machine_count_with_its_port_alone():
    assert server.security("127.0.0.1", 9000).allowed_hosts == ["127.0.0.1:9000", "[::1]:9000", "localhost:9000"]
    assert {"localhost", "[::1]"} < set(server.security("localhost", 80).allowed_hosts)
    assert server.security("box.example", 9000).allowed_origins == ["http://box.example:9000"]


def test_without_a_token_it_serves_this_machine_only():
    with pytest.raises(ValueError, match="this machine"):
        server.serve_http(Order(), "0.0.0.0", 0, None, lambda url: None)


async def test_a_session_of_long_ago_is_ended_when_a_new_one_begins(cloud):
    now = 0.0
    sessions = Sessions(Order(), lambda: now, 60, sdk=cloud.sdk())
    await (await sessions.of("old")).find()
    now = 61.0
    async with (await sessions.of("busy")).using():
        now = 122.0
        await sessions.of("new")
        assert len(cloud.living) == 1
    now = 183.0
    await sessions.of("newest")
    assert cloud.living == {}
    again = await sessions.of("busy")
    with pytest.raises(ToolError, match="idle for long"):  # its model still believes in its variables
        await again.find()
    assert (await again.find()).sandbox_id in cloud.living


async def test_a_long_call_keeps_its_session(cloud):
    now = 0.0
    sessions = Sessions(Order(), lambda: now, 60, sdk=cloud.sdk())
    async with (await sessions.of("long")).using():
        now = 1_000.0
    await sessions.of("new")
    assert len(cloud.living) == 1


async def test_sessions_are_counted(cloud):
    sessions = Sessions(Order(), lambda: 0.0, 60, sdk=cloud.sdk())
    for number in range(MAX_SESSIONS):
        await sessions.of(str(number))
    with pytest.raises(ToolError, match="sessions are open already"):
        await sessions.of("one more")
