"""Which template is being built, and how far it is, or how its build has failed: for whoever asks on this machine.

DATA/node/templates/NAME/building    percent, while a build holds a lock on it; without one the build was killed
DATA/node/templates/NAME/failed      why the last build gave up, until another one begins
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atoll.core.errors import AtollError
from atoll.core.template import Unbuilt

from .progress import Progress


@contextmanager
def noted(directory: Path, progress: Progress) -> Iterator[Progress]:
    """Around the build of the template whose directory this is. One at a time: prepare.py sees to that."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    building, failed = directory / "building", directory / "failed"
    failed.unlink(missing_ok=True)
    fd = os.open(building, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def told(step: str, fraction: float) -> None:
        os.pwrite(fd, b"%3d" % int(100 * min(max(fraction, 0.0), 1.0)), 0)  # always as long, so it is whole
        progress(step, fraction)

    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.pwrite(fd, b"  0", 0)
        yield told
    except (AtollError, OSError) as error:
        failed.write_text(f"{error}\n")
        raise
    finally:
        building.unlink(missing_ok=True)
        os.close(fd)


def standing(directory: Path) -> Unbuilt:
    """Of a template that is not there."""
    try:
        failure = (directory / "failed").read_text().strip()
    except FileNotFoundError:
        failure = ""
    return Unbuilt(directory.name, _percent(directory / "building"), failure)


def _percent(building: Path) -> int | None:
    try:
        fd = os.open(building, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(fd, 3, 0) or b"0")
    finally:
        os.close(fd)
    return None
