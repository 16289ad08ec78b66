"""Which parameters a test really passed, and which fields it really read: the client's classes report it.

What the client itself calls and reads does not count: only what is called from outside of the package.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any

import package

seen: set[package.Row] = set()


def watch() -> None:
    for row, owner, member in package.requests():
        _watch_requests(row, owner, member)
    for name, value in package.public().items():
        if package.is_error(value):
            _watch_reads(name, value, package.attributes(value))
        elif package.is_model(value):
            _watch_reads(name, value, package.fields(value))
            if name in package.MADE_BY_CALLERS:
                _watch_making(name, value)
        elif inspect.isclass(value):
            for member, function in package.functions(value):
                _watch_calls(name if member == "__init__" else f"{name}.{member}", value, member, function)
            for member, found in package.properties(value):
                _watch_property(f"{name}.{member}", value, member, found)
        else:
            _watch_function(name, value)


def _watch_calls(spelled: str, owner: type, member: str, function: package.Function) -> None:
    original = inspect.getattr_static(owner, member)
    if not isinstance(original, (types.FunctionType, classmethod, staticmethod)):
        setattr(owner, member, _Either(original, spelled))
        return

    signature = inspect.signature(function)

    @functools.wraps(function)
    def watched(*positional: Any, **named: Any) -> Any:
        if _from_outside():
            _note(spelled, function, signature.bind_partial(*positional, **named))
        return function(*positional, **named)

    kind = type(original)
    setattr(owner, member, kind(watched) if kind in (classmethod, staticmethod) else watched)


def _watch_requests(row: str, owner: Any, member: str) -> None:
    """What the client itself calls: a function that writes one kind of request."""
    original = getattr(owner, member)

    @functools.wraps(original)
    def watched(*positional: Any, **named: Any) -> Any:
        seen.add((row, None))
        return original(*positional, **named)

    setattr(owner, member, watched)


class _Either:
    """A descriptor that gives one function for the class and another for an instance, each with its own parameters."""

    def __init__(self, original: Any, spelled: str) -> None:
        self._original, self._spelled = original, spelled

    def __get__(self, instance: Any, owner: type) -> package.Function:
        function: package.Function = self._original.__get__(instance, owner)
        signature = package.signature_of(self._original, instance is None, owner)

        @functools.wraps(function)
        def watched(*positional: Any, **named: Any) -> Any:
            if _from_outside():
                _note(self._spelled, function, signature.bind_partial(*positional, **named))
            return function(*positional, **named)

        watched.__signature__ = signature  # type: ignore[attr-defined]
        return watched


def _note(spelled: str, function: package.Function, given: inspect.BoundArguments) -> None:
    kinds = {name: each.kind for name, each in given.signature.parameters.items()}
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = [each for each in given.arguments if kinds[each] not in variable]
    seen.update((spelled, each) for each in named if each not in ("self", "cls"))
    seen.update(package.more(function, given.arguments))


def _watch_property(row: str, owner: type, member: str, original: property) -> None:
    read = original.fget
    assert read is not None

    def watched(self: Any) -> Any:
        if _from_outside():
            seen.add((row, None))
        return read(self)

    setattr(owner, member, property(functools.wraps(read)(watched), original.fset))


def _watch_function(name: str, function: package.Function) -> None:
    """One that the package exports."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def watched(*positional: Any, **named: Any) -> Any:
        _note(name, function, signature.bind_partial(*positional, **named))
        return function(*positional, **named)

    if hasattr(package.MODULE, name):
        setattr(package.MODULE, name, watched)


def _watch_making(name: str, owner: type) -> None:
    """Of values that callers make."""
    make: package.Function = owner.__init__  # type: ignore[misc]
    signature = inspect.signature(make)

    @functools.wraps(make)
    def watched(self: Any, *positional: Any, **named: Any) -> None:
        if _from_outside():
            given = signature.bind_partial(self, *positional, **named).arguments
            seen.update((f"{name}.{each}", None) for each in given if each != "self")
        make(self, *positional, **named)

    owner.__init__ = watched  # type: ignore[misc]


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
    return not frame.f_code.co_filename.startswith(package.LIBRARIES)
