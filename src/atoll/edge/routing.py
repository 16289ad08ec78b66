"""Where a request goes, decided from its head alone. Pure: no table is asked and no credential is read here.

Rules, first match wins:

    host PORT-ID.DOMAIN or PORT-ID.REGION.DOMAIN   that port of the sandbox; 7777 and 49983 are its agent surfaces,
                                                   49999 its code interpreter
    host ID.DOMAIN or ID.REGION.DOMAIN             its web port, and its agent surface for who has its token
    any other host below DOMAIN                    no sandbox; the control plane is never there
    (PORT-ID.localhost, and without a DOMAIN PORT-ID.anything, are such hosts as well; sandbox.DOMAIN and api.DOMAIN
    are not)
    fields E2b-Sandbox-Id and E2b-Sandbox-Port     that port of the sandbox (Novita-Sandbox-… as well)
    GET /                                          a friendly page
    /docs/agent, /v1/agent.openapi.json            the description of the agent surface
    /docs                                          the control plane, which describes itself
    /v1/sandboxes/ID/metrics/stream                that sandbox's figures, which are the edge's to ask for
    /health, /v1/…                                 the control plane
    /v2/…, /v3/…, /sandboxes…, /templates… and     the control plane in E2B's words; also when the fields name a sandbox
    the like (`core.api_paths`)                    and there is an API key, but never with X-Access-Token
    /volumecontent/ID/…                            the files of a volume
    /s/ID/PORT, /s/ID/PORT/…                       that port of the sandbox
    /s/ID, /s/ID/…                                 that sandbox's agent surface
    /terminal, /execute/stream, /files/watch       a sandbox WebSocket whose client lost the path prefix;
                                                   the bearer token says which sandbox
    /execute, /contexts, /contexts/…               with X-Access-Token the code interpreter of the token's sandbox
    anything else                                  with X-Access-Token E2B's agent surface of that sandbox
    /files                                         with a signature the sandbox whose token made it

On a sandbox's own host a leading `/x.vms.hopx.dev` is no part of the path: HopX's clients derive the names of ports
only from a URL that ends in it.

`/internal/…` is for the edge alone. A path with `.` or `..` segments (also percent-encoded) is never forwarded: some
client or server on the way would normalise it into a path that was not checked here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import unquote

from atoll.core.api_paths import is_e2b
from atoll.core.ids import is_sandbox_id

_CHANGES_NO_ROUTE = ("/timeout", "/token/refresh", "/links")
SOCKET_PATHS = frozenset(("/terminal", "/execute/stream", "/files/watch"))
AGENT_PORT = 7777
E2B_AGENT_PORT = 49983
CODE_PORT = 49999
SHARED_LABELS = frozenset(("sandbox", "api"))
"""Below the domain, but no sandbox's: there everything is as on the domain's own host."""
SUFFIX = "/x.vms.hopx.dev"
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LABEL = re.compile(r"(?:([0-9]+)-)?([a-z0-9-]+)")
_FIGURES = re.compile(r"/v1/sandboxes/([a-z0-9]+)/metrics/stream")
_HOST = re.compile(r"([a-z0-9._-]{1,253})(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Names:
    """What this installation is called from outside."""

    domain: str | None = None
    region: str = "local"


@dataclass(frozen=True, slots=True)
class ControlPlane:
    e2b: bool = False
    """In whose words it answers."""


@dataclass(frozen=True, slots=True)
class Landing:
    pass


@dataclass(frozen=True, slots=True)
class Reference:
    """Of the agent surface; the control plane has its own."""

    is_page: bool


@dataclass(frozen=True, slots=True)
class VolumeContent:
    volume_id: str
    what: str
    """`path`, `dir` or `file`; anything else is nothing."""


@dataclass(frozen=True, slots=True)
class AgentSurface:
    sandbox_id: str
    path: str


@dataclass(frozen=True, slots=True)
class Port:
    """A program that listens in the sandbox."""

    sandbox_id: str
    port: int
    path: str
    mount: str = ""
    """What stands before `path` in the URL of a sandbox without a host of its own."""
    shared: bool = False
    """Named by fields of the head, on a host that is others' too."""


