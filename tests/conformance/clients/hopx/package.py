"""What is public in the installed client: classes, members, parameters, fields; found by looking, in its own order."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import hopx_ai
import hopx_ai.template
import pydantic

CLIENT, NAME, MODULE = "hopx-ai", "hopx_ai", hopx_ai
VERSION = importlib.metadata.version(CLIENT)
HERE = str(Path(next(iter(hopx_ai.__path__))))
LIBRARIES = (HERE, next(iter(pydantic.__path__)))
"""What they call and read shows nothing."""

SPELLINGS = {"timeout": "timeout_seconds", "key": "name"}
"""A parameter's other names, in other versions and in the other client."""

MADE_BY_CALLERS: tuple[str, ...] = ()
"""Models that it is given."""

FACTS: frozenset[str] = frozenset()

Function = Callable[..., Any]
Row = tuple[str, str | None]


def _modules() -> Iterator[ModuleType]:
    """All that can be imported: 0.1.12 ships a module that cannot."""
    for found in pkgutil.walk_packages(hopx_ai.__path__, "hopx_ai."):
        try:
            yield importlib.import_module(found.name)
        except ImportError:
            assert found.name == "hopx_ai.models_updated", found.name


def _exported() -> dict[str, Any]:
    """Name → thing, of the package and of its builder. Data classes and methods carry the name they are exported by."""
    return {name: getattr(module, name) for module in (hopx_ai, hopx_ai.template) for name in module.__all__}


def _resources(owner: type) -> Iterator[type]:
    """The classes that properties of `owner` give: `sandbox.files` and its like."""
    known = {value.__name__: value for module in _modules() for value in vars(module).values() if _is_ours(value)}
    for value in vars(owner).values():
        if isinstance(value, property) and value.fget is not None:
            given = value.fget.__annotations__.get("return")
            names = {getattr(given, "__name__", str(given)), *value.fget.__code__.co_names}
            yield from (known[name] for name in sorted(names & known.keys()) if not issubclass(known[name], Exception))


def _is_ours(value: object) -> bool:
    return inspect.isclass(value) and value.__module__.startswith("hopx_ai")


def public() -> dict[str, Any]:
    """Name → class or function."""
    found = _exported()
    for owner in [each for each in found.values() if inspect.isclass(each) and not issubclass(each, Exception)]:
        found |= {each.__name__: each for each in _resources(owner) if each not in found.values()}
    models = sys.modules["hopx_ai.models"]
    for name, value in vars(models).items():
        if is_model(value) and value.__module__ == models.__name__ and value not in found.values():
            found[name] = value
    return found


def is_model(value: object) -> bool:
    return inspect.isclass(value) and (issubclass(value, pydantic.BaseModel) or dataclasses.is_dataclass(value))


def is_error(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Exception)


def functions(owner: type) -> Iterator[tuple[str, Function]]:
    """Public methods as plain functions, and the constructor under the name ``."""
    for name, value in vars(owner).items():
        function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_")):
            yield name, function


def parameters(function: Function) -> list[str]:
    """Those that a caller names."""
    variable = (inspect.Parameter.VAR_KEYWORD,)
    found = inspect.signature(function).parameters.values()
    return [each.name for each in found if each.kind not in variable and each.name not in ("self", "cls")]


def fields(model: type) -> list[str]:
    own = getattr(model, "model_fields", None) or [each.name for each in dataclasses.fields(model)]
    computed = [name for name, value in vars(model).items() if isinstance(value, property)]
    return [name for name in [*own, *computed] if not name.startswith("_")]


def attributes(error: type[Exception]) -> list[str]:
    """What its constructor takes, which is what it then has, and its base has not."""
    inherited = set(parameters(error.__base__.__init__)) if error.__base__ is not Exception else {"args"}
    return [name for name in parameters(error.__init__) if name not in inherited]


def rows() -> Iterator[Row]:
    for name, value in public().items():
        if is_error(value):
            yield name, None
            yield from ((f"{name}.{each}", None) for each in attributes(value))
        elif is_model(value):
            yield from ((f"{name}.{each}", None) for each in fields(value))
            yield from _methods(name, value, (each for each in functions(value) if each[0] != "__init__"))
        elif inspect.isclass(value):
            yield from _methods(name, value, functions(value))
        else:
            yield name, None
            yield from ((name, each) for each in parameters(value))


def _methods(name: str, owner: type, found: Iterator[tuple[str, Function]]) -> Iterator[Row]:
    exported = owner in _exported().values()
    for member, value in vars(owner).items():
        if isinstance(value, property) and not is_model(owner) and not member.startswith("_"):
            yield f"{name}.{member}", None
    for member, function in found:
        if member == "__init__" and not exported:
            continue  # resources are made by their sandbox
        spelled = name if member == "__init__" else f"{name}.{member}"
        yield spelled, None
        yield from ((spelled, each) for each in parameters(function))


def properties(owner: type) -> Iterator[tuple[str, property]]:
    """Its tests name those that they show."""
    yield from ()


def requests() -> Iterator[tuple[str, Any, str]]:
    """The client has no functions for single requests."""
    yield from ()


def needs_loop(function: Function) -> bool:
    """No plain function of the async client does."""
    return False


def takes(function: Function, signature: inspect.Signature, name: str) -> bool:
    found = signature.parameters
    return name in found or any(each.kind is each.VAR_KEYWORD for each in found.values())


def more(function: Function, given: dict[str, Any]) -> Iterator[Row]:
    """Rows that a call shows beside its parameters."""
    yield from ()
