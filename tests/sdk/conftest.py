"""The SDK against a real installation: its key and URL are in the environment, as its users have them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import atoll

sys.path.insert(0, str(Path(__file__).parent))

VARIABLES = ("HOPX_API_KEY", "HOPX_BASE_URL", "E2B_API_KEY", "E2B_API_URL", "E2B_DOMAIN", "ATOLL_CA_FILE")


@pytest.fixture(scope="session")
def account(stack) -> dict[str, str]:
    return {"api_key": stack.installation.api_key, "base_url": stack.installation.url}


@pytest.fixture(scope="session")
def _frozen() -> None:
    """What is there before the first test need not be looked at after each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _surrounded(account, monkeypatch, _frozen) -> Iterator[None]:
    """What is left open is found while the test's filters hold: warnings are errors."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ATOLL_API_KEY", account["api_key"])
    monkeypatch.setenv("ATOLL_BASE_URL", account["base_url"])
    yield
    gc.collect()


@pytest.fixture(scope="session")
def sandbox(account) -> Iterator[atoll.Sandbox]:
    """One for all tests that leave each other's things alone."""
    with atoll.Sandbox.create("code-interpreter", metadata={"name": "example"}, **account) as made:
        yield made


@pytest.fixture
def connected(online, monkeypatch) -> Iterator[atoll.Sandbox]:
    """One of an installation whose sandboxes have a way out; the environment is that installation's."""
    monkeypatch.setenv("ATOLL_API_KEY", online.installation.api_key)
    monkeypatch.setenv("ATOLL_BASE_URL", online.installation.url)
    with atoll.Sandbox.create("code-interpreter") as made:
        yield made


@pytest.fixture(scope="session")
def small(account) -> Iterator[atoll.Sandbox]:
    """The same of the smallest template."""
    with atoll.Sandbox.create("busybox", **account) as made:
        yield made
