"""The runner is loaded by the template's Python, which may be old and has nothing of ours."""

import ast
import sys
from pathlib import Path

import pytest

from .conftest import SOURCE  # type: ignore[import-not-found]

FILES = sorted((SOURCE / "atoll" / "agent" / "runner").glob("*.py"))
ALLOWED = {"atoll.wire"}


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_the_standard_library_and_frames_are_imported(path):
    foreign = {name for name in imports_of(path) if name.split(".")[0] not in sys.stdlib_module_names}
    assert foreign <= ALLOWED


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_syntax_is_that_of_python_3_9(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    assert not any(isinstance(node, getattr(ast, "Match", ())) for node in ast.walk(tree))
    if len(tree.body) > 1:
        assert "from __future__ import annotations" in path.read_text()
