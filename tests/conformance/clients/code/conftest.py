"""One suite for every version of the client and both its forms, against the installation that the environment names.

Started by tests/conformance/test_e2b_code_python.py, which tells it `way`, "address" or "domain", the `key`, and the
`url` or the `domain`. Tests are written as the client's users write: by plain HTTP the installation is found by
E2B_API_URL and E2B_SANDBOX_URL, with a domain by E2B_DOMAIN.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import forms
import pytest
import showing
from driven import Driven, Loop
from place import PLACE
from subject import MODULE, NAMES


def pytest_configure(config: pytest.Config) -> None:
    if PLACE["way"] == "domain":
        os.environ[f"{NAMES.variables}_DOMAIN"] = PLACE["domain"]
    else:
        os.environ |= {f"{NAMES.variables}_{name}": PLACE["url"] for name in ("API_URL", "SANDBOX_URL")}
    os.environ[f"{NAMES.variables}_API_KEY"] = PLACE["key"]
    for plugin in (showing, forms):
        config.pluginmanager.register(plugin)


@pytest.fixture(scope="session")
def id_of_shared(loop: Loop, make: Callable[..., Any]) -> str:
    """One for all tests that leave each other's things alone: its kernels are started once, for both forms."""
    made = make(Driven(MODULE.Sandbox, loop), envs={"COLOUR": "blue"}, timeout=600)
    return str(made.sandbox_id)


@pytest.fixture(scope="session")
def sandbox(id_of_shared: str, client: Any) -> Any:
    return client.connect(id_of_shared)


@pytest.fixture
def context(sandbox: Any) -> Iterator[Any]:
    """A Python context of the test's own."""
    made = sandbox.create_code_context()
    yield made
    sandbox.remove_code_context(made)


@pytest.fixture(scope="session")
def one(id_of_shared: str, loop: Loop) -> Any:
    """The same sandbox, for facts that are no matter of the client's form."""
    return Driven(MODULE.Sandbox, loop).connect(id_of_shared)


@pytest.fixture
def room(one: Any) -> Iterator[Any]:
    made = one.create_code_context()
    yield made
    one.remove_code_context(made)
