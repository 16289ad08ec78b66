"""One call of the agent surface: the request, the sandbox it is for, and how its parts are read and answered."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_plus

from aiohttp import web

from atoll.edge.agent_link import AgentLink
from atoll.edge.body import TooLarge, TooManyBodies, read_whole
from atoll.edge.exchange import Exchange
from atoll.edge.routes import Route
from atoll.wire import json_in

from .errors import Kind, SurfaceError

if TYPE_CHECKING:
    from .webhooks import Webhooks

MAX_JSON_BODY = 64 * 1024 * 1024  # larger files are uploaded as multipart, which is streamed
MAX_TIMEOUT_S = 24 * 3600.0
MAX_PATH = 4096  # PATH_MAX

Object = dict[str, Any]  # Any: JSON


@dataclass(slots=True)
class Call:
    exchange: Exchange
    route: Route
    agent: AgentLink
    webhooks: Webhooks
    authorized: bool = True
    """False only on the one route that answers without a token."""
    open_sockets: set[web.WebSocketResponse] = field(default_factory=set)
    """Where a WebSocket is while it is open: closed with a word when the edge goes."""
    arguments: tuple[str, ...] = ()
    """What stood in the pattern's places."""

    @property
    def request(self) -> web.BaseRequest:
        return self.exchange.request

    async def object(self) -> Object:
        raw = await self.raw()
        if not raw.strip():
            return {}
        try:
            value = json_in.load(raw)
        except ValueError as error:
            raise SurfaceError(Kind.INVALID_JSON, "The request body is not valid JSON") from error
        if not isinstance(value, dict):
            raise SurfaceError(Kind.INVALID_JSON, "The request body must be a JSON object")
        return value

    async def raw(self, limit: int = MAX_JSON_BODY) -> bytes:
        if self.request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise SurfaceError(Kind.INVALID_REQUEST, "Compressed request bodies are not supported")
        try:
            return await read_whole(self.request, limit)
        except TooLarge as error:
            raise _too_large(limit) from error
        except TooManyBodies as error:
            raise _too_many() from error

    def path(self, otherwise: str | None = None) -> str:
        given = path_argument(self.request.rel_url.raw_query_string)
        if not given and otherwise is None:
            raise SurfaceError(Kind.MISSING_PARAMETER, "The query parameter 'path' is required")
        return absolute(given or otherwise or "", self.route.workdir)


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


def _too_many() -> SurfaceError:
    return SurfaceError(Kind.TOO_MANY, "Too many large requests at once; try again", retry_after_seconds=1)


def _too_large(limit: int) -> SurfaceError:
    return SurfaceError(Kind.BODY_TOO_LARGE, f"The request body is larger than {limit} bytes; use /files/upload")


def path_argument(query: str) -> str:
    """`path` of a raw query string, also from the async HopX client, which escapes nothing in it.

    An escaped path has no slash left in it, so with a slash the text is the path as typed: `+` is a plus, and a part
    after `&` that is no parameter belongs to it. (What followed a `#` the client has never sent.)
    """
    parts = query.split("&")
    for index, part in enumerate(parts):
        name, _, value = part.partition("=")
        if name != "path":
            continue
        if "/" not in value:
            return unquote_plus(value)
        for more in parts[index + 1 :]:
            if "=" in more:
                break
            value += "&" + more
        return unquote(value)
    return ""


def absolute(path: str, workdir: str) -> str:
    if len(path.encode("utf-8", "replace")) > MAX_PATH or "\0" in path:
        raise SurfaceError(Kind.INVALID_PATH, "The path is too long or contains a NUL character", path=path[:256])
    return path if path.startswith("/") else f"{workdir}/{path}"


def required_text(body: Object, name: str) -> str:
    value = body.get(name)
    if value is None:
        raise SurfaceError(Kind.MISSING_PARAMETER, f"The field '{name}' is required")
    if not isinstance(value, str):
        raise SurfaceError(Kind.INVALID_REQUEST, f"The field '{name}' must be a string")
    return value


def optional_text(body: Object, name: str, otherwise: str = "") -> str:
    return otherwise if body.get(name) is None else required_text(body, name)


def workdir_of(body: Object, route: Route) -> str:
    """Clients always name /workspace; that means the working directory of the template."""
    given = optional_text(body, "workdir") or optional_text(body, "working_dir")
    return route.workdir if given in ("", "/workspace") else absolute(given, route.workdir)


def timeout_of(body: Object, otherwise: float) -> float:
    value = body.get("timeout")
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise SurfaceError(Kind.INVALID_REQUEST, "The field 'timeout' must be a positive number of seconds")
    return min(float(value), MAX_TIMEOUT_S)


def env_of(body: Object, name: str = "env", *, removals: bool = False) -> dict[str, Any]:
    env = body.get(name)
    if env is None:
        return {}
    if not isinstance(env, dict):
        raise SurfaceError(Kind.INVALID_REQUEST, f"The field '{name}' must be an object of strings")
    for key, value in env.items():
        if not key or "=" in key or "\0" in key:
            raise SurfaceError(Kind.INVALID_REQUEST, f"{key[:64]!r} cannot be the name of an environment variable")
        if not (isinstance(value, str) or (removals and value is None)) or "\0" in (value or ""):
            raise SurfaceError(Kind.INVALID_REQUEST, f"The value of {key[:64]!r} in '{name}' must be a string")
    return env


def timestamp(seconds: float | None = None) -> str:
    """Timezone-aware, six digits."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def timestamp_or_none(seconds: object) -> str | None:
    """Of a time that the sandbox claims."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        return timestamp(seconds)
    except (ValueError, OverflowError, OSError):
        return None


def answer(value: Object, status: int = 200) -> web.Response:
    return web.Response(body=dump(value), status=status, content_type="application/json")


def dump(value: object) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False).encode()


def _finite(value: Any) -> Any:
    """NaN and the infinities are not JSON, though Python writes and reads them."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list():
            return [_finite(item) for item in value]
        case _:
            return value
