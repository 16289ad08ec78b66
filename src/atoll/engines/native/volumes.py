"""A volume: an image like a sandbox's disk, whose one superblock all sandboxes of this machine share that mount it.

Two superblocks over one image would destroy it. So before a loop device is made, those that exist are looked through
for the image: mounting the same device once more gives the same superblock. The kernel keeps the device while anybody
has it mounted, whoever made it, so this holds after the launcher's end as well, and nothing has to be remembered.

Unlike a disk it outlives what wrote to it, so flushes inside reach the host's disk.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.core.errors import InvalidInput
from atoll.core.volumes import OWNER

from . import disk, walk
from . import syscalls as sc

LOOP_GET_STATUS64 = 0x4C05
FILES = "files"
"""The directory below the sealed one that sandboxes see as the volume's root."""


@dataclass(frozen=True)
class VolumeRequest:
    image: str
    key: bytes
    path: str

    @classmethod
    def of(cls, data: dict[str, Any]) -> VolumeRequest:  # Any: JSON values
        return cls(str(data["image"]), bytes.fromhex(data["key"]), str(data["path"]))


def stage(volume: VolumeRequest, place: Path) -> Path:
    """Mounts it at `place`, a new directory; returns where its files are."""
    device_fd, device = attached_device(volume.image) or disk.attach_loop(volume.image)
    try:
        options: list[tuple[str, str | None]] = [("source", device), ("noinit_itable", None)]
        mount = sc.create_mount(sc.new_filesystem("ext4", options), "ext4", sc.MOUNT_ATTR_NODEV)
    finally:
        os.close(device_fd)
    try:
        disk.unseal(mount, volume.key, {FILES: (0o775, OWNER)})
        place.mkdir()
        sc.attach_mount(mount, str(place))
    finally:
        os.close(mount)
    return place / disk.SEALED / FILES


def attached_device(image: str) -> tuple[int, str] | None:
    """The loop device that has the image already, held open so that it stays. The caller closes the descriptor."""
    wanted = os.stat(image)
    for device in _devices():
        try:
            fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        if _backing(fd) == (wanted.st_dev, wanted.st_ino):
            return fd, device
        os.close(fd)
    return None


def device_of(image: str) -> int | None:
    """The number of the file system of an image that somebody has mounted, or is about to."""
    found = attached_device(image)
    if found is None:
        return None
    fd, device = found
    try:
        return os.stat(device).st_rdev
    finally:
        os.close(fd)


def _devices() -> Iterator[str]:
    """Those that have a file."""
    return (f"/dev/{path.parent.name}" for path in Path("/sys/block").glob("loop*/loop"))


def _backing(fd: int) -> tuple[int, int] | None:
    information = array.array("B", bytes(232))
    try:
        fcntl.ioctl(fd, LOOP_GET_STATUS64, information, True)
    except OSError:
        return None
    device, inode = struct.unpack_from("=QQ", information)
    return device, inode


def open_target(root_fd: int, path: str) -> int:
    """The directory at `path`, made where it is missing. It may be the sandbox's own work: no link is followed."""
    directory = os.dup(root_fd)
    for name in path.strip("/").split("/"):
        try:
            walk.make(directory, name)
            following = walk.enter(directory, name)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            raise InvalidInput(
                f"no volume can be mounted at {path}: {name} is no directory", field="volumes"
            ) from error
        finally:
            os.close(directory)
        directory = following
    return directory
