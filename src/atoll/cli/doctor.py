"""`atoll doctor`: what this host can and cannot do, and what to install."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from atoll import compose
from atoll.core.check import Check

from .options import settings_options
from .render import json_option, show


@click.command()
@settings_options("data_dir", "listen")
@json_option
def doctor(data_dir: str | None, listen: str | None, as_json: bool) -> None:
    """Try everything that a sandbox needs. Status 1: Atoll cannot run here."""
    flags = {"data_dir": data_dir, "listen": listen}
    environ = compose.environment()
    checks = compose.host_checks(
        compose.read_places(flags, environ), compose.parse_listen(compose.setting("listen", flags, environ))
    )
    if as_json:
        show([asdict(check) for check in checks], {}, True, "")
    else:
        render(checks, Console())
    sys.exit(1 if any(check.required and not check.ok for check in checks) else 0)


def render(checks: Sequence[Check], console: Console) -> None:
    table = Table("", "CHECK", "FOUND", "TO DO", box=None, pad_edge=False, header_style="bold")
    for check in checks:
        table.add_row(_mark(check), check.name, check.detail, "" if check.ok else check.fix)
    console.print(table)
    failed = [check for check in checks if check.required and not check.ok]
    if failed:
        console.print(f"\n[bold red]Atoll cannot isolate here:[/] {', '.join(check.name for check in failed)}")
    else:
        console.print("\n[bold green]Atoll can run here.[/]")


def _mark(check: Check) -> Text:
    if check.ok:
        return Text("ok", style="green")
    return Text("missing", style="bold red") if check.required else Text("note", style="yellow")
