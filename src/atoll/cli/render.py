"""Rows to a table for people, or to JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table

WIDTH = 400  # without a terminal nothing has to fit, and one row is one line

Row = Mapping[str, Any]  # Any: JSON values


def json_option(command: Any) -> Any:  # Any: click's decorators keep the function's type to themselves
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def show(rows: Sequence[Row], columns: Mapping[str, str], as_json: bool, empty: str) -> None:
    """`columns`: key → heading."""
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo(empty)
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in columns.values():
            table.add_column(heading, overflow="fold")  # an id that is cut is of no use
        for row in rows:
            table.add_row(*(_cell(row.get(key)) for key in columns))
        Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def moment(unix_s: float | None) -> str | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _cell(value: Any) -> str:
    return "–" if value is None else str(value)
