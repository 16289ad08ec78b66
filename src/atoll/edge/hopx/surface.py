"""The HopX agent surface: which method and path is whose. Everything the contract lists is a row here."""

from __future__ import annotations

import time

from aiohttp import web

from . import attach, cache, environment, execution, files, metrics_stream, processes, sockets, system
from .call import Call, Handler
from .errors import Kind, SurfaceError

ROUTES: dict[str, dict[str, Handler]] = {
    "/": {"GET": system.ping},
    "/ping": {"GET": system.ping},
    "/health": {"GET": system.health},
    "/info": {"GET": system.facts},
    "/system": {"GET": system.about},
    "/metrics": {"GET": system.metrics},
    "/metrics/snapshot": {"GET": system.metrics},
    "/metrics/prometheus": {"GET": system.prometheus},
    "/metrics/stream": {"GET": metrics_stream.serve},
    "/processes": {"GET": processes.list_system},
    "/processes/*/kill": {"POST": processes.kill},
    "/processes/connect": {"GET": sockets.websocket(attach.connect)},
    "/jupyter/sessions": {"GET": system.jupyter_sessions},
    "/cache": {"GET": cache.show},
    "/cache/stats": {"GET": cache.show},
    "/cache/clear": {"POST": cache.clear},
    "/execute": {"POST": execution.execute},
    "/execute/rich": {"POST": execution.execute},
    "/execute/ipython": {"POST": execution.execute_ipython},
    "/execute/background": {"POST": execution.execute_background},
    "/execute/async": {"POST": execution.execute_async},
    "/execute/processes": {"GET": processes.list_background},
    "/execute/processes/*": {"GET": processes.show_background},
    "/execute/kill": {"DELETE": processes.kill_by_query},
    "/execute/kill/*": {"POST": processes.kill},
    "/execute/stream": {"GET": sockets.websocket(sockets.execute_stream)},
    "/commands/run": {"POST": execution.run_command},
    "/commands/background": {"POST": execution.command_background},
    "/files/read": {"GET": files.read},
    "/files/download": {"GET": files.download},
    "/files/write": {"POST": files.write},
    "/files/upload": {"POST": files.upload},
    "/files/list": {"GET": files.list_directory},
    "/files/exists": {"GET": files.exists},
    "/files/mkdir": {"POST": files.make_directory},
    "/files/remove": {"DELETE": files.remove, "POST": files.remove_by_body},
    "/files/watch": {"GET": sockets.websocket(sockets.watch)},
    "/env": {
        "GET": environment.show,
        "PUT": environment.replace,
        "PATCH": environment.merge,
        "DELETE": environment.clear,
    },
    "/env/*": {"DELETE": environment.remove},
    "/terminal": {"GET": sockets.websocket(sockets.terminal)},
}

WITHOUT_TOKEN = frozenset((("GET", "/health"),))

_EXACT = {path: methods for path, methods in ROUTES.items() if "*" not in path}
_PATTERNS = [(path.split("/"), path) for path in ROUTES if "*" in path]


def find(path: str) -> tuple[str, tuple[str, ...]] | None:
    """The row's name, and what stands in its places."""
    if path in _EXACT:
        return path, ()
    segments = path.split("/")
    for pattern, name in _PATTERNS:
        if len(pattern) == len(segments) and all(p in ("*", s) for p, s in zip(pattern, segments, strict=True)):
            return name, tuple(s for p, s in zip(pattern, segments, strict=True) if p == "*")
    return None


async def serve(call: Call, path: str) -> web.StreamResponse:
    if path.startswith("/desktop/"):
        return await system.desktop(call)
    found = find(path)
    if found is None:
        raise SurfaceError(Kind.NO_SUCH_ROUTE, f"The agent has no route {path[:256]}")
    name, call.arguments = found
    handler = ROUTES[name].get(call.request.method)
    if handler is None:
        allowed = ", ".join(ROUTES[name])
        raise SurfaceError(Kind.METHOD_NOT_ALLOWED, f"{call.request.method} is not allowed here; use {allowed}")
    return await _measured(call, name, handler)


async def _measured(call: Call, name: str, handler: Handler) -> web.StreamResponse:
    begun = time.monotonic()
    call.agent.calls[name] += 1
    try:
        return await handler(call)
    except Exception:
        call.agent.errors += 1
        raise
    finally:
        took = time.monotonic() - begun
        call.agent.seconds[name] += took
        call.agent.latest.append(took)
