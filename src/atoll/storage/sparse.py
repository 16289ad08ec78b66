"""Copies of sparse files that stay sparse. Standard library only: the launcher uses it too."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

_UNSUPPORTED = frozenset((errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP))


def copy_image(source: str | os.PathLike[str], target: str | os.PathLike[str], mode: int = 0o600) -> None:
    """Data extents only; `target` must not exist, and is removed again when the copy fails."""
    from_fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        to_fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            _copy(from_fd, to_fd)
        except BaseException:
            os.unlink(target)
            raise
        finally:
            os.close(to_fd)
    finally:
        os.close(from_fd)


def _copy(from_fd: int, to_fd: int) -> None:
    size = os.fstat(from_fd).st_size
    os.ftruncate(to_fd, size)
    for start, end in extents(from_fd, size):
        _copy_range(from_fd, to_fd, start, end)


def extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        position = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, position


def _copy_range(from_fd: int, to_fd: int, start: int, end: int) -> None:
    while start < end:
        try:
            count = os.copy_file_range(from_fd, to_fd, end - start, start, start)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            count = os.pwrite(to_fd, os.pread(from_fd, min(end - start, 1 << 20), start), start)
        if count == 0:  # the source shrank
            raise OSError(errno.EIO, "the image became shorter while it was copied")
        start += count


def allocated_bytes(path: str | os.PathLike[str]) -> int:
    return os.stat(path).st_blocks * 512
