"""One suite for every version of the client and both its forms, against the installation that the environment names.

Started by tests/conformance/test_hopx_python.py, which tells it `url` and `key` of the installation.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forms
import hopx_ai
import pytest
import showing
from driven import Loop
from place import PLACE


def pytest_configure(config: pytest.Config) -> None:
    for plugin in (showing, forms):
        config.pluginmanager.register(plugin)


@pytest.fixture(scope="session")
def account() -> dict[str, str]:
    return {"api_key": PLACE["key"], "base_url": PLACE["url"]}


@pytest.fixture(scope="session")
def make(loop: Loop, account: dict[str, str]) -> Iterator[Callable[..., Any]]:
    """Makes a sandbox that ends with the session. `of` is the class to make it by."""
    made = []

    def create(of: Any, **arguments: Any) -> Any:
        given = {"template": "base", **account, **arguments}
        made.append(of.create(**{name: value for name, value in given.items() if value is not None}))
        return made[-1]

    yield create
    for each in made:
        _end(each, loop)


def _end(sandbox: Any, loop: Loop) -> None:
    """Neither form has a close of its own."""
    with contextlib.suppress(hopx_ai.NotFoundError):
        sandbox.kill()
    for name in ("_client", "_agent_client"):
        holder = getattr(sandbox._subject, name, None)
        if holder is not None and hasattr(holder, "close"):
            closing = holder.close()
            if closing is not None:
                loop.run(closing)


@pytest.fixture(scope="session")
def sandbox(client: Any, make: Callable[..., Any]) -> Any:
    """One of each form, for the tests that leave each other's things alone."""
    return make(client, template="code-interpreter")


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)
