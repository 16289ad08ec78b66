"""Programs whose output comes as it is written."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping

from atoll.sdk._core import agent
from atoll.sdk._core.read import Json

from .client import OPEN_S, AsyncAgent, AsyncMessages


async def run_stream(
    link: AsyncAgent,
    code: str,
    language: str,
    timeout: float,
    env: Mapping[str, str] | None,
    working_dir: str | None,
) -> AsyncGenerator[Json, None]:
    """Closing the socket is what ends the program."""
    socket = await link.socket("/execute/stream", OPEN_S)
    try:
        await socket.send(json.dumps(agent.stream_order(code, language, timeout, env, working_dir)))
        async for message in AsyncMessages(socket, "the output"):
            yield message
    finally:
        await socket.close()
