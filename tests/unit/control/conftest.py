from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atoll.testing.plane import Plane, open_plane


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    plane = await open_plane(tmp_path)
    yield plane
    plane.close()
