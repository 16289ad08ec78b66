"""After `--long` over everything: what the long tests said, and when, in docs/long-tests.md."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "long-tests.md"
HEAD = """# The last long run

Written by `./scripts/test --long`, which runs every test and those that take too long for each change; with `-m long`
it runs those alone.

| | |
|---|---|
"""


class LongRun:
    """A pytest plugin; one line for each long test."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._long: set[str] = set()
        self._rows: list[tuple[str, str, float]] = []
        self._others = {"passed": 0, "failed": 0, "skipped": 0}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._long = {item.nodeid for item in items if item.get_closest_marker("long")}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            if report.nodeid in self._long:
                self._rows.append((report.nodeid, report.outcome, report.duration))
            else:
                self._others[report.outcome] += 1

    def pytest_sessionfinish(self) -> None:
        PAGE.write_text(self.render(datetime.now(UTC)))

    def render(self, now: datetime) -> str:
        others = ", ".join(f"{count} {outcome}" for outcome, count in self._others.items() if count)
        facts = {
            "date": f"{now:%Y-%m-%d}",
            "commit": self._commit(),
            "machine": f"{os.cpu_count()} cores, kernel {platform.release().split('-')[0]}, {platform.machine()}",
            "other tests": others or "none",
        }
        lines = [f"| {name} | {value} |" for name, value in facts.items()]
        lines += ["", "| long test | outcome | seconds |", "|---|---|---|"]
        lines += [f"| `{nodeid}` | {outcome} | {seconds:.0f} |" for nodeid, outcome, seconds in self._rows]
        return HEAD + "\n".join(lines) + "\n"

    def _commit(self) -> str:
        found = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=self._root, capture_output=True, text=True, check=False
        )
        return found.stdout.strip() or "unknown"
