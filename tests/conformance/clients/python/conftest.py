"""One suite for every version of the client and both its forms, against the installation that the environment names.

Started by tests/conformance/test_hopx_python.py with ATOLL_CONFORMANCE, a JSON object: `url` and `key` of the
installation, `records` (the file to leave, see tests/conformance/compatibility.py) and `skipped` (another, of names).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hopx_ai
import package
import pytest
import witness
from driven import Driven, Loop

PLACE: dict[str, str] = json.loads(os.environ["ATOLL_CONFORMANCE"])
ROWS = list(dict.fromkeys(package.rows()))
KINDS = {"sync": "", "async": "Async"}

passed: dict[package.Row, set[str]] = {}
failed: dict[package.Row, set[str]] = {}
skipped: set[str] = set()


# ---- what is shown


def pytest_configure() -> None:
    witness.watch()


def _covered(item: pytest.Item) -> list[str]:
    """The members of the client in this test's form: `Files.read` of the async client is `AsyncFiles.read`."""
    names = [name for marker in item.iter_markers("covers") for name in marker.args]
    kind = KINDS[item.callspec.params["kind"]] if hasattr(item, "callspec") and "kind" in item.callspec.params else ""
    public = package.public()
    return [kind + name if kind + name.partition(".")[0] in public else name for name in names]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    members = {member for member, parameter in ROWS if parameter is None}
    for item in items:
        if missing := [name for name in _covered(item) if name not in members]:
            reason = f"{package.CLIENT} {package.VERSION} has no {', '.join(missing)}"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    if call.when == "setup":
        witness.seen.clear()  # what fixtures do shows nothing
    outcome = yield
    report = outcome.get_result()
    if report.skipped:
        skipped.add(item.nodeid)
    elif report.when == "call" or report.failed:
        into = passed if report.passed else failed
        for row in {*witness.seen, *((name, None) for name in _covered(item))}:
            into.setdefault(row, set()).add(item.name)


def pytest_sessionfinish() -> None:
    about = {"client": package.CLIENT, "version": package.VERSION}
    lines = [
        {"member": member, "parameter": parameter, "test": None, "outcome": "exists"} for member, parameter in ROWS
    ]
    for outcome, rows in (("passed", passed), ("failed", failed)):
        for (member, parameter), tests in rows.items():
            lines += [
                {"member": member, "parameter": parameter, "test": test, "outcome": outcome} for test in sorted(tests)
            ]
    Path(PLACE["records"]).write_text("".join(json.dumps(about | line) + "\n" for line in lines))
    Path(PLACE["skipped"]).write_text("".join(f"{name}\n" for name in sorted(skipped)))


# ---- the two forms of the client


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
    return Driven(getattr(hopx_ai, f"{KINDS[kind]}Sandbox"), loop)


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
def own(client: Any, make: Callable[..., Any]) -> Callable[..., Any]:
    """Sandboxes of the test's own, where what it does would disturb others."""
    return lambda **arguments: make(client, **arguments)


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture(scope="session", autouse=True)
def _frozen() -> None:
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """The client leaves connections to the garbage collector, which must come while the test's filters hold."""
    yield
    gc.collect()
