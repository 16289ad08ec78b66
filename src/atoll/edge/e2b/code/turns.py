"""How many executions may wait for one context. It runs one at a time, in the order in which they came. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import Refused

MAX_IN_LINE = 64
"""The one that runs is one of them. A sandbox takes 512 calls at once, of all kinds."""


class Turns:
    def __init__(self) -> None:
        self._in_line: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def taken(self, sandbox_id: str, context_id: str) -> Iterator[None]:
        """A place in the line, until it is left. Refused (429) when the line is full."""
        key = (sandbox_id, context_id)
        if self._in_line[key] >= MAX_IN_LINE:
            raise Refused(429, f"{MAX_IN_LINE} executions run or wait in this context already")
        self._in_line[key] += 1
        try:
            yield
        finally:
            self._in_line[key] -= 1
            if not self._in_line[key]:
                del self._in_line[key]

    def __len__(self) -> int:
        return len(self._in_line)
