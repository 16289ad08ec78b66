"""The log on disk: ID.jsonl and, before it, ID.jsonl.1, one entry a line, in the order of `seq`.

`seq` counts a sandbox's entries from 1; a reader says the last one it has and gets what follows, across rotation and
restarts. Nothing here knows a loop; calls take turns, so one thread is enough.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from atoll.core.egress import Entry
from atoll.core.ids import is_sandbox_id

MIB = 1024 * 1024
BLOCK = 4096
LONGEST_LINE = 64 * 1024
OLD = ".1"
SUFFIXES = (".jsonl" + OLD, ".jsonl")
"""Older first."""
_SEQ = re.compile(rb'\{"seq":(\d+),')


@dataclass(frozen=True)
class LogLimits:
    sandbox_bytes: int = 8 * MIB
    """In two halves: when the newer one is full it takes the place of the older one."""
    total_bytes: int = 1024 * MIB
    keep_s: float = 7 * 24 * 3600.0
    """After the last entry."""


@dataclass(frozen=True)
class Page:
    entries: Sequence[dict[str, Any]]  # Any: JSON values, those of `Entry.to_wire` and `seq`
    cursor: int
    """To be given as `after` for what comes next."""


@dataclass
class _File:
    size: int
    at: float
    """Of the last entry."""


class LogFiles:
    def __init__(self, directory: Path, limits: LogLimits, now: Callable[[], float]) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        self._directory = directory
        self._limits = limits
        self._now = now
        self._next: dict[str, int] = {}
        self._files = {
            entry.name: _File(stat.st_size, stat.st_mtime)
            for entry in os.scandir(directory)
            if _sandbox_of(entry.name) and (stat := entry.stat(follow_symlinks=False))
        }
        self._total = sum(_on_disk(file) for file in self._files.values())

    @property
    def total_bytes(self) -> int:
        return self._total

    # ---- writing

    def append(self, sandbox_id: str, entries: Sequence[Entry]) -> None:
        """All of them or, with an OSError, none."""
        first = self._following(sandbox_id)
        lines = [_line(seq, entry) for seq, entry in enumerate(entries, first)]
        data, name = b"".join(lines), f"{sandbox_id}.jsonl"
        if name in self._files and self._files[name].size + len(data) > self._limits.sandbox_bytes // 2:
            self._rotate(name)
        size = _append(self._directory / name, data)
        self._note(name, _File(size, self._now()))
        self._next[sandbox_id] = first + len(entries)
        if self._total > self._limits.total_bytes:
            self._make_room()

    def _rotate(self, name: str) -> None:
        moved = self._files[name]
        self._note(name, None)
        with contextlib.suppress(FileNotFoundError):  # somebody has tidied up
            os.replace(self._directory / name, self._directory / (name + OLD))
            self._note(name + OLD, moved)

    def _following(self, sandbox_id: str) -> int:
        if sandbox_id not in self._next:
            self._next[sandbox_id] = self._last_on_disk(sandbox_id) + 1
        return self._next[sandbox_id]

    def _last_on_disk(self, sandbox_id: str) -> int:
        return max((self._mended(sandbox_id + suffix) for suffix in SUFFIXES), default=0)

    def _mended(self, name: str) -> int:
        """The last entry's number; a line that a crash cut short is taken off."""
        if name not in self._files:
            return 0
        try:
            file = (self._directory / name).open("r+b")
        except FileNotFoundError:
            self._note(name, None)
            return 0
        with file:
            size = file.seek(0, os.SEEK_END)
            start = file.seek(max(0, size - LONGEST_LINE))
            tail = file.read()
            whole = tail.rfind(b"\n") + 1
            if whole != len(tail):
                file.truncate(start + whole)
                self._note(name, _File(start + whole, self._files[name].at))
            numbers = [int(found[1]) for line in tail[:whole].splitlines() if (found := _SEQ.match(line))]
        return numbers[-1] if numbers else 0

    # ---- reading

    def read(self, sandbox_id: str, after: int, limit: int) -> Page:
        """`after` below 0 counts from the end: -20 is for the last 20."""
        last = self._following(sandbox_id) - 1
        after = max(0, last + after) if after < 0 else min(after, last)
        found: list[dict[str, Any]] = []
        for suffix in SUFFIXES:
            if len(found) < limit and sandbox_id + suffix in self._files:
                found.extend(self._entries(sandbox_id + suffix, after, limit - len(found)))
        return Page(found, found[-1]["seq"] if found else after)

    def _entries(self, name: str, after: int, limit: int) -> Iterator[dict[str, Any]]:
        try:
            file = (self._directory / name).open("rb")
        except FileNotFoundError:
            self._note(name, None)
            return
        with file:
            file.seek(_position(file, self._files[name].size, after))
            for line in file:
                if limit == 0:
                    return
                if (number := _SEQ.match(line)) and int(number[1]) > after:
                    with contextlib.suppress(ValueError):
                        entry = json.loads(line)
                        limit -= 1
                        yield entry

    # ---- limits

    def sweep(self) -> None:
        """Removes the logs of those of whom nothing was heard for long."""
        before = self._now() - self._limits.keep_s
        newest: dict[str, float] = {}
        for name, file in self._files.items():
            sandbox_id = _sandbox_of(name)
            newest[sandbox_id] = max(file.at, newest.get(sandbox_id, 0.0))
        for sandbox_id in [each for each, at in newest.items() if at < before]:
            for suffix in SUFFIXES:
                self._remove(sandbox_id + suffix)
        for sandbox_id in self._next.keys() - newest.keys():
            del self._next[sandbox_id]

    def _make_room(self) -> None:
        """The oldest go, down to a little below the limit so that not each write has to look."""
        aim = self._limits.total_bytes * 15 // 16
        for name in sorted(self._files, key=lambda name: self._files[name].at):
            if self._total <= aim:
                return
            self._remove(name)

    def _remove(self, name: str) -> None:
        if name in self._files:
            (self._directory / name).unlink(missing_ok=True)
            self._note(name, None)

    def _note(self, name: str, file: _File | None) -> None:
        old = self._files.pop(name, None)
        self._total += _on_disk(file) - _on_disk(old)
        if file is not None:
            self._files[name] = file


def _append(path: Path, data: bytes) -> int:
    """The size of the file then."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        before = os.fstat(fd).st_size
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(fd, left) :]
        except OSError:
            os.ftruncate(fd, before)
            raise
        return before + len(data)
    finally:
        os.close(fd)


def _position(file: IO[bytes], size: int, after: int) -> int:
    """Where to begin so that every line with a greater number follows, found by halves."""
    low, high = 0, size
    while high - low > LONGEST_LINE:
        middle = (low + high) // 2
        file.seek(middle)
        file.readline()
        start = file.tell()
        number = _SEQ.match(file.readline())
        if number and int(number[1]) <= after:
            low = start
        else:
            high = middle
    return low


def _line(seq: int, entry: Entry) -> bytes:
    return json.dumps({"seq": seq, **entry.to_wire()}, separators=(",", ":")).encode() + b"\n"


def _sandbox_of(name: str) -> str:
    """Empty for a file that is not ours."""
    sandbox_id, _, rest = name.partition(".")
    return sandbox_id if is_sandbox_id(sandbox_id) and f".{rest}" in SUFFIXES else ""


def _on_disk(file: _File | None) -> int:
    return -(-file.size // BLOCK) * BLOCK if file is not None else 0
