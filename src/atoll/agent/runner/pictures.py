"""Pillow's images appear when a program shows them; with descriptions, also when it saves one under a name."""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

from . import display, imports


def _show(image: Any, title: Any = None, **_options: Any) -> bool:
    display.publish("display", image)
    return True


def _adjust_show(module: Any) -> None:
    """A sandbox has no screen for Pillow's own viewers."""
    module.show = _show


def _adjust_image(module: Any) -> None:
    save = module.Image.save

    @functools.wraps(save)
    def save_and_show(self: Any, fp: Any, format: Any = None, **params: Any) -> None:  # Pillow's name
        save(self, fp, format, **params)
        if display.describing() and isinstance(fp, (str, os.PathLike)) and not _is_of_matplotlib():
            display.publish("display", self)

    module.Image.save = save_and_show


def _is_of_matplotlib() -> bool:
    """A figure that is saved is shown as a figure."""
    caller = sys._getframe(2).f_globals.get("__name__")
    return isinstance(caller, str) and caller.partition(".")[0] == "matplotlib"


def install() -> None:
    imports.after("PIL.ImageShow", _adjust_show)
    imports.after("PIL.Image", _adjust_image)
