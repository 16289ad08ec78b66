"""What is public in the installed client beside what it has from the core: classes, members, parameters, fields, found
by looking. Names that the async client has too are spelled `AsyncSandbox`."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import contract
from place import PLACE
from subject import CLIENT, CORE, MODULE, NAMES, charts

NAME = NAMES.module
VERSION = importlib.metadata.version(CLIENT.partition(" ")[0])
LIBRARIES = (*(str(Path(next(iter(each.__path__)))) for each in (MODULE, CORE)), dataclasses.__file__)
"""What they call and read shows nothing."""

SPELLINGS: dict[str, str] = {}
MADE_BY_CALLERS: tuple[str, ...] = ()
FACTS = frozenset(contract.FACTS)

Function = Callable[..., Any]
Row = tuple[str, str | None]


@functools.cache
def public() -> dict[str, Any]:
    """Name → class. The core's own are another suite's."""
    places = (vars(MODULE), vars(charts))
    found = {name: value for place in places for name, value in place.items() if _is_thing(name, value)}
    return dict(sorted(found.items(), key=lambda each: is_model(each[1])))


def _is_thing(name: str, value: object) -> bool:
    ours = inspect.isclass(value) and value.__module__.startswith(NAME) and name[0] != "_"
    return ours and not issubclass(typing.cast(type, value), str)


def is_error(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, BaseException)


def is_model(value: object) -> bool:
    return inspect.isclass(value) and (dataclasses.is_dataclass(value) or value.__module__ == charts.__name__)


def attributes(error: type[Exception]) -> list[str]:
    return []


def fields(model: type) -> list[str]:
    """What a reader finds in one: values, what is made of them, methods."""
    classes = [each for each in reversed(model.__mro__) if each.__module__.startswith(NAME)]
    values = [name for each in classes for name in inspect.get_annotations(each)]
    made = [
        name
        for each in classes
        for name, value in vars(each).items()
        if isinstance(value, (property, classmethod, types.FunctionType)) and name not in vars(object)
    ]
    return [name for name in dict.fromkeys([*values, *made]) if name[0] != "_"]


def functions(owner: type) -> Iterator[tuple[str, Function]]:
    """Public methods of its own; the constructor is for callers in the client object alone."""
    if owner.__name__ == "E2B":
        yield "__init__", owner.__init__  # type: ignore[misc]
    for name, value in vars(owner).items():
        if name[0] != "_" and inspect.isfunction(value):
            yield name, value


def properties(owner: type) -> Iterator[tuple[str, property]]:
    yield from ((name, value) for name, value in vars(owner).items() if name[0] != "_" and isinstance(value, property))


def signature_of(value: Any, of_class: bool, owner: type) -> inspect.Signature:
    raise NotImplementedError("nothing here is for a class and its instances alike")


def parameters(function: Function) -> list[str]:
    found = inspect.signature(function).parameters.values()
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [each.name for each in found if each.kind not in variable and each.name != "self"]


def needs_loop(function: Function) -> bool:
    return False


def takes(function: Function, signature: inspect.Signature, name: str) -> bool:
    return name in signature.parameters or any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())


def more(function: Function, given: Mapping[str, Any]) -> Iterator[Row]:
    return iter(())


def requests() -> Iterator[tuple[str, Any, str]]:
    """The client has no function for each kind: tests of its members show them."""
    return iter(())


def rows() -> Iterator[Row]:
    for name, value in public().items():
        if is_model(value):
            yield from ((f"{name}.{each}", None) for each in fields(value))
        else:
            for member, function in functions(value):
                spelled = name if member == "__init__" else f"{name}.{member}"
                yield spelled, None
                yield from ((spelled, each) for each in parameters(function))
    other = [fact for fact, way in contract.ONLY.items() if way != PLACE["way"]]
    yield from ((each, None) for each in [*contract.CALLS, *contract.FACTS] if each not in other)
