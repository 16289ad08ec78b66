"""The examples in docstrings do what they say. The SDK's need a sandbox, and are run in tests/sdk."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import atoll

ROOT = Path(atoll.__file__).parent
PROMPT = ">>> "


def modules() -> list[str]:
    found = (path for path in sorted(ROOT.rglob("*.py")) if PROMPT in path.read_text())
    return [
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
        for path in found
        if ROOT / "sdk" not in path.parents
    ]


@pytest.mark.parametrize("name", modules())
def test_an_example_does_what_it_says(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


def test_there_are_some() -> None:
    assert {"atoll.cli.cp", "atoll.core.secrets", "atoll.wire.connect"} <= {*modules()}
