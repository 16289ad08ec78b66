"""`atoll`: the command line. A table says which commands there are; a command's module is imported when it is used."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import click

import atoll

from .failures import INTERRUPTED, explained

SERVER_EXTRA = "pip install 'atoll[server]'"
MCP_EXTRA = "pip install 'atoll[mcp]'"
NEEDS: Mapping[str, tuple[str, ...]] = {
    SERVER_EXTRA: (
        *("aiohttp", "alembic", "cryptography", "dns", "fastapi", "h11", "h2", "httptools", "jwt", "sqlalchemy"),
        *("uvicorn", "uvloop", "yaml"),
    ),
    MCP_EXTRA: ("mcp",),
}
"""What an extra brings, asked for before a command does its first step."""


@dataclass(frozen=True)
class Row:
    """A command: where it is, its line in the help, and what has to be installed for it beside the client."""

    module: str
    attribute: str
    help: str
    extra: str = ""


COMMANDS: Mapping[str, Mapping[str, Row]] = {
    "Run code": {
        "run": Row("run", "run", "Run a file or a piece of code in a sandbox."),
        "exec": Row("exec", "exec_", "Run a command in a sandbox."),
        "shell": Row("shell", "shell", "Open a terminal in a sandbox."),
        "logs": Row("logs", "logs", "Show what background runs of a sandbox print."),
    },
    "Files": {
        "cp": Row("cp", "cp", "Copy files and directories into a sandbox or out of it."),
        "ls": Row("files", "ls", "List a directory of a sandbox."),
        "cat": Row("files", "cat", "Print a file of a sandbox."),
    },
    "Sandboxes": {
        "create": Row("lifecycle", "create", "Create a sandbox and print its id."),
        "ps": Row("ps", "ps", "List sandboxes, or the processes in one."),
        "info": Row("lifecycle", "info", "Show what is known about a sandbox."),
        "top": Row("top", "top", "Show what a sandbox uses."),
        "pause": Row("lifecycle", "pause", "Freeze sandboxes; their memory is kept."),
        "resume": Row("lifecycle", "resume", "Let paused sandboxes go on."),
        "stop": Row("lifecycle", "stop", "End the programs of sandboxes; their disks are kept."),
        "start": Row("lifecycle", "start", "Start stopped sandboxes again."),
        "timeout": Row("lifecycle", "timeout", "Change how long a sandbox lives."),
        "kill": Row("lifecycle", "kill", "Delete sandboxes."),
        "templates": Row("templates", "templates", "List what sandboxes can be made from."),
    },
    "Network": {
        "url": Row("url", "url", "Print the URL of a port of a sandbox."),
        "link": Row("link", "link", "Print a signed URL for a browser."),
        "network": Row("network", "network", "Show or change what a sandbox may reach."),
        "egress": Row("egress", "egress", "Show what a sandbox did with its way out."),
        "secret": Row("secret", "secret", "Keep secrets that sandboxes use without seeing them."),
    },
    "This machine": {
        "up": Row("up", "up", "Serve sandboxes on this machine.", SERVER_EXTRA),
        "doctor": Row("doctor", "doctor", "Try everything that a sandbox needs."),
        "keys": Row("keys", "keys", "API keys: make, limit, list, revoke.", SERVER_EXTRA),
        "template": Row("template", "template", "Templates: build, list.", SERVER_EXTRA),
        "mcp": Row("mcp", "mcp", "Serve sandboxes as tools to an agent host.", MCP_EXTRA),
        "completion": Row("completion", "completion", "Print what makes a shell complete these commands."),
    },
}
BY_NAME: Mapping[str, Row] = {name: row for rows in COMMANDS.values() for name, row in rows.items()}


class Commands(click.Group):
    """The table as a click group. Its help needs no command's module."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(BY_NAME)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        row = BY_NAME.get(cmd_name)
        if row is None:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = load(cmd_name, row)
        return self.commands[cmd_name]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in BY_NAME and (meant := difflib.get_close_matches(args[0], BY_NAME, n=1)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {meant[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, rows in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, row.help) for name, row in rows.items()])


def load(name: str, row: Row) -> click.Command:
    """ClickException that says what to install, where a library of the command's is missing."""
    missing = [each for each in NEEDS.get(row.extra, ()) if importlib.util.find_spec(each) is None]
    if missing:
        raise click.ClickException(f"`atoll {name}` needs {', '.join(missing)}: {row.extra}")
    module = importlib.import_module(f".{row.module}", __package__)
    command = getattr(module, row.attribute)
    assert isinstance(command, click.Command)
    return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(atoll.__version__, prog_name="atoll")
def cli() -> None:
    """A self-hosted sandbox cloud: untrusted code runs isolated, watched and fast.

    A sandbox is named by its id, or by the first letters of it (four or more).
    """


def main() -> None:
    try:
        color = False if os.environ.get("NO_COLOR") else None  # None: where there is a terminal
        status = cli.main(standalone_mode=False, prog_name="atoll", color=color)
        sys.exit(status if isinstance(status, int) else 0)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # whoever reads us has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        told = explained(error)
        if told is None:
            raise
        click.echo(f"Error: {told.message}", err=True)
        sys.exit(told.status)


def every_command() -> Iterator[tuple[str, click.Command]]:
    """All of them, imported."""
    for name, row in BY_NAME.items():
        yield name, load(name, row)


if __name__ == "__main__":
    main()
