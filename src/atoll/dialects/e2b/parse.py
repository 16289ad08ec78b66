"""What E2B's clients send, as our objects. Unknown fields are ignored, `null` means absent, wrong types are 400."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atoll.control.history import Line
from atoll.core import ingress
from atoll.core.errors import InvalidInput, Unsupported
from atoll.core.ingress import Dialect
from atoll.core.lifecycle import State
from atoll.core.order import CreateOrder
from atoll.core.policy import Policy
from atoll.core.policy import parse as parse_policy
from atoll.core.sandbox import InboundAuth, OnTimeout

Json = dict[str, Any]  # Any: JSON values

DEFAULT_TIMEOUT_S = {1: 15, 2: 300}
"""By the version of the call that makes a sandbox or connects to it."""
DEFAULT_LIMIT = MAX_LIMIT = 100
MAX_REFRESH_S = 3600
DEFAULT_REFRESH_S = 15
MAX_TOKENS, TOKEN_TYPE = 5, "JWT-SVID"
_IDEMPOTENCY_KEY = re.compile(r"[a-z0-9-]{1,255}")

M = TypeVar("M", bound=BaseModel)


class Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class AutoResume(Body):
    enabled: bool | None = None


class Mount(Body):
    name: str
    path: str


class CreateBody(Body):
    template: str | None = Field(None, alias="templateID")
    timeout: int | None = None
    auto_pause: bool | None = Field(None, alias="autoPause")
    auto_pause_memory: bool | None = Field(None, alias="autoPauseMemory")
    auto_resume: AutoResume | None = Field(None, alias="autoResume")
    secure: bool | None = None
    """Ignored, but for what it forbids: every sandbox is secured."""
    internet_access: bool | None = Field(None, alias="allow_internet_access")
    network: Json | None = None
    metadata: dict[str, str] | None = None
    env: dict[str, str] | None = Field(None, alias="envVars")
    iam: Json | None = None
    mounts: list[Mount] | None = Field(None, alias="volumeMounts")


class ConnectBody(Body):
    timeout: int | None = None
    memory: bool | None = None


class ResumeBody(Body):
    timeout: int | None = None
    auto_pause: bool | None = Field(None, alias="autoPause")


class PauseBody(Body):
    memory: bool | None = None


class TimeoutBody(Body):
    timeout: int


class RefreshBody(Body):
    duration: int | None = None


class NetworkBody(BaseModel):
    """The fields of a policy stand beside this one."""

    model_config = ConfigDict(strict=True, extra="allow")

    allow_internet_access: bool | None = None


class VolumeBody(Body):
    name: str


class SecretBody(Body):
    name: str
    value: str
    metadata: dict[str, str] | None = None


class NewVersionBody(Body):
    value: str
    metadata: dict[str, str] | None = None


def body(model: type[M], raw: bytes) -> M:
    """An empty body is an empty object."""
    try:
        return model.model_validate_json(raw.strip() or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"][:1])
        where = f"{field}: " if field else ""
        raise InvalidInput(f"Invalid request: {where}{first['msg']}", **({"field": field} if field else {})) from error


# ---- sandboxes


@dataclass(frozen=True)
class Creation:
    template: str
    """As it was given: `names.parse_reference`."""
    order: CreateOrder
    """Its template is to be filled in."""


def creation(raw: bytes, version: int) -> Creation:
    given = body(CreateBody, raw)
    if not given.template:
        raise InvalidInput("Invalid request: templateID is required", field="templateID")
    network = given.network or {}
    if version == 1:
        check_secure(given.secure, network)
    _check_identity(given.iam or {})

    auto_resume = given.auto_resume is not None and given.auto_resume.enabled is True
    order = CreateOrder(
        template="",
        timeout_s=positive(given.timeout, DEFAULT_TIMEOUT_S[version]),
        env=given.env or {},
        policy=policy(network, given.internet_access),
        inbound_auth=InboundAuth.PUBLIC,
        ingress=ingress.parse({**ingress_fields(network), "auto_resume": auto_resume}),
        dialect=Dialect.E2B,
        on_timeout=_on_timeout(given, auto_resume),
        metadata=given.metadata or {},
        volumes=[(mount.name, mount.path) for mount in given.mounts or ()],
    )
    return Creation(given.template, order)


def check_secure(secure: bool | None, network: Mapping[str, Any]) -> None:
    if secure is False and network.get("allowPublicTraffic") is False:
        raise InvalidInput(
            "You cannot create a sandbox without public access unless you enable secure envd access via 'secure' flag.",
            field="secure",
        )


def from_template(given: Creation, template: str) -> CreateOrder:
    """`template`: its name here."""
    return replace(given.order, template=template)


def positive(given: int | None, default: int) -> int:
    if given is None:
        return default
    if given <= 0:
        raise InvalidInput("Timeout must be greater than 0", field="timeout")
    return given


def _on_timeout(given: CreateBody, auto_resume: bool) -> OnTimeout:
    if given.auto_pause_memory is False:
        if not given.auto_pause:
            raise InvalidInput("autoPauseMemory: false needs autoPause: true", field="autoPauseMemory")
        if auto_resume:
            raise InvalidInput(
                "autoPauseMemory: false cannot be used with autoResume: traffic resumes only what has kept its memory",
                field="autoPauseMemory",
            )
        return OnTimeout.STOP
    return OnTimeout.PAUSE if given.auto_pause else OnTimeout.KILL


def _check_identity(iam: Json) -> None:
    tokens = iam.get("tokens") or {}
    if not isinstance(tokens, dict) or len(tokens) > MAX_TOKENS:
        raise InvalidInput(f"iam.tokens is an object with at most {MAX_TOKENS} tokens", field="iam")
    if any(not isinstance(token, dict) or token.get("tokenType") != TOKEN_TYPE for token in tokens.values()):
        raise InvalidInput(f"iam: tokenType must be {TOKEN_TYPE}", field="iam")
    if tokens:
        raise Unsupported("This installation issues no identity tokens: create the sandbox without iam", field="iam")


@dataclass(frozen=True)
class Resumption:
    timeout_s: int
    memory: bool = True
    on_timeout: OnTimeout | None = None


def connection(raw: bytes, version: int) -> Resumption:
    given = body(ConnectBody, raw)
    if version == 1 and given.timeout is None:
        raise InvalidInput("Invalid request: timeout is required", field="timeout")
    return Resumption(positive(given.timeout, DEFAULT_TIMEOUT_S[version]), given.memory is not False)


def resumption(raw: bytes) -> Resumption:
    given = body(ResumeBody, raw)
    ends = {None: None, True: OnTimeout.PAUSE, False: OnTimeout.KILL}
    return Resumption(positive(given.timeout, DEFAULT_TIMEOUT_S[1]), on_timeout=ends[given.auto_pause])


def keeps_memory(raw: bytes) -> bool:
    return body(PauseBody, raw).memory is not False


def timeout_s(raw: bytes) -> int:
    seconds = body(TimeoutBody, raw).timeout
    if seconds < 0:
        raise InvalidInput("Timeout must be 0 or greater", field="timeout")
    return seconds


def refresh_s(raw: bytes) -> int:
    seconds = body(RefreshBody, raw).duration
    if seconds is None:
        return DEFAULT_REFRESH_S
    if not 0 <= seconds <= MAX_REFRESH_S:
        raise InvalidInput(f"duration is a number of seconds from 0 to {MAX_REFRESH_S}", field="duration")
    return seconds


# ---- network


def network(raw: bytes) -> Policy:
    given = body(NetworkBody, raw)
    return policy(given.model_extra or {}, given.allow_internet_access)


EGRESS = {
    "allowOut": "allow_out",
    "denyOut": "deny_out",
    "rules": "rules",
    "egressProxy": "egress_proxy",
    "dnsServers": "dns_servers",
}
INGRESS = {
    "allowPublicTraffic": "allow_public_traffic",
    "maskRequestHost": "mask_request_host",
    "httpsPorts": "https_ports",
}
PROXY_TLS = {"enabled": "enabled", "serverName": "server_name", "caCert": "ca_cert"}
"""Their names, ours."""


def policy(given: Mapping[str, Any], internet_access: bool | None) -> Policy:
    fields = {ours: given.get(theirs) for theirs, ours in EGRESS.items()}
    fields["egress_proxy"] = _proxy(fields["egress_proxy"])
    return parse_policy(fields, internet_access=internet_access is not False)


def _proxy(given: Any) -> Any:
    """What is no object is refused where all that is wrong with it is."""
    tls = given.get("tls") if isinstance(given, dict) else None
    if not isinstance(tls, dict):
        return given
    return {**given, "tls": {ours: tls.get(theirs) for theirs, ours in PROXY_TLS.items() if theirs in tls}}


def ingress_fields(given: Mapping[str, Any]) -> Json:
    return {ours: given.get(theirs) for theirs, ours in INGRESS.items()}


# ---- queries


@dataclass(frozen=True)
class Listing:
    states: tuple[State, ...]
    metadata: Mapping[str, str]
    limit: int = DEFAULT_LIMIT
    cursor: str | None = None
    oldest_first: bool = False
    created_after: float | None = None
    template: str | None = None


STATES = {"running": (State.RUNNING,), "paused": (State.PAUSED, State.STOPPED, State.ERROR)}
"""A sandbox that has only its disk left is shown as paused: it can be connected to again."""


def listing(query: Mapping[str, str]) -> Listing:
    return Listing(
        states=_states(query.get("state") or ",".join(STATES)),
        metadata=metadata(query.get("metadata") or ""),
        limit=limit(query),
        cursor=query.get("nextToken") or None,
        oldest_first=_oldest_first(query.get("order")),
        created_after=_moment(query.get("startedAfter"), "startedAfter"),
        template=query.get("template") or None,
    )


def running(query: Mapping[str, str]) -> Listing:
    return Listing(states=STATES["running"], metadata=metadata(query.get("metadata") or ""))


def _states(text: str) -> tuple[State, ...]:
    names = text.split(",")
    if unknown := set(names) - STATES.keys():
        raise InvalidInput(f"Invalid state '{min(unknown)[:64]}': running and paused are", field="state")
    return tuple(state for name, states in STATES.items() if name in names for state in states)


def metadata(text: str) -> dict[str, str]:
    """Names and values are quoted, the pairs joined like a form, and the whole quoted again; the framework has undone
    the third layer, that of the address.

    >>> metadata("a%2526b=1%253D1&c=d")
    {'a&b': '1=1', 'c': 'd'}
    """
    pairs = (pair.partition("=") for pair in unquote(text).split("&") if pair)
    return {unquote(name): unquote(value) for name, _, value in pairs}


def limit(query: Mapping[str, str], most: int = MAX_LIMIT, default: int = DEFAULT_LIMIT) -> int:
    found = whole(query, "limit", default)
    if not 1 <= found <= most:
        raise InvalidInput(f"limit is a number from 1 to {most}", field="limit")
    return found


def whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise InvalidInput(f"{name} is a whole number", field=name)
    return int(text)


def _oldest_first(text: str | None) -> bool:
    if text not in (None, "", "asc", "desc"):
        raise InvalidInput("order is asc or desc", field="order")
    return text == "asc"


def _moment(text: str | None, name: str) -> float | None:
    """RFC 3339 with its zone. A plus that was not quoted has become a blank."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))
        if at.tzinfo is None or not math.isfinite(at.timestamp()):
            raise ValueError("no zone")
    except (ValueError, OverflowError):
        raise InvalidInput(f"{name} is a time like 2026-01-31T12:00:00Z", field=name) from None
    return at.timestamp()


