"""`atoll templates`: what the API makes sandboxes from. (`atoll template` builds them, on the server's machine.)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .api import Account, api_options
from .render import fields, json_option, show

if TYPE_CHECKING:
    from atoll.sdk import Template

COLUMNS = {
    "name": "NAME",
    "language": "LANGUAGE",
    "vcpu": "CPU",
    "memory_mb": "MEMORY MB",
    "description": "DESCRIPTION",
}


@click.command()
@json_option
@api_options
def templates(account: Account, as_json: bool) -> None:
    """List what sandboxes can be made from."""
    from atoll.sdk import Sandbox

    found = Sandbox.list_templates(**account.arguments)
    show([fields(each) if as_json else for_people(each) for each in found], COLUMNS, as_json, "No templates.")


def for_people(template: Template) -> dict[str, Any]:  # Any: what a table shows
    size = template.default_resources
    sizes = {} if size is None else {"vcpu": size.vcpu, "memory_mb": size.memory_mb}
    return {"name": template.name, "language": template.language, "description": template.description, **sizes}
