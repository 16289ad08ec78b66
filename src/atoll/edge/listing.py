"""What stands in a directory, from the agent's words into a surface's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

Object = dict[str, Any]  # Any: JSON values

ENTRIES_PER_TURN = 500


async def rendered(entries: Sequence[Object], render: Callable[[Object], Object]) -> list[Object]:
    """A hundred thousand entries take more than a second, in which others have their turns."""
    shown: list[Object] = []
    for at in range(0, len(entries), ENTRIES_PER_TURN):
        shown += map(render, entries[at : at + ENTRIES_PER_TURN])
        await asyncio.sleep(0)
    return shown
