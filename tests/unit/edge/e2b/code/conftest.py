"""The code interpreter's surface of the scripted sandbox."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2b_wire import Surface, named


class Interpreter(Surface):
    async def asked(self, method: str, path: str, **more: Any) -> tuple[int, str]:
        async with self.answer(method, path, **more) as response:
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
    return Interpreter(session, origin, named(kit.SANDBOX, 49999, token))


@pytest.fixture
def start(kit) -> bytes:
    return kit.frame({"type": "start", "execution_count": 3, "context": "default-python", "spare": False})
