"""Our objects as HopX's JSON. Its clients are strict about types: see the notes at the fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from atoll.control.sandboxes import Page
from atoll.control.tokens import Token
from atoll.core import ingress
from atoll.core.errors import AtollError, ErrorKind
from atoll.core.limits import Limits, Size
from atoll.core.policy import without_secrets
from atoll.core.sandbox import Sandbox
from atoll.core.template import Template
from atoll.dialects.errors import Dialect, cell

from .parse import MIB_PER_GIB

Json = dict[str, Any]  # Any: JSON values

SUFFIX = "/x.vms.hopx.dev"
LINK_FIELD = "atoll_link"


def timestamp(at: float | None) -> str | None:
    """With an offset, and six digits: older Pythons parse no other number of digits than 0, 3 and 6."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True)
class Addresses:
    """What sandboxes are reached by: names below the domain, or paths where there is none."""

    public_url: str
    domain: str | None = None

    def agent(self, sandbox_id: str) -> str:
        """Clients take the names of ports from it, if it ends like this; the edge takes the end off again."""
        return (
            self.port(sandbox_id, ingress.AGENT_PORT).rstrip("/") + SUFFIX if self.domain else self.direct(sandbox_id)
        )

    def direct(self, sandbox_id: str) -> str:
        return self._named(sandbox_id) if self.domain else f"{self.public_url}/s/{sandbox_id}"

    def port(self, sandbox_id: str, port: int) -> str:
        return f"{self._named(f'{port}-{sandbox_id}')}/" if self.domain else f"{self.direct(sandbox_id)}/{port}/"

    def link(self, sandbox_id: str, port: int, token: str) -> str:
        at = f"{self.direct(sandbox_id)}/" if port == ingress.OWN_HOST else self.port(sandbox_id, port)
        return f"{at}?{LINK_FIELD}={token}"

    def _named(self, label: str) -> str:
        scheme, _, rest = self.public_url.partition("://")
        return f"{scheme}://{label}.{rest}"


def sandbox(found: Sandbox, expires_at: float | None, addresses: Addresses) -> Json:
    return {
        "id": found.id,
        "object": "sandbox",
        "status": found.state.value,
        "template_id": found.template,  # a string: the client refuses a number here
        "template_name": found.template,
        "organization_id": found.organization_id,  # a number here, a string or null at a template
        "node_id": found.node_id,
        "region": found.region,
        "public_host": addresses.agent(found.id),
        "direct_url": addresses.direct(found.id),
        "preview_url": addresses.port(found.id, found.ingress.web_port or ingress.DEFAULT_WEB_PORT),
        "inbound_auth": found.inbound_auth.value,
        "web_port": found.ingress.web_port,
        "auto_resume": found.ingress.auto_resume,
        "resources": {
            "vcpu": found.limits.vcpu,
            "memory_mb": found.limits.memory_mib,
            "disk_mb": found.limits.disk_mib,
        },
        "internet_access": found.internet_access,
        "network": {**without_secrets(found.network), **ingress.given_form(found.ingress)},
        "metadata": found.metadata,
        "secrets": {each.variable: each.secret for each in found.secrets},
        "live_mode": True,
        "timeout_seconds": found.timeout_s,
        "expires_at": timestamp(expires_at),
        "created_at": timestamp(found.created_at),
    }


def traffic_token(found: Sandbox) -> Json:
    """Null while anybody may enter, or nobody but who has another key."""
    return {"traffic_access_token": found.ingress.token_in_force or None}


def token(issued: Token) -> Json:
    return {"auth_token": issued.text, "token_expires_at": timestamp(issued.expires_at)}


def link(issued: Token, port: int, found: Sandbox, addresses: Addresses) -> Json:
    """`port` is null where the sandbox's own host will have to find one that listens."""
    return {
        "url": addresses.link(found.id, port, issued.text),
        "port": found.ingress.web_port if port == ingress.OWN_HOST else port,
        "expires_at": timestamp(issued.expires_at),
    }


def page(found: Page, items: Sequence[Json]) -> Json:
    """`has_more` only with a cursor: without one the client asks for the first page for ever."""
    return {
        "object": "list",
        "data": list(items),
        "has_more": found.next_cursor is not None,
        "next_cursor": found.next_cursor,
        "url": "/v1/sandboxes",
    }


def template(found: Template) -> Json:
    created_at = timestamp(found.created_at or None)
    return {
        "id": found.name,
        "object": "template",
        "name": found.name,
        "display_name": found.display_name or found.name,
        "description": found.description,
        "category": found.category,
        "language": found.language or None,
        "default_resources": _resources(found.limits),
        "min_resources": _resources(found.min_size),
        "max_resources": _resources(found.max_size),
        "features": list(found.features),
        "tags": list(found.tags),
        "organization_id": None,
        "status": "active",
        "is_active": True,
        "is_public": True,
        "created_at": created_at,
        "updated_at": created_at,
    }


def _resources(size: Size | Limits) -> Json:
    return {"vcpu": size.vcpu, "memory_mb": size.memory_mib, "disk_gb": size.disk_mib // MIB_PER_GIB}


def error(problem: AtollError, request_id: str) -> tuple[int, Json]:
    """Said twice: the Python client reads the object `error`, the JS client the top level."""
    at = cell(problem.kind, Dialect.HOPX)
    body = {
        "message": _message(problem),
        "code": at.code,
        "request_id": request_id,
        "details": _details(problem),
    }
    return at.status, {"error": body, **body, **_at_the_top(problem)}


def _message(problem: AtollError) -> str:
    if problem.kind is ErrorKind.CAPACITY_EXCEEDED and "limit" not in problem.message.lower():
        return f"Resource limit reached: {problem.message}"
    return problem.message


def _details(problem: AtollError) -> Json:
    if problem.kind is ErrorKind.RATE_LIMITED:
        return {**problem.details, "retry_after_seconds": _retry_after_s(problem)}
    if problem.kind is ErrorKind.CAPACITY_EXCEEDED:
        return {**problem.details, "upgrade_url": None}
    return problem.details


def _at_the_top(problem: AtollError) -> Json:
    return {"retry_after": _retry_after_s(problem)} if problem.kind is ErrorKind.RATE_LIMITED else {}


def _retry_after_s(problem: AtollError) -> int:
    return int(problem.details.get("retry_after_s", 1))
