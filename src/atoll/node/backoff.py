"""How long to wait before something that has died is started again."""

from __future__ import annotations

SETTLED_S = 30.0
MAX_DELAY_S = 30.0


class Backoff:
    """At once, then after 1, 2, 4 … s; back to the start after half a minute of life."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def after(self, lived_s: float) -> float:
        if lived_s >= SETTLED_S:
            self._next_s = 0.0
        delay_s = self._next_s
        self._next_s = min(max(1.0, delay_s * 2), MAX_DELAY_S)
        return delay_s
