"""What a suite's tests show of the installed client, as rows: see tests/conformance/compatibility.py.

A pytest plugin of each suite, which is told `records` (the file to leave) and `skipped` (another, of names). The
suite's `package.py` says what is public, and which facts of a contract its tests may name: they begin with the number
of a section. Tests that run in both forms have a fixture `kind`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import package
import pytest
import witness
from place import PLACE

ROWS = list(dict.fromkeys(package.rows()))
KINDS = {"sync": "", "async": "Async"}

passed: dict[package.Row, set[str]] = {}
failed: dict[package.Row, set[str]] = {}
skipped: set[str] = set()


def pytest_configure() -> None:
    witness.watch()


def _covered(item: pytest.Item) -> list[str]:
    """The members of the client in this test's form: `Files.read` of the async client is `AsyncFiles.read`."""
    names = [name for marker in item.iter_markers("covers") for name in marker.args]
    kind = KINDS[item.callspec.params["kind"]] if hasattr(item, "callspec") and "kind" in item.callspec.params else ""
    public = package.public()
    return [kind + name if kind + name.partition(".")[0] in public else name for name in names]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    named = {name for item in items for marker in item.iter_markers("covers") for name in marker.args}
    unknown = {name for name in named if name[0].isdigit()} - package.FACTS
    assert not unknown, unknown
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
        used = () if item.get_closest_marker("refused") else witness.seen
        for row in {*used, *((name, None) for name in _covered(item))}:
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
