"""What lies in the sandbox only to save time: compiled programs, package downloads, byte code. Counted and cleared.

A row says where a kind lies and which files of it may go without anyone noticing. Clearing unlinks those files and
nothing else: directories stay, symlinks are neither followed nor counted, a program that runs keeps its file.
Packages are where their tools put them: pip, npm and apt find them there without a word from us.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from . import programs, trees
from .programs import Programs
from .users import DEFAULT_USER, Users

MAX_SEEN: Final = 50_000  # entries looked at for one answer; a walk that stopped there says so
MAX_SEEN_CLEARING: Final = 1_000_000
MAX_DEPTH: Final = 32
_BYTE_CODE = re.compile(r"(.+?)\.[a-z]+-?[0-9]+[^.]*(?:\.opt-[12])?\.pyc")
# Other people's trees, full of files and without byte code of Python's.
_NOT_FOR_PYTHON = frozenset((".cache", ".git", ".npm", "node_modules"))

Accept = Callable[[str, str, os.stat_result], bool]
"""Directory, name and status of a regular file → it belongs to the cache."""


@dataclass(frozen=True)
class Kept:
    kind: str
    place: str
    """`~` is the user's home, `.` the work directory."""
    accept: Accept
    user: str = DEFAULT_USER
    depth: int = MAX_DEPTH
    skipped: frozenset[str] = frozenset()


def _any(directory: str, name: str, status: os.stat_result) -> bool:
    del directory, name, status
    return True


def _package(directory: str, name: str, status: os.stat_result) -> bool:
    del directory, status
    return name.endswith(".deb")


def _compiled_since(directory: str, name: str, status: os.stat_result) -> bool:
    """What the template brought along has times to come."""
    del directory
    return name.endswith(("-a", "-d")) and status.st_mtime <= time.time() + 3600


def _byte_code(directory: str, name: str, status: os.stat_result) -> bool:
    """Only beside its source can it be made again."""
    del status
    above, here = os.path.split(directory)
    match = _BYTE_CODE.fullmatch(name)
    return here == "__pycache__" and match is not None and os.path.isfile(os.path.join(above, match[1] + ".py"))


KEPT: Final = (
    Kept("go", os.path.join("~", programs.PLACE), _any, depth=1),
    Kept("go", "~/.cache/go-build", _compiled_since, depth=2),
    Kept("pip", "~/.cache/pip", _any),
    Kept("npm", "~/.npm/_cacache", _any),
    Kept("apt", "/var/cache/apt/archives", _package, user="root", depth=1),
    Kept("pycache", ".", _byte_code, skipped=_NOT_FOR_PYTHON),
    Kept("pycache", "~", _byte_code, skipped=_NOT_FOR_PYTHON),
)
KINDS: Final = tuple(dict.fromkeys(row.kind for row in KEPT))


@dataclass
class Figures:
    bytes: int = 0
    entries: int = 0


@dataclass
class Measured:
    kinds: dict[str, Figures] = field(default_factory=lambda: {kind: Figures() for kind in KINDS})
    complete: bool = True
    at: float = field(default_factory=time.monotonic)

    @property
    def total(self) -> Figures:
        found = self.kinds.values()
        return Figures(sum(each.bytes for each in found), sum(each.entries for each in found))


class Cache:
    def __init__(self, users: Users, compiled: Programs, workdir: str, inside: bool) -> None:
        """`inside` a sandbox what lies in the home and in /var is the sandbox's; elsewhere it is somebody's own."""
        self.compiled = compiled
        self._inside = inside
        self._users = users
        self._workdir = workdir
        self._measured: Measured | None = None
        self._turn = asyncio.Lock()

    async def measure(self, max_age_s: float = 0.0) -> Measured:
        async with self._turn:
            last = self._measured
            if last is None or time.monotonic() - last.at > max_age_s:
                last = self._measured = await self._measure()
            return last

    async def clear(self) -> int:
        """Returns how many files went."""
        async with self._turn:
            removed = 0
            for row in self._rows():
                with suppress(OSError):
                    removed += await trees.in_steps(self._users, self._users.lookup(row.user), _clear(row))
            self._measured = None
            self.compiled.hits = self.compiled.misses = 0
            return removed

    async def _measure(self) -> Measured:
        measured, left = Measured(), MAX_SEEN
        for row in self._rows():
            walk = Walk(row, left)
            with suppress(OSError):
                await trees.in_steps(self._users, self._users.lookup(row.user), _count(walk, measured.kinds[row.kind]))
            left -= walk.seen
            measured.complete &= not walk.cut
        return measured

    def _rows(self) -> list[Kept]:
        rows = rows_of(self._users.lookup().home, self._workdir)
        return rows if self._inside else [row for row in rows if row.place == os.path.normpath(self._workdir)]


def rows_of(home: str, workdir: str) -> list[Kept]:
    """Places made absolute. A work directory that is the home, or lies in it, is not walked twice (or the reverse)."""
    places = {(row.kind, _place(row.place, home, workdir)): row for row in KEPT}
    rows = {key: row for key, row in places.items() if os.path.isabs(key[1])}
    code = [place for kind, place in rows if kind == "pycache"]
    return [
        replace(row, place=place)
        for (kind, place), row in rows.items()
        if not (kind == "pycache" and any(_inside(place, other) for other in code))
    ]


def _place(place: str, home: str, workdir: str) -> str:
    if place == ".":
        return os.path.normpath(workdir)
    return os.path.normpath(home + place[1:]) if place.startswith("~") else place


def _inside(path: str, other: str) -> bool:
    return path != other and os.path.commonpath((path, other)) == other


class Walk:
    """The files of a row, at most `limit` entries looked at. Yields None in between, for others' turns."""

    def __init__(self, row: Kept, limit: int) -> None:
        self.row = row
        self.seen = 0
        self.cut = False
        self._limit = limit

    def __iter__(self) -> Iterator[tuple[str, int] | None]:
        pending = [(self.row.place, 1)]
        while pending:
            directory, depth = pending.pop()
            try:
                entries = os.scandir(directory)
            except OSError:
                continue
            with entries:
                for entry in entries:
                    if self.seen >= self._limit:
                        self.cut = True
                        return
                    self.seen += 1
                    if self.seen % trees.ENTRIES_PER_STEP == 0:
                        yield None
                    if entry.is_dir(follow_symlinks=False):
                        if depth < self.row.depth and entry.name not in self.row.skipped:
                            pending.append((entry.path, depth + 1))
                    elif (size := self._size(directory, entry)) is not None:
                        yield entry.path, size

    def _size(self, directory: str, entry: os.DirEntry[str]) -> int | None:
        with suppress(OSError):
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and self.row.accept(directory, entry.name, status):
                return status.st_size
        return None


def _count(walk: Walk, figures: Figures) -> trees.Steps[None]:
    for found in walk:
        if found is None:
            yield
            continue
        figures.bytes += found[1]
        figures.entries += 1


def _clear(row: Kept) -> trees.Steps[int]:
    removed = 0
    for found in Walk(row, MAX_SEEN_CLEARING):
        if found is None:
            yield
            continue
        with suppress(OSError):
            os.unlink(found[0])
            removed += 1
    return removed
