"""`atoll keys`: directly on the installation's database, so that it works with the server and without it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import click

from atoll import compose
from atoll.core.audit import ATOLL
from atoll.core.keys import ApiKey
from atoll.core.quota import UNLIMITED
from atoll.core.rates import GENEROUS, PRESETS
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
    "quota": "QUOTA",
    "rates": "CALLS/MIN",
}
NO_LIMIT = "unlimited"

Amounts = dict[str, int | None]


class Amount(click.ParamType[str]):
    """A whole number, or a word for none."""

    name = f"N|{NO_LIMIT}"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # Any: click's
        text = str(value)
        if text != NO_LIMIT and not (text.isascii() and text.isdigit() and self._least <= int(text) < 2**31):
            self.fail(f"{text!r} is neither a whole number from {self._least} on nor {NO_LIMIT!r}", param, ctx)
        return text


QUOTA_OPTIONS = {
    "max_sandboxes": ("sandboxes", "Sandboxes that live at the same time; a paused or stopped one lives."),
    "max_vcpu": ("vcpu", "Virtual processors of all living sandboxes together."),
    "max_memory": ("memory_mib", "Memory of all living sandboxes together, in MiB."),
    "max_disk": ("disk_mib", "Disk of all living sandboxes together, in MiB."),
}
RATE_OPTIONS = {
    "calls_per_minute": ("control", "Calls of the control plane in a minute."),
    "creates_per_minute": ("create", "Of these, calls that make a sandbox."),
    "agent_calls_per_minute": (
        "agent",
        "Calls to sandboxes in a minute; in force for sandboxes made afterwards.",
    ),
}


def limit_options(command: Callable[..., None]) -> Callable[..., None]:
    for options, least in ((RATE_OPTIONS, 1), (QUOTA_OPTIONS, 0)):
        for name, (_, text) in reversed(options.items()):
            command = click.option("--" + name.replace("_", "-"), name, type=Amount(least), help=text)(command)
    preset = click.option("--rates", "preset", type=click.Choice(list(PRESETS)), help="Calls per minute, by preset.")
    return preset(command)


def chosen(options: Mapping[str, tuple[str, str]], given: Mapping[str, str | None]) -> Amounts:
    named = {field: given[option] for option, (field, _) in options.items()}
    return {field: None if text == NO_LIMIT else int(text) for field, text in named.items() if text is not None}


def chosen_rates(preset: str | None, given: Mapping[str, str | None]) -> Amounts:
    return {**(PRESETS[preset].to_wire() if preset else {}), **chosen(RATE_OPTIONS, given)}


def limits_of(key: ApiKey) -> dict[str, Amounts]:
    return {"quota": key.quota.to_wire(), "rates": key.rates.to_wire()}


def in_words(amounts: Mapping[str, int | None]) -> str:
    return " ".join(f"{name}={amount}" for name, amount in amounts.items() if amount is not None) or NO_LIMIT


@click.group()
def keys() -> None:
    """API keys: make, limit, list, revoke."""


@keys.command()
@click.argument("name")
@limit_options
@settings_options("data_dir")
@json_option
def create(name: str, data_dir: str | None, as_json: bool, preset: str | None, **given: str | None) -> None:
    """Make a key called NAME and print it: it is shown only now."""
    quota = replace(UNLIMITED, **chosen(QUOTA_OPTIONS, given))
    rates = replace(GENEROUS, **chosen_rates(preset, given))
    with compose.open_keys(_places(data_dir)) as service:
        key, text = asyncio.run(service.create(ATOLL, name, quota, rates))
    click.echo(json.dumps({"id": key.id, "name": key.name, "key": text, **limits_of(key)}) if as_json else text)


@keys.command()
@click.argument("key_id")
@limit_options
@settings_options("data_dir")
@json_option
def limit(key_id: str, data_dir: str | None, as_json: bool, preset: str | None, **given: str | None) -> None:
    """Change what a key may use, by its ID. What is not named stays; without options it is shown."""
    with compose.open_keys(_places(data_dir)) as service:
        change = service.limit(ATOLL, key_id, chosen(QUOTA_OPTIONS, given), chosen_rates(preset, given))
        key = asyncio.run(change)
    if as_json:
        click.echo(json.dumps({"id": key.id, **limits_of(key)}))
    else:
        click.echo(f"{key.id}: quota {in_words(key.quota.to_wire())}; calls a minute {in_words(key.rates.to_wire())}")


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
            **(limits_of(key) if as_json else {name: in_words(of) for name, of in limits_of(key).items()}),
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
