"""What HopX's clients send, as our objects. Unknown fields are ignored, `null` means absent, wrong types are 400."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atoll.control.paging import DEFAULT_LIMIT
from atoll.core import ingress
from atoll.core.errors import InvalidInput
from atoll.core.lifecycle import State
from atoll.core.order import CreateOrder
from atoll.core.policy import FIELDS, Policy
from atoll.core.policy import parse as parse_policy
from atoll.core.sandbox import InboundAuth

MIB_PER_GIB = 1024
"""What HopX calls a GB; its MB are MiB."""

M = TypeVar("M", bound=BaseModel)


class CreateBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    template_id: str | int | None = None
    template_name: str | None = None
    region: str | None = None
    timeout_seconds: int | None = None
    internet_access: bool | None = None
    allow_internet_access: bool | None = None
    """Not HopX's: another name for the same. False in either wins."""
    network: dict[str, Any] | None = None  # Any: JSON values
    """Not HopX's: `core.policy.parse` and, for what comes in, `core.ingress.parse`."""
    env_vars: dict[str, str] | None = None
    metadata: dict[str, str] | None = None
    """Not HopX's: words of the caller's own, to find the sandbox by."""
    secrets: dict[str, str] | None = None
    """Not HopX's: variables that are to stand for secrets, and the names of these."""
    inbound_auth: str | None = None
    """Not HopX's: "token" or "public"."""
    web_port: int | None = None
    auto_resume: bool | None = None
    """Neither is HopX's: `core.ingress.Ingress`."""
    vcpu: int | None = None
    memory_mb: int | None = None
    disk_gb: int | None = None


class NetworkBody(BaseModel):
    """The fields of a policy stand beside these."""

    model_config = ConfigDict(strict=True, extra="allow")

    internet_access: bool | None = None
    allow_internet_access: bool | None = None


class TimeoutBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    timeout_seconds: Annotated[int, Field(description="Seconds from now")]


class LinkBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    port: int | None = None
    seconds: int | None = None


def body(model: type[M], raw: bytes) -> M:
    """An empty body is an empty object: clients send a JSON content type without one."""
    try:
        return model.model_validate_json(raw or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"][:1])
        where = f"{field}: " if field else ""
        raise InvalidInput(f"Invalid request: {where}{first['msg']}", **({"field": field} if field else {})) from error


def create_order(raw: bytes) -> CreateOrder:
    given = body(CreateBody, raw)
    template = given.template_name if given.template_id is None else str(given.template_id)
    if not template:
        raise InvalidInput("Invalid request: template_name or template_id is required", field="template_name")
    fields = _network_fields(given.network or {})
    return CreateOrder(
        template=template,
        timeout_s=given.timeout_seconds,
        env=given.env_vars or {},
        policy=_policy(given, fields),
        region=given.region,
        inbound_auth=_inbound_auth(given.inbound_auth),
        ingress=ingress.parse({**fields, "web_port": given.web_port, "auto_resume": given.auto_resume}),
        size=_size(given),
        metadata=given.metadata or {},
        secrets=given.secrets or {},
    )


@dataclass(frozen=True)
class NetworkChange:
    policy: Policy | None
    """None: what goes out stays as it is."""
    ingress: Mapping[str, Any]
    """`core.ingress.changes`."""


def network(raw: bytes) -> NetworkChange:
    """Whoever means to remove every restriction on what goes out says so, with an empty object; a body that speaks
    only of what comes in does not."""
    if not raw.strip():
        raise InvalidInput("Invalid request: the policy is missing; {} removes every restriction")
    given = body(NetworkBody, raw)
    fields = _network_fields(given.model_extra or {})
    inward_only = bool(given.model_fields_set) and given.model_fields_set <= set(ingress.NETWORK_FIELDS)
    return NetworkChange(None if inward_only else _policy(given, fields), ingress.changes(fields))


def _network_fields(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    known = (*FIELDS, *ingress.NETWORK_FIELDS)
    if unknown := sorted(fields.keys() - set(known)):
        raise InvalidInput(
            f"Invalid request: network has no field {unknown[0][:64]!r}; it has {', '.join(known)}", field="network"
        )
    return fields


def _policy(given: CreateBody | NetworkBody, fields: Mapping[str, Any]) -> Policy:
    denied = given.internet_access is False or given.allow_internet_access is False
    return parse_policy(fields, internet_access=not denied)


def _inbound_auth(text: str | None) -> InboundAuth:
    try:
        return InboundAuth.TOKEN if text is None else InboundAuth(text)
    except ValueError:
        raise InvalidInput("inbound_auth must be token or public", field="inbound_auth") from None


def _size(given: CreateBody) -> dict[str, int]:
    disk_mib = None if given.disk_gb is None else given.disk_gb * MIB_PER_GIB
    asked = {"vcpu": given.vcpu, "memory_mib": given.memory_mb, "disk_mib": disk_mib}
    return {resource: amount for resource, amount in asked.items() if amount is not None}


def timeout_s(raw: bytes) -> int:
    return body(TimeoutBody, raw).timeout_seconds


@dataclass(frozen=True)
class LinkOrder:
    port: int | None
    seconds: int


def link(raw: bytes) -> LinkOrder:
    given = body(LinkBody, raw)
    return LinkOrder(given.port, ingress.LINK_S if given.seconds is None else given.seconds)


def limit(query: Mapping[str, str]) -> int:
    text = query.get("limit")
    if not text:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise InvalidInput("limit must be a whole number above 0", field="limit")
    return int(text)


def metadata(given: Sequence[str]) -> dict[str, str]:
    """What a list is filtered by: each text is pairs in the form of a query (`user=ann&app=x`), all of which count."""
    pairs: dict[str, str] = {}
    for text in given:
        try:
            found = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict") if text else []
        except ValueError:
            raise InvalidInput("metadata is NAME=VALUE, url-encoded, joined by &", field="metadata") from None
        for name, value in found:
            if pairs.setdefault(name, value) != value:
                raise InvalidInput(f"metadata asks for two values of {name[:64]!r}", field="metadata")
    return pairs


def status(query: Mapping[str, str]) -> State | None:
    text = query.get("status")
    if not text:
        return None
    try:
        return State(text)
    except ValueError:
        raise InvalidInput(f"status must be one of {', '.join(State)}", field="status") from None
