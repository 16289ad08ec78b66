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

__all__ = ["MAX_MIB", "MIN_MIB", "base_image", "base_path", "copy_image", "grow_image", "make_image", "mkfs_argv"]

MIN_MIB = 16
MAX_MIB = 16 * 1024 * 1024  # ext4 with 4 KiB blocks ends at 16 TiB without further features
OWN_INODES = 16
"""What the file system and the sealed directory take for themselves, and a few."""
REPAIRED = (0, 1)
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
        make_image(image, size_mib)
        with image.open("rb") as file:
            os.fsync(file.fileno())
        os.rename(image, target)
    return target


def make_image(image: Path, size_mib: int, inodes: int | None = None) -> None:
    """A new file. `inodes`: room for at least so many files and directories; None: as `BYTES_PER_INODE` says."""
    with image.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.truncate(size_mib * 1024 * 1024)
    try:
        tools.run(mkfs_argv(image, inodes), what=f"making the empty disk image of {size_mib} MiB")
    except BaseException:
        image.unlink()
        raise


def grow_image(image: Path, size_mib: int, repair: bool = False) -> None:
    """One that nobody has mounted. Some tens of milliseconds: tables are holes here too. `repair`: it was cut off once;
    otherwise it is only looked whether the journal holds something."""
    with image.open("r+b") as file:
        file.truncate(max(size_mib * 1024 * 1024, os.fstat(file.fileno()).st_size))
    check = ["-f", "-y"] if repair else ["-p"]
    tools.run(["e2fsck", *check, str(image)], what="the check before growing", good=REPAIRED)
    tools.run(["resize2fs", "-f", str(image)], what=f"growing the image to {size_mib} MiB")
    with image.open("rb") as file:
        os.fsync(file.fileno())


def mkfs_argv(image: Path, inodes: int | None = None) -> list[str]:
    amount = ("-i", str(BYTES_PER_INODE)) if inodes is None else ("-N", str(inodes + OWN_INODES))
    extended = "discard,lazy_itable_init=0,lazy_journal_init=1,root_owner=0:0"
    features = "encrypt,^resize_inode"
    return [
        *("mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-I", "256", *amount),
        *("-J", "size=4", "-O", features, "-E", extended, str(image)),
    ]
