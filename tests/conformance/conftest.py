"""Real clients against a real installation. The packages are the published ones, unmodified."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import compatibility

NAMES = frozenset(compatibility.public_names())  # which imports the client before a test does

import hopx_ai

TABLE = pytest.StashKey[compatibility.Table]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "covers(*names): shows that these members of hopx_ai work")
    config.stash[TABLE] = compatibility.Table()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        unknown = set(_covered(item)) - NAMES
        if unknown:
            raise pytest.UsageError(f"{item.name} covers what hopx_ai does not have: {', '.join(sorted(unknown))}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and not report.skipped:
        item.config.stash[TABLE].add(_covered(item), item.name.partition("[")[0], report.passed)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("ATOLL_WRITE_COMPATIBILITY"):
        compatibility.write(session.config.stash[TABLE])


def _covered(item: pytest.Item) -> list[str]:
    return [name for marker in item.iter_markers("covers") for name in marker.args]


@pytest.fixture(scope="session")
def account(stack) -> dict[str, str]:
    """What every call of the client that reaches the control plane is given."""
    return {"api_key": stack.installation.api_key, "base_url": stack.installation.url}


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """The client leaves connections to the garbage collector; it must come while the tests' filters hold."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def sandbox(account) -> Iterator[hopx_ai.Sandbox]:
    """One for the tests of a module, which leave each other's things alone."""
    made = hopx_ai.Sandbox.create(template="code-interpreter", **account)
    yield made
    made.kill()
