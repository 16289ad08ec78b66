"""What is public in the installed client: classes, members, parameters, options, fields, the calls that it makes; found
by looking. The async client's classes that are named like the sync ones are spelled `AsyncCommands`."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import importlib
import importlib.metadata
import inspect
import pkgutil
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import contract
from subject import CLIENT, MODULE, NAME

VERSION = importlib.metadata.version(CLIENT)
HERE = str(Path(next(iter(MODULE.__path__))))
LIBRARIES = (HERE, dataclasses.__file__)
"""What they call and read shows nothing."""

SPELLINGS: dict[str, str] = {}
"""A parameter's other names, in other versions and in the other client."""

MADE_BY_CALLERS = ("SandboxQuery", "PtySize")
"""Models that it is given."""

FACTS = frozenset((*contract.FACTS, *contract.NOVITA))

Function = Callable[..., Any]
Row = tuple[str, str | None]

NOT_CALLED = ("ApiClient", "ConnectionConfig", "VolumeConnectionConfig", "TemplateBase", "Username")
"""Exported, and made by the client for itself."""
MCP = f"{NAME}.sandbox.mcp"
"""Options of the servers behind its gateway, by the hundred."""


# ---- classes and functions


@functools.cache
def public() -> dict[str, Any]:
    """Name → class or function. What properties of a sandbox give is not exported, and public."""
    exported = {name: getattr(MODULE, name) for name in dict.fromkeys(MODULE.__all__)}
    found = {name: value for name, value in exported.items() if _is_thing(name, value)}
    for owner in (MODULE.Sandbox, MODULE.AsyncSandbox):
        for each in _resources(owner):
            if each not in found.values():
                found[_form(owner) + each.__name__.removeprefix("Async")] = each
    found["CommandExitException"] = MODULE.CommandExitException
    found |= _of_an_account()
    return found


def _of_an_account() -> dict[str, type]:
    """`Novita(…).sandbox` and its like: what the object for one account gives calls by."""
    account = getattr(MODULE, "Novita", None)
    parts = vars(account(api_key="none")) if account else {}
    return {f"Novita.{name}": type(each) for name, each in parts.items() if not name.startswith("_")}


def _is_thing(name: str, value: object) -> bool:
    if name in NOT_CALLED or typing.is_typeddict(value) or not getattr(value, "__module__", "").startswith(NAME):
        return False
    return (inspect.isclass(value) and not issubclass(value, (enum.Enum, str))) or inspect.isfunction(value)


def _form(owner: type) -> str:
    return "Async" if owner.__name__.startswith("Async") else ""


def _resources(owner: type) -> Iterator[type]:
    """`sandbox.files` and its like, and what is in them: `sandbox.commands.run(…)` gives a handle."""
    for _, value in properties(owner):
        if value.fget is not None:
            given = _hints(value.fget).get("return")
            ours = inspect.isclass(given) and given.__module__.startswith(NAME)
            if ours and given.__name__ not in NOT_CALLED and not is_model(given):
                yield given


def is_model(value: object) -> bool:
    return inspect.isclass(value) and dataclasses.is_dataclass(value) and not is_error(value)


def is_error(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, BaseException)


def members(owner: type) -> Iterator[tuple[str, Any]]:
    """The public ones, inherited ones too, as they stand in their class."""
    found: dict[str, Any] = {}
    for each in reversed(owner.__mro__):
        if each.__module__.startswith(NAME):
            found |= vars(each)
    yield from ((name, value) for name, value in found.items() if not name.startswith("_"))


def functions(owner: type) -> Iterator[tuple[str, Function]]:
    """Public methods. The one constructor that callers are to use is that of the client object."""
    if owner in (getattr(MODULE, "E2B", None), getattr(MODULE, "Novita", None)):
        yield "__init__", owner.__init__  # type: ignore[misc]
    for name, value in members(owner):
        if isinstance(value, (classmethod, staticmethod)):
            yield name, value.__func__
        elif inspect.isfunction(value) or _is_either(value):
            yield name, value


def properties(owner: type) -> Iterator[tuple[str, property]]:
    yield from ((name, value) for name, value in members(owner) if isinstance(value, property))


def _is_either(value: object) -> bool:
    return type(value).__name__ in ("class_method_variant", "DualMethod")


def _both(value: Any, owner: type) -> tuple[Function, Function]:
    """Of what the class and an instance each have: the function of the instance, and that of the class."""
    if type(value).__name__ == "DualMethod":
        return value._instance_fn, value._static_fn.__get__(None, owner)
    return value.method, getattr(owner, value.class_method_name)


