"""What E2B's programs read about their sandbox from files: /run/e2b/.NAME, beside the variables of the same names."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping

DIRECTORY = "/run/e2b"
NAMES = ("E2B_SANDBOX", "E2B_SANDBOX_ID", "E2B_TEMPLATE_ID")


def write(env: Mapping[str, str], directory: str = DIRECTORY) -> None:
    """The directory is made anew with each life, or an old one's files are written over; a file system that refuses
    keeps no sandbox from beginning."""
    found = {name: env[name] for name in NAMES if name in env}
    if not found:
        return
    try:
        os.makedirs(directory, 0o755, exist_ok=True)
        for name, value in found.items():
            _replace(f"{directory}/.{name}", value)
    except OSError as error:
        print(f"{directory} is not written: {error}", file=sys.stderr)


def _replace(path: str, text: str) -> None:
    """Written beside and moved into place: what lies there from an earlier life may be a link to somewhere else."""
    staging = f"{path}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        os.unlink(staging)
    with open(os.open(staging, flags, 0o644), "w") as file:
        file.write(text)
    os.rename(staging, path)
