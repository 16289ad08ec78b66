"""The compatibility table: what of the installed `hopx_ai` is public, and which tests show that it works.

A test says what it shows with `@covers("Files.read", …)`. With ATOLL_WRITE_COMPATIBILITY set a run of this directory
writes the table into docs/compatibility/hopx.md, below the marker line.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "compatibility" / "hopx.md"
MARKER = "<!-- Below: written by the tests, see tests/conformance/compatibility.py -->"

CLASSES = {
    "Sandbox": "sandbox",
    "Files": "files",
    "Commands": "commands",
    "EnvironmentVariables": "env_vars",
    "Cache": "cache",
    "Terminal": "terminal",
    "AsyncSandbox": "async_sandbox",
    "AsyncFiles": "_async_files",
    "AsyncCommands": "_async_commands",
    "AsyncEnvironmentVariables": "_async_env_vars",
    "AsyncCache": "_async_cache",
    "AsyncTerminal": "_async_terminal",
    "Desktop": "desktop",
    "Template": "template.builder",
}

WAITS = {
    "Sandbox.desktop": "waits: desktop",
    "Desktop.": "waits: desktop",
    "Template.": "waits: template building",
    "Sandbox.delete_template": "waits: template building",
    "AsyncSandbox.delete_template": "waits: template building",
    "Sandbox.get_preview_url": "waits: public URLs",
    "Sandbox.agent_url": "waits: public URLs",
    "AsyncSandbox.get_preview_url": "waits: public URLs",
    "AsyncSandbox.agent_url": "waits: public URLs",
    "Sandbox.run_code_async": "waits: web hooks",
    "AsyncSandbox.run_code_async": "waits: web hooks",
}

covers = pytest.mark.covers


def public_names() -> list[str]:
    """`Class.member` of every public method and property."""
    return [f"{name}.{member}" for name in CLASSES for member in _members(name)]


def _members(name: str) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports the old names of its WebSocket library
        found = getattr(importlib.import_module(f"hopx_ai.{CLASSES[name]}"), name)
    for member, value in vars(found).items():
        callable_ = inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod, property))
        if callable_ and not member.startswith("_"):
            yield member


@dataclass
class Table:
    """Name → the tests that passed, and those that did not."""

    passed: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, list[str]] = field(default_factory=dict)

    def add(self, names: list[str], test: str, passed: bool) -> None:
        for name in names:
            (self.passed if passed else self.failed).setdefault(name, []).append(test)

    def render(self) -> str:
        names = public_names()
        shown = sum(1 for name in names if name in self.passed and name not in self.failed)
        rows = [f"| `{name}` | {self._verdict(name)} | {self._tests(name)} |" for name in names]
        head = f"{shown} of {len(names)} public methods and properties are shown to work by a test.\n"
        return "\n".join([head, "| | | shown by |", "|---|---|---|", *rows, ""])

    def _verdict(self, name: str) -> str:
        if name in self.failed:
            return "**fails**"
        if name in self.passed:
            return "works"
        return next((text for beginning, text in WAITS.items() if name.startswith(beginning)), "not yet tested")

    def _tests(self, name: str) -> str:
        return ", ".join(self.failed.get(name) or self.passed.get(name) or ["–"])


def write(table: Table) -> None:
    text, marker, _ = DOCUMENT.read_text().partition(MARKER)
    assert marker, f"{DOCUMENT} has lost its marker line"
    DOCUMENT.write_text(f"{text}{MARKER}\n\n{table.render()}")
