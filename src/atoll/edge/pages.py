"""What the edge says itself in the place of a program that cannot be reached: JSON, or a page for a browser. Pure.

Whose words the JSON has, E2B's or HopX's, the sandbox's dialect says; and for one that is not there the request: E2B's
contract alone says what is answered at the name of a port of nobody's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from typing import Any

from .hopx.call import dump, timestamp
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
    TRAFFIC_TOKEN = "traffic_token"  # noqa: S105 - a name
    TRANSITION = "transition"


TABLE: dict[Failure, Cell] = {
    Failure.PORT_CLOSED: Cell(502, "PORT_CLOSED"),
    Failure.NO_WEB_PORT: Cell(404, "NO_WEB_PORT"),
    Failure.NO_SUCH_PORT: Cell(404, "NO_SUCH_PORT"),
    Failure.BAD_REQUEST: Cell(400, "INVALID_REQUEST"),
    Failure.METHOD: Cell(405, "METHOD_NOT_ALLOWED"),
    Failure.TOO_MANY_CONNECTIONS: Cell(503, "TOO_MANY_CONNECTIONS"),
    Failure.BROKEN_ANSWER: Cell(502, "BROKEN_ANSWER"),
    Failure.NO_ANSWER: Cell(504, "NO_ANSWER"),
    Failure.TRAFFIC_TOKEN: Cell(403, "TRAFFIC_TOKEN_REQUIRED"),
    Failure.TRANSITION: Cell(409, "SANDBOX_TRANSITION"),
}
"""Apart from the agent surface's table: here no client repeats a call by itself."""

RELOADS = {
    "PORT_CLOSED": 2,
    "NO_WEB_PORT": 2,
    "SANDBOX_TRANSITION": 2,
    "SANDBOX_PAUSED": 5,
    "SANDBOX_STOPPED": 5,
    "TOO_MANY_CONNECTIONS": 5,
}
"""What may pass: the page looks again after so many seconds."""

E2B_NOT_FOUND = frozenset(("SANDBOX_NOT_FOUND", "SANDBOX_PAUSED", "SANDBOX_STOPPED"))
E2B_NOT_OPEN = frozenset(("PORT_CLOSED", "NO_WEB_PORT"))


class PortError(SurfaceError):
    def __init__(self, failure: Failure, message: str, **details: Any) -> None:  # Any: JSON values
        super().__init__(Kind.AGENT_FAILED, message, **details)
        self.failure = failure

    @property
    def cell(self) -> Cell:
        return TABLE[self.failure]


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    fields: list[tuple[bytes, bytes]]
    content: bytes


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads the answer."""

    page: bool = False
    """A person, in a browser."""
    e2b: bool = False
    sandbox_id: str = ""


CONFINED = b"default-src 'none'; style-src 'unsafe-inline'; sandbox allow-scripts"
"""No script runs; without the last word browsers do not reload the page either."""
JSON = (b"Content-Type", b"application/json")
HTML = [(b"Content-Type", b"text/html; charset=utf-8"), (b"Content-Security-Policy", CONFINED)]


def refusal(error: SurfaceError, reader: Reader, request_id: str) -> Reply:
    cell = error.cell
    fields = [(b"Server", b"atoll"), (b"X-Request-ID", request_id.encode()), (b"Cache-Control", b"no-store")]
    if cell.status == 401:
        fields.append((b"WWW-Authenticate", b"Bearer"))
    if reader.page:
        return Reply(cell.status, [*fields, *HTML], page(error, request_id).encode())
    if reader.e2b:
        status, said = e2b(error, reader.sandbox_id)
        return Reply(status, [*fields, JSON], json.dumps(said, separators=(",", ":")).encode())
    return Reply(cell.status, [*fields, JSON], dump(body(error, request_id, timestamp())))


def e2b(error: SurfaceError, sandbox_id: str) -> tuple[int, Mapping[str, Any]]:
    """In the words that its clients look for."""
    status, code, message, more = error.cell.status, error.cell.code, error.message, {}
    if code in E2B_NOT_FOUND:
        status, message = 502, "The sandbox was not found"
    elif code in E2B_NOT_OPEN:
        status, message = 502, "The sandbox is running but port is not open"
        more = {"port": error.details.get("port", 0)}
    elif code == "SANDBOX_TRANSITION":
        message = "The sandbox is still transitioning. Try again in a moment."
    elif code == "TOO_MANY_CONNECTIONS":
        status, more = 429, {"connectionLimit": error.details.get("limit", 0)}
    elif code == "INVALID_REQUEST" and not sandbox_id:
        return status, {"message": message, "code": status}
    return status, {"sandboxId": sandbox_id, "message": message, **more, "code": status}


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">{reload}
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c2430; --soft: #66707f; --back: #f3f5f8; --card: #fff; --line: #e3e7ee }}
@media (prefers-color-scheme: dark) {{ :root {{
  --ink: #e4e8ee; --soft: #8d97a5; --back: #12151a; --card: #1b2027; --line: #2b323c }} }}
* {{ box-sizing: border-box }}
body {{ font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 0;
  min-height: 100vh; display: grid; place-items: center; padding: 1rem }}
main {{ max-width: 34rem; width: 100%; padding: 2rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 14px }}
h1 {{ font-size: 1.25rem; margin: 0 0 .6rem }} p {{ margin: .35rem 0; overflow-wrap: anywhere }}
b {{ display: inline-block; font-size: .8rem; color: var(--soft); border: 1px solid var(--line); border-radius: 99px;
  padding: 0 .6rem; margin-bottom: .8rem }}
small {{ color: var(--soft) }}
@keyframes wait {{ 50% {{ opacity: .25 }} }}
i {{ display: inline-block; width: .55rem; height: .55rem; border-radius: 50%; background: #3b82f6; margin-right: .5rem;
  animation: wait 1.2s infinite }}
@media (prefers-reduced-motion: reduce) {{ i {{ animation: none }} }}
</style>
<main><b>{status}</b><h1>{title}</h1><p>{message}</p>{ports}{waiting}<p><small>{code} · {request_id}</small></p></main>
</html>
"""

TITLES = {
    "PORT_CLOSED": "Nothing listens here yet",
    "NO_WEB_PORT": "Which port?",
    "SANDBOX_NOT_FOUND": "No such sandbox",
    "SANDBOX_PAUSED": "This sandbox is paused",
    "SANDBOX_STOPPED": "This sandbox is stopped",
    "SANDBOX_TRANSITION": "This sandbox is on its way",
    "TOO_MANY_CONNECTIONS": "Too busy",
    "TRAFFIC_TOKEN_REQUIRED": "Please identify yourself",
    "INVALID_TOKEN": "Please identify yourself",
    "TOKEN_EXPIRED": "Please identify yourself",
}


def page(error: SurfaceError, request_id: str) -> str:
    code = error.cell.code
    seconds = RELOADS.get(code)
    ports = ", ".join(str(port) for port in error.details.get("listening", ()))
    return PAGE.format(
        status=error.cell.status,
        title=TITLES.get(code, "This did not work"),
        message=escape(error.message),
        ports=f"<p>Ports that listen: {ports}</p>" if ports else "",
        waiting=f"<p><i></i>This page looks again every {seconds} s.</p>" if seconds else "",
        code=code,
        request_id=escape(request_id),
        reload=f'<meta http-equiv="refresh" content="{seconds}">' if seconds else "",
    )
