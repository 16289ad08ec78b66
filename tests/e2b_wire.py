"""Calls as E2B's SDKs write them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import httpx

Client = httpx.AsyncClient


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
