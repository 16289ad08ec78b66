"""The installed package that the suite is about: E2B's code interpreter, or its fork in Novita's package."""

from __future__ import annotations

import importlib
from typing import NamedTuple

from place import PLACE

CLIENT = PLACE["client"]


class Names(NamedTuple):
    module: str
    """With the classes."""
    core: str
    """With those that they are made from."""
    variables: str
    """How its variables begin."""


NAMES = {
    "e2b-code-interpreter": Names("e2b_code_interpreter", "e2b", "E2B"),
    "novita-sandbox (code interpreter)": Names("novita_sandbox.code_interpreter", "novita_sandbox.core", "NOVITA"),
}[CLIENT]
MODULE = importlib.import_module(NAMES.module)
CORE = importlib.import_module(NAMES.core)
charts = importlib.import_module(f"{NAMES.module}.charts")
