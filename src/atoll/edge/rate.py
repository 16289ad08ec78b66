"""How often the sandboxes of one API key may be called; the route says whose they are and what the limit is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from atoll.core.rates import Buckets

from .hopx.errors import Kind, SurfaceError
from .routes import Route


class CallRates:
    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._buckets = Buckets()

    def admit(self, route: Route, marks: dict[str, str]) -> None:
        """Refuses before anything has happened; `marks` are the headers of the answer in either case."""
        if route.calls_per_minute is None:
            return
        found = self._buckets.draw({route.key: route.calls_per_minute}, self._clock())
        assert found is not None, "a limit was given"
        marks["X-RateLimit-Limit"] = str(found.limit)
        marks["X-RateLimit-Remaining"] = str(found.remaining)
        marks["X-RateLimit-Reset"] = str(math.ceil(found.full_at))
        if found.retry_after_s:
            marks["Retry-After"] = str(found.retry_after_s)
            raise SurfaceError(
                Kind.TOO_MANY,
                f"The sandboxes of this API key may be called {found.limit} times a minute; try again in "
                f"{found.retry_after_s} s",
                retry_after_seconds=found.retry_after_s,
            )
