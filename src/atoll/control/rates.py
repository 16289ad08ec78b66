"""How often an API key may ask the control plane."""

from __future__ import annotations

from atoll.core.errors import RateLimited
from atoll.core.keys import Principal
from atoll.core.ports import Clock
from atoll.core.rates import Buckets, Kind, Verdict


class RateLimiter:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets = Buckets()

    def draw(self, principal: Principal, *kinds: Kind) -> Verdict | None:
        """None: no limit applies. It may be a refusal: `refuse_over` raises it, once the caller has noted it."""
        limits = {
            f"{principal.key_id} {kind}": limit
            for kind in kinds
            if (limit := getattr(principal.rates, kind.value)) is not None
        }
        return self._buckets.draw(limits, self._clock.now())


def refuse_over(found: Verdict | None) -> None:
    if found is not None and found.retry_after_s:
        raise RateLimited(
            f"This API key may make {found.limit} such calls a minute. Try again in {found.retry_after_s} s, or have "
            "the rate raised (`atoll keys limit`).",
            retry_after_s=found.retry_after_s,
            limit=found.limit,
        )
