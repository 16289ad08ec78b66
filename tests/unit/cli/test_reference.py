"""The commands as Markdown: all of them, with every option."""

from __future__ import annotations

from collections.abc import Iterator

import click

from atoll.cli.main import every_command
from atoll.cli.reference import markdown


def all_commands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from all_commands(f"{path} {name}", below)


def test_every_command_and_option_is_in_it() -> None:
    text = markdown()
    missing = []
    for name, top in every_command():
        for path, command in all_commands(f"atoll {name}", top):
            missing += [path] if f"# {path}\n" not in text else []
            section = text.partition(f"# {path}\n")[2].partition("\n###")[0]
            for option in command.params:
                if isinstance(option, click.Option):
                    missing += [f"{path} {word}" for word in option.opts if word not in section]
    assert missing == []


def test_it_is_the_same_each_time_and_tidy() -> None:
    text = markdown()
    assert text == markdown()
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert "\b" not in text
    assert max(map(len, text.splitlines())) < 400


def test_examples_are_code() -> None:
    assert "```\natoll run script.py\n" in markdown()
