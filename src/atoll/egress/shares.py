"""What one sandbox takes of a service that all of them use, so that none takes it from another. Pure.

Places are given by a dynamic threshold: nobody holds more than a part of what is free. However many sandboxes take as
many as they get, some places stay free, and one that comes late has as many as each of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Allowance:
    """So many per second, and `burst` at once after a rest."""

    per_s: float
    burst: float
    at: float
    level: float = field(init=False)

    def __post_init__(self) -> None:
        self.level = self.burst

    def take(self, now: float) -> bool:
        self._fill(now)
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True

    def take_later(self, now: float) -> float:
        """Takes one that may not be there yet; how many seconds to wait until it is."""
        self._fill(now)
        self.level -= 1.0
        return max(0.0, -self.level / self.per_s)

    def spend(self, number: float) -> None:
        """What cost more than one is paid for afterwards."""
        self.level = max(-self.burst, self.level - number)

    def _fill(self, now: float) -> None:
        self.level = min(self.burst, self.level + max(0.0, now - self.at) * self.per_s)
        self.at = now


class Places:
    def __init__(self, in_all: int, of_one: int, part: int = 32) -> None:
        """Of what is free, one has at most a `part`-th."""
        self._in_all, self._of_one, self._part = in_all, of_one, part
        self._held: dict[str, int] = {}
        self._taken = 0

    def take(self, who: str) -> bool:
        held = self._held.get(who, 0)
        free = self._in_all - self._taken
        if free <= 0 or held >= min(self._of_one, max(1, free // self._part)):
            return False
        self._held[who] = held + 1
        self._taken += 1
        return True

    def give_back(self, who: str) -> None:
        self._taken -= 1
        self._held[who] -= 1
        if self._held[who] == 0:
            del self._held[who]
