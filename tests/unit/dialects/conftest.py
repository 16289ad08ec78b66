from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from atoll.testing.plane import Plane, open_plane


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    plane = await open_plane(tmp_path)
    yield plane
    plane.close()


@pytest.fixture
async def client(plane: Plane) -> AsyncIterator[httpx.AsyncClient]:
    """Sends the headers that the Python SDK sends, the JSON content type on every request included."""
    headers = {"X-API-Key": plane.key, "Content-Type": "application/json", "User-Agent": "hopx-python/0.1.0"}
    transport = httpx.ASGITransport(plane.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://atoll", headers=headers) as client:
        yield client
