"""The built package, and environments that have it and what it says it needs: nothing else of ours is there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def build(out: Path) -> tuple[Path, Path]:
    """Source distribution and wheel. The wheel is made from the former, which so has all that it needs."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (source,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return source, wheel


def names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as content:
        return set(content.namelist())


def metadata(wheel: Path) -> Metadata:
    with ZipFile(wheel) as content:
        (name,) = (each for each in content.namelist() if each.endswith(".dist-info/METADATA"))
        return Metadata.from_email(content.read(name))


def needed(requirements: Iterable[Requirement], extras: frozenset[str] = frozenset()) -> dict[str, Distribution]:
    """Everything that an installer would bring, of what is installed here."""
    found: dict[str, Distribution] = {}
    asked = [(each, extras) for each in requirements]
    while asked:
        requirement, given = asked.pop()
        applies = [
            requirement.marker is None or requirement.marker.evaluate({"extra": extra}) for extra in ("", *given)
        ]
        name = canonicalize_name(requirement.name)
        if not any(applies) or name in found:
            continue
        found[name] = distribution(name)
        assert requirement.specifier.contains(found[name].version, prereleases=True), str(requirement)
        below = map(Requirement, found[name].requires or ())
        asked += [(each, frozenset(requirement.extras)) for each in below]
    return found


def modules(name: str) -> set[str]:
    """What a package is imported by."""
    parts = {Path(path).parts[0] for path in distribution(name).files or ()}
    return {part.partition(".")[0] for part in parts if part.endswith(".py") or "." not in part}


def environment(place: Path, wheel: Path, *extras: str) -> Path:
    """A virtual environment with the wheel, and with what it needs in links; its `bin`."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    python = place / "bin" / "python"
    (site,) = place.glob("lib/python3*/site-packages")
    for each in needed(metadata(wheel).requires_dist or (), frozenset(extras)).values():
        _link(each, site)
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*install, "--disable-pip-version-check", str(wheel)], check=True, capture_output=True, text=True)
    return place / "bin"


def _link(each: Distribution, site: Path) -> None:
    for name in {path.parts[0] for path in each.files or ()} - {"..", "__pycache__"}:
        target = site / name
        if not target.exists():
            target.symlink_to(Path(str(each.locate_file(name))).resolve())
