"""Real clients against a real installation. The packages are the published ones, unmodified."""

from __future__ import annotations

import contextlib
import gc
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atoll.testing.installation import Installation
from names import DOMAIN

sys.path.insert(0, str(Path(__file__).parent))

import e2b_online

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports the old names of its WebSocket library
    import hopx_ai

pytest.register_assert_rewrite("network_examples")

# The client uses old names of its WebSocket library, and leaves its connections to the garbage collector.
UNTIDY = (
    "ignore:websockets.client.WebSocketClientProtocol is deprecated",
    "ignore:unclosed:ResourceWarning",
)
collect_ignore = ["clients"]  # run in an environment of each version, see python_versions.py


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for quiet in UNTIDY:
                item.add_marker(pytest.mark.filterwarnings(quiet))


@pytest.fixture(scope="session")
def records(tmp_path_factory) -> Path:
    """Where a client's suite leaves what it showed, one file for each version: see compatibility.py."""
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="session")
def account(stack) -> dict[str, str]:
    """What every call of the client that reaches the control plane is given."""
    return {"api_key": stack.installation.api_key, "base_url": stack.installation.url}


@pytest.fixture(scope="session")
def named_e2b(stack, code_interpreter_v1, internet, tmp_path_factory) -> Iterator[Installation]:
    """For E2B's clients, with a domain and TLS, and the small internet beyond it."""
    data = tmp_path_factory.mktemp("e2b-named") / "data"
    with e2b_online.installation(internet, data, "--domain", DOMAIN) as made:
        yield made


@pytest.fixture(scope="session")
def _frozen() -> None:
    """What is there before the first test need not be looked at after each: 60 ms a test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _collected(_frozen) -> Iterator[None]:
    """The garbage collector must come while the test's filters hold."""
    yield
    gc.collect()


def _end(sandbox: hopx_ai.Sandbox) -> None:
    with contextlib.suppress(hopx_ai.NotFoundError):
        sandbox.kill()
    for client in (sandbox._client, sandbox._agent_client):  # it has no close of its own
        if client is not None:
            client.close()


@pytest.fixture(scope="module")
def sandbox(account) -> Iterator[hopx_ai.Sandbox]:
    """One for the tests of a module, which leave each other's things alone."""
    made = hopx_ai.Sandbox.create(template="code-interpreter", **account)
    yield made
    _end(made)


@pytest.fixture
def own(account) -> Iterator[Callable[..., hopx_ai.Sandbox]]:
    """Makes sandboxes of the test's own, where what it does would disturb others."""
    made: list[hopx_ai.Sandbox] = []

    def create(**arguments: object) -> hopx_ai.Sandbox:
        made.append(hopx_ai.Sandbox.create(**{"template": "code-interpreter", **account, **arguments}))
        return made[-1]

    yield create
    for each in made:
        _end(each)
