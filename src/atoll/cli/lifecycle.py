"""Commands about whole sandboxes: create, info, pause, resume, stop, start, timeout, kill."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from atoll.core.errors import InvalidInput

from .api import Account, api_options, complete_sandbox, sandbox_argument, template_option
from .env import env_option, pairs_option
from .failures import FAILED, explained
from .network import Reach, network_options
from .ps import for_people, for_programs
from .render import json_option, show_one

if TYPE_CHECKING:
    from atoll.sdk import Sandbox


@click.command()
@template_option
@click.option("--timeout", type=click.IntRange(1), metavar="SECONDS", help="Delete it after so long.")
@env_option
@pairs_option("--metadata", "-m", "metadata", help="Label it; more than once for several.")
@pairs_option(
    "--secret",
    "secrets",
    metavar="VARIABLE=SECRET",
    help="Let it use a secret, by a placeholder in VARIABLE; see `atoll secret`.",
)
@network_options
@json_option
@api_options
def create(
    account: Account,
    template: str,
    timeout: int | None,
    env: dict[str, str],
    metadata: dict[str, str],
    secrets: dict[str, str],
    reach: Reach,
    as_json: bool,
) -> None:
    """Create a sandbox and print its id."""
    given = {"timeout_seconds": timeout, "env_vars": env, "metadata": metadata, "secrets": secrets}
    made = account.create(template, reach, **{name: value for name, value in given.items() if value})
    if as_json:
        show_one(for_programs(made.get_info()), as_json)
    else:
        click.echo(made.sandbox_id)


@click.command()
@sandbox_argument
@json_option
@api_options
def info(account: Account, sandbox: str, as_json: bool) -> None:
    """Show what is known about SANDBOX."""
    found = account.sandbox(sandbox).get_info()
    show_one(for_programs(found) if as_json else _facts(for_people(found)), as_json)


def _facts(row: dict[str, Any]) -> dict[str, Any]:  # Any: what is shown
    hidden = ("sandbox_id", "traffic_access_token", "organization_id", "live_mode", "template_id", "end_at")
    return {"id": row["id"]} | {name: value for name, value in row.items() if name not in hidden and value is not None}


@click.command()
@sandbox_argument
@click.argument("seconds", type=click.IntRange(1))
@api_options
def timeout(account: Account, sandbox: str, seconds: int) -> None:
    """Let SANDBOX live for SECONDS from now."""
    account.sandbox(sandbox).set_timeout(seconds)


def _for_each(name: str, text: str, act: Callable[[Sandbox], object]) -> click.Command:
    @click.command(name=name, help=text)
    @click.argument("sandboxes", nargs=-1, required=True, metavar="SANDBOX...", shell_complete=complete_sandbox)
    @api_options
    def command(account: Account, sandboxes: tuple[str, ...]) -> None:
        sys.exit(do_each([account.sandbox(each) for each in sandboxes], act))

    return command


def do_each(sandboxes: Iterable[Sandbox], act: Callable[[Sandbox], object]) -> int:
    """One that fails does not keep the others from it; the exit code tells."""
    status = 0
    for each in sandboxes:
        try:
            act(each)
        except Exception as error:
            told = explained(error)
            if told is None:
                raise
            click.echo(f"Error: {each.sandbox_id}: {told.message}", err=True)
            status = FAILED
        else:
            click.echo(each.sandbox_id)
    return status


pause = _for_each(
    "pause", "Freeze sandboxes; their memory is kept, and they use no processor.", lambda each: each.pause()
)
resume = _for_each("resume", "Let paused sandboxes go on.", lambda each: each.resume())
stop = _for_each("stop", "End the programs of sandboxes; their disks are kept.", lambda each: each.stop())
start = _for_each("start", "Start stopped sandboxes again, on their disks.", lambda each: each.start())


@click.command()
@click.argument("sandboxes", nargs=-1, metavar="SANDBOX...", shell_complete=complete_sandbox)
@click.option("--all", "every", is_flag=True, help="Every sandbox of the key.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before --all.")
@api_options
def kill(account: Account, sandboxes: tuple[str, ...], every: bool, yes: bool) -> None:
    """Delete sandboxes with all that is in them."""
    if every == bool(sandboxes):
        raise InvalidInput("say which sandboxes, or --all")
    ids = [each.sandbox_id for each in account.list()] if every else list(sandboxes)
    if every and ids and not yes:
        if not sys.stdin.isatty():
            raise InvalidInput("--all deletes every sandbox of the key: say --yes too")
        click.confirm(f"Delete {len(ids)} sandboxes?", abort=True, err=True)
    sys.exit(do_each([account.sandbox(each) for each in ids], lambda each: each.kill()))
