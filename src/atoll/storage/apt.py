"""How the host gets its packages, so that builds get theirs in the same way.

Builds run apt from outside their root: the host's sources, keyrings, proxies and pins are read where they are and
never copied into a layer. What mmdebstrap itself leaves behind is removed by `layers.scrub`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from atoll.core.errors import Unsupported

from .tools import run

_ETC = Path("/etc/apt")
# Transport and time-check settings only: hooks such as Post-Invoke belong to the host's own packages.
_CARRIED = re.compile(r"Acquire::(?:http|https|Check-|ForceIPv|Retries|AllowInsecure)[^ ]* \".+\";")


def source_files(etc: Path = _ETC) -> list[Path]:
    parts = etc / "sources.list.d"
    listed = sorted(path for path in parts.glob("*") if path.suffix in (".list", ".sources")) if parts.is_dir() else []
    found = [path for path in (etc / "sources.list", *listed) if path.is_file() and _has_entries(path.read_text())]
    if not found:
        raise Unsupported("apt has no package sources on this host; templates are built from those")
    return found


def _has_entries(text: str) -> bool:
    return any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines())


def carried_options(dump: Iterable[str]) -> list[str]:
    return [line for line in dump if _CARRIED.fullmatch(line)]


def options(etc: Path = _ETC) -> list[str]:
    """apt.conf lines for an apt whose `Dir` is a build root."""
    return [
        *carried_options(run(["apt-config", "dump"], what="reading apt's configuration").splitlines()),
        f'Dir::Etc::netrc "{etc}/auth.conf";',
        f'Dir::Etc::netrcparts "{etc}/auth.conf.d";',
        f'Dir::Etc::preferences "{etc}/preferences";',
        f'Dir::Etc::preferencesparts "{etc}/preferences.d";',
    ]


def suite(os_release: Path = Path("/etc/os-release")) -> str:
    return codename(dict(line.split("=", 1) for line in os_release.read_text().splitlines() if "=" in line))


def codename(fields: Mapping[str, str]) -> str:
    name = fields.get("VERSION_CODENAME", "").strip('"')
    if not name:
        raise Unsupported("this host does not say which release it is; Debian or Ubuntu is needed to build templates")
    return name


def mmdebstrap(target: Path, *, variant: str, packages: Iterable[str], extra: Iterable[str] = ()) -> list[str]:
    return [
        "mmdebstrap",
        "--mode=root",
        f"--variant={variant}",
        "--format=directory",
        f"--include={','.join(packages)}",
        *(f"--aptopt={line}" for line in options()),
        *extra,
        suite(),
        str(target),
        *map(str, source_files()),
    ]
