"""`/docs/agent` and `/v1/agent.openapi.json`: the agent surface describes itself, to people and to programs. No key."""

from __future__ import annotations

import functools
import json

from aiohttp import web

from atoll.reference.document import openapi
from atoll.reference.page import HEADERS, Link, address, addressed, page

from .hopx.errors import Kind, SurfaceError
from .hopx.openapi import SURFACE

LINKS = (
    Link("Control plane", "/docs"),
    Link("Agent surface of a sandbox", "/docs/agent"),
    Link("OpenAPI", "/v1/agent.openapi.json"),
)
EXAMPLE_PATH = "/s/SANDBOX_ID"
UNKNOWN = "http://ADDRESS"
"""For who does not say whom it means to call."""


def serve(request: web.BaseRequest, is_page: bool) -> web.Response:
    if request.method not in ("GET", "HEAD"):
        raise SurfaceError(Kind.METHOD_NOT_ALLOWED, "Only GET is allowed here")
    if not is_page:
        return web.Response(body=_document(), content_type="application/json")
    shown = addressed(_page(), address(request.scheme, request.host) or UNKNOWN)
    return web.Response(text=shown, content_type="text/html", headers=HEADERS)


@functools.cache
def _page() -> str:
    return page(openapi(SURFACE), LINKS, EXAMPLE_PATH)


@functools.cache
def _document() -> bytes:
    return json.dumps(openapi(SURFACE), ensure_ascii=False, separators=(",", ":")).encode()
