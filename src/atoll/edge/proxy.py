"""Reverse proxy of the control plane: the request as it came, less what belongs to one hop only."""

from __future__ import annotations

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from atoll.core.api_paths import ROUTES_MARK
from atoll.core.errors import Unavailable

from .exchange import Exchange
from .gate import fields
from .server_link import ORIGIN, ServerLink

SMALL = 64 * 1024  # bodies up to here are taken whole: one write instead of a stream
HOP_BY_HOP = frozenset(name.decode() for name in fields.HOP_BY_HOP) | {"expect", "trailer"}
"""The latter are dealt with here, and not passed on to be dealt with again."""
BODILESS = frozenset({204, 304})
"""Their head is the whole answer: with it the client goes on, so it goes out last."""
ANSWER_DROPS = HOP_BY_HOP | {"date", "server", ROUTES_MARK.lower()}


async def forward(exchange: Exchange, server: ServerLink) -> web.StreamResponse:
    request = exchange.request
    url = URL(ORIGIN + request.raw_path, encoded=True)
    try:
        answer = await server.session.request(
            request.method,
            url,
            headers=forwarded_headers(request, exchange.id),
            data=await _body(request),
            allow_redirects=False,
        )
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        # E2B's clients repeat a 503 unless they are told: a call that has arrived may have done what it asks for.
        exchange.marks["Should-Retry"] = "true" if isinstance(error, aiohttp.ClientConnectorError) else "false"
        raise Unavailable("the control plane does not answer; try again") from error
    exchange.routes = answer.headers.get(ROUTES_MARK, "")
    async with answer:
        return await _relay(exchange, answer)


def forwarded_headers(request: web.BaseRequest, request_id: str) -> CIMultiDict[str]:
    """What a client claims about hops before us is not passed on: the server believes these names."""
    named = {name.strip().lower() for line in request.headers.getall("Connection", ()) for name in line.split(",")}
    dropped = HOP_BY_HOP | named - {"content-length", "host"}
    headers = CIMultiDict(
        (name, value) for name, value in request.headers.items() if name.lower() not in dropped and not is_claim(name)
    )
    headers["X-Forwarded-For"] = source_of(request)
    headers["X-Forwarded-Host"] = request.headers.get("Host", "")
    headers["X-Forwarded-Proto"] = request.scheme
    headers["X-Request-ID"] = request_id
    return headers


def source_of(request: web.BaseRequest) -> str:
    return request.remote or "unknown"


def is_claim(name: str) -> bool:
    return fields.is_claim(name.lower().encode())


async def _body(request: web.BaseRequest) -> object:
    if not request.can_read_body:
        return None
    length = request.content_length
    if length is not None and length <= SMALL:
        return await request.content.read() if length else None
    return request.content


async def _relay(exchange: Exchange, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = CIMultiDict((name, value) for name, value in answer.headers.items() if name.lower() not in ANSWER_DROPS)
    length = 0 if answer.status in BODILESS else answer.content_length
    if length is not None and length <= SMALL and exchange.request.method != "HEAD":
        return web.Response(status=answer.status, headers=headers, body=await answer.read())
    response = web.StreamResponse(status=answer.status, headers=headers)
    await exchange.begin(response)
    async for chunk in answer.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response
