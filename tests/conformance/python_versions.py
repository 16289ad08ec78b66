"""Published versions of the Python clients, each in a directory of its own, and one run of a suite with one of them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import compatibility
import pytest
from packaging.requirements import Requirement

import leaving
from atoll.testing.installation import Installation

ROOT = Path(__file__).resolve().parents[2]
SUITES = Path(__file__).parent / "clients"
PINNED = ROOT / "requirements" / "clients"
TIMEOUT_S = 480
ARGUMENTS = "ATOLL_CLIENT_ARGS"
"""For developers, of whom one says `-k watch -x`."""


@dataclass(frozen=True)
class Client:
    """A package, its suite, and the versions of it that are run; the oldest one in every run of the tests."""

    name: str
    module: str
    suite: Path
    newest: str
    oldest: str
    between: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    label: str = ""
    """As documents call it, where its name alone says something else."""

    @property
    def always(self) -> tuple[str, ...]:
        return self.newest, self.oldest

    def wanted(self, long: bool) -> tuple[str, ...]:
        return (*self.always, *(self.between if long else ()))

    def cases(self) -> list[Any]:
        """As parameters of a test."""
        return [*self.always, *(pytest.param(each, marks=pytest.mark.long) for each in self.between)]


HOPX = Client(
    "hopx-ai",
    "hopx_ai",
    SUITES / "hopx",
    newest="0.5.0",
    oldest="0.1.12",  # that can be imported: 0.1.10 and 0.1.11 fail with a NameError of their own
    between=("0.3.8", "0.2.9", "0.1.21"),  # the newest of each minor
    broken=("0.1.11", "0.1.10"),
)
E2B = Client(
    "e2b",
    "e2b",
    SUITES / "e2b",
    newest="2.63.0",
    oldest="2.45.1",
    between=(  # and older: the newest of every third minor of twelve months
        *("2.60.0", "2.57.0", "2.53.1", "2.51.0", "2.48.0"),
        *("2.42.0", "2.39.1", "2.36.0", "2.33.0", "2.30.0", "2.27.1"),
        *("2.24.0", "2.21.1", "2.18.0", "2.15.3", "2.12.2", "2.9.1"),
    ),
)
CODE = Client(
    "e2b-code-interpreter",
    "e2b_code_interpreter",
    SUITES / "code",
    newest="2.11.5",
    oldest="2.4.1",
    between=("2.8.1",),
)
NOVITA = Client(
    "novita-sandbox",
    "novita_sandbox",
    SUITES / "e2b",  # a fork of it
    newest="2.1.1",
    oldest="2.0.7",  # of the same age as the oldest one of npm
)
NOVITA_CODE = Client(
    "novita-sandbox",
    "novita_sandbox.code_interpreter",
    SUITES / "code",
    newest=NOVITA.newest,
    oldest=NOVITA.oldest,
    label="novita-sandbox (code interpreter)",
)


def environment(client: Client, version: str) -> Path:
    """A directory with the package, made once, and with what the environment that runs us does not have for it."""
    pinned = PINNED / f"{client.name}-{version}.txt"
    digest = hashlib.sha256(pinned.read_bytes()).hexdigest()[:12]
    place = Path(sys.prefix) / "clients" / f"{client.name}-{version}-{digest}"
    if not place.is_dir():
        place.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as made:
            options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--target", made]
            subprocess.run([sys.executable, "-m", "pip", "install", *options, "-r", pinned], check=True)
            Path(made).chmod(0o755)
            os.rename(made, place)
            os.mkdir(made)  # for the end of the with block
    _check_requirements(place)
    return place


def _check_requirements(place: Path) -> None:
    here = {each.name: each for each in importlib.metadata.distributions(path=[str(place)])}
    for package in here.values():
        for wanted in map(Requirement, package.requires or []):
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                found = here[wanted.name].version if wanted.name in here else importlib.metadata.version(wanted.name)
                assert found in wanted.specifier, f"{package.name} {package.version} wants {wanted}, here is {found}"


@dataclass(frozen=True)
class Result:
    status: int
    output: str
    records: Path
    skipped: frozenset[str]

    def check(self, documented: bool = True) -> None:
        """Every test has passed, and the document says what they show, unless it says it of another run."""
        assert self.status == 0, self.output
        if documented and ARGUMENTS not in os.environ:
            compatibility.check(self.records)


Suite = Callable[[str], Result]
"""Version → what its run has found."""


def run(client: Client, version: str, place: Mapping[str, str], records: Path, before: Sequence[str] = ()) -> Result:
    """The suite in a process of its own. `before`: words that end with the program they run. `place`: what the suite is
    told, and `SSL_CERT_FILE` of an installation with TLS."""
    left, skipped = (records / f"{client.name}-{version}.{kind}" for kind in ("jsonl", "skipped"))
    settings = json.dumps(
        {**place, "client": client.label or client.name, "records": str(left), "skipped": str(skipped)}
    )
    foreign = ("PYTEST_", "HOPX_", "E2B_", "NOVITA_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environ |= {"PYTHONPATH": str(environment(client, version)), "ATOLL_CONFORMANCE": settings}
    environ |= {name: place[name] for name in ("SSL_CERT_FILE",) if name in place}
    suite = ["-c", client.suite / "pytest.ini", "--rootdir", client.suite, "--durations=5"]
    options = shlex.split(os.environ.get(ARGUMENTS, ""))
    done = subprocess.run(
        [*before, *leaving.PYTHON, "-m", "pytest", *suite, *options, client.suite],
        env=environ,
        cwd=client.suite,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
    )
    names = skipped.read_text().splitlines() if skipped.exists() else []
    return Result(done.returncode, done.stdout, left, frozenset(names))


def imports(client: Client, version: str) -> subprocess.CompletedProcess[str]:
    """What importing it says."""
    environ = {**os.environ, "PYTHONPATH": str(environment(client, version))}
    command = [sys.executable, "-W", "ignore", "-c", f"import {client.module}"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def runs(client: Client, versions: Iterable[str], place: dict[str, str], records: Path) -> Iterator[Suite]:
    """Of several versions, two at a time: half of a suite is waiting."""
    with ThreadPoolExecutor(2) as pool:
        running = {each: pool.submit(run, client, each, place, records) for each in versions}
        yield lambda version: running[version].result()


def check_skipped(suite: Suite, versions: Iterable[str]) -> None:
    """A test that no version runs, in neither form, covers what no version has, or asks for it: a name is wrong."""
    skipped = frozenset.intersection(*(suite(version).skipped for version in versions))
    in_both_forms = {name for name in skipped if "[sync" in name and name.replace("[sync", "[async") in skipped}
    assert in_both_forms == set()


def key(data: Path, *limits: str) -> str:
    """A new API key of the installation there."""
    command = [sys.executable, "-m", "atoll.cli.main", "keys", "create", "clients", *limits, "--data-dir", str(data)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def account(made: Installation) -> dict[str, str]:
    """What the suites are told of an installation."""
    return {
        "url": made.url,
        "key": made.api_key,
        "rare_key": key(made.places.data, "--calls-per-minute", "1"),
        "poor_key": key(made.places.data, "--max-sandboxes", "0"),
    }
