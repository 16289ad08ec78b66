"""The two forms of a client, the sync and the async: fixtures, as a pytest plugin of each suite."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import package
import pytest
from driven import Driven, Loop
from showing import KINDS


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture(scope="session", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def either(name: str, kind: str, loop: Loop) -> Any:
    """A class of the client in the form that is asked for."""
    name = f"{KINDS[kind]}{name}"
    if not hasattr(package.MODULE, name):
        pytest.skip(f"{package.VERSION} has no {name}")
    return Driven(getattr(package.MODULE, name), loop)


@pytest.fixture(scope="session")
def client(kind: str, loop: Loop) -> Any:
    """The class `Sandbox`, or `AsyncSandbox` driven like it."""
    return either("Sandbox", kind, loop)


@pytest.fixture(scope="session")
def make() -> Iterator[Callable[..., Any]]:
    """Makes a sandbox that ends with the session. `of` is the class to make it by, `by` its method."""
    made = []

    def create(of: Any, *positional: Any, by: str = "create", **arguments: Any) -> Any:
        made.append(getattr(of, by)(*positional, **arguments))
        return made[-1]

    yield create
    for each in made:
        each.kill()


@pytest.fixture
def own(client: Any, make: Callable[..., Any]) -> Callable[..., Any]:
    """Sandboxes of the test's own, where what it does would disturb others."""
    return lambda *positional, **arguments: make(client, *positional, **arguments)


@pytest.fixture(scope="session", autouse=True)
def _frozen() -> None:
    """What is there before the first test need not be looked at after each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """The client leaves connections to the garbage collector, which must come while the test's filters hold."""
    yield
    gc.collect()
