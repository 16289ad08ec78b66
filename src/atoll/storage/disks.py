"""A sandbox's disk: a sparse ext4 image, copied from an empty one of its size.

The empty image is made once per size. What keeps it small, in the order of what it saves on 10 GiB: no resize inode
(4.1 MB of reserved descriptors; online growth goes by meta_bg), a 4 MB journal that is not zeroed, inode tables that
are holes. `discard` tells mkfs that holes read as zeros, so groups are marked as zeroed and no mount ever starts the
kernel's lazy initialisation, which would write the tables out in each sandbox.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from atoll.core.errors import InvalidInput

from . import tools
from .sparse import copy_image

__all__ = ["MAX_MIB", "MIN_MIB", "base_image", "base_path", "copy_image", "mkfs_argv"]

MIN_MIB = 16
MAX_MIB = 16 * 1024 * 1024  # ext4 with 4 KiB blocks ends at 16 TiB without further features
BYTES_PER_INODE = 8192  # node_modules trees average little more than one block a file; tables then take 3 % of the disk


def base_path(directory: Path, size_mib: int) -> Path:
    return directory / f"base-{size_mib}.ext4"


def base_image(directory: Path, size_mib: int) -> Path:
    """The empty image of that size; made when it is not there."""
    if not MIN_MIB <= size_mib <= MAX_MIB:
        raise InvalidInput(f"a disk has {MIN_MIB} to {MAX_MIB} MiB, not {size_mib}")
    target = base_path(directory, size_mib)
    if target.exists():
        return target
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=directory) as scratch:
        image = Path(scratch) / target.name
        with image.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.truncate(size_mib * 1024 * 1024)
        tools.run(mkfs_argv(image), what=f"making the empty disk image of {size_mib} MiB")
        with image.open("rb") as file:
            os.fsync(file.fileno())
        os.rename(image, target)
    return target


def mkfs_argv(image: Path) -> list[str]:
    extended = "discard,lazy_itable_init=0,lazy_journal_init=1,root_owner=0:0"
    features = "encrypt,^resize_inode"
    return [
        *("mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-I", "256", "-i", str(BYTES_PER_INODE)),
        *("-J", "size=4", "-O", features, "-E", extended, str(image)),
    ]
