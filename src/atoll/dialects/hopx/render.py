"""Our objects as HopX's JSON. Its clients are strict about types: see the notes at the fields."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from atoll.control.sandboxes import Page
from atoll.control.tokens import Token
from atoll.core.errors import AtollError, ErrorKind
from atoll.core.sandbox import Sandbox
from atoll.core.template import Template
from atoll.dialects.errors import Dialect, cell

Json = dict[str, Any]  # Any: JSON values

MIB_PER_GIB = 1024


def timestamp(at: float | None) -> str | None:
    """With an offset, and six digits: older Pythons parse no other number of digits than 0, 3 and 6."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


def sandbox(found: Sandbox, expires_at: float | None, public_url: str) -> Json:
    host = f"{public_url}/s/{found.id}"
    return {
        "id": found.id,
        "object": "sandbox",
        "status": found.state.value,
        "template_id": found.template,  # a string: the client refuses a number here
        "template_name": found.template,
        "organization_id": found.organization_id,  # a number here, a string or null at a template
        "node_id": found.node_id,
        "region": found.region,
        "public_host": host,
        "direct_url": host,
        "preview_url": None,
        "resources": {
            "vcpu": found.limits.vcpu,
            "memory_mb": found.limits.memory_mib,
            "disk_mb": found.limits.disk_mib,
        },
        "internet_access": found.internet_access,
        "live_mode": True,
        "timeout_seconds": found.timeout_s,
        "expires_at": timestamp(expires_at),
        "created_at": timestamp(found.created_at),
    }


def token(issued: Token) -> Json:
    return {"auth_token": issued.text, "token_expires_at": timestamp(issued.expires_at)}


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
    resources = {
        "vcpu": found.limits.vcpu,
        "memory_mb": found.limits.memory_mib,
        "disk_gb": found.limits.disk_mib // MIB_PER_GIB,
    }
    created_at = timestamp(found.created_at or None)
    return {
        "id": found.name,
        "object": "template",
        "name": found.name,
        "display_name": found.display_name or found.name,
        "description": found.description,
        "category": found.category,
        "language": found.language or None,
        "default_resources": resources,
        "features": list(found.features),
        "tags": list(found.tags),
        "organization_id": None,
        "status": "active",
        "is_active": True,
        "is_public": True,
        "created_at": created_at,
        "updated_at": created_at,
    }


def error(problem: AtollError, request_id: str) -> tuple[int, Json]:
    """Said twice: the Python client reads the object `error`, the JS client the top level."""
    at = cell(problem.kind, Dialect.HOPX)
    body = {
        "message": _message(problem),
        "code": at.code,
        "request_id": request_id,
        "details": _details(problem),
    }
    return at.status, {"error": body, **body}


def _message(problem: AtollError) -> str:
    if problem.kind is ErrorKind.CAPACITY_EXCEEDED and "limit" not in problem.message.lower():
        return f"Resource limit reached: {problem.message}"
    return problem.message


def _details(problem: AtollError) -> Json:
    if problem.kind is ErrorKind.RATE_LIMITED and "retry_after_s" in problem.details:
        return {**problem.details, "retry_after_seconds": problem.details["retry_after_s"]}
    return problem.details