@dataclass(frozen=True)
class Range:
    start: float | None
    end: float | None


def seconds_range(query: Mapping[str, str]) -> Range:
    start, end = (_in_seconds(whole(query, name, 0)) for name in ("start", "end"))
    if start and end and end < start:
        raise InvalidInput("end is not before start", field="end")
    return Range(start or None, end or None)


def _in_seconds(moment: int) -> float:
    """Clients before 2.12 give milliseconds: as seconds, those would be thousands of years away.

    >>> _in_seconds(1_790_000_000), _in_seconds(1_790_000_000_500)
    (1790000000, 1790000000.5)
    """
    return moment if moment < 10**11 else moment / 1000


def sandbox_ids(query: Mapping[str, str]) -> list[str]:
    found = [part for part in query.get("sandbox_ids", "").split(",") if part]
    if not found or len(found) > MAX_LIMIT:
        raise InvalidInput(f"sandbox_ids names 1 to {MAX_LIMIT} sandboxes", field="sandbox_ids")
    return list(dict.fromkeys(found))


LEVELS = ("debug", "info", "warn", "error")


@dataclass(frozen=True)
class LogQuery:
    cursor_ms: int
    limit: int
    backward: bool
    least: str
    search: str

    def chosen(self, lines: Sequence[Line]) -> Sequence[Line]:
        """`lines`: oldest first. From the cursor on, in the direction asked for."""
        wanted = [line for line in lines if self._is_wanted(line)]
        return (wanted[::-1] if self.backward else wanted)[: self.limit]

    def _is_wanted(self, line: Line) -> bool:
        at_ms = line.at * 1000
        here = at_ms <= self.cursor_ms if self.backward and self.cursor_ms else at_ms >= self.cursor_ms
        return here and LEVELS.index(line.level) >= LEVELS.index(self.least) and self.search in line.text


def log_query(query: Mapping[str, str]) -> LogQuery:
    direction, level = query.get("direction") or "forward", query.get("level") or LEVELS[0]
    if direction not in ("forward", "backward"):
        raise InvalidInput("direction is forward or backward", field="direction")
    if level not in LEVELS:
        raise InvalidInput(f"level is one of {', '.join(LEVELS)}", field="level")
    return LogQuery(
        whole(query, "cursor", 0), limit(query, 1000, 1000), direction == "backward", level, query.get("search") or ""
    )


# ---- idempotency


def idempotency_key(text: str | None) -> str | None:
    if text is not None and not _IDEMPOTENCY_KEY.fullmatch(text):
        raise InvalidInput("Idempotency-Key has 1 to 255 lower-case letters, digits and '-'", field="Idempotency-Key")
    return text


def json_of(raw: bytes) -> Any:
    """Of a body that is compared with another one."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise InvalidInput("Invalid request: the body is not JSON") from None
