"""What tells a running launcher from the one on disk: the release and a digest of the code it was started from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import atoll


def engine_version() -> str:
    package = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted([*Path(__file__).parent.glob("*.py"), package / "rpc.py", *(package / "wire").glob("*.py")]):
        digest.update(path.name.encode() + path.read_bytes())
    return f"{atoll.__version__}+{digest.hexdigest()[:12]}"
