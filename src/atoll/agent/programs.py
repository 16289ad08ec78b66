"""Compiled programs kept for the next time: the least recently used go first.

They lie in the home of the user who had them compiled, and everything here happens with that user's rights: the user
may remove, damage or exchange them, and is the only one who runs them. An entry becomes a program by a hard link into
its run's own directory, so a program's path is the same kind of path every time, and outlives the entry.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Final, NamedTuple

from .users import User, Users

PLACE: Final = os.path.join(".cache", "atoll", "programs")
MAX_ENTRIES: Final = 64
MAX_BYTES: Final = 256 * 1024 * 1024
FREE_SHARE: Final = 0.1  # of the disk; with less, nothing is kept
_MAX_LISTED = 1024  # the directory is the enemy's: what else it may hold
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry(NamedTuple):
    used_at: int
    size: int
    name: str


class Programs:
    def __init__(self, users: Users) -> None:
        self.hits = 0
        self.misses = 0
        self._users = users

    def take(self, user: User, key: str, path: str) -> bool:
        """Puts the kept program at `path`."""
        try:
            with self._directory(user) as fd:
                status = os.stat(key, dir_fd=fd, follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                    return False
                os.link(key, path, src_dir_fd=fd, follow_symlinks=False)
                os.utime(key, dir_fd=fd, follow_symlinks=False)
        except OSError:
            return False
        return True

    def drop(self, user: User, key: str, path: str) -> None:
        with suppress(OSError), self._directory(user) as fd:
            os.unlink(path)
            os.unlink(key, dir_fd=fd)

    def place(self, user: User, key: str) -> str | None:
        """Where a program that is being compiled may be left, when there is room for it."""
        directory = os.path.join(user.home, PLACE)
        try:
            with self._users.acting_as(user):
                os.makedirs(directory, mode=0o700, exist_ok=True)
                found = os.statvfs(directory)
            roomy = found.f_bavail >= FREE_SHARE * found.f_blocks
            self.trim(user, MAX_ENTRIES - 1 if roomy else 0)
        except OSError:
            return None
        return os.path.join(directory, key) if roomy else None

    def trim(self, user: User, entries: int = MAX_ENTRIES) -> None:
        with suppress(OSError), self._directory(user) as fd:
            for name in surplus(_listed(fd), entries, MAX_BYTES):
                with suppress(OSError):
                    os.unlink(name, dir_fd=fd)

    @contextmanager
    def _directory(self, user: User) -> Iterator[int]:
        """Refuses one that somebody else could have filled."""
        with self._users.acting_as(user):
            fd = os.open(os.path.join(user.home, PLACE), _OPEN)
            try:
                status = os.fstat(fd)
                if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                    raise PermissionError
                yield fd
            finally:
                os.close(fd)


def surplus(found: list[Entry], entries: int, size: int) -> list[str]:
    """Which to drop, so that at most `entries` of together at most `size` bytes stay: the longest unused."""
    dropped: list[str] = []
    kept = 0
    for rank, entry in enumerate(sorted(found, reverse=True)):
        kept += entry.size
        if rank >= entries or kept > size:
            dropped.append(entry.name)
    return dropped


def _listed(fd: int) -> list[Entry]:
    with os.scandir(fd) as found:
        entries = [(entry.name, entry.stat(follow_symlinks=False)) for entry in islice(found, _MAX_LISTED)]
    return [
        Entry(status.st_mtime_ns, status.st_size, name) for name, status in entries if not stat.S_ISDIR(status.st_mode)
    ]
