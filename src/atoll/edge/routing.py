"""Where a request goes, decided from its head alone. Pure: no table is asked and no credential is read here.

Rules, first match wins:

    GET /                                          a friendly page
    /health, /v1/…                                 the control plane
    /s/ID, /s/ID/…                                 that sandbox's agent surface
    /terminal, /execute/stream, /files/watch       a sandbox WebSocket whose client lost the path prefix;
                                                   the bearer token says which sandbox
    anything else                                  unknown

`/internal/…` is for the edge alone. A path with `.` or `..` segments (also percent-encoded) is never forwarded: some
client or server on the way would normalise it into a path that was not checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from atoll.core.ids import is_sandbox_id

_CHANGES_NO_ROUTE = ("/timeout", "/token/refresh")
SOCKET_PATHS = frozenset(("/terminal", "/execute/stream", "/files/watch"))


@dataclass(frozen=True, slots=True)
class ControlPlane:
    pass


@dataclass(frozen=True, slots=True)
class Landing:
    pass


@dataclass(frozen=True, slots=True)
class AgentSurface:
    sandbox_id: str
    path: str


@dataclass(frozen=True, slots=True)
class TokenSocket:
    """The sandbox is named by the token's subject."""

    path: str


@dataclass(frozen=True, slots=True)
class NoSuchSandbox:
    sandbox_id: str
    """Not even the form of an id; it came from the client, so it is shown to nobody else."""


@dataclass(frozen=True, slots=True)
class Unknown:
    pass


Target = ControlPlane | Landing | AgentSurface | TokenSocket | NoSuchSandbox | Unknown

_CONTROL = ControlPlane()
_LANDING = Landing()
_UNKNOWN = Unknown()


def classify(host: str, headers: Mapping[str, str], path: str) -> Target:
    """`path` is the raw request target without its query. `host` and `headers` will tell preview URLs apart."""
    if path.startswith("/s/"):
        return _sandbox_target(path)
    if path == "/":
        return _LANDING
    if path == "/health":
        return _CONTROL
    if path.startswith("/v1/"):
        return _UNKNOWN if has_dot_segment(path) else _CONTROL
    if path in SOCKET_PATHS:
        return TokenSocket(path)
    return _UNKNOWN


def changed_sandbox(method: str, path: str) -> str | None:
    """The sandbox whose route a control-plane call may have changed; asked for anew before the caller hears of it."""
    if method in ("GET", "HEAD") or path.endswith(_CHANGES_NO_ROUTE):
        return None
    return next((segment for segment in path.split("/") if is_sandbox_id(segment)), None)


def _sandbox_target(path: str) -> Target:
    sandbox_id, slash, rest = path[3:].partition("/")
    if not is_sandbox_id(sandbox_id):
        return NoSuchSandbox(sandbox_id[:64])
    return AgentSurface(sandbox_id, f"/{rest}" if slash else "/")


def has_dot_segment(path: str) -> bool:
    if "." not in path and "%" not in path:
        return False
    segments = unquote(path).replace("\\", "/").split("/")
    return "." in segments or ".." in segments
