"""A volume mounted into a sandbox that runs, and taken out again; done by a child (`child.py`) in its mount namespace.

Inside, hostile programs run at the same time. So a path is walked name by name from the root, with a descriptor of each
directory: no link is followed and no other mount is entered, whatever is put in the place of what meanwhile. Taking out
goes by the last directory's descriptor and one name in it, after a look at what is mounted there: only a volume of ours
can be. The namespace stays the template's: root inside can neither undo nor move what is mounted here.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from atoll.core.errors import Conflict, InvalidInput

from . import syscalls as sc
from . import walk
from .tree import file_ids

UMOUNT_NOFOLLOW = 8
NO_DIRECTORY = (errno.ENOTDIR, errno.ELOOP)
FULL = (errno.ENOSPC, errno.EDQUOT)


def attach(pidfd: int, mount_fd: int, base_id: int, path: str) -> bool:
    """False when it is there already. `base_id`: the host's number of the sandbox's root, who makes what is missing."""
    volume = os.fstat(mount_fd)
    with file_ids(base_id), _refused(path), _parent(pidfd, path, make=True) as (parent, name):
        walk.make(parent, name)
        try:
            target = walk.enter(parent, name, walk.ONE_MOUNT)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            if _device(parent, name) == volume.st_dev:
                return False
            raise InvalidInput(f"something else is mounted at {path}", field="path") from error
        try:
            sc.attach_mount_at(mount_fd, target)
        finally:
            os.close(target)
    return True


def detach(pidfd: int, device: int, path: str, force: bool) -> bool:
    """False when that file system is not mounted there."""
    with _refused(path), _parent(pidfd, path) as (parent, name):
        if not _is_mounted(parent, name, device):
            return False
        os.fchdir(parent)
        try:
            sc.umount(name, UMOUNT_NOFOLLOW | (sc.MNT_DETACH if force else 0))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            raise Conflict(
                f"the volume at {path} is in use: a program has a file in it open, or works in it. End it, or unmount "
                "with force",
                cause="busy",
            ) from error
    return True


def mounted(pidfd: int, device: int, path: str) -> bool:
    """Whether that file system is mounted there."""
    try:
        with _parent(pidfd, path) as (parent, name):
            return _is_mounted(parent, name, device)
    except OSError:
        return False


def count(pid: int, device: int) -> int:
    """How often that file system is mounted in the namespace of a process; read by who sees it in its /proc."""
    number = f"{os.major(device)}:{os.minor(device)}"
    return sum(line.split()[2] == number for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines())


@contextlib.contextmanager
def _parent(pidfd: int, path: str, make: bool = False) -> Iterator[tuple[int, str]]:
    """Enters the sandbox's mount namespace, for good."""
    sc.setns(pidfd, sc.CLONE_NEWNS)
    *way, name = path.strip("/").split("/")
    directory = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for step in way:
            if make:
                walk.make(directory, step)
            following = walk.enter(directory, step, walk.ONE_MOUNT)
            os.close(directory)
            directory = following
        yield directory, name
    finally:
        os.close(directory)


@contextlib.contextmanager
def _refused(path: str) -> Iterator[None]:
    """What the sandbox's own files stand against."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_DIRECTORY:
            raise InvalidInput(f"{path} leads through something that is no directory", field="path") from error
        if error.errno == errno.EXDEV:
            raise InvalidInput(f"{path} leads into another mount", field="path") from error
        if error.errno in FULL:
            raise Conflict(f"the sandbox's disk is full: the directory {path} cannot be made", cause="full") from error
        if error.errno == errno.ENOENT:
            raise Conflict(f"the directories on the way to {path} were moved or removed inside the sandbox") from error
        raise


def _is_mounted(parent: int, name: str, device: int) -> bool:
    try:
        os.close(walk.enter(parent, name, walk.ONE_MOUNT))
    except OSError as error:
        if error.errno == errno.EXDEV:
            return _device(parent, name) == device
        if error.errno != errno.ENOENT:
            raise
    return False


def _device(parent: int, name: str) -> int:
    fd = walk.enter(parent, name)
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)
