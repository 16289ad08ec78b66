"""Options that name a value, as in `--env KEY=VALUE`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click


def parse_pairs(pairs: Sequence[str], metavar: str = "NAME=VALUE") -> dict[str, str]:
    """
    >>> parse_pairs(["A=1", "B=x=y"])
    {'A': '1', 'B': 'x=y'}
    """
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not {metavar}")
        found[name] = value
    return found


def pairs_option(*names: str, help: str, metavar: str = "NAME=VALUE") -> Callable[[Any], Any]:  # Any: decorators
    return click.option(
        *names, multiple=True, metavar=metavar, callback=lambda _, __, given: parse_pairs(given, metavar), help=help
    )


env_option = pairs_option("--env", "-e", "env", help="Set a variable; more than once for several.")
