"""Programs whose output comes as it is written."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping

from atoll.sdk._core import agent
from atoll.sdk._core.read import Json

from .client import OPEN_S, Agent, Messages


def run_stream(
    link: Agent,
    code: str,
    language: str,
    timeout: float,
    env: Mapping[str, str] | None,
    working_dir: str | None,
) -> Generator[Json, None, None]:
    """Closing the socket is what ends the program."""
    socket = link.socket("/execute/stream", OPEN_S)
    try:
        socket.send(json.dumps(agent.stream_order(code, language, timeout, env, working_dir)))
        yield from Messages(socket, "the output")
    finally:
        socket.close()
