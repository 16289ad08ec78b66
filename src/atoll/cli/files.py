"""`atoll ls` and `atoll cat`."""

from __future__ import annotations

import posixpath
import sys
from typing import TYPE_CHECKING, Any

import click

from .api import Account, api_options, complete_sandbox
from .cp import HOME, absolute
from .exec import show as show_output
from .render import amount, fields, json_option, plain, show, time_of

if TYPE_CHECKING:
    from atoll.sdk import FileInfo, Files

NO_DIRECTORY = "INVALID_PATH"
"""What a path is that is there, and no directory."""
COLUMNS = {"permissions": "MODE", "owner": "OWNER", "size": "SIZE", "modified": "MODIFIED", "name": "NAME"}


@click.command()
@click.argument("place", metavar="SANDBOX[:PATH]", shell_complete=complete_sandbox)
@json_option
@api_options
def ls(account: Account, place: str, as_json: bool) -> None:
    """List a directory of a sandbox, or one file: /workspace without a PATH."""
    sandbox, _, path = place.partition(":")
    entries = entries_at(account.sandbox(sandbox).files, absolute(path) if path else HOME)
    rows = [fields(each) if as_json else for_people(each) for each in entries]
    show(rows, COLUMNS, as_json, "Nothing there.")


def entries_at(files: Files, path: str) -> list[FileInfo]:
    from atoll.sdk import FileOperationError

    try:
        return files.list(path)
    except FileOperationError as error:
        directory, name = posixpath.split(path)
        found = [each for each in files.list(directory) if each.name == name] if error.code == NO_DIRECTORY else []
        if not found:
            raise
        return found


def for_people(entry: FileInfo) -> dict[str, Any]:  # Any: what a table shows
    arrow = f" -> {entry.target}" if entry.target else ""
    return {
        "permissions": entry.permissions,
        "owner": entry.owner,
        "size": "" if entry.is_directory else amount(entry.size),
        "modified": time_of(entry.modified_time),
        "name": entry.name + ("/" if entry.is_directory else "") + arrow,
    }


@click.command()
@click.argument("place", metavar="SANDBOX:PATH", shell_complete=complete_sandbox)
@click.option("--user", default="", help="Who reads it inside: user, root, or a name of the sandbox.")
@api_options
def cat(account: Account, place: str, user: str) -> None:
    """Print a file of a sandbox, byte for byte and as it comes."""
    sandbox, colon, path = place.partition(":")
    if not colon or not path:
        raise click.UsageError(f"{plain(place)!r} is not SANDBOX:PATH")
    with account.sandbox(sandbox).programs.start(["cat", "--", absolute(path)], user=user) as program:
        sys.exit(show_output(program))
