"""The published versions of `hopx-ai`, each in a directory of its own, and one run of the suite with one of them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
SUITE = Path(__file__).parent / "clients" / "python"
PINNED = ROOT / "requirements" / "clients"

NEWEST = "0.5.0"
OLDEST = "0.1.12"  # that can be imported: 0.1.10 and 0.1.11 fail with a NameError of their own
BETWEEN = ("0.3.8", "0.2.9", "0.1.21")  # the newest of each minor
BROKEN = ("0.1.11", "0.1.10")
TIMEOUT_S = 240


def environment(version: str) -> Path:
    """A directory with the package alone, made once. What it depends on is the environment that runs us."""
    pinned = PINNED / f"hopx-ai-{version}.txt"
    digest = hashlib.sha256(pinned.read_bytes()).hexdigest()[:12]
    place = Path(sys.prefix) / "clients" / f"hopx-ai-{version}-{digest}"
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
    (package,) = importlib.metadata.distributions(path=[str(place)])
    for wanted in map(Requirement, package.requires or []):
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            found = importlib.metadata.version(wanted.name)
            assert found in wanted.specifier, f"{package.name} {package.version} wants {wanted}, here is {found}"


@dataclass(frozen=True)
class Result:
    status: int
    output: str
    records: Path
    skipped: frozenset[str]


def run(version: str, place: dict[str, str], records: Path) -> Result:
    """The suite in a process of its own. ATOLL_CLIENT_ARGS is for developers: `-k watch -x`."""
    left, skipped = records / f"hopx-ai-{version}.jsonl", records / f"hopx-ai-{version}.skipped"
    settings = json.dumps({**place, "records": str(left), "skipped": str(skipped)})
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "HOPX_"))}
    environ |= {"PYTHONPATH": str(environment(version)), "ATOLL_CONFORMANCE": settings}
    command = [sys.executable, "-m", "pytest", "-c", SUITE / "pytest.ini", "--rootdir", SUITE, "--durations=5"]
    done = subprocess.run(
        [*command, *shlex.split(os.environ.get("ATOLL_CLIENT_ARGS", "")), SUITE],
        env=environ,
        cwd=SUITE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
    )
    names = skipped.read_text().splitlines() if skipped.exists() else []
    return Result(done.returncode, done.stdout, left, frozenset(names))


def imports(version: str) -> subprocess.CompletedProcess[str]:
    """What `import hopx_ai` says."""
    environ = {**os.environ, "PYTHONPATH": str(environment(version))}
    command = [sys.executable, "-W", "ignore", "-c", "import hopx_ai"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
