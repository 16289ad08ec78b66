"""Clients give up on an answer after 60 s and then ask again: every answer comes well before, undoing included."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from atoll.core.errors import Unavailable

ACT_S = 35.0
UNDO_S = 10.0


@contextlib.asynccontextmanager
async def deadline(what: str, seconds: float | None = None) -> AsyncIterator[None]:
    seconds = ACT_S if seconds is None else seconds
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise Unavailable(f"{what} was not done within {seconds:g} s; it was given up, try again") from error
