"""`atoll logs`: what programs print that run on their own."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from atoll.core.errors import NotFound

from .api import Account, api_options, sandbox_argument
from .exec import pour, write
from .ids import resolve
from .render import json_option, plain, show, time_of

if TYPE_CHECKING:
    from atoll.sdk import Sandbox

Json = Mapping[str, Any]  # Any: JSON values


@click.command()
@sandbox_argument
@click.argument("run", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on until the run ends; the exit code is the run's then.")
@click.option("--list", "only_list", is_flag=True, help="Only which runs there are.")
@json_option
@api_options
def logs(account: Account, sandbox: str, run: str | None, follow: bool, only_list: bool, as_json: bool) -> None:
    """Show what background runs of SANDBOX print: the one called RUN, or all of them.

    The last MiB of a run's output is kept, and until ten minutes after its end. Ctrl-C ends the following, not the run.
    """
    place = account.sandbox(sandbox)
    runs = place.list_processes()
    if only_list or as_json:
        chosen = runs if run is None else [choose(run, runs)]
        show([dict(each) if as_json else for_people(each) for each in chosen], COLUMNS, as_json, "No background runs.")
        return
    if run is not None or follow:
        _show_one(place, choose(run, runs), follow)
        return
    if not runs:
        click.echo("No background runs.", err=True)
    for each in runs:
        click.secho(
            plain(f"==> {each['process_id']} {each.get('name', '')} ({each.get('status')})"), err=True, bold=True
        )
        _print(each)


COLUMNS = {"process_id": "RUN", "name": "NAME", "status": "STATUS", "exit_code": "EXIT", "start_time": "STARTED"}


def for_people(run: Json) -> dict[str, Any]:  # Any: what a table shows
    started = run.get("start_time")
    return {**run, "start_time": time_of(datetime.fromisoformat(started)) if isinstance(started, str) else None}


def choose(run: str | None, runs: Sequence[Json]) -> Json:
    """The run that is meant; without a name the last one that was started."""
    if not runs:
        raise NotFound("there are no background runs")
    if run is None:
        return max(runs, key=lambda each: str(each.get("start_time", "")))
    wanted = resolve(run, (str(each["process_id"]) for each in runs), "run")
    return next(each for each in runs if each["process_id"] == wanted)


def _show_one(place: Sandbox, run: Json, follow: bool) -> None:
    """Of one that runs, and is not followed, the list has the end of what there is."""
    if run.get("status") == "running" and not follow:
        _print(run)
        return
    with place.programs.attach(str(run["process_id"])) as program:
        code = pour(program)
    sys.exit(code if follow else 0)


def _print(run: Json) -> None:
    if run.get("output_truncated"):
        click.echo("[there was more before; `atoll logs SANDBOX RUN --follow` prints what is kept]", err=True)
    write(sys.stdout, str(run.get("stdout", "")).encode())
    write(sys.stderr, str(run.get("stderr", "")).encode())
