"""Flags out of the table of settings in `compose`: one place says what can be set and how it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from atoll import compose


def settings_options(*names: str) -> Callable[[Any], Any]:  # Any: click's decorators
    def add(command: Any) -> Any:
        for name in reversed(names):
            command = _option(compose.BY_NAME[name])(command)
        return command

    return add


def _option(setting: compose.Setting) -> Callable[[Any], Any]:
    text = f"{setting.help}  [{setting.variable}" + (f"; default: {setting.default}]" if setting.default else "]")
    if setting.metavar is None:
        return click.option(setting.flag, setting.name, flag_value="1", default=None, is_flag=True, help=text, type=str)
    return click.option(setting.flag, setting.name, metavar=setting.metavar, default=None, help=text)
