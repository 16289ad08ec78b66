"""The agent's routes, as a table. `{id}` takes one path segment."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from .errors import AgentError, Kind, not_found
from .handlers import contexts, doors, files, ports, processes, whole
from .http_server import Answer, Dispatch, Request
from .services import Services

Handler = Callable[[Services, Request], Awaitable[Answer]]

ROUTES: dict[tuple[str, str], Handler] = {
    ("GET", "/health"): whole.health,
    ("GET", "/stats"): whole.stats,
    ("GET", "/system"): whole.about,
    ("GET", "/cache"): whole.show_cache,
    ("DELETE", "/cache"): whole.clear_cache,
    ("GET", "/env"): whole.get_env,
    ("PUT", "/env"): whole.replace_env,
    ("PATCH", "/env"): whole.merge_env,
    ("PUT", "/trust"): whole.trust,
    ("DELETE", "/trust"): whole.distrust,
    ("PUT", "/limits"): whole.set_limits,
    ("GET", "/activity"): whole.activity,
    ("GET", "/system/processes"): whole.system_processes,
    ("POST", "/processes"): processes.start,
    ("GET", "/processes"): processes.listing,
    ("GET", "/processes/{id}"): processes.show,
    ("GET", "/processes/{id}/attach"): processes.attach,
    ("POST", "/processes/{id}/signal"): processes.send_signal,
    ("POST", "/processes/{id}/stdin"): processes.write_stdin,
    ("DELETE", "/processes/{id}/stdin"): processes.close_stdin,
    ("POST", "/processes/{id}/resize"): processes.resize,
    ("POST", "/contexts"): contexts.create,
    ("GET", "/contexts"): contexts.listing,
    ("DELETE", "/contexts/{id}"): contexts.delete,
    ("POST", "/contexts/{id}/restart"): contexts.restart,
    ("POST", "/contexts/{id}/interrupt"): contexts.interrupt,
    ("POST", "/contexts/{id}/execute"): contexts.execute,
    ("GET", "/files/stat"): files.stat,
    ("GET", "/files/list"): files.listing,
    ("GET", "/files/content"): files.read,
    ("PUT", "/files/content"): files.write,
    ("POST", "/files/mkdir"): files.mkdir,
    ("POST", "/files/compose"): files.compose,
    ("PATCH", "/files/attributes"): files.change,
    ("DELETE", "/files"): files.remove,
    ("POST", "/files/move"): files.move,
    ("GET", "/files/watch"): files.watch,
    ("GET", "/ports"): ports.listing,
    ("POST", "/ports/{id}/connect"): ports.connect,
    ("POST", "/doors/next"): doors.next_caller,
}

_FIXED = {key: handler for key, handler in ROUTES.items() if "{" not in key[1]}
_PATTERNS = [
    (method, re.compile(path.replace("{id}", "(?P<id>[^/]+)")), handler)
    for (method, path), handler in ROUTES.items()
    if "{" in path
]


def find(method: str, path: str) -> tuple[Handler, dict[str, str]]:
    handler = _FIXED.get((method, path))
    if handler is not None:
        return handler, {}
    for pattern_method, pattern, handler in _PATTERNS:
        if pattern_method == method and (match := pattern.fullmatch(path)):
            return handler, match.groupdict()
    raise _unknown(method, path)


def _unknown(method: str, path: str) -> AgentError:
    known = {route for _, route in _FIXED} | {pattern.pattern for _, pattern, _ in _PATTERNS}
    if any(re.fullmatch(route, path) for route in known):
        return AgentError(Kind.INVALID, f"{method} is not for {path}", 405)
    return not_found("no such route")


def dispatcher(services: Services) -> Dispatch:
    async def dispatch(request: Request) -> Answer:
        handler, request.parameters = find(request.method, request.path)
        return await handler(services, request)

    return dispatch
