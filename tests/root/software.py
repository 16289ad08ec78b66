"""Published software for sandboxes that reach no registry: fetched here once, kept outside the checkout, carried in.

`programs/` pins it, every package by version and hash, beside the programs that use it.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from stack import Box

PROGRAMS = Path(__file__).parent / "programs"
PINS = ("requirements.txt", "package.json", "package-lock.json")
KEPT = Path.home() / ".cache" / "atoll" / "software"
INSTALL_TIMEOUT_S = 300

PYTHON, ARCHIVE = "python", "all.tar"
"""Of what is kept: a directory for PYTHONPATH, and everything as it goes into a sandbox."""
INSIDE = "/workspace/software"


def installed(python: str) -> Path:
    """For this version of Python (`3.11`) and any Node."""
    digest = hashlib.sha256(b"".join((PROGRAMS / name).read_bytes() for name in PINS)).hexdigest()[:12]
    place = KEPT / f"{python}-{digest}"
    if not place.exists():
        _install(python, place)
    return place


def _install(python: str, place: Path) -> None:
    """Whole or not at all, also when another run does the same."""
    KEPT.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=KEPT))
    try:
        _install_python(python, made / PYTHON)
        _install_node(made)
        with tarfile.open(made / ARCHIVE, "w") as archive:
            for name in (PYTHON, "node_modules"):
                archive.add(made / name, name)
        with contextlib.suppress(OSError):
            made.rename(place)
        assert place.exists(), f"{made} could not become {place}"
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _install_python(version: str, target: Path) -> None:
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    options += [f"--python-version={version}", f"--target={target}", "-r", str(PROGRAMS / "requirements.txt")]
    _run(sys.executable, "-m", "pip", "install", *options)


def _install_node(directory: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PROGRAMS / name, directory)
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    _run("npm", "ci", *options, directory=directory)


def _run(*command: str, directory: Path | None = None) -> None:
    subprocess.run(command, cwd=directory, check=True, timeout=INSTALL_TIMEOUT_S, stdin=subprocess.DEVNULL)


def carry_in(box: Box) -> None:
    """The packages and our programs, to where the programs find the packages."""
    python = box.sh("python3 -c 'import sys; print(*sys.version_info[:2], sep=\".\")'")
    with (installed(python) / ARCHIVE).open("rb") as archive:
        path = f"{INSIDE}/{ARCHIVE}"
        box.agent("POST", "/files/upload", files={"file": archive}, data={"path": path}).raise_for_status()
    box.sh(f"cd {INSIDE} && tar -xf {ARCHIVE} && rm {ARCHIVE}")
    for program in PROGRAMS.glob("*.*"):
        if program.suffix in (".py", ".mjs"):
            body = {"path": f"{INSIDE}/{program.name}", "content": program.read_text()}
            box.agent("POST", "/files/write", json=body).raise_for_status()