@dataclass(frozen=True, slots=True)
class WebHost:
    """The sandbox's own host: which port, and whether it is the agent, is not in the name."""

    sandbox_id: str
    path: str


@dataclass(frozen=True, slots=True)
class NoSuchPort:
    text: str


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


@dataclass(frozen=True, slots=True)
class EnvdSurface:
    """E2B's agent surface."""

    sandbox_id: str
    path: str


@dataclass(frozen=True, slots=True)
class TokenPort:
    """E2B's agent surface of the sandbox that an access token is for."""

    path: str


@dataclass(frozen=True, slots=True)
class CodeSurface:
    """E2B's code interpreter."""

    sandbox_id: str
    path: str


@dataclass(frozen=True, slots=True)
class TokenCode:
    """E2B's code interpreter of the sandbox that an access token is for."""

    path: str


@dataclass(frozen=True, slots=True)
class SignedFiles:
    """A file of the sandbox with whose token the address is signed, if it is."""

    path: str = "/files"


@dataclass(frozen=True, slots=True)
class BadNaming:
    """Fields that should name a sandbox and do not; `why` in E2B's words."""

    why: str


@dataclass(frozen=True, slots=True)
class Naming:
    """Fields that name a sandbox on a host that others share, of E2B's clients and Novita's."""

    sandbox_id: str | None = None
    port: str | None = None
    api_key: bool = False
    access_token: bool = False


Target = (
    TokenPort
    | TokenCode
    | EnvdSurface
    | CodeSurface
    | SignedFiles
    | BadNaming
    | ControlPlane
    | Landing
    | Reference
    | VolumeContent
    | AgentSurface
    | Port
    | WebHost
    | TokenSocket
    | NoSuchSandbox
    | NoSuchPort
    | Unknown
)

_CONTROL = ControlPlane()
_E2B_CONTROL = ControlPlane(e2b=True)
_LANDING = Landing()
_UNKNOWN = Unknown()
_VOLUMES = "/volumecontent/"
_REFERENCES = {"/docs/agent": Reference(True), "/v1/agent.openapi.json": Reference(False)}


NOTHING_NAMED = Naming()


def inside(sandbox_id: str, port: int, path: str) -> Target:
    """Of a program in the sandbox that has come to a port of ours there: whatever name it used, it means its own."""
    return _port_target(sandbox_id, str(port), path, "") if path.startswith("/") else _UNKNOWN


def classify(host: str, path: str, names: Names = Names(), named: Naming = NOTHING_NAMED) -> Target:
    """`path` is the raw request target without its query."""
    label = _sandbox_label(host, names)
    if label is not None:
        return _host_target(label, path)
    if named.sandbox_id is not None or named.port is not None:
        found = _named_target(named, path)
        if found is not None:
            return found
    return _shared_target(path, named)


def _shared_target(path: str, named: Naming) -> Target:
    if path.startswith("/s/"):
        return _sandbox_target(path)
    if path == "/":
        return _LANDING
    if path.startswith(_VOLUMES):
        volume_id, _, what = path.removeprefix(_VOLUMES).partition("/")
        return VolumeContent(volume_id, what)
    if path in ("/health", "/docs") and not named.access_token:
        return _CONTROL
    if path in _REFERENCES and not named.access_token:
        return _REFERENCES[path]
    if (watched := _FIGURES.fullmatch(path)) and is_sandbox_id(watched[1]):
        return AgentSurface(watched[1], "/metrics/stream")
    if path.startswith("/v1/"):
        return _UNKNOWN if has_dot_segment(path) else _CONTROL
    if is_e2b(path) and not named.access_token:
        return _UNKNOWN if has_dot_segment(path) else _E2B_CONTROL
    if path in SOCKET_PATHS:
        return TokenSocket(path)
    if named.access_token:
        return TokenCode(path) if _is_codes(path) else TokenPort(path)
    return SignedFiles() if path == SignedFiles().path else _UNKNOWN


