"""What Novita's clients send, where it differs from E2B's first generation, as our objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from atoll.core import ingress
from atoll.core.clocks import MIN_IDLE_TIMEOUT_S
from atoll.core.errors import InvalidInput
from atoll.core.events import DEFAULT_SPAN_S, MAX_EVENTS, EventQuery, Outcomes
from atoll.core.ingress import Dialect
from atoll.core.policy import Policy

from . import parse
from .parse import EGRESS, Body, Creation, Json, limit, whole

IDLE_TIMEOUT = "idle_timeout"
"""In `metadata`, as a text of seconds. What is shorter, or no number, means none."""
MIB_PER_GIB = 1024
REST_OF_SECOND = 0.999999
LONGEST_EVENTS_SPAN_S = 60 * 24 * 3600
DEFAULT_EVENTS = 10
DEFAULT_TEMPLATES = 20
TEMPLATE_TYPES = ("template_build", "snapshot_template")

Ingress = Mapping[str, Any]  # Any: `core.ingress.changes`


# ---- sandboxes


class NovitaCreateBody(Body):
    metadata: dict[str, str] | None = None
    secrets: dict[str, str] | None = None
    machine: str | None = Field(None, alias="nodeID")


class NetworkChoice(Body):
    """Either `network`, or the one word of it that is asked for most."""

    secure: bool | None = None
    network: Json | None = None
    allow_public_traffic: bool | None = Field(None, alias="allowPublicTraffic")


class ConnectBody(NetworkChoice):
    timeout: int


class ResetBody(NetworkChoice):
    resume: bool | None = None
    timeout: int | None = None


class PlugBody(Body):
    mib: int = Field(alias="requested_size_mib")


def creation(raw: bytes) -> Creation:
    given, more = parse.creation(raw, 1), parse.body(NovitaCreateBody, raw)
    order = replace(
        given.order,
        dialect=Dialect.NOVITA,
        secrets=more.secrets or {},
        told_placeholders=True,
        machine=more.machine or None,
        idle_timeout_s=idle_timeout_s(more.metadata or {}),
    )
    return replace(given, order=order)


def idle_timeout_s(metadata: Mapping[str, str]) -> int | None:
    """
    >>> idle_timeout_s({"idle_timeout": "60"}), idle_timeout_s({"idle_timeout": "29"}), idle_timeout_s({})
    (60, None, None)
    """
    text = metadata.get(IDLE_TIMEOUT, "")
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
    return seconds if seconds >= MIN_IDLE_TIMEOUT_S else None


@dataclass(frozen=True)
class Network:
    """What is to change of a sandbox's network."""

    policy: Policy | None
    """None: what goes out stays as it is."""
    ingress: Ingress


def network_choice(given: NetworkChoice) -> Network:
    """A `network` that says nothing of what goes out leaves that as it is."""
    asked = dict(given.network or {})
    if given.allow_public_traffic is not None:
        asked["allowPublicTraffic"] = given.allow_public_traffic
    parse.check_secure(given.secure, asked)
    goes_out = any(asked.get(name) is not None for name in EGRESS)
    return Network(parse.policy(asked, None) if goes_out else None, ingress.changes(parse.ingress_fields(asked)))


# ---- secrets


class SecretBody(Body):
    name: str
    value: str
    hosts: list[str]
    description: str | None = None


class SecretChangeBody(Body):
    value: str | None = None
    hosts: list[str] | None = None
    description: str | None = None

    @property
    def new_description(self) -> str | None:
        """None: it stays. Said to be null, it is none from now on."""
        return (self.description or "") if "description" in self.model_fields_set else None


def check_hosts(hosts: Sequence[str] | None) -> None:
    if hosts is not None and not hosts:
        raise InvalidInput("hosts is required", field="hosts")


# ---- volumes


class VolumeQuotaBody(Body):
    size_gib: int | None = Field(None, alias="quotaSizeGiB")
    inodes: int | None = Field(None, alias="quotaInodes")

    @property
    def size_mib(self) -> int | None:
        return None if self.size_gib is None else self.size_gib * MIB_PER_GIB


class NovitaVolumeBody(VolumeQuotaBody):
    name: str


# ---- queries


@dataclass(frozen=True)
class TemplatePage:
    snapshots: bool
    page: int
    limit: int


def template_page(query: Mapping[str, str]) -> TemplatePage:
    kind = query.get("template_type") or TEMPLATE_TYPES[0]
    if kind not in TEMPLATE_TYPES:
        raise InvalidInput(f"template_type is {' or '.join(TEMPLATE_TYPES)}", field="template_type")
    page = whole(query, "page", 1)
    if page < 1:
        raise InvalidInput("page is a number from 1 on", field="page")
    return TemplatePage(kind == TEMPLATE_TYPES[1], page, limit(query, default=DEFAULT_TEMPLATES))


STATES = {"success": Outcomes.OK, "failed": Outcomes.FAILED}


def events(query: Mapping[str, str], names: Sequence[str], operations: Mapping[str, str], now: float) -> EventQuery:
    """`names`: each `events` of the query, a list with commas or one of several; `operations`: the event's name by the
    operation's. Seconds; both ends count."""
    until = whole(query, "endTime", 0) or int(now)
    since = whole(query, "startTime", 0) or max(0, until - int(DEFAULT_SPAN_S))
    if not 0 <= until - since <= LONGEST_EVENTS_SPAN_S:
        raise InvalidInput(
            "startTime and endTime are Unix seconds, at most 60 days apart, and startTime is not the later one",
            field="startTime",
        )
    wanted = {part for name in names for part in name.split(",") if part}
    chosen = [each for each, name in operations.items() if not wanted or name in wanted]
    state = query.get("state") or ""
    if state and state not in STATES:
        raise InvalidInput(f"state is {' or '.join(STATES)}", field="state")
    return EventQuery(
        since=since,
        until=until + REST_OF_SECOND,
        sandbox=query.get("sandboxID") or "",
        template=query.get("templateID") or "",
        operations=chosen,
        outcomes=STATES.get(state, Outcomes.ALL),
        oldest_first=flag(query, "orderAsc"),
        offset=whole(query, "offset", 0),
        limit=limit(query, MAX_EVENTS, DEFAULT_EVENTS),
    )


def flag(query: Mapping[str, str], name: str) -> bool:
    text = (query.get(name) or "false").lower()
    if text not in ("true", "false"):
        raise InvalidInput(f"{name} is true or false", field=name)
    return text == "true"
