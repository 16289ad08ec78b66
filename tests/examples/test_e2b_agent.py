"""Agent code for E2B's package, with that package, unmodified: only the environment says where the server is."""

from __future__ import annotations

import pytest
from e2b import Sandbox

from examples.e2b_agent import check, look, read, repair
from stack import until

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("none_left")]

PROJECT = {
    "app.py": "def double(x):\n    return x\n",
    "test_app.py": (
        "import unittest, app\nclass T(unittest.TestCase):\n"
        "    def test(self):\n        print('tested', flush=True)\n        self.assertEqual(app.double(21), 42)\n"
    ),
}
RIGHT = "def double(x):\n    return x * 2\n"


@pytest.fixture(autouse=True)
def elsewhere(stack, monkeypatch) -> None:
    monkeypatch.setenv("E2B_API_KEY", stack.installation.api_key)
    monkeypatch.setenv("E2B_API_URL", stack.url)
    monkeypatch.setenv("E2B_SANDBOX_URL", stack.url)


def test_the_agent_repairs_a_project_and_looks_at_it():
    complaints: list[str] = []

    def model(complaint: str) -> dict[str, str]:
        complaints.append(complaint)
        return {"app.py": RIGHT}

    with Sandbox.create("code-interpreter", timeout=120) as sandbox:
        assert repair(sandbox, PROJECT, model) == {**PROJECT, "app.py": RIGHT}
        shown: list[str] = []
        assert check(sandbox, shown.append) is None
        assert "tested" in "".join(shown)
        assert look(sandbox, "app.py") == RIGHT
        until(lambda: not sandbox.commands.list(), "its server is gone")
        assert set(read(sandbox)) == set(PROJECT)
    assert len(complaints) == 1
    assert "21 != 42" in complaints[0]
