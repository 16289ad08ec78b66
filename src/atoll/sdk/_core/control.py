"""The calls of the control plane: what each sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from .errors import ValidationError
from .network import Network, network_body
from .read import Json
from .request import Repeat, Request

PAGE = 100
EGRESS_WAIT_S = 30.0
"""Beyond what the server may wait for entries."""


def _given(**fields: Any) -> Json:  # Any: JSON values
    return {name: value for name, value in fields.items() if value is not None}


def _query(**fields: Any) -> tuple[tuple[str, str], ...]:  # Any: what has a text
    return tuple((name, str(value)) for name, value in fields.items() if value is not None)


def _segment(value: str) -> str:
    """Of a path. A name of dots would lead elsewhere."""
    if not value or value in (".", ".."):
        raise ValidationError(f"{value!r} is no name or id")
    return quote(value, safe="")


def sandbox_path(sandbox_id: str, rest: str = "") -> str:
    return f"/v1/sandboxes/{_segment(sandbox_id)}{rest}"


def create(
    template: str | None,
    template_id: str | None,
    network: Network | Mapping[str, Any] | None,  # Any: JSON values
    **fields: Any,  # Any: JSON values
) -> Request:
    """Raises ValidationError when no template is said."""
    if not template and not template_id:
        raise ValidationError("Say which template: create('code-interpreter'), or template_id=…", field="template")
    which = {"template_id": str(template_id)} if template_id else {"template_name": template}
    body = {**which, **_given(**fields)}
    if network is not None:
        body["network"] = network_body(network)
    return Request("POST", "/v1/sandboxes", json=body, repeat=Repeat.REFUSED)


def list_sandboxes(
    status: str | None, region: str | None, limit: int, cursor: str | None, metadata: Mapping[str, str] | None
) -> Request:
    pairs = urlencode(metadata) if metadata else None
    query = _query(limit=limit, status=status, region=region, cursor=cursor, metadata=pairs)
    return Request("GET", "/v1/sandboxes", query)


def get(sandbox_id: str) -> Request:
    return Request("GET", sandbox_path(sandbox_id))


def delete(sandbox_id: str) -> Request:
    return Request("DELETE", sandbox_path(sandbox_id))


def act(sandbox_id: str, action: str) -> Request:
    """pause, resume, start, stop."""
    return Request("POST", sandbox_path(sandbox_id, f"/{action}"), repeat=Repeat.REFUSED)


def refresh_token(sandbox_id: str) -> Request:
    return Request("POST", sandbox_path(sandbox_id, "/token/refresh"))


def set_timeout(sandbox_id: str, seconds: int) -> Request:
    return Request("PUT", sandbox_path(sandbox_id, "/timeout"), json={"timeout_seconds": seconds})


def set_network(
    sandbox_id: str,
    network: Network | Mapping[str, Any] | None,  # Any: JSON values
    **access: bool | None,
) -> Request:
    body = {**network_body(network or {}), **_given(**access)}
    return Request("PUT", sandbox_path(sandbox_id, "/network"), json=body)


def create_link(sandbox_id: str, port: int | None, seconds: int) -> Request:
    return Request("POST", sandbox_path(sandbox_id, "/links"), json=_given(port=port, seconds=seconds))


def egress_log(sandbox_id: str, after: int, limit: int, wait: float) -> Request:
    query = _query(after=after, limit=limit, wait=wait or None)
    timeout = wait + EGRESS_WAIT_S if wait else None
    return Request("GET", sandbox_path(sandbox_id, "/egress"), query, timeout=timeout)


def egress_totals(sandbox_id: str) -> Request:
    return Request("GET", sandbox_path(sandbox_id, "/egress/totals"))


def list_templates(category: str | None, language: str | None) -> Request:
    return Request("GET", "/v1/templates", _query(category=category, language=language))


def get_template(name: str) -> Request:
    return Request("GET", f"/v1/templates/{_segment(name)}")


def delete_template(template_id: str) -> Request:
    return Request("DELETE", f"/v1/templates/{_segment(template_id)}")


def health() -> Request:
    return Request("GET", "/health")


def create_secret(name: str, value: str, **fields: Any) -> Request:  # Any: JSON values
    body = {"name": name, "value": value, **_given(**fields)}
    return Request("POST", "/v1/secrets", json=body, repeat=Repeat.REFUSED)


def list_secrets(limit: int, cursor: str | None) -> Request:
    return Request("GET", "/v1/secrets", _query(limit=limit, cursor=cursor))


def get_secret(name: str) -> Request:
    return Request("GET", f"/v1/secrets/{_segment(name)}")


def update_secret(name: str, **fields: Any) -> Request:  # Any: JSON values
    return Request("PUT", f"/v1/secrets/{_segment(name)}", json=_given(**fields))


def delete_secret(name: str) -> Request:
    return Request("DELETE", f"/v1/secrets/{_segment(name)}")


def listed(value: Sequence[str] | None) -> list[str] | None:
    return None if value is None else list(value)


def next_cursor(page: Mapping[str, Any]) -> str | None:  # Any: JSON values
    """None at the last page; a server that has more and does not say where would be asked for ever."""
    cursor = page.get("next_cursor")
    return cursor if page.get("has_more") is True and isinstance(cursor, str) and cursor else None
