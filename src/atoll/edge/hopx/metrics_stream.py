"""`GET /v1/sandboxes/ID/metrics/stream`: the figures of `/metrics` as server-sent events, until the client leaves."""

from __future__ import annotations

import asyncio

from aiohttp import web

from .call import Call, dump
from .system import figures

EVERY_S = 2.0


async def serve(call: Call) -> web.StreamResponse:
    first = await figures(call.agent)  # before the answer begins, so that a refusal has a status
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await call.exchange.begin(response)
    await response.write(_event(first))
    while True:
        await asyncio.sleep(EVERY_S)
        await response.write(_event(await figures(call.agent)))


def _event(value: dict[str, object]) -> bytes:
    return b"data: " + dump(value) + b"\n\n"
