"""`atoll ps`: the sandboxes, asked of the public API like any client would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import click
import httpx

from .api import api_options, get, open_api
from .render import json_option, moment, show

COLUMNS = {
    "id": "ID",
    "template_name": "TEMPLATE",
    "status": "STATUS",
    "region": "REGION",
    "created_at": "CREATED",
    "expires_at": "EXPIRES",
}


@click.command()
@api_options
@click.option("--status", help="Only these: running, paused, stopped.")
@json_option
def ps(data_dir: str | None, url: str | None, key: str | None, status: str | None, as_json: bool) -> None:
    """List sandboxes."""
    with open_api(data_dir, url, key) as api:
        rows = list(sandboxes(api, status))
    show(rows if as_json else [for_people(row) for row in rows], COLUMNS, as_json, "No sandboxes.")


def for_people(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**row} | {name: moment(_unix(row.get(name))) for name in ("created_at", "expires_at")}


def _unix(timestamp: str | None) -> float | None:
    return None if timestamp is None else datetime.fromisoformat(timestamp).timestamp()


def sandboxes(api: httpx.Client, status: str | None) -> Iterator[Mapping[str, Any]]:
    params = {"limit": "100"} | ({"status": status} if status else {})
    while True:
        page = get(api, "/v1/sandboxes", params)
        yield from page["data"] or ()
        if not page.get("has_more") or not page.get("next_cursor"):
            return
        params["cursor"] = page["next_cursor"]
