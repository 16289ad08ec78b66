"""What browsers ask before they let a page call E2B's surfaces, and what they are told.

Clients run in browsers, too; what lets them in is the token, which no browser sends by itself.
"""

from __future__ import annotations

from aiohttp import web

CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "*"}
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": "*, Authorization",  # the asterisk does not stand for that one
    "Access-Control-Max-Age": "7200",
}


def preflight() -> web.Response:
    return web.Response(status=204, headers=PREFLIGHT)
