"""One call of the code interpreter's surface: the request, the sandbox it is for, and what waits for its contexts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from atoll.edge.agent_link import AgentLink
from atoll.edge.body import TooLarge, TooManyBodies, read_whole
from atoll.edge.exchange import Exchange
from atoll.edge.hopx.call import dump
from atoll.edge.routes import Route

from .errors import Refused
from .turns import Turns

MAX_BODY = 16 * 1024 * 1024
"""As much as the agent reads."""


@dataclass(slots=True)
class Call:
    exchange: Exchange
    route: Route
    agent: AgentLink
    turns: Turns
    context_id: str = ""
    """What stood in the path."""

    async def body(self) -> bytes:
        request = self.exchange.request
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Refused(415, "Compressed request bodies are not supported")
        try:
            return await read_whole(request, MAX_BODY)
        except TooLarge as error:
            raise Refused(413, f"The request is larger than {MAX_BODY} bytes") from error
        except TooManyBodies as error:
            raise Refused(429, "Too many large requests at once; try again") from error


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


def answer(value: object, status: int = 200) -> web.Response:
    return web.Response(body=dump(value), status=status, content_type="application/json")
