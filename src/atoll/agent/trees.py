"""Directory trees, in small steps: PID 1 has one thread, so a walk over a million files must let others in.

Each function is a generator; `in_steps` runs it with the user's rights and gives the loop a turn at every yield.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Generator, Iterator
from typing import TypeVar

from .users import User, Users

T = TypeVar("T")
Steps = Generator[None, None, T]
ENTRIES_PER_STEP = 256
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


async def in_steps(users: Users, user: User, steps: Steps[T]) -> T:
    while True:
        with users.acting_as(user):
            try:
                next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
        await asyncio.sleep(0)


def remove(path: str) -> Steps[int]:
    """Removes what `path` names, never what a symlink points to; returns how many entries.

    A program may exchange a directory for a symlink while we walk: directories are entered by descriptor and without
    following, and the way back up is checked against the directory we came from. Two descriptors, whatever the depth.
    """
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        return 1
    walk = _Removal(path)
    try:
        yield from walk.run()
    finally:
        walk.close()
    os.rmdir(path)
    return walk.removed + 1


class _Removal:
    def __init__(self, path: str) -> None:
        self._fd = os.open(path, _OPEN_DIRECTORY)
        self._above: list[tuple[str, tuple[int, int]]] = []
        """Names on the way down, each with the identity of the directory that holds it."""
        self.removed = 0

    def run(self) -> Steps[None]:
        while True:
            child = yield from self._unlink_until_directory()
            if child is not None:
                self._descend(child)
            elif self._above:
                self._ascend()
            else:
                return

    def close(self) -> None:
        os.close(self._fd)

    def _unlink_until_directory(self) -> Steps[str | None]:
        with os.scandir(self._fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    return entry.name
                os.unlink(entry.name, dir_fd=self._fd)
                self.removed += 1
                if self.removed % ENTRIES_PER_STEP == 0:
                    yield
        return None

    def _descend(self, name: str) -> None:
        child = os.open(name, _OPEN_DIRECTORY, dir_fd=self._fd)
        self._above.append((name, _identity(self._fd)))
        self._replace(child)

    def _ascend(self) -> None:
        name, expected = self._above.pop()
        self._replace(os.open("..", _OPEN_DIRECTORY, dir_fd=self._fd))
        if _identity(self._fd) != expected:
            raise PermissionError(1, "the directory was moved while it was being removed")
        os.rmdir(name, dir_fd=self._fd)
        self.removed += 1

    def _replace(self, fd: int) -> None:
        os.close(self._fd)
        self._fd = fd


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def walk_sorted(path: str, depth: int) -> Iterator[os.DirEntry[str]]:
    """Every entry down to `depth`, sorted by name, a directory before its content. Symlinks are not followed."""
    with os.scandir(path) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        yield entry
        if depth > 1 and entry.is_dir(follow_symlinks=False):
            try:
                yield from walk_sorted(entry.path, depth - 1)
            except (PermissionError, FileNotFoundError):
                continue  # what this user cannot look into is an entry without content
