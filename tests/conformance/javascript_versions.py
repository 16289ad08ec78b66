"""The published JavaScript packages in each version that is tested, and their suites, run by node.

A directory `SUITE/VERSION` is a package.json with its lock file: every package by version and hash. What is installed
from it is kept outside the checkout, so only the first run needs the registry.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
KEPT = Path(sys.prefix) / "clients"
INSTALL_TIMEOUT_S = 300
SUITE_TIMEOUT_S = 240
MANIFEST = ("package.json", "package-lock.json")

Report = dict[str, Any]
Reports = Callable[[str], Report]
"""By a run's name."""


@dataclass(frozen=True)
class Suite:
    client: str
    """As documents and records call it."""
    home: Path
    place: str
    """What the directories of its versions begin with."""
    always: tuple[str, ...] = ()
    """Those that every run of the tests has, not `--long` alone; empty: all."""

    def versions(self) -> list[str]:
        found = (path.parent.name for path in self.home.glob("*/package-lock.json"))
        return sorted(found, key=lambda version: [int(part) for part in version.split(".")])

    def between(self) -> list[str]:
        return [each for each in self.versions() if self.always and each not in self.always]

    def test_names(self) -> list[str]:
        """Read, not run: collecting must need neither node nor the packages."""
        sources = (path.read_text() for path in sorted((self.home / "tests").glob("*.mjs")))
        return [name for source in sources for name in re.findall(r"^test\(\s*'([^']+)'", source, re.MULTILINE)]

    def installed(self, version: str) -> Path:
        """Where the package of this version is, with everything it needs."""
        manifest = [self.home / version / name for name in MANIFEST]
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in manifest)).hexdigest()[:12]
        place = KEPT / f"{self.place}-{version}-{digest}"
        if not place.exists():
            _install(manifest, place)
        return place


HOPX = Suite("@hopx-ai/sdk", HERE / "js", "hopx-ai-sdk")
E2B = Suite("e2b (npm)", HERE / "e2b_js", "e2b-npm", always=("2.51.0", "2.45.0"))
CODE = Suite("@e2b/code-interpreter", HERE / "code_js", "e2b-code-npm")
NOVITA = Suite("novita-sandbox (npm)", HERE / "novita_js", "novita-npm")


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is missing: scripts/test installs it, or apt-get install nodejs npm"
    return found


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

    def __init__(
        self, suite: Suite, version: str, scratch: Path, facts: Mapping[str, str], before: Sequence[str] = ()
    ) -> None:
        """`before`: words that end with the program they run."""
        self.suite, self.version = suite, version
        self._report, self._output = scratch / f"{version}.json", scratch / f"{version}.log"
        program_of = [program("node"), str(suite.home / "main.mjs"), str(suite.installed(version)), str(self._report)]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [*before, *program_of],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"PATH": os.environ["PATH"], **facts},
            )

    def report(self) -> Report:
        try:
            status = self._process.wait(SUITE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.end()
            status = f"not done within {SUITE_TIMEOUT_S} s"
        assert status == 0, (
            f"the suite with {self.suite.client} {self.version} ended early ({status}):\n{self.output()}"
        )
        return dict(json.loads(self._report.read_text()))

    def output(self) -> str:
        return self._output.read_text(errors="replace")[-4000:]

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def side_by_side(names: Iterable[str], begin: Callable[[str], Run], at_once: int) -> Iterator[Reports]:
    """Most of a run is waiting."""
    begun: list[Run] = []

    def report(name: str) -> Report:
        made = begin(name)
        begun.append(made)
        return made.report()

    with ThreadPoolExecutor(at_once) as pool:
        running = {name: pool.submit(report, name) for name in names}
        try:
            yield lambda name: running[name].result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for each in begun:
                each.end()


def check(report: Report, name: str, always: bool = False) -> None:
    """That a test of the suite has passed, where the version has what it is about; `always`: each version has."""
    (result,) = [each for each in report["results"] if each["test"] == name]
    if result["outcome"] == "absent" and not always:
        pytest.skip(f"{report['version']} has none of {', '.join(result['shows'])}")
    assert result["outcome"] == "passed", result["error"]


def check_whole(report: Report, version: str, names: Sequence[str]) -> None:
    """That the report is of this version, and has each test of these names and no other."""
    assert report["version"] == version
    assert sorted(each["test"] for each in report["results"]) == sorted(names)


def record(suite: Suite, report: Mapping[str, Any], records: Path) -> Path:
    """The report in the form of compatibility.py."""
    path = records / f"{suite.client.replace('/', '_')}-{report['version']}.jsonl"
    about = {"client": suite.client, "version": report["version"]}
    with path.open("w") as out:
        for row in report["rows"]:
            out.write(_line(about, row["member"], row["parameter"], None, "exists"))
        for result in report["results"]:
            if result["outcome"] == "absent":
                continue
            for name in _shown(result):
                member, _, parameter = name.partition("(")
                out.write(_line(about, member, parameter.removesuffix(")") or None, result["test"], result["outcome"]))
    return path


def _shown(result: Mapping[str, Any]) -> list[str]:
    """Of what a test is about: all when it failed, else what it really called and gave."""
    if result["outcome"] == "failed":
        return list(result["shows"])
    return [name for name in result["called"] if name.partition("(")[0] in result["shows"]]


def _line(about: Mapping[str, str], member: str, parameter: str | None, test: str | None, outcome: str) -> str:
    return json.dumps({**about, "member": member, "parameter": parameter, "test": test, "outcome": outcome}) + "\n"
