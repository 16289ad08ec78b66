"""`atoll keys`: directly on the installation's database, so that it works with the server and without it."""

from __future__ import annotations

import asyncio
import json

import click

from atoll import compose
from atoll.core.audit import ATOLL
from atoll.core.settings import Places

from .options import settings_options
from .render import json_option, moment, show

COLUMNS = {
    "id": "ID",
    "name": "NAME",
    "display": "KEY",
    "created": "CREATED",
    "last_used": "LAST USED",
    "revoked": "REVOKED",
}


@click.group()
def keys() -> None:
    """API keys: make, list, revoke."""


@keys.command()
@click.argument("name")
@settings_options("data_dir")
@json_option
def create(name: str, data_dir: str | None, as_json: bool) -> None:
    """Make a key called NAME and print it: it is shown only now."""
    with compose.open_keys(_places(data_dir)) as service:
        key, text = asyncio.run(service.create(ATOLL, name))
    click.echo(json.dumps({"id": key.id, "name": key.name, "key": text}) if as_json else text)


@keys.command(name="list")
@settings_options("data_dir")
@json_option
def list_keys(data_dir: str | None, as_json: bool) -> None:
    """List the keys, with age and last use."""
    with compose.open_keys(_places(data_dir)) as service:
        found = asyncio.run(service.list(ATOLL))
    rows = [
        {
            "id": key.id,
            "name": key.name,
            "display": key.display,
            "created": moment(key.created_at),
            "last_used": moment(key.last_used_at),
            "revoked": moment(key.revoked_at),
        }
        for key in found
    ]
    show(rows, COLUMNS, as_json, "No keys yet. Make one with: atoll keys create NAME")


@keys.command()
@click.argument("key_id")
@settings_options("data_dir")
@json_option
def revoke(key_id: str, data_dir: str | None, as_json: bool) -> None:
    """End a key by its ID, at once."""
    with compose.open_keys(_places(data_dir)) as service:
        asyncio.run(service.revoke(ATOLL, key_id))
    click.echo(json.dumps({"id": key_id, "revoked": True}) if as_json else f"{key_id} is revoked")


def _places(data_dir: str | None) -> Places:
    return compose.read_places({"data_dir": data_dir}, compose.environment())
