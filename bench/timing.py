"""How long something takes, and what a list of such times says."""

from __future__ import annotations

import time
from collections.abc import Callable


def timed(action: Callable[[], object]) -> float:
    """Milliseconds."""
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) * 1000


def repeat(count: int, action: Callable[[], object]) -> list[float]:
    action()  # the first one warms what is warm in use
    return [timed(action) for _ in range(count)]


def percentile(samples: list[float], percent: int) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))]
