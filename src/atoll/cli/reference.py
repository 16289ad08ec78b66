"""The commands as Markdown, made of the commands themselves.

python -m atoll.cli.reference > docs/cli.md
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from textwrap import dedent

import click

from .main import COMMANDS, load

HEAD = """# Command line

`atoll` runs code in sandboxes, copies files, opens terminals, and runs the server. `atoll COMMAND --help` says what is
here too.

- A sandbox is named by its id, or by the first letters of it (four or more).
- Commands talk to the Atoll that runs on this machine, or to the one that `--url` and `--key` say, or `ATOLL_BASE_URL`
  and `ATOLL_API_KEY`. `ATOLL_CA_FILE` names certificates (PEM) to trust in the place of the system's.
- `--json` prints JSON for programs. Colours and bars are for terminals only; `NO_COLOR` switches colours off.

| Exit code | |
|---|---|
| 0 | well |
| 1 | failed |
| 2 | wrong usage |
| 124 | out of time |
| 130 | Ctrl-C |
| other | the code of the program that ran |
"""


def markdown() -> str:
    return "\n".join([HEAD, *_sections()]).rstrip() + "\n"


def _sections() -> Iterator[str]:
    for title, rows in COMMANDS.items():
        yield f"## {title}\n"
        for name, row in rows.items():
            yield from _command(f"atoll {name}", load(name, row), "###")


def _command(path: str, command: click.Command, heading: str) -> Iterator[str]:
    ctx = click.Context(command, info_name=path, parent=None)
    yield f"{heading} {path}\n"
    yield f"```\n{path} {' '.join(command.collect_usage_pieces(ctx))}\n```\n"
    yield _help_of(command)
    options = [_row(each, ctx) for each in command.params if isinstance(each, click.Option) and not each.hidden]
    if options:
        yield "\n".join(["| Option | |", "|---|---|", *options]) + "\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            if below is not None:
                yield from _command(f"{path} {name}", below, heading + "#")


def _help_of(command: click.Command) -> str:
    """A paragraph that click must not fill (`\\b`) is an example."""
    shown = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            shown.append("```\n" + dedent(paragraph.removeprefix("\b").strip("\n")) + "\n```")
        else:
            shown.append(paragraph)
    return "\n\n".join(shown) + "\n"


def _row(option: click.Option, ctx: click.Context) -> str:
    record = option.get_help_record(ctx)
    names, text = record if record is not None else ("", "")
    return f"| `{_cell(names)}` | {_cell(text)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    click.echo(markdown(), nl=False)