def _is_codes(path: str) -> bool:
    """Of what the two surfaces of E2B's have, the code interpreter's own; `/health` is the agent's."""
    return path in ("/execute", "/contexts") or path.startswith("/contexts/")


def _named_target(named: Naming, path: str) -> Target | None:
    """None: a call of the control plane, which carries the fields by mistake."""
    if (path.startswith("/v1/") or is_e2b(path)) and named.api_key and not named.access_token:
        return None
    if named.sandbox_id is None or named.port is None:
        return BadNaming("missing header")
    if not is_sandbox_id(named.sandbox_id):
        return BadNaming("Invalid sandbox ID")
    if not _PORT.fullmatch(named.port) or int(named.port) > 65535:
        return BadNaming("Invalid sandbox port")
    found = _port_target(named.sandbox_id, named.port, path, "")
    return replace(found, shared=True) if isinstance(found, Port) else found


def changed_sandbox(method: str, path: str) -> str | None:
    """The sandbox whose route a control-plane call may have changed; asked for anew before the caller hears of it."""
    if method in ("GET", "HEAD") or (path.endswith(_CHANGES_NO_ROUTE) and not is_e2b(path)):
        return None  # E2B's `timeout` can end it
    return next((segment for segment in path.split("/") if is_sandbox_id(segment)), None)


def _sandbox_label(host: str, names: Names) -> str | None:
    """The labels before the domain, without the region; None for hosts that sandboxes share.

    `localhost` is such a domain everywhere. Without one of its own, an installation takes any name whose first label is
    a port and a sandbox's id."""
    match = _HOST.fullmatch(host.lower())
    if match is None:
        return None
    name = match[1].removesuffix(".")
    for domain in (names.domain, "localhost"):
        if domain is not None and name.endswith(f".{domain}"):
            label = name.removesuffix(f".{domain}").removesuffix(f".{names.region}")
            return None if label in SHARED_LABELS else label
    if names.domain is None:
        label, _, _ = name.partition(".")
        parts = _LABEL.fullmatch(label)
        if parts is not None and parts[1] and is_sandbox_id(parts[2]):
            return label
    return None


def _host_target(label: str, path: str) -> Target:
    match = _LABEL.fullmatch(label)
    if match is None or not is_sandbox_id(match[2]):
        return NoSuchSandbox(label[:64])
    port, sandbox_id = match.groups()
    if not path.startswith("/"):
        return _UNKNOWN
    path = _without_suffix(path)
    return WebHost(sandbox_id, path) if port is None else _port_target(sandbox_id, port, path, "")


def _without_suffix(path: str) -> str:
    rest = path.removeprefix(SUFFIX)
    return path if rest and not rest.startswith("/") else rest or "/"


def _sandbox_target(path: str) -> Target:
    sandbox_id, slash, rest = path[3:].partition("/")
    if not is_sandbox_id(sandbox_id):
        return NoSuchSandbox(sandbox_id[:64])
    port, more, inside = rest.partition("/")
    if port.isascii() and port.isdigit():
        return _port_target(sandbox_id, port, more + inside, f"/s/{sandbox_id}/{port}")
    return AgentSurface(sandbox_id, f"/{rest}" if slash else "/")


def _port_target(sandbox_id: str, port: str, path: str, mount: str) -> Target:
    if not _PORT.fullmatch(port) or int(port) > 65535:
        return NoSuchPort(port[:64])
    if int(port) == AGENT_PORT:
        return AgentSurface(sandbox_id, path or "/")
    if int(port) == E2B_AGENT_PORT:
        return EnvdSurface(sandbox_id, path or "/")
    if int(port) == CODE_PORT:
        return CodeSurface(sandbox_id, path or "/")
    return Port(sandbox_id, int(port), path, mount)


def has_dot_segment(path: str) -> bool:
    if "." not in path and "%" not in path:
        return False
    segments = unquote(path).replace("\\", "/").split("/")
    return "." in segments or ".." in segments
