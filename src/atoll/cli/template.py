"""`atoll template`: build and list what sandboxes are made from."""

from __future__ import annotations

from collections.abc import Iterable

import click
from rich.console import Console

from atoll import compose, supervisor
from atoll.core.template import Template, Unbuilt

from .options import settings_options
from .progress import reporting
from .render import json_option, moment, show

COLUMNS = {"name": "NAME", "language": "LANGUAGE", "digest": "DIGEST", "layers": "LAYERS", "built": "BUILT"}


@click.group()
def template() -> None:
    """Templates: build, list."""


@template.command()
@click.argument("names", nargs=-1)
@settings_options("data_dir")
@json_option
def build(names: tuple[str, ...], data_dir: str | None, as_json: bool) -> None:
    """Build the templates called NAMES (all stock ones without any) unless they are up to date."""
    places = compose.read_places({"data_dir": data_dir}, compose.environment())
    supervisor.make_directories(places)
    with reporting(Console(stderr=True)) as progress:
        built = compose.prepare(places, names or compose.stock_templates(), progress)
    _show(built, as_json)


@template.command(name="list")
@settings_options("data_dir")
@json_option
def list_templates(data_dir: str | None, as_json: bool) -> None:
    """List the templates built on this machine, and Atoll's own that are not (yet). A server's: `atoll templates`."""
    places = compose.read_places({"data_dir": data_dir}, compose.environment())
    _show(compose.built_templates(places), as_json, compose.unbuilt_templates(places))


def _show(templates: list[Template], as_json: bool, unbuilt: Iterable[Unbuilt] = ()) -> None:
    rows = [
        {
            "name": each.name,
            "language": each.language or None,
            "digest": each.digest[:12],
            "layers": len(each.layers),
            "built": moment(each.created_at),
        }
        for each in templates
    ]
    rows += [{**dict.fromkeys(COLUMNS), "name": each.name, "built": _standing(each)} for each in unbuilt]
    show(rows, COLUMNS, as_json, "No templates yet. Build them with: atoll template build")


def _standing(template: Unbuilt) -> str:
    if template.percent is not None:
        return f"being built, {template.percent} %"
    return f"no: {template.failure}" if template.failure else "no"
