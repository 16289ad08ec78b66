"""Calls as E2B's SDKs write them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import httpx

Client = httpx.AsyncClient


@dataclass
class Surface:
    """A surface of a sandbox, asked at an edge: `headers` name the sandbox and the port, and show the token."""

    session: aiohttp.ClientSession
    origin: str
    headers: dict[str, str]

    def request(self, method: str, path: str, *, without: tuple[str, ...] = (), **more: Any) -> Any:
        headers = {name: value for name, value in self.headers.items() if name not in without}
        headers |= more.pop("headers", {})
        return self.session.request(method, self.origin + path, headers=headers, **more)

    @asynccontextmanager
    async def answer(self, method: str, path: str, **more: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self.request(method, path, **more) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert response.headers["X-Request-ID"].startswith("req_")
            yield response


def named(sandbox_id: str, port: int, token: str) -> dict[str, str]:
    return {"E2b-Sandbox-Id": sandbox_id, "E2b-Sandbox-Port": str(port), "X-Access-Token": token}


def three_times(pairs: dict[str, str]) -> str:
    """The metadata filter without its third layer, which the HTTP client adds."""
    return urlencode({quote(name): quote(value) for name, value in pairs.items()})


async def create(client: Client, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v2/sandboxes", json={"templateID": "base", "metadata": {}, "envVars": {}, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def detail(client: Client, sandbox_id: str) -> dict[str, Any]:
    answer = await client.get(f"/sandboxes/{sandbox_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def check_error(answer: httpx.Response, status: int, message: str, **more: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json() == {"code": status, "message": message, **more}
    assert answer.headers["Should-Retry"] in ("true", "false")
