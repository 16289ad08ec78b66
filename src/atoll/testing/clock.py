from __future__ import annotations

import time


class FakeClock:
    """Stands still until told. It begins in the past, since libraries that look at the real clock refuse the future."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


class RealClock(FakeClock):
    """For tests against programs that look at the real time."""

    def now(self) -> float:
        return time.time() + self._offset

    def __init__(self) -> None:
        super().__init__()
        self._offset = 0.0

    def advance(self, seconds: float) -> None:
        self._offset += seconds
