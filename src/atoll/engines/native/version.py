"""What tells a running launcher from the one wanted: the release, a digest of its code, and what it was told."""

from __future__ import annotations

import hashlib
from pathlib import Path

import atoll


def engine_version(
    uplink: str = "none", open_ranges: str = "", rate: int = 100, burst: int = 500, mbit: int = 0
) -> str:
    package = Path(__file__).parents[2]
    digest = hashlib.sha256()
    rooms = [Path(__file__).parent, package / "core", package / "wire"]
    for path in sorted([package / "rpc.py", *(path for room in rooms for path in room.glob("*.py"))]):
        digest.update(path.name.encode() + path.read_bytes())
    digest.update(f"{uplink} {open_ranges} {rate} {burst} {mbit}".encode())
    return f"{atoll.__version__}+{digest.hexdigest()[:12]}"
