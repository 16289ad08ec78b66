"""Rows to a table for people, or to JSON for programs. Texts of a sandbox are hostile: terminals obey some bytes."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

WIDTH = 400  # without a terminal nothing has to fit, and one row is one line

UNITS = ("kB", "MB", "GB", "TB", "PB")

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
        _print_table([[_cell(row.get(key)) for key in columns] for row in rows], list(columns.values()))


def show_one(row: Row, as_json: bool) -> None:
    """A row on its own: a line for each of its values."""
    if as_json:
        click.echo(json.dumps(row, indent=2))
        return
    width = max(map(len, row), default=0)
    for name, value in row.items():
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {_cell(value)}")


def _print_table(rows: Sequence[Sequence[str]], headings: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")  # an id that is cut is of no use
    for row in rows:
        table.add_row(*map(Text, row))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


_OBEYED = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Categories of Unicode."""


def plain(text: str) -> str:
    r"""Without what a terminal obeys or what turns the direction of writing: these are shown as `\x1b` and the like.

    >>> plain("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return "".join(_shown(each) if unicodedata.category(each) in _OBEYED else each for each in text)


def _shown(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def fields(model: Any) -> dict[str, Any]:  # Any: one of the SDK's models, and JSON values
    """For programs: what it says, times as text."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(model).items()}


def amount(number: float) -> str:
    """
    >>> amount(999), amount(3400)
    ('999 B', '3.4 kB')
    """
    if number < 1000:
        return f"{number:.0f} B"
    value, step = number / 1000, 0
    while value >= 999.5 and step < len(UNITS) - 1:
        value, step = value / 1000, step + 1
    return f"{value:.3g} {UNITS[step]}"


def moment(unix_s: float | None) -> str | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def time_of(at: datetime | None) -> str | None:
    return None if at is None else moment(at.timestamp())


def _cell(value: Any) -> str:  # Any: JSON values
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping | list):
        return plain(json.dumps(value, ensure_ascii=False))
    return plain(str(value))