def signature_of(value: Any, of_class: bool, owner: type) -> inspect.Signature:
    of_instance, bound = _both(value, owner)
    if of_class:
        return inspect.signature(bound)
    whole = inspect.signature(of_instance)
    return whole.replace(parameters=list(whole.parameters.values())[1:])


def parameters(function: Function, owner: type | None = None) -> list[str]:
    """Those that a caller names. What the client passes on (`**opts`) is in tables of its own: `ApiParams(…)`."""
    each_form = _both(function, owner) if _is_either(function) and owner else (function,)
    found = [each for form in each_form for each in inspect.signature(form).parameters.values()]
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return list(
        dict.fromkeys(each.name for each in found if each.kind not in variable and each.name not in ("self", "cls"))
    )


def fields(model: type) -> list[str]:
    computed = [name for name, value in vars(model).items() if isinstance(value, property)]
    return [name for name in [*(each.name for each in dataclasses.fields(model)), *computed] if name[0] != "_"]


def attributes(error: type[Exception]) -> list[str]:
    return fields(error) if dataclasses.is_dataclass(error) else []


# ---- options: the keys of dictionaries


def _hints(function: Any) -> dict[str, Any]:
    with contextlib.suppress(Exception):  # an annotation that only type checkers can read
        return typing.get_type_hints(inspect.unwrap(function))
    return dict(getattr(function, "__annotations__", {}))


def _keys(table: Any) -> dict[str, Any]:
    """Key → annotation; `Any` for one that names what only type checkers import."""
    with contextlib.suppress(NameError):
        return typing.get_type_hints(table)
    return dict.fromkeys(table.__annotations__, Any)


