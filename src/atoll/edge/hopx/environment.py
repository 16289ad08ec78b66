"""The sandbox-wide environment. Values are never masked: clients delete one by writing back the rest they read."""

from __future__ import annotations

from aiohttp import web

from atoll.edge.frames_in import mapping

from .call import Call, Object, answer, env_of, timestamp
from .errors import Kind, SurfaceError


def _render(env: Object) -> Object:
    shown = {key: value for key, value in env.items() if isinstance(value, str)}
    return {"env_vars": shown, "count": len(shown), "timestamp": timestamp()}


async def _stored(call: Call) -> Object:
    return mapping((await call.agent.call("GET", "/env")).get("env"))


async def show(call: Call) -> web.StreamResponse:
    return answer(_render(await _stored(call)))


async def replace(call: Call) -> web.StreamResponse:
    await call.agent.call("PUT", "/env", json={"env": _sent(await call.object(), removals=False)})
    return answer(_render(await _stored(call)))


async def merge(call: Call) -> web.StreamResponse:
    body = await call.object()
    if body.get("merge") is False:
        await call.agent.call("PUT", "/env", json={"env": _sent(body, removals=False)})
    else:
        await call.agent.call("PATCH", "/env", json={"env": _sent(body, removals=True)})
    return answer(_render(await _stored(call)))


async def clear(call: Call) -> web.StreamResponse:
    await call.agent.call("PUT", "/env", json={"env": {}})
    return answer(_render(await _stored(call)))


async def remove(call: Call) -> web.StreamResponse:
    """Clients before 0.1.13 delete one by its name."""
    env = env_of({"env": {call.arguments[0]: None}}, removals=True)
    await call.agent.call("PATCH", "/env", json={"env": env})
    return answer(_render(await _stored(call)))


def _sent(body: Object, *, removals: bool) -> Object:
    if body.get("env_vars") is None:
        raise SurfaceError(Kind.MISSING_PARAMETER, "The field 'env_vars' is required")
    return env_of(body, "env_vars", removals=removals)
