"""`atoll top`: what a sandbox uses, once or again and again."""

from __future__ import annotations

import contextlib
import json
import math
import threading
from collections.abc import Mapping
from typing import Any

import click

from .api import Account, api_options, sandbox_argument
from .render import amount, json_option

EVERY_S = 2.0

Json = Mapping[str, Any]  # Any: JSON values


@click.command()
@sandbox_argument
@click.option("--watch", "-w", is_flag=True, help=f"Go on every {EVERY_S:g} seconds, until Ctrl-C.")
@json_option
@api_options
def top(account: Account, sandbox: str, watch: bool, as_json: bool) -> None:
    """Show what SANDBOX uses: processor, memory, disk, processes."""
    place, pause = account.sandbox(sandbox), threading.Event()
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            figures = place.get_agent_metrics()
            click.echo(json.dumps(figures) if as_json else line_of(figures))
            if not watch:
                return
            pause.wait(EVERY_S)


def line_of(figures: Json) -> str:
    cpu, memory, disk = (_part(_part(figures, "system"), name) for name in ("cpu", "memory", "disk"))
    return "   ".join(
        (
            f"CPU {_number(cpu, 'usage_percent'):.0f} %",
            f"memory {amount(_number(memory, 'used'))} of {amount(_number(memory, 'total'))}",
            f"disk {amount(_number(disk, 'used'))} of {amount(_number(disk, 'total'))}",
            f"processes {_number(_part(figures, 'process'), 'count'):.0f}",
            f"up {_number(figures, 'uptime_seconds'):.0f} s",
        )
    )


def _part(value: Json, name: str) -> Json:
    part = value.get(name)
    return part if isinstance(part, Mapping) else {}


def _number(value: Json, name: str) -> float:
    try:
        number = float(value.get(name, 0))
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if math.isfinite(number) else 0.0
