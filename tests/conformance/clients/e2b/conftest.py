"""One suite for every version of the client and both its forms, against the installation that the environment names.

Started by tests/conformance/test_e2b_python.py with ATOLL_CONFORMANCE, a JSON object: `url` and `key` of the
installation, and what clients/shared/showing.py reads. Tests are written as the client's users write: it finds the
installation by E2B_API_URL, E2B_SANDBOX_URL, E2B_VOLUME_API_URL and E2B_API_KEY, or by Novita's variables of the same
names.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shlex
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import ThreadingHTTPServer
from typing import Any

import contract
import httpx
import pytest
import showing
from driven import Driven, Loop
from showing import KINDS, PLACE
from subject import CLIENT, MAKER, MODULE
from talk import Proxy, said

collect_ignore = [] if CLIENT == "novita-sandbox" else ["novita"]


def pytest_configure(config: pytest.Config) -> None:
    os.environ |= {f"{MAKER}_{name}": PLACE["url"] for name in ("API_URL", "SANDBOX_URL", "VOLUME_API_URL")}
    os.environ[f"{MAKER}_API_KEY"] = PLACE["key"]
    config.pluginmanager.register(showing)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A fact is one of the contract's: the name of a member may be that of another version."""
    named = {name for item in items for marker in item.iter_markers("covers") for name in marker.args}
    unknown = {name for name in named if name[0].isdigit()} - {*contract.FACTS, *contract.NOVITA}
    assert not unknown, unknown


# ---- the two forms of the client


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture(scope="session", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _either(name: str, kind: str, loop: Loop) -> Any:
    """A class of the client in the form that is asked for."""
    name = f"{KINDS[kind]}{name}"
    if not hasattr(MODULE, name):
        pytest.skip(f"{showing.package.VERSION} has no {name}")
    return Driven(getattr(MODULE, name), loop)


@pytest.fixture(scope="session")
def client(kind: str, loop: Loop) -> Any:
    """The class `Sandbox`, or `AsyncSandbox` driven like it."""
    return _either("Sandbox", kind, loop)


@pytest.fixture
def apart(kind: str) -> Callable[[Callable[[Any], None]], None]:
    """Runs what is given the client in a thread, and a loop, of its own: older versions keep the first connections that
    a thread makes, with the proxy that they were made by."""

    def run(body: Callable[[Any], None]) -> None:
        with ThreadPoolExecutor(1) as pool, contextlib.closing(Loop()) as loop:
            pool.submit(body, _either("Sandbox", kind, loop)).result()

    return run


@pytest.fixture(scope="session")
def volumes(kind: str, loop: Loop) -> Any:
    return _either("Volume", kind, loop)


@pytest.fixture(scope="session")
def secrets(kind: str, loop: Loop) -> Any:
    return _either("Secret", kind, loop)


@pytest.fixture(scope="session")
def templates(kind: str, loop: Loop) -> Any:
    return _either("Template", kind, loop)


# ---- sandboxes


@pytest.fixture(scope="session")
def make() -> Iterator[Callable[..., Any]]:
    """Makes a sandbox that ends with the session. `of` is the class to make it by, `by` its method."""
    made = []

    def create(of: Any, template: str | None = None, by: str = "create", **arguments: Any) -> Any:
        made.append(getattr(of, by)(template, **arguments))
        return made[-1]

    yield create
    for each in made:
        each.kill()


@pytest.fixture(scope="session")
def sandbox(client: Any, make: Callable[..., Any]) -> Any:
    """One of each form, for the tests that leave each other's things alone."""
    return make(client)


@pytest.fixture
def own(client: Any, make: Callable[..., Any]) -> Callable[..., Any]:
    """Sandboxes of the test's own, where what it does would disturb others."""
    return lambda *positional, **arguments: make(client, *positional, **arguments)


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


@pytest.fixture(scope="session", autouse=True)
def _frozen() -> None:
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """The client leaves connections to the garbage collector, which must come while the test's filters hold."""
    yield
    gc.collect()
