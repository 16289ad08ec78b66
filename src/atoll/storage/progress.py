"""How far a build is: what a caller draws, and how the tools' own output says it."""

from __future__ import annotations

import re
from typing import Protocol

_NEW = re.compile(r"(\d+) newly installed")
_APT_STATUS = re.compile(r"(dl|pm)status:[^:]*:([\d.]+):")
_DONE_THIRD = re.compile(r"Get:\d+ |Unpacking \S|Setting up \S")
_DOWNLOAD_SHARE = 0.25


class Progress(Protocol):
    def __call__(self, step: str, fraction: float) -> None:
        """`fraction` of the named step is done; it grows from 0 to 1."""


def silent(step: str, fraction: float) -> None:
    del step, fraction


def part(progress: Progress, outer: str, start: float, end: float) -> Progress:
    """A stretch of a longer step; the inner step's own name is dropped."""

    def advance(step: str, fraction: float) -> None:
        del step
        progress(outer, start + (end - start) * min(max(fraction, 0.0), 1.0))

    return advance


class DebootstrapLines:
    """A fraction out of `mmdebstrap --verbose`: every package is fetched, unpacked and set up once."""

    def __init__(self) -> None:
        self._expected = 0
        self._done = 0
        self._fraction = 0.0

    def feed(self, line: str) -> float:
        if new := _NEW.search(line):
            self._expected += 3 * int(new[1])
        elif self._expected and _DONE_THIRD.match(line):  # before it, what is fetched are the lists
            self._done += 1
        if self._expected:
            self._fraction = max(self._fraction, min(self._done / self._expected, 0.99))
        return self._fraction


def apt_fraction(line: str) -> float | None:
    """A fraction out of apt's status lines: downloads, then the package manager's own count."""
    status = _APT_STATUS.match(line)
    if status is None:
        return None
    percent = float(status[2]) / 100
    return percent * _DOWNLOAD_SHARE if status[1] == "dl" else _DOWNLOAD_SHARE + percent * (1 - _DOWNLOAD_SHARE)
