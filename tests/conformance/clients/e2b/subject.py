"""The installed package that the suite is about.

Novita's is a fork of E2B's: the same classes in other modules. The tests say `e2b` for both; what they mean by it is
decided here, before any of them is read."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from types import ModuleType

from place import PLACE

CLIENT = PLACE["client"]
NAME = {"e2b": "e2b", "novita-sandbox": "novita_sandbox.core"}[CLIENT]
"""Of the module with its classes."""
MAKER = {"e2b": "E2B", "novita-sandbox": "NOVITA"}[CLIENT]
"""How its variables begin."""


def _named_e2b() -> ModuleType:
    """Every module of the package, those also that nobody has imported: each of them must be there once."""
    top = importlib.import_module(NAME)
    for each in pkgutil.walk_packages(top.__path__, f"{NAME}."):
        if ".tests." not in f"{each.name}.":
            importlib.import_module(each.name)
    found = {name: module for name, module in sys.modules.items() if name.startswith(f"{NAME}.")}
    sys.modules |= {f"e2b{name.removeprefix(NAME)}": module for name, module in found.items()} | {"e2b": top}
    return top


MODULE = importlib.import_module("e2b") if NAME == "e2b" else _named_e2b()