def _tables(hint: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """The typed dictionaries in an annotation, and in those of their keys."""
    seen = set() if seen is None else seen
    if id(hint) in seen:
        return
    seen.add(id(hint))
    if typing.is_typeddict(hint):
        if hint.__module__ == MCP or hint.__name__.endswith("Info"):
            return
        yield hint
        for each in _keys(hint).values():
            yield from _tables(each, seen)
    else:
        for each in typing.get_args(hint):
            yield from _tables(each, seen)


def _spelled(table: Any) -> str:
    return str(table.__name__).removeprefix("_")


def _option_rows() -> Iterator[Row]:
    for owner in public().values():
        if inspect.isclass(owner) and not is_error(owner) and not is_model(owner):
            for _, function in functions(owner):
                each_form = _both(function, owner) if _is_either(function) else (function,)
                for form in each_form:
                    for hint in _hints(form).values():
                        for table in _tables(hint):
                            yield _spelled(table), None
                            yield from ((_spelled(table), key) for key in _keys(table))


def needs_loop(function: Function) -> bool:
    """A plain function of the async client that starts a task."""
    return function.__name__ == "stream_input" and "async" in function.__module__


def takes(function: Function, signature: inspect.Signature, name: str) -> bool:
    variable = [each.name for each in signature.parameters.values() if each.kind is each.VAR_KEYWORD]
    hints = _hints(function) if variable else {}
    options = [_keys(table) for each in variable for table in _tables_here(hints.get(each))]
    return name in signature.parameters or any(name in keys for keys in options)


def more(function: Function, given: Mapping[str, Any]) -> Iterator[Row]:
    """Rows that a call shows beside its parameters: the options that it has passed in dictionaries."""
    hints = _hints(function)
    for name, value in given.items():
        yield from _options(hints.get(name), value)


def _options(hint: Any, value: Any) -> Iterator[Row]:
    if isinstance(value, Mapping):
        fitting = [table for table in _tables_here(hint) if _fits(table, value)]
        for table in fitting:
            yield _spelled(table), None
            for key, each in value.items():
                yield _spelled(table), key
                yield from _options(_keys(table)[key], each)
        for each in () if fitting else value.values():
            for argument in typing.get_args(hint):
                yield from _options(argument, each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            for argument in typing.get_args(hint):
                yield from _options(argument, each)


def _fits(table: Any, value: Mapping[str, Any]) -> bool:
    known = _keys(table)
    words = {key: typing.get_args(hint) for key, hint in known.items() if typing.get_origin(hint) is typing.Literal}
    return value.keys() <= known.keys() and all(value[key] in words[key] for key in words.keys() & value.keys())


def _tables_here(hint: Any) -> list[Any]:
    if typing.is_typeddict(hint):
        return [hint]
    if getattr(hint, "__origin__", None) in (dict, list, Mapping):
        return []
    return [table for each in typing.get_args(hint) for table in _tables_here(each)]


# ---- the calls that it makes

PROCESS = ("List", "Connect", "Start", "Update", "StreamInput", "SendInput", "SendSignal", "CloseStdin")
FILES = ("Stat", "MakeDir", "Move", "ListDir", "Remove")
WATCHES = ("WatchDir", "CreateWatcher", "GetWatcherEvents", "RemoveWatcher")
SERVICES = {"process": "process.Process", "filesystem": "filesystem.Filesystem"}


def _modules(within: str) -> Iterator[ModuleType]:
    parent = importlib.import_module(within)
    for found in pkgutil.walk_packages(parent.__path__, f"{within}."):
        yield importlib.import_module(found.name)


def _hand_written() -> str:
    texts = []
    for file in sorted(Path(HERE).rglob("*.py")):
        if "client" not in file.relative_to(HERE).parts:
            texts.append(file.read_text())
    return "\n".join(texts)


@functools.cache
def routes() -> dict[str, ModuleType]:
    """`POST /sandboxes/{sandbox_id}/pause` → the module that writes this request. Those that the client uses."""
    written, found = _hand_written(), {}
    for within in (f"{NAME}.api.client.api", f"{NAME}.volume.client.api"):
        with contextlib.suppress(ModuleNotFoundError):
            for module in _modules(within):
                name = module.__name__.rpartition(".")[2]
                if hasattr(module, "_get_kwargs") and re.search(rf"\b{name}\b", written):
                    text = inspect.getsource(module._get_kwargs)
                    method, path = (re.search(rf'"{key}": f?"([^"]+)"', text) for key in ("method", "url"))
                    assert method is not None, module.__name__
                    assert path is not None, module.__name__
                    found[f"{method[1].upper()} {path[1]}"] = module
    return dict(sorted(found.items(), key=lambda each: each[0].partition(" ")[2]))


@functools.cache
def procedures() -> dict[str, list[tuple[type, str]]]:
    """`process.Process/Start` → the methods of the client's RPC classes that call it."""
    written, found = _hand_written(), {}
    for part, service in SERVICES.items():
        module = importlib.import_module(f"{NAME}.envd.{part}.{part}_connect")
        for name, owner in vars(module).items():
            if inspect.isclass(owner) and "Client" in name and owner.__module__ == module.__name__:
                for member, value in vars(owner).items():
                    method = _procedure(member)
                    if inspect.isfunction(value) and method and re.search(rf"rpc\.{member}\b", written):
                        found.setdefault(f"{service}/{method}", []).append((owner, member))
    return found


def _procedure(member: str) -> str | None:
    """`start` and `astart` are both Start."""
    names = {re.sub(r"(?<=.)([A-Z])", r"_\1", each).lower(): each for each in PROCESS + FILES + WATCHES}
    return names.get(member) or (names.get(member[1:]) if member.startswith("a") else None)


def requests() -> Iterator[tuple[str, Any, str]]:
    """Row, and the owner and name of the function that each request of this kind goes through."""
    for row, module in routes().items():
        yield row, module, "_get_kwargs"
    for row, methods in procedures().items():
        yield from ((row, owner, member) for owner, member in methods)


# ---- rows


def rows() -> Iterator[Row]:
    members = list(_members())
    yield from members
    known = {member if each is None else f"{member}({each})" for member, each in members}
    if "Volume.read_file" in known:
        yield from ((each, None) for each in contract.CALLS_OF_VOLUMES)
    for fact in contract.FACTS + contract.NOVITA:
        if all(need in known for begin, need in contract.NEEDS.items() if fact.startswith(begin)):
            yield fact, None


def _members() -> Iterator[Row]:
    for name, value in public().items():
        if is_error(value):
            yield name, None
            yield from ((f"{name}.{each}", None) for each in attributes(value))
        elif is_model(value):
            yield from ((f"{name}.{each}", None) for each in fields(value))
        elif inspect.isclass(value):
            yield from _of_class(name, value)
        else:
            yield name, None
            yield from ((name, each) for each in parameters(value))
    yield from _option_rows()
    yield from ((each, None) for each in [*routes(), *procedures(), *contract.CALLS])


def _of_class(name: str, owner: type) -> Iterator[Row]:
    for member, _ in properties(owner):
        yield f"{name}.{member}", None
    for member, function in functions(owner):
        spelled = name if member == "__init__" else f"{name}.{member}"
        yield spelled, None
        yield from ((spelled, each) for each in parameters(function, owner))
