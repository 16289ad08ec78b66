"""When a sandbox was last called and how many calls and streams are open; the server's inactivity clock lives on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Use:
    last_call_at: float
    open: int = 0


class Activity:
    """Pure but for its clock. What was taken and could not be delivered is given back."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._uses: dict[str, Use] = {}
        self._changed: set[str] = set()

    @contextmanager
    def call(self, sandbox_id: str) -> Iterator[None]:
        use = self.enter(sandbox_id)
        try:
            yield
        finally:
            self.leave(sandbox_id, use)

    def enter(self, sandbox_id: str) -> Use:
        use = self._uses.get(sandbox_id)
        if use is None:
            use = self._uses[sandbox_id] = Use(0.0)
        use.last_call_at = self._clock()
        use.open += 1
        self._changed.add(sandbox_id)
        return use

    def leave(self, sandbox_id: str, use: Use) -> None:
        use.last_call_at = self._clock()
        use.open -= 1
        self._changed.add(sandbox_id)

    def open_calls(self, sandbox_id: str) -> int:
        use = self._uses.get(sandbox_id)
        return use.open if use else 0

    def take(self) -> list[dict[str, Any]]:
        taken = [
            {"id": sandbox_id, "last_call_at": use.last_call_at, "open": use.open}
            for sandbox_id in self._changed
            if (use := self._uses.get(sandbox_id)) is not None
        ]
        for sandbox_id in self._changed:
            if self.open_calls(sandbox_id) == 0:
                self._uses.pop(sandbox_id, None)
        self._changed.clear()
        return taken

    def give_back(self, taken: list[dict[str, Any]]) -> None:
        for entry in taken:
            self._uses.setdefault(entry["id"], Use(entry["last_call_at"]))
            self._changed.add(entry["id"])

    def report_open_again(self) -> None:
        """After the server was away: it may have forgotten what is open."""
        self._changed |= {sandbox_id for sandbox_id, use in self._uses.items() if use.open}
