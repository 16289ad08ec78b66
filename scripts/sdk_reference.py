"""docs/sdk-reference.md from the docstrings of the SDK: every public name, with its parameters and its example."""

from __future__ import annotations

import ast
import dataclasses
import html
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import atoll

HEAD = """# SDK reference

Every public name of `atoll`, made from the sources. The examples are run as tests; `sandbox` in them is one that runs.
What the SDK is for and how it is used is on [its own page](sdk.md).

`AsyncSandbox` and its parts (`AsyncFiles`, `AsyncCommands` …) have the same methods with the same parameters: write
`await` before calls, `async with` and `async for`.
"""

GROUPS: dict[str, tuple[str, ...]] = {
    "Sandbox": ("Sandbox",),
    "Parts of a sandbox": (
        "Files",
        "Commands",
        "Programs",
        "Program",
        "EnvironmentVariables",
        "Cache",
        "Terminal",
        "TerminalSession",
        "Desktop",
    ),
    "Secrets": ("Secrets", "Secret"),
    "What is given": ("Network", "ALL_TRAFFIC"),
    "What comes back": (
        *(
            "ExecutionResult",
            "RichOutput",
            "CommandResult",
            "ProgramOutput",
            "FileInfo",
            "SandboxInfo",
            "Resources",
            "ExpiryInfo",
            "Link",
        ),
        *("EgressLog", "Template", "TemplateResources", "SandboxTemplate"),
        *("VNCInfo", "WindowInfo", "DisplayInfo", "RecordingInfo"),
    ),
}
ERRORS = "Errors"
WIDTH = 100
SAME = {"HopxError": "AtollError"}


def sdk() -> str:
    return "\n".join(_lines()).rstrip() + "\n"


def _lines() -> Iterator[str]:
    yield HEAD
    placed = {name for names in GROUPS.values() for name in names}
    if missing := sorted(_public() - placed - _errors() - {"__version__"}):
        raise ValueError(f"public names that no group of the SDK reference has: {missing}")
    for title, names in GROUPS.items():
        yield f"## {title}\n"
        for name in names:
            yield from _name(name)
    yield f"## {ERRORS}\n"
    for name in sorted(_errors(), key=lambda each: (_depth(each), each)):
        yield from _error(name)


def _public() -> set[str]:
    """Async forms are the same names with another word before them."""
    return {
        name for name in atoll.__all__ if not (name.startswith("Async") and name.removeprefix("Async") in atoll.__all__)
    }


def _errors() -> set[str]:
    kinds = ((name, getattr(atoll, name)) for name in _public())
    carried = {name for name in _public() if name.endswith("ErrorMetadata")}
    return carried | {name for name, found in kinds if isinstance(found, type) and issubclass(found, Exception)}


def _depth(name: str) -> int:
    return len(getattr(atoll, name).__mro__) if not name.endswith("Metadata") else 99


def _name(name: str) -> Iterator[str]:
    found = getattr(atoll, name)
    yield f"### {name}\n"
    if not isinstance(found, type):
        yield f"`{found!r}`\n"
        return
    yield from _documented(found.__doc__)
    if dataclasses.is_dataclass(found):
        yield _fields(found)
    for member, what in vars(found).items():
        if not member.startswith("_") and _is_method(what):
            yield from _method(name, member, what)


def _error(name: str) -> Iterator[str]:
    found = getattr(atoll, name)
    yield f"### {name}\n"
    if name in SAME:
        yield f"The same class as `{SAME[name]}`.\n"
        return
    if issubclass(found, Exception):
        above = [each.__name__ for each in found.__bases__ if each is not Exception]
        if above:
            yield f"A kind of {' and '.join(f'`{each}`' for each in above)}.\n"
    yield from _documented(found.__doc__)
    if dataclasses.is_dataclass(found):
        yield _fields(found)


def _fields(found: type) -> str:
    """Of a value class: a field's words stand below it in the source."""
    said = _words_of_fields(found)
    rows = [
        f"| `{each.name}` | {_code(_type(each.type))} | {said.get(each.name, '')} |"
        for each in dataclasses.fields(found)
    ]
    return "\n".join(["| Field | Type | |", "|---|---|---|", *rows]) + "\n"


def _words_of_fields(found: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(found))).body[0]
    assert isinstance(body, ast.ClassDef)
    said = {}
    for field, below in itertools.pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            said[field.target.id] = " ".join(str(below.value.value).split()).replace("|", "&#124;")
    return said


def _code(text: str) -> str:
    """In a table: a bar in backticks would end the cell, or be shown escaped, depending on who shows it."""
    return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>"


def _type(annotation: object) -> str:
    """The sources have it as a text; `S` is whatever class the method was called on."""
    text = re.sub(r"\bbuiltins\.", "", str(annotation))
    return re.sub(r"\bS\b", "Sandbox", text)


def _is_method(what: Any) -> bool:  # Any: whatever stands in a class
    return inspect.isfunction(what) or isinstance(what, classmethod | staticmethod | property)


def _method(owner: str, name: str, what: Any) -> Iterator[str]:  # Any: a member of a class
    yield f"#### {owner}.{name}\n"
    if isinstance(what, property):
        yield from _documented(what.__doc__)
        return
    function = what.__func__ if isinstance(what, classmethod | staticmethod) else what
    yield f"```text\n{_signature(name, function, bound=not isinstance(what, staticmethod))}\n```\n"
    yield from _documented(function.__doc__)


def _signature(name: str, function: Callable[..., Any], bound: bool) -> str:
    """As it is called; one parameter a line when they are many."""
    signature = inspect.signature(function)
    words = list(_parameters(list(signature.parameters.values())[1 if bound else 0 :]))
    returned = _type(signature.return_annotation)
    line = f"{name}({', '.join(words)}) -> {returned}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {word}," for word in words), f") -> {returned}"])


def _parameters(parameters: list[inspect.Parameter]) -> Iterator[str]:
    named_only = False
    for each in parameters:
        if each.kind is each.KEYWORD_ONLY and not named_only:
            named_only = True
            yield "*"
        stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        default = "" if each.default is each.empty else f" = {each.default!r}"
        yield f"{stars}{each.name}: {_type(each.annotation)}{default}"


def _documented(docstring: str | None) -> Iterator[str]:
    """Prose as it is, examples in blocks of their own."""
    lines: list[str] = []
    example = False
    for line in inspect.cleandoc(docstring or "").splitlines():
        begins = line.startswith(">>> ")
        if begins and not example:
            lines.append("```pycon")
        elif example and not line:
            lines.append("```")
        example = begins or (example and bool(line))
        lines.append(line)
    if example:
        lines.append("```")
    yield "\n".join(lines) + "\n"
