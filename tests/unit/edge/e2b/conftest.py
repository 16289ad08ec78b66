"""E2B's agent surface of the scripted sandbox."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from atoll.core.access import access_token
from atoll.wire import connect
from e2b_wire import Surface, named


class Envd(Surface):
    async def json(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        async with self.answer(method, path, **more) as response:
            return response.status, await response.json()

    async def unary(self, name: str, message: object = None, **headers: str) -> tuple[int, Any]:
        given = {"Content-Type": "application/json", **headers}
        return await self.json("POST", f"/process.Process/{name}", data=json.dumps(message or {}), headers=given)

    async def stream(self, name: str, *messages: object, body: bytes | None = None, **headers: str) -> tuple[Any, Any]:
        """The events, and what stands in the end."""
        given = {"Content-Type": connect.STREAM_TYPE, **headers}
        data = b"".join(map(connect.message, messages)) if body is None else body
        async with self.request("POST", f"/process.Process/{name}", data=data, headers=given) as response:
            assert response.status == 200
            assert response.content_type == connect.STREAM_TYPE
            assert "Content-Encoding" not in response.headers
            reader = connect.EnvelopeReader()
            found = list(reader.feed(await response.read()))
        assert reader.at_boundary()
        assert [each.is_end for each in found] == [False] * (len(found) - 1) + [True]
        values = [connect.parse(each.payload) for each in found]
        return [value.get("event", value) for value in values[:-1]], values[-1].get("error")


@pytest.fixture
def token(kit) -> str:
    return access_token(bytes.fromhex(kit.KEY), kit.SANDBOX)


@pytest.fixture
def envd(session, origin, token, kit) -> Envd:
    return Envd(session, origin, named(kit.SANDBOX, 49983, token))


@pytest.fixture
def resumable(server, kit) -> None:
    """The sandbox is paused, and runs when the server is asked to resume it."""
    paused = server.routes[kit.SANDBOX] | {"state": "paused", "auto_resume": True}
    server.publish(paused)

    async def resume(seen):
        server.publish(paused | {"state": "running"})
        return web.json_response({})

    server.on("POST", f"/internal/sandboxes/{kit.SANDBOX}/resume", resume)
