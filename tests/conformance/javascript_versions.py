"""The published JavaScript package in each version that is tested, and its suite in `js/`, run by node.

A directory `js/VERSION` is a package.json with its lock file: every package by version and hash. What is installed from
it is kept outside the checkout, so only the first run needs the registry.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CLIENT = "@hopx-ai/sdk"
SUITE = Path(__file__).parent / "js"
KEPT = Path(sys.prefix) / "clients"
INSTALL_TIMEOUT_S = 300
SUITE_TIMEOUT_S = 120
MANIFEST = ("package.json", "package-lock.json")


def versions() -> list[str]:
    return sorted(path.parent.name for path in SUITE.glob("*/package-lock.json"))


def test_names() -> list[str]:
    """Read, not run: collecting must need neither node nor the packages."""
    sources = (path.read_text() for path in sorted((SUITE / "tests").glob("*.mjs")))
    return [name for source in sources for name in re.findall(r"^test\(\s*'([^']+)'", source, re.MULTILINE)]


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is missing: scripts/test installs it, or apt-get install nodejs npm"
    return found


def installed(version: str) -> Path:
    """Where the package of this version is, with everything it needs."""
    manifest = [SUITE / version / name for name in MANIFEST]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in manifest)).hexdigest()[:12]
    place = KEPT / f"hopx-ai-sdk-{version}-{digest}"
    if not place.exists():
        _install(manifest, place)
    return place


def _install(manifest: list[Path], place: Path) -> None:
    """Whole or not at all, also when another run does the same."""
    KEPT.mkdir(exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=KEPT))
    try:
        for path in manifest:
            shutil.copy(path, made)
        command = [program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(command, cwd=made, check=True, timeout=INSTALL_TIMEOUT_S, stdin=subprocess.DEVNULL)
        with contextlib.suppress(OSError):
            made.rename(place)
        assert place.exists(), f"{made} could not become {place}"
    finally:
        shutil.rmtree(made, ignore_errors=True)


class Run:
    """The suite with one version, begun at once and asked for its report later."""

    def __init__(self, version: str, scratch: Path, facts: Mapping[str, str]) -> None:
        self.version = version
        self._report, self._output = scratch / f"{version}.json", scratch / f"{version}.log"
        command = [program("node"), str(SUITE / "main.mjs"), str(installed(version)), str(self._report)]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"PATH": os.environ["PATH"], **facts},
            )

    def report(self) -> dict[str, Any]:
        try:
            status = self._process.wait(SUITE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.end()
            status = f"not done within {SUITE_TIMEOUT_S} s"
        assert status == 0, f"the suite with {CLIENT} {self.version} ended early ({status}):\n{self.output()}"
        return dict(json.loads(self._report.read_text()))

    def output(self) -> str:
        return self._output.read_text(errors="replace")[-4000:]

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def record(report: Mapping[str, Any], records: Path) -> Path:
    """The report in the form of compatibility.py."""
    path = records / f"{CLIENT.replace('/', '_')}-{report['version']}.jsonl"
    with path.open("w") as out:
        for row in report["rows"]:
            out.write(_line(report, row["member"], row["parameter"], None, "exists"))
        for result in report["results"]:
            for name in _shown(result):
                member, _, parameter = name.partition("(")
                out.write(_line(report, member, parameter.removesuffix(")") or None, result["test"], result["outcome"]))
    return path


def _shown(result: Mapping[str, Any]) -> list[str]:
    """Of what a test is about: all when it failed, else what it really called and gave."""
    if result["outcome"] == "failed":
        return list(result["shows"])
    return [name for name in result["called"] if name.partition("(")[0] in result["shows"]]


def _line(report: Mapping[str, Any], member: str, parameter: str | None, test: str | None, outcome: str) -> str:
    row = {"client": CLIENT, "version": report["version"], "member": member, "parameter": parameter}
    return json.dumps({**row, "test": test, "outcome": outcome}) + "\n"
