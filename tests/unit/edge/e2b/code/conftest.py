"""The code interpreter's surface of the scripted sandbox."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

DEFAULT = "/contexts/default-python/execute"


@dataclass
class Interpreter:
    session: aiohttp.ClientSession
    origin: str
    headers: dict[str, str]

    def request(self, method: str, path: str, *, without: tuple[str, ...] = (), **more: Any) -> Any:
        headers = {name: value for name, value in self.headers.items() if name not in without}
        headers |= more.pop("headers", {})
        return self.session.request(method, self.origin + path, headers=headers, **more)

    async def asked(self, method: str, path: str, **more: Any) -> tuple[int, str]:
        async with self.request(method, path, **more) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert response.headers["X-Request-ID"].startswith("req_")
            return response.status, await response.text()

    async def execute(self, **order: Any) -> list[dict[str, Any]]:
        async with self.request("POST", "/execute", json={"code": "1", **order}) as response:
            assert (response.status, response.content_type) == (200, "application/x-ndjson")
            return lines(await response.read())


def lines(raw: bytes) -> list[dict[str, Any]]:
    assert raw.isascii()
    assert raw.endswith(b"\n")
    return [json.loads(each, parse_constant=lambda name: pytest.fail(name)) for each in raw.splitlines()]


@pytest.fixture
def code(session, origin, token, kit) -> Interpreter:
    named = {"E2b-Sandbox-Id": kit.SANDBOX, "E2b-Sandbox-Port": "49999", "X-Access-Token": token}
    return Interpreter(session, origin, named)


@pytest.fixture
def start(kit) -> bytes:
    return kit.frame({"type": "start", "execution_count": 3, "context": "default-python", "spare": False})
