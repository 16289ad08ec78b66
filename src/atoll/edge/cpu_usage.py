"""How busy something is now, from readings of the processor time it has used in all. Pure."""

from __future__ import annotations

from dataclasses import dataclass

NEAR_S = 0.1  # the kernel counts in hundredths of a second: less apart is more noise than figure
WAIT_S = 0.12  # for a second reading; timers may come a little early
FAR_S = 10.0


@dataclass(frozen=True, slots=True)
class Reading:
    at: float
    seconds: float


class CpuUsage:
    """Keeps two readings, so that there is one that is old enough however quickly they come."""

    def __init__(self) -> None:
        self._older: Reading | None = None
        self._newer: Reading | None = None

    def add(self, at: float, seconds: float) -> float | None:
        """The share of one processor since a moment ago; None when no reading is of use for that."""
        now = Reading(at, seconds)
        if self._newer is None or at - self._newer.at >= NEAR_S:
            self._older, self._newer = self._newer, now
        base = self._older
        if base is None or not NEAR_S <= at - base.at <= FAR_S:
            return None
        return max(0.0, (seconds - base.seconds) / (at - base.at))
