"""The code interpreter's surface (port 49999): which path is whose. Everything the contract lists is a row here.

Errors are plain texts, but for what is wrong with a body or a path: those are JSON, as its clients' servers say them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from aiohttp import web

from atoll.edge.agent_link import AgentError
from atoll.edge.e2b.measured import measured

from . import contexts
from .call import Call, Handler, answer
from .errors import Refused, from_agent, rendered
from .execute import execute
from .orders import Malformed


async def health(call: Call) -> web.StreamResponse:
    await call.agent.call("GET", "/health")
    return answer("OK")


HEALTH = "/health"
EXECUTE = "/execute"
ROUTES: dict[str, Mapping[str, Handler]] = {
    HEALTH: {"GET": health},
    EXECUTE: {"POST": execute},
    "/contexts": {"GET": contexts.listing, "POST": contexts.create},
    "/contexts/{id}": {"DELETE": contexts.remove},
    "/contexts/{id}/restart": {"POST": contexts.restart},
}
_CONTEXT = re.compile(r"/contexts/([^/]{1,256})(/restart)?")


def find(path: str) -> tuple[str, str] | None:
    """The row of `ROUTES`, and the context that the path names; None: there is nothing.

    >>> find("/contexts/abc/restart"), find("/contexts"), find("/contexts/")
    (('/contexts/{id}/restart', 'abc'), ('/contexts', ''), None)
    """
    if path in ROUTES and "{" not in path:
        return path, ""
    named = _CONTEXT.fullmatch(path)
    return (f"/contexts/{{id}}{named[2] or ''}", unquote(named[1])) if named else None


def unknown() -> web.Response:
    return answer({"detail": "Not Found"}, status=404)


async def serve(call: Call, row: str) -> web.StreamResponse:
    """AgentGone when the sandbox is not there any more."""
    asked = call.exchange.request.method
    handler = ROUTES[row].get("GET" if asked == "HEAD" else asked)
    if handler is None:
        response = answer({"detail": "Method Not Allowed"}, status=405)
        response.headers["Allow"] = ", ".join((*ROUTES[row], "OPTIONS"))
        return response
    return await measured(call.agent, f"code:{row}", _answered(call, handler))


async def _answered(call: Call, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(call)
    except Malformed as malformed:
        return answer({"detail": malformed.problems}, status=422)
    except Refused as refused:
        return rendered(refused)
    except AgentError as error:
        if call.exchange.begun:
            raise
        return rendered(from_agent(error))
