"""`atoll ps`: the sandboxes of a key, or the processes in one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .api import Account, api_options, complete_sandbox
from .env import pairs_option
from .render import fields, json_option, show, time_of

if TYPE_CHECKING:
    from atoll.sdk import SandboxInfo

COLUMNS = {
    "id": "ID",
    "template_name": "TEMPLATE",
    "status": "STATUS",
    "region": "REGION",
    "created_at": "CREATED",
    "expires_at": "EXPIRES",
}
PROCESS_COLUMNS = {
    "pid": "PID",
    "user": "USER",
    "status": "STATUS",
    "cpu_percent": "CPU %",
    "memory_mb": "MB",
    "process_id": "RUN",
    "command": "COMMAND",
}


@click.command()
@click.argument("sandbox", required=False, shell_complete=complete_sandbox)
@click.option("--status", help="Only these: running, paused, stopped.")
@pairs_option("--metadata", "-m", "metadata", help="Only those with this label; more than once for several.")
@json_option
@api_options
def ps(account: Account, sandbox: str | None, status: str | None, metadata: dict[str, str], as_json: bool) -> None:
    """List sandboxes; with SANDBOX the processes in it."""
    if sandbox is not None:
        found = account.sandbox(sandbox).list_system_processes()
        show([dict(each) if as_json else _process(each) for each in found], PROCESS_COLUMNS, as_json, "No processes.")
        return
    rows = [for_programs(each) if as_json else for_people(each) for each in account.list(status, metadata)]
    show(rows, COLUMNS, as_json, "No sandboxes.")


def for_programs(info: SandboxInfo) -> dict[str, Any]:  # Any: JSON values
    """As the API has it: `id`, and times as text."""
    facts = {name: value for name, value in fields(info).items() if name != "traffic_access_token"}
    return {"id": facts.pop("sandbox_id"), **facts}


def for_people(info: SandboxInfo) -> dict[str, Any]:  # Any: what a table shows
    return {
        **asdict(info),
        "id": info.sandbox_id,
        "created_at": time_of(info.created_at),
        "expires_at": time_of(info.expires_at),
    }


def _process(found: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON values
    """The run's id only where there is one: else it is the pid once more."""
    run = found.get("process_id")
    return {**found, "process_id": None if str(run) == str(found.get("pid")) else run}
