"""Which sandbox an address is, and what it may. Pure.

An address is reused as soon as its sandbox is gone, so the one that was told last has it. Nobody is known before the
node has told of it, and who is not known gets nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from atoll.core.policy import Policy


@dataclass(frozen=True)
class Known:
    id: str
    address: str
    policy: Policy
    address6: str | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.address,) if self.address6 is None else (self.address, self.address6)


class Sandboxes:
    def __init__(self) -> None:
        self._by_id: dict[str, Known] = {}
        self._by_address: dict[str, Known] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def by_address(self, address: str) -> Known | None:
        return self._by_address.get(address)

    def by_id(self, sandbox_id: str) -> Known | None:
        return self._by_id.get(sandbox_id)

    def put(self, known: Known) -> None:
        self.forget(known.id)
        self._by_id[known.id] = known
        self._by_address.update(dict.fromkeys(known.addresses, known))

    def forget(self, sandbox_id: str) -> Known | None:
        """What was known; an address that another one has by now stays that one's."""
        known = self._by_id.pop(sandbox_id, None)
        if known is not None:
            for address in known.addresses:
                if self._by_address.get(address) is known:
                    del self._by_address[address]
        return known

    def others(self, ids: Collection[str]) -> list[str]:
        return [each for each in self._by_id if each not in ids]
