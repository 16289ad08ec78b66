"""What the edge says itself in the place of a program that cannot be reached: JSON, or a page for a browser."""

from __future__ import annotations

from enum import StrEnum
from html import escape
from typing import Any

from aiohttp import web

from .hopx.call import answer, timestamp
from .hopx.errors import Cell, Kind, SurfaceError, body


class Failure(StrEnum):
    PORT_CLOSED = "port_closed"
    NO_WEB_PORT = "no_web_port"
    NO_SUCH_PORT = "no_such_port"
    BAD_REQUEST = "bad_request"
    METHOD = "method"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    BROKEN_ANSWER = "broken_answer"
    NO_ANSWER = "no_answer"


TABLE: dict[Failure, Cell] = {
    Failure.PORT_CLOSED: Cell(502, "PORT_CLOSED"),
    Failure.NO_WEB_PORT: Cell(404, "NO_WEB_PORT"),
    Failure.NO_SUCH_PORT: Cell(404, "NO_SUCH_PORT"),
    Failure.BAD_REQUEST: Cell(400, "INVALID_REQUEST"),
    Failure.METHOD: Cell(405, "METHOD_NOT_ALLOWED"),
    Failure.TOO_MANY_CONNECTIONS: Cell(503, "TOO_MANY_CONNECTIONS"),
    Failure.BROKEN_ANSWER: Cell(502, "BROKEN_ANSWER"),
    Failure.NO_ANSWER: Cell(504, "NO_ANSWER"),
}
"""Apart from the agent surface's table: here no client repeats a call by itself."""

RELOADS = {"PORT_CLOSED": 2, "NO_WEB_PORT": 2, "SANDBOX_PAUSED": 5, "SANDBOX_STOPPED": 5, "TOO_MANY_CONNECTIONS": 5}
"""What may pass: the page looks again after so many seconds."""


class PortError(SurfaceError):
    def __init__(self, failure: Failure, message: str, **details: Any) -> None:  # Any: JSON values
        super().__init__(Kind.AGENT_FAILED, message, **details)
        self.failure = failure

    @property
    def cell(self) -> Cell:
        return TABLE[self.failure]


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">{reload}
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; background: #f6f7f9; margin: 0 }}
main {{ max-width: 34rem; margin: 18vh auto 0; padding: 2rem; background: #fff; border-radius: 12px;
  box-shadow: 0 1px 4px #0002 }}
h1 {{ font-size: 1.15rem; margin: 0 0 .5rem }} p {{ margin: .25rem 0 }} small {{ color: #888 }}
@media (prefers-color-scheme: dark) {{ body {{ color: #ddd; background: #16181c }} main {{ background: #22252b }} }}
</style>
<main><h1>{title}</h1><p>{message}</p>{ports}<p><small>{code} · {request_id}</small></p></main>
</html>
"""

TITLES = {401: "Please identify yourself", 404: "Not found", 409: "Not running", 502: "Nothing answers here"}
CONFINED = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


def refusal(error: SurfaceError, request: web.BaseRequest, request_id: str) -> web.Response:
    status = error.cell.status
    if not wants_page(request):
        response = answer(body(error, request_id, timestamp()), status=status)
    else:
        response = web.Response(text=page(error, request_id), status=status, content_type="text/html")
        response.headers["Content-Security-Policy"] = CONFINED
    response.headers["Cache-Control"] = "no-store"
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def wants_page(request: web.BaseRequest) -> bool:
    return request.method in ("GET", "HEAD") and "text/html" in request.headers.get("Accept", "")


def page(error: SurfaceError, request_id: str) -> str:
    seconds = RELOADS.get(error.cell.code)
    ports = ", ".join(str(port) for port in error.details.get("listening", ()))
    return PAGE.format(
        title=TITLES.get(error.cell.status, "This did not work"),
        message=escape(error.message),
        ports=f"<p>Ports that listen: {ports}</p>" if ports else "",
        code=error.cell.code,
        request_id=escape(request_id),
        reload=f'<meta http-equiv="refresh" content="{seconds}">' if seconds else "",
    )
