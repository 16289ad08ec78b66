"""`/v1/openapi.json` and `/docs`: the control plane describes itself, to programs and to people. Needs no key."""

from __future__ import annotations

import functools
import json

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from atoll.reference.document import openapi
from atoll.reference.page import HEADERS, Link, address, addressed, page

from .hopx.openapi import SURFACE

router = APIRouter()

LINKS = (
    Link("Control plane", "/docs"),
    Link("Agent surface of a sandbox", "/docs/agent"),
    Link("OpenAPI", "/v1/openapi.json"),
)
READ = ["GET", "HEAD"]


@functools.cache
def _document() -> bytes:
    return json.dumps(openapi(SURFACE), ensure_ascii=False, separators=(",", ":")).encode()


@functools.cache
def _page() -> str:
    return page(openapi(SURFACE), LINKS)


@router.api_route("/v1/openapi.json", methods=READ)
async def describe(_: Request) -> Response:
    return Response(_document(), media_type="application/json")


@router.api_route("/docs", methods=READ)
async def read(request: Request) -> Response:
    return Response(addressed(_page(), called_by(request)), media_type="text/html", headers=HEADERS)


def called_by(request: Request) -> str:
    """The address that the caller used, as the edge passes it on; else the installation's own."""
    said = address(request.headers.get("x-forwarded-proto", ""), request.headers.get("x-forwarded-host", ""))
    return said or str(request.app.state.addresses.public_url)
