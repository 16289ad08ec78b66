"""A sandbox's disk: an ext4 image on a loop device, all of it below one directory with a key of its own.

The key is fscrypt's (v2 policy, AES-256-XTS for contents, AES-256-CTS for names) and lives in this one
ext4 superblock: it is gone when the last mount is. Ids on the disk are 0-based (the mount is idmapped),
so a disk moves to another slice of ids, a copy or a microVM without a chown.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import struct
from collections.abc import Mapping

from . import syscalls as sc

LOOP_CTL_GET_FREE = 0x4C82
LOOP_CONFIGURE = 0x4C0A
LO_FLAGS_AUTOCLEAR = 4
FS_IOC_ADD_ENCRYPTION_KEY = 0xC0506617
FS_IOC_SET_ENCRYPTION_POLICY = 0x800C6613
KEY_SPEC_IDENTIFIER = 2
MODE_AES_256_XTS, MODE_AES_256_CTS, PAD_32 = 1, 4, 3
SEALED = "sealed"
"""The one directory in an image; everything a sandbox writes is below it."""
KEY_BYTES = 64


def attach_loop(image: str) -> tuple[int, str]:
    """A loop device that detaches itself when its last user is gone. The caller closes the descriptor.

    Through the host's page cache, not O_DIRECT: a short-lived sandbox's data then never reaches the host's disk, and
    no create or kill waits for it (direct: 12 ms for a mount, 12 ms for an unmount on a busy disk).
    """
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        while True:
            device = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
            fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(fd, LOOP_CONFIGURE, _loop_config(backing, image))
                return fd, device
            except OSError as error:
                os.close(fd)
                if error.errno != errno.EBUSY:  # busy: somebody else took this number first
                    raise
    finally:
        os.close(backing)
        os.close(control)


def _loop_config(backing: int, image: str) -> bytes:
    name = os.path.basename(image).encode()[:63]
    info = struct.pack("=QQQQQIIII64s64s32sQQ", 0, 0, 0, 0, 0, 0, 0, 0, LO_FLAGS_AUTOCLEAR, name, b"", b"", 0, 0)
    return struct.pack("=II", backing, 0) + info + b"\0" * 64


def mount_image(image: str) -> int:
    """A detached mount of the image. `noinit_itable`: the kernel must not fill the sparse tables. `nobarrier`: a flush
    inside a sandbox is no reason to stop the host's disk; the node syncs the image of a sandbox that is kept.
    `noauto_da_alloc`: ext4 would write a file out, encrypted, whenever it replaces another one, for the sake of a
    power cut after which nothing is promised here (ADR 3): 4 s for 256 MiB where the kernel has no AES instructions."""
    loop, device = attach_loop(image)
    try:
        options = [("source", device), ("noinit_itable", None), ("nobarrier", None), ("noauto_da_alloc", None)]
        return sc.create_mount(sc.new_filesystem("ext4", options), "ext4", sc.MOUNT_ATTR_NODEV)
    finally:
        os.close(loop)


DISK_CONTENTS = {"upper": (0o755, 0), "work": (0o755, 0)}

Contents = Mapping[str, tuple[int, int]]
"""Directories: name → mode and owner."""


def unseal(mount_fd: int, key: bytes, contents: Contents = DISK_CONTENTS) -> None:
    """Adds the key and, on a new image, makes the sealed directory with `contents` in it.

    The name `sealed` appears by a rename when the directory has its policy: a crash in between can
    leave no directory that looks sealed and is not.
    """
    root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount_fd)
    try:
        identifier = _add_key(root, key)
        if not _exists(root, SEALED):
            _make_sealed(root, identifier, contents)
    finally:
        os.close(root)


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _make_sealed(root: int, identifier: bytes, contents: Contents) -> None:
    unfinished = "unsealed"
    os.mkdir(unfinished, 0o700, dir_fd=root)
    _set_policy(root, unfinished, identifier)
    for name, (mode, owner) in contents.items():
        path = f"{unfinished}/{name}"
        os.mkdir(path, mode, dir_fd=root)
        os.chmod(path, mode, dir_fd=root)
        os.chown(path, owner, owner, dir_fd=root)
    os.rename(unfinished, SEALED, src_dir_fd=root, dst_dir_fd=root)


def _add_key(fd: int, key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a disk key has {KEY_BYTES} bytes")
    argument = array.array("B", struct.pack("=II32sII32s", KEY_SPEC_IDENTIFIER, 0, b"", len(key), 0, b"") + key)
    fcntl.ioctl(fd, FS_IOC_ADD_ENCRYPTION_KEY, argument, True)
    return argument.tobytes()[8:24]


def _set_policy(root: int, name: str, identifier: bytes) -> None:
    directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        policy = struct.pack("=BBBBB3s16s", 2, MODE_AES_256_XTS, MODE_AES_256_CTS, PAD_32, 0, b"", identifier)
        fcntl.ioctl(directory, FS_IOC_SET_ENCRYPTION_POLICY, policy)
    finally:
        os.close(directory)
