"""`atoll ps`: the sandboxes, asked of the public API like any client would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import click
import httpx

from atoll import compose
from atoll.core.errors import AuthenticationFailed, NotFound, Unavailable

from .options import settings_options
from .render import json_option, moment, show

COLUMNS = {
    "id": "ID",
    "template_name": "TEMPLATE",
    "status": "STATUS",
    "region": "REGION",
    "created_at": "CREATED",
    "expires_at": "EXPIRES",
}
TIMEOUT_S = 10.0


@click.command()
@settings_options("data_dir")
@click.option("--url", help="API to ask instead of the one on this machine.  [ATOLL_BASE_URL]")
@click.option("--key", help="API key instead of the first one.  [ATOLL_API_KEY]")
@click.option("--status", help="Only these: running, paused, stopped.")
@json_option
def ps(data_dir: str | None, url: str | None, key: str | None, status: str | None, as_json: bool) -> None:
    """List sandboxes."""
    environ = compose.environment()
    places = compose.read_places({"data_dir": data_dir}, environ)
    url = url or environ.get("ATOLL_BASE_URL") or compose.running_url(places)
    key = key or environ.get("ATOLL_API_KEY") or compose.first_key(places)
    if url is None:
        raise NotFound(f"no Atoll runs on {places.data}; start it with `atoll up`, or say --url")
    if key is None:
        raise AuthenticationFailed("no key at hand: say --key, or make one with `atoll keys create NAME`")
    rows = list(sandboxes(url, key, status))
    show(rows if as_json else [for_people(row) for row in rows], COLUMNS, as_json, "No sandboxes.")


def for_people(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**row} | {name: moment(_unix(row.get(name))) for name in ("created_at", "expires_at")}


def _unix(timestamp: str | None) -> float | None:
    return None if timestamp is None else datetime.fromisoformat(timestamp).timestamp()


def sandboxes(
    url: str, key: str, status: str | None, transport: httpx.BaseTransport | None = None
) -> Iterator[Mapping[str, Any]]:
    params = {"limit": "100"} | ({"status": status} if status else {})
    with httpx.Client(
        base_url=url, headers={"X-API-Key": key}, timeout=TIMEOUT_S, trust_env=False, transport=transport
    ) as client:
        while True:
            page = _get(client, params)
            yield from page["data"] or ()
            if not page.get("has_more") or not page.get("next_cursor"):
                return
            params["cursor"] = page["next_cursor"]


def _get(client: httpx.Client, params: Mapping[str, str]) -> Any:  # Any: JSON
    try:
        answer = client.get("/v1/sandboxes", params=params)
        body = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise Unavailable(f"{client.base_url} does not answer as Atoll does: {error}") from error
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise AuthenticationFailed("the key is not valid")
    if answer.is_error:
        raise Unavailable(f"{client.base_url}: {body.get('message', answer.status_code)}")
    return body
