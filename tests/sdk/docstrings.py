"""The examples in the docstrings of the SDK, as programs: found, and run.

They are written as for Python's `doctest`, async ones too: an `await` may stand at the top. What an example's last
expression gives, or what it prints, has to be what stands below it.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import inspect
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import atoll

PARSER = doctest.DocTestParser()
CHECKER = doctest.OutputChecker()
OWN_METHODS = ("__init__",)
WITHOUT = {
    # what only carries what others return, or is raised: the example stands where it comes from
    *(name for name in atoll.__all__ if isinstance(getattr(atoll, name), type) and name.endswith("Error")),
    *("SandboxErrorMetadata", "TemplateBuildErrorMetadata", "Resources", "TemplateResources", "ExpiryInfo"),
    *("EgressLog", "Secret", "VNCInfo", "WindowInfo", "RecordingInfo", "DisplayInfo"),
} - {"AtollError", "HopxError"}


@dataclass(frozen=True)
class Documented:
    name: str
    text: str


def classes() -> list[type]:
    found = {getattr(atoll, name) for name in atoll.__all__ if isinstance(getattr(atoll, name), type)}
    return sorted(found, key=lambda each: each.__name__)


def documented() -> Iterator[Documented]:
    """Every public class of the SDK, and every public method and property of those that do something."""
    for found in classes():
        if found.__name__ not in WITHOUT:
            yield Documented(found.__name__, found.__doc__ or "")
        if issubclass(found, Exception) or hasattr(found, "__dataclass_fields__"):
            continue
        for name, member in vars(found).items():
            if (name in OWN_METHODS and found.__name__.endswith("Sandbox")) or not name.startswith("_"):
                yield Documented(f"{found.__name__}.{name}", _function(member).__doc__ or "")


def _function(member: Any) -> Callable[..., Any]:
    if isinstance(member, classmethod | staticmethod):
        return member.__func__
    return member.fget if isinstance(member, property) else member


def parts(text: str, name: str) -> list[doctest.Example]:
    return PARSER.get_examples(inspect.cleandoc(text), name)


async def run(text: str, name: str, names: dict[str, Any]) -> None:
    """Every step in turn; AssertionError where the output is another."""
    for example in parts(text, name):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            await _step(example.source, names)
        got = said.getvalue()
        assert CHECKER.check_output(example.want, got, doctest.ELLIPSIS), (
            f"{name}: after\n{example.source}expected\n{example.want}got\n{got}"
        )


async def _step(source: str, names: dict[str, Any]) -> None:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
    tree = compile(source, "<example>", "exec", flags)
    if len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr):
        wrapped = ast.Expression(tree.body[0].value)
        value = eval(compile(wrapped, "<example>", "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        value = await value if inspect.iscoroutine(value) and _awaits(tree) else value
        if value is not None:
            print(repr(value))
        return
    code = compile(tree, "<example>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)
    if inspect.iscoroutine(result):
        await result


def _awaits(tree: ast.AST) -> bool:
    return any(isinstance(node, ast.Await | ast.AsyncFor | ast.comprehension) for node in ast.walk(tree))
