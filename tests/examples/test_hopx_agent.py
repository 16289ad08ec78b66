"""The same agent code with HopX's package and with ours."""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import atoll
from examples.hopx_agent import profile, solve

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports the old names of its WebSocket library
    import hopx_ai

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("none_left")]

TESTS = """
import unittest
from solution import double

class Test(unittest.TestCase):
    def test_double(self):
        self.assertEqual(double(21), 42)
"""
WRONG, RIGHT = "def double(x):\n    return x\n", "def double(x):\n    return x * 2\n"


@contextlib.contextmanager
def theirs(stack) -> Iterator[Any]:
    account = {"api_key": stack.installation.api_key, "base_url": stack.installation.url}
    with hopx_ai.Sandbox.create("code-interpreter", **account) as sandbox:
        yield sandbox
    for client in (sandbox._client, sandbox._agent_client):  # it has no close of its own
        if client is not None:
            client.close()
    gc.collect()  # what else it leaves open goes while the test's filter holds


@contextlib.contextmanager
def ours(_: Any) -> Iterator[Any]:
    with atoll.Sandbox.create("code-interpreter") as sandbox:
        yield sandbox


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("package", [theirs, ours])
def test_the_agent_reads_the_failure_and_does_better(stack, package):
    seen: list[list[str]] = []

    def model(history: list[str]) -> str:
        seen.append(list(history))
        return WRONG if len(history) == 1 else RIGHT

    with package(stack) as sandbox:
        assert solve(sandbox, TESTS, model) == RIGHT
        assert profile(sandbox, "print('a'); print('b')")["lines"] == 2
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            profile(sandbox, "1/0")
    assert "21 != 42" in seen[1][-1]
