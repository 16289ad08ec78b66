"""AsyncSandbox in the middle of a FastAPI application: fifty sandboxes at once, each driven by its own request."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from atoll import AsyncSandbox

pytestmark = pytest.mark.root
SANDBOXES = 50


def application() -> FastAPI:
    app = FastAPI()
    together = asyncio.Barrier(SANDBOXES)

    @app.post("/square/{number}")
    async def square(number: int) -> dict[str, object]:
        async with AsyncSandbox.create("busybox", metadata={"number": str(number), "app": "fifty"}) as box:
            await together.wait()  # all of them are there
            await box.files.write("/workspace/n", str(number))
            result = await box.commands.run("n=$(cat n); echo $((n * n))")
            return {"id": box.sandbox_id, "square": int(result.stdout)}

    return app


@pytest.mark.timeout(120)
async def test_fifty_sandboxes_at_once_in_an_application():
    transport = httpx.ASGITransport(app=application())
    async with httpx.AsyncClient(transport=transport, base_url="http://app", timeout=110) as client:
        answers = await asyncio.gather(*(client.post(f"/square/{number}") for number in range(SANDBOXES)))
    found = [answer.json() for answer in answers]
    assert [each["square"] for each in found] == [number**2 for number in range(SANDBOXES)]
    assert len({each["id"] for each in found}) == SANDBOXES
    assert await AsyncSandbox.list(metadata={"app": "fifty"}) == []
