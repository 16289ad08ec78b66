"""Which parameters a test really passed, and which fields it really read: the client's classes report it.

What the client itself calls and reads does not count: only what is called from outside of the package.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import package
import pydantic

LIBRARIES = (package.HERE, next(iter(pydantic.__path__)))

seen: set[package.Row] = set()


def watch() -> None:
    for name, value in package.public().items():
        if package.is_error(value):
            _watch_reads(name, value, package.attributes(value))
        elif package.is_model(value):
            _watch_reads(name, value, package.fields(value))
        elif inspect.isclass(value):
            for member, function in package.functions(value):
                _watch_calls(name if member == "__init__" else f"{name}.{member}", value, member, function)


def _watch_calls(spelled: str, owner: type, member: str, function: package.Function) -> None:
    signature = inspect.signature(function)

    @functools.wraps(function)
    def watched(*positional: Any, **named: Any) -> Any:
        if _from_outside():
            given = signature.bind_partial(*positional, **named).arguments
            seen.update((spelled, each) for each in given if each not in ("self", "cls"))
        return function(*positional, **named)

    kind = type(vars(owner)[member])
    setattr(owner, member, kind(watched) if kind in (classmethod, staticmethod) else watched)


def _watch_reads(name: str, owner: type, fields: list[str]) -> None:
    wanted = frozenset(fields)
    inherited: Callable[[Any, str], Any] = owner.__getattribute__

    def watched(self: Any, field: str) -> Any:
        if field in wanted and _from_outside():
            seen.add((f"{name}.{field}", None))
        return inherited(self, field)

    owner.__getattribute__ = watched  # type: ignore[method-assign]


def _from_outside() -> bool:
    frame = sys._getframe(2)
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:  # a base class is watched too
        frame = frame.f_back
    return not frame.f_code.co_filename.startswith(LIBRARIES)
