"""Run a function on a module once it is imported, now or later, whoever imports it."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Adjust = Callable[[ModuleType], None]

_waiting: dict[str, Adjust] = {}


def after(name: str, adjust: Adjust) -> None:
    module = sys.modules.get(name)
    if module is not None:
        _apply(adjust, module)
        return
    _waiting[name] = adjust
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def _apply(adjust: Adjust, module: ModuleType) -> None:
    """A version that we do not know yet loses its adjustment, never its import."""
    with contextlib.suppress(Exception):
        adjust(module)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self) -> None:
        self._looking: set[str] = set()

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in _waiting or fullname in self._looking:
            return None
        self._looking.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._looking.discard(fullname)
        if spec is not None and spec.loader is not None:
            _wrap(spec.loader, fullname)
        return spec


def _wrap(loader: Any, name: str) -> None:
    """Finding is not importing (many libraries only ask whether a module exists), so we act on execution."""
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        if module.__name__ == name and name in _waiting:
            _apply(_waiting.pop(name), module)

    loader.exec_module = exec_module


_FINDER = _Finder()
