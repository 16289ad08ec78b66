"""One suite for every version of the client and both its forms, against the installation that the environment names.

Started by tests/conformance/test_e2b_code_python.py with ATOLL_CONFORMANCE: see subject.py, and clients/shared. Tests
are written as the client's users write: by plain HTTP the installation is found by E2B_API_URL and E2B_SANDBOX_URL,
with a domain by E2B_DOMAIN.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import contract
import pytest
import showing
from driven import Driven, Loop
from showing import KINDS
from subject import MODULE, NAMES, PLACE


def pytest_configure(config: pytest.Config) -> None:
    if PLACE["way"] == "domain":
        os.environ[f"{NAMES.variables}_DOMAIN"] = PLACE["domain"]
    else:
        os.environ |= {f"{NAMES.variables}_{name}": PLACE["url"] for name in ("API_URL", "SANDBOX_URL")}
    os.environ[f"{NAMES.variables}_API_KEY"] = PLACE["key"]
    config.pluginmanager.register(showing)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    named = {name for item in items for marker in item.iter_markers("covers") for name in marker.args}
    unknown = {name for name in named if name[0].isdigit()} - set(contract.FACTS)
    assert not unknown, unknown


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture(scope="session", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def client(kind: str, loop: Loop) -> Any:
    """The class `Sandbox`, or `AsyncSandbox` driven like it."""
    return Driven(getattr(MODULE, f"{KINDS[kind]}Sandbox"), loop)


@pytest.fixture(scope="session")
def make() -> Iterator[Callable[..., Any]]:
    """Makes a sandbox that ends with the session. `of` is the class to make it by."""
    made = []

    def create(of: Any, **arguments: Any) -> Any:
        made.append(of.create(**arguments))
        return made[-1]

    yield create
    for each in made:
        each.kill()


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


@pytest.fixture
def own(client: Any, make: Callable[..., Any]) -> Callable[..., Any]:
    """Sandboxes of the test's own, where what it does would disturb others."""
    return lambda **arguments: make(client, **arguments)


@pytest.fixture(scope="session", autouse=True)
def _frozen() -> None:
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """The client leaves connections to the garbage collector, which must come while the test's filters hold."""
    yield
    gc.collect()
