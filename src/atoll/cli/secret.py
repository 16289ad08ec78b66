"""`atoll secret`: what programs may use and never see."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from atoll.core.errors import InvalidInput
from atoll.core.secrets import MAX_VALUE

from .api import Account, api_options
from .render import fields, json_option, show, show_one, time_of

if TYPE_CHECKING:
    from atoll.sdk import Secret

hosts_option = click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A server to which it may go, by its name, or *.NAME for all below it; more than once.",
)
COLUMNS = {"name": "NAME", "version": "VERSION", "hosts": "HOSTS", "description": "DESCRIPTION", "created": "CREATED"}


@click.group()
def secret() -> None:
    """Keep secrets that sandboxes use without seeing them."""


@secret.command()
@click.argument("name")
@hosts_option
@click.option("--description", help="What it is for.")
@json_option
@api_options
def create(account: Account, name: str, hosts: tuple[str, ...], description: str | None, as_json: bool) -> None:
    """Keep a secret called NAME. Its value is read from standard input, or asked for without showing it.

    \b
        atoll secret create openai --host api.openai.com < key.txt
    """
    from atoll.sdk import Secrets

    made = Secrets.create(name, read_value(), hosts=list(hosts) or None, description=description, **account.arguments)
    if as_json:
        show_one(fields(made), as_json)
    else:
        click.echo(made.name)


def read_value() -> str:
    """Never an argument: those are seen in the list of processes. One newline at its end is no part of it."""
    if sys.stdin.isatty():
        return str(click.prompt("Value", hide_input=True, err=True))
    value = sys.stdin.read(MAX_VALUE + 1).removesuffix("\n").removesuffix("\r")
    if not value:
        raise InvalidInput("standard input is empty: it has to be the secret's value")
    if len(value.encode("utf-8", "surrogateescape")) > MAX_VALUE:
        raise InvalidInput(f"a secret has at most {MAX_VALUE} bytes")
    return value


@secret.command()
@click.argument("name")
@hosts_option
@click.option("--description", help="What it is for.")
@click.option("--keep-value", is_flag=True, help="Change the rest alone; else the new value is read as by `create`.")
@api_options
def update(account: Account, name: str, hosts: tuple[str, ...], description: str | None, keep_value: bool) -> None:
    """Give a secret a new value, which sandboxes that run have at once."""
    from atoll.sdk import Secrets

    value = None if keep_value else read_value()
    changed = Secrets.update(name, value=value, hosts=list(hosts) or None, description=description, **account.arguments)
    click.echo(changed.name)


@secret.command(name="list")
@json_option
@api_options
def list_(account: Account, as_json: bool) -> None:
    """List the secrets; values are never shown."""
    from atoll.sdk import Secrets

    found = Secrets.iter(**account.arguments)
    rows = [fields(each) if as_json else for_people(each) for each in found]
    show(rows, COLUMNS, as_json, "No secrets. Keep one with: atoll secret create NAME --host HOST")


@secret.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@api_options
def delete(account: Account, names: tuple[str, ...]) -> None:
    """Forget secrets. What uses one has it no more from now on."""
    from atoll.sdk import Secrets

    for name in names:
        Secrets.delete(name, **account.arguments)
        click.echo(name)


def for_people(found: Secret) -> dict[str, Any]:  # Any: what a table shows
    return {**asdict(found), "hosts": " ".join(found.hosts), "created": time_of(found.created_at)}
