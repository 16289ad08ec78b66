"""One suite for every version of the client and both its forms, against the installation that the environment names.

Started by tests/conformance/test_e2b_python.py, which tells it `url` and `key` of the installation. Tests are written
as the client's users write: it finds the installation by E2B_API_URL, E2B_SANDBOX_URL, E2B_VOLUME_API_URL and
E2B_API_KEY, or by Novita's variables of the same names.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import ThreadingHTTPServer
from typing import Any

import forms
import httpx
import pytest
import showing
from driven import Loop
from forms import either
from place import PLACE
from subject import CLIENT, MAKER
from talk import Proxy, said

collect_ignore = [] if CLIENT == "novita-sandbox" else ["novita"]


def pytest_configure(config: pytest.Config) -> None:
    os.environ |= {f"{MAKER}_{name}": PLACE["url"] for name in ("API_URL", "SANDBOX_URL", "VOLUME_API_URL")}
    os.environ[f"{MAKER}_API_KEY"] = PLACE["key"]
    for plugin in (showing, forms):
        config.pluginmanager.register(plugin)


@pytest.fixture
def apart(kind: str) -> Callable[[Callable[[Any], None]], None]:
    """Runs what is given the client in a thread, and a loop, of its own: older versions keep the first connections that
    a thread makes, with the proxy that they were made by."""

    def run(body: Callable[[Any], None]) -> None:
        with ThreadPoolExecutor(1) as pool, contextlib.closing(Loop()) as loop:
            pool.submit(body, either("Sandbox", kind, loop)).result()

    return run


@pytest.fixture(scope="session")
def volumes(kind: str, loop: Loop) -> Any:
    return either("Volume", kind, loop)


@pytest.fixture(scope="session")
def secrets(kind: str, loop: Loop) -> Any:
    return either("Secret", kind, loop)


@pytest.fixture(scope="session")
def templates(kind: str, loop: Loop) -> Any:
    return either("Template", kind, loop)


# ---- sandboxes


@pytest.fixture(scope="session")
def sandbox(client: Any, make: Callable[..., Any]) -> Any:
    """One of each form, for the tests that leave each other's things alone."""
    return make(client)


@pytest.fixture
def named() -> Callable[[str], str]:
    """Names that nothing else has."""
    return lambda what: f"{what}-{uuid.uuid4().hex}"


@pytest.fixture
def place(sandbox: Any, request: pytest.FixtureRequest) -> str:
    """A directory of the test's own in the shared sandbox."""
    path = "/home/user/" + "".join(letter for letter in request.node.name.partition("[")[0] if letter.isalnum())
    said(sandbox, f"mkdir -p {shlex.quote(path)}")
    return path


# ---- other programs


@pytest.fixture(scope="session")
def api() -> Iterator[httpx.Client]:
    """What a program of the test's own says to the control plane."""
    with httpx.Client(base_url=PLACE["url"], headers={"X-API-KEY": PLACE["key"]}, timeout=60) as made:
        yield made


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """An HTTP proxy: its address, and what it was asked for."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Asked", (Proxy,), {"asked": asked}))
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    serving.join()
    server.server_close()
