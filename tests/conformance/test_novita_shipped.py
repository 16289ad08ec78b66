"""The tests that Novita's Python package brings with it, unmodified, against a real installation.

Each part of them is one run of pytest in a process of its own, as somebody would run it who has the package, a domain
and a key. All of them pass but those of `CANNOT`; those of `SKIPPED` the package leaves out itself.
"""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import e2b_online
import pytest
from python_versions import NOVITA, environment

from atoll.testing.installation import Installation

TIMEOUT_S = 480
pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * TIMEOUT_S)]

PARTS = {
    "core, without a server": ("core/tests/test_*.py", "core/tests/bugs"),
    "core, sync": ("core/tests/sync",),
    "code interpreter, sync": ("code_interpreter/tests/sync/test_*.py", "code_interpreter/tests/test_*.py"),
    "variables, sync": ("code_interpreter/tests/sync/env_vars",),
    "charts and pictures": (
        "code_interpreter/tests/charts",
        "code_interpreter/tests/images",
        "code_interpreter/tests/languages",
    ),
    "core, async": ("core/tests/async",),
    "code interpreter, async": ("code_interpreter/tests/async/test_*.py",),
    "variables, async": ("code_interpreter/tests/async/env_vars",),
}
"""Two files of one name are never in one part: they are no packages."""
LONG = ("core, async", "code interpreter, async", "variables, async")
"""The same calls as the sync ones, by the other class."""

COPIES = "copies of memory: the engine has none, and says so"
CONTRADICTED = "the package does what its test says that it does not: it creates volumes"
VENDOR = "it replaces a function that the package has no more, and then asks a host of the vendor's: nothing gets there"
CANNOT = {
    "code_interpreter.tests.test_legacy_compat.test_*_dispatches_to_legacy_for_legacy_domain": VENDOR,
    "core.*.test_clone.test_clone_returns_instances": COPIES,
    "core.tests.test_volume_creation_disabled.*": CONTRADICTED,
}
"""Tests that do not pass → why. Whatever else ends otherwise than passed fails here."""
SKIPPED = {
    "core.*.test_volume*.*": "Volume lifecycle tests require enabled volume creation",
    "core.*.test_start_with_node_id": "NOVITA_NODE_ID is not set",
    "core.tests.bugs.test_envelope_decode.*": "unconditional skip",
    "code_interpreter.tests.languages.test_deno.*": "Deno is not supported yet",
}
"""Tests that the package skips → what it says about that."""


@dataclass
class Outcomes:
    """Of one part, by `core.tests.sync.test_kill.test_kill`."""

    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def outcomes(report: Path) -> Outcomes:
    found = Outcomes()
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '')}.{case.get('name', '')}".removeprefix(f"{NOVITA.module}.")
        ends = {each.tag: each for each in case if each.tag in ("failure", "error", "skipped")}
        if bad := ends.keys() & {"failure", "error"}:
            found.failed[name] = (ends[bad.pop()].text or "")[-1500:]
        elif "skipped" in ends:
            found.skipped[name] = ends["skipped"].get("message") or ""
        else:
            found.passed.append(name)
    return found


def _run(before: list[str], part: str, account: dict[str, str], scratch: Path) -> Outcomes:
    home = environment(NOVITA, NOVITA.newest)
    report = scratch / f"{re.sub('[^a-z]+', '-', part)}.xml"
    files = [str(path) for pattern in PARTS[part] for path in sorted((home / NOVITA.module).glob(pattern))]
    options = ["-c", "/dev/null", "--rootdir", str(home), "--import-mode=append", "-p", "no:cacheprovider", "-q"]
    options += ["-W", "ignore", "-o", "asyncio_mode=auto", "-o", "junit_family=xunit1", "--junitxml", str(report)]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "E2B_", "NOVITA_"))}
    own |= {"PYTHONPATH": str(home), "PYTHONDONTWRITEBYTECODE": "1", **account}
    command = [*before, sys.executable, "-m", "pytest", *options, *files]
    done = subprocess.run(command, env=own, cwd=scratch, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert report.exists(), done.stdout + done.stderr
    return outcomes(report)


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, named_e2b: Installation, code_interpreter_v1, names, tmp_path_factory
) -> Iterator[dict[str, Future[Outcomes]]]:
    """Two at a time: half of them is waiting."""
    account = e2b_online.by_domain(named_e2b, "NOVITA")
    wanted = [part for part in PARTS if part not in LONG or request.config.getoption("--long")]
    with ThreadPoolExecutor(2) as pool:
        scratch = tmp_path_factory.mktemp("shipped")
        yield {part: pool.submit(_run, names.before, part, account, scratch) for part in wanted}


def _is_in(name: str, table: dict[str, str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in table)


@pytest.mark.parametrize("part", [pytest.param(each, marks=[pytest.mark.long] * (each in LONG)) for each in PARTS])
def test_the_packages_own_tests_pass(runs, part):
    found = runs[part].result()
    unexpected = {name: why for name, why in found.failed.items() if not _is_in(name, CANNOT)}
    assert not unexpected, "\n\n".join(f"{name}:\n{why}" for name, why in unexpected.items())
    assert found.passed
    assert [name for name in found.passed if _is_in(name, CANNOT)] == []
    assert [f"{name}: {why}" for name, why in found.skipped.items() if not _is_in(name, SKIPPED)] == []


def test_every_exception_is_about_a_test_that_is_there(runs):
    ran = [run.result() for run in runs.values()]
    failed, skipped = ({name for each in ran for name in getattr(each, kind)} for kind in ("failed", "skipped"))
    for found, table in ((failed, CANNOT), (skipped, SKIPPED)):
        assert [each for each in table if not fnmatch.filter(found, each)] == []
