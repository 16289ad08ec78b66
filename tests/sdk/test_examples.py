"""Every public class and method of the SDK has an example, and it does what stands below it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, closing
from pathlib import Path

import pytest
from desktop_agent import Screen
from docstrings import classes, documented, parts, run

import atoll

pytestmark = pytest.mark.root

ALL = list(documented())


def test_each_has_an_example():
    assert [found.name for found in ALL if not parts(found.text, found.name)] == []


def test_no_class_is_left_out():
    names = {found.name.partition(".")[0] for found in ALL}
    assert {each.__name__ for each in classes() if each.__name__.startswith("Async")} <= names
    assert {"Sandbox", "Files", "Commands", "Terminal", "TerminalSession", "Secrets", "Network"} <= names


@pytest.fixture(scope="module")
def screen():
    with Screen() as made:
        yield made


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the examples take for granted."""
    monkeypatch.chdir(tmp_path)
    given = {name: getattr(atoll, name) for name in atoll.__all__}
    return given | {"aclosing": aclosing, "closing": closing, "Path": Path}


def objects_for(text: str, kind: str, sandbox_id: str, screen: Screen) -> dict[str, object]:
    """`sandbox` is of the form that the example is written for."""
    made = atoll.AsyncSandbox if "await " in text or "async " in text or kind.startswith("Async") else atoll.Sandbox
    return {"sandbox": made(sandbox_id), "desktop_sandbox": made.debug(screen.url, "token")}


@pytest.fixture
def used(request, found) -> atoll.Sandbox:
    """What the example calls `sandbox`; one with a way out where that is what it is about."""
    with_way_out = "egress" in found.name
    return request.getfixturevalue("connected" if with_way_out else "sandbox")


@pytest.mark.parametrize("found", ALL, ids=lambda found: found.name)
def test_it_does_what_it_says(found, used, names, screen):
    names |= objects_for(found.text, found.name, used.sandbox_id, screen)
    asyncio.run(run(found.text, found.name, names))
