"""Which name a sandbox last got an address for: what the log calls a connection whose own name nobody reads. Pure.

Likely and not certain: many names share an address. An answer is remembered for its TTL and not less than an hour,
because programs keep addresses for longer than they should.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from atoll.core.reach import Address

MIN_KEPT_S = 3600.0
MAX_OF_ONE = 1000
MAX_IN_ALL = 100_000
NOBODY = ("", 0.0)


class RecentNames:
    def __init__(
        self, now: Callable[[], float] = time.monotonic, most_of_one: int = MAX_OF_ONE, most_in_all: int = MAX_IN_ALL
    ) -> None:
        self._now = now
        self._most_of_one, self._most_in_all = most_of_one, most_in_all
        self._names: dict[str, OrderedDict[Address, tuple[str, float]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def name_of(self, sandbox_id: str, address: Address) -> str | None:
        names = self._names.get(sandbox_id)
        name, until = names.get(address, NOBODY) if names is not None else NOBODY
        return name if until > self._now() else None

    def add(self, sandbox_id: str, name: str, addresses: Iterable[Address], ttl: float) -> None:
        names = self._names.setdefault(sandbox_id, OrderedDict())
        until = self._now() + max(ttl, MIN_KEPT_S)
        for address in addresses:
            if names.pop(address, None) is None:
                self._count += 1
            names[address] = (name, until)
            if len(names) > self._most_of_one:
                self._drop_oldest(names, 1)
        if self._count > self._most_in_all:
            longest = max(self._names.values(), key=len)  # half of it at once, so that this is rare
            self._drop_oldest(longest, len(longest) // 2 + 1)

    def forget(self, sandbox_id: str) -> None:
        self._count -= len(self._names.pop(sandbox_id, ()))

    def _drop_oldest(self, names: OrderedDict[Address, tuple[str, float]], count: int) -> None:
        for _ in range(min(count, len(names))):
            names.popitem(last=False)
            self._count -= 1
