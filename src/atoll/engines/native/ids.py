"""Which ids of the host belong to whom. Pure.

The user namespace of one generation of zygotes (U_T) maps `SLICES` × 65,536 ids of the host, once and
for ever. Slice 0 is its own; each sandbox gets another one as its user namespace (U_S). A generation
whose slices are all taken is followed by a new one; `claims.py` knows which are free on this machine.
The range starts where neither /etc/subuid (100,000 and up) nor systemd's containers (to 0x6FFFFFFF) reach.
"""

from __future__ import annotations

from dataclasses import dataclass

SLICE = 65_536
SLICES = 512
FIRST = 0x7000_0000
GENERATIONS = 64
GENERATION_IDS = SLICE * SLICES


@dataclass(frozen=True)
class Slice:
    generation: int
    index: int
    """1 … SLICES-1 within the generation."""

    @property
    def host_base(self) -> int:
        return generation_base(self.generation) + self.index * SLICE

    @property
    def inner_base(self) -> int:
        """Counted in the ids of U_T, as its map is written there."""
        return self.index * SLICE

    @property
    def number(self) -> int:
        """One number for address and link name, unique on the machine."""
        return self.generation * SLICES + self.index


def generation_base(generation: int) -> int:
    return FIRST + generation * GENERATION_IDS


class Slices:
    """The slices of one generation."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self._free = list(range(SLICES - 1, 0, -1))

    @property
    def left(self) -> int:
        return len(self._free)

    def take(self) -> Slice | None:
        return Slice(self.generation, self._free.pop()) if self._free else None

    def give_back(self, taken: Slice) -> None:
        # The longest-unused one next: a late packet or a stale id meets nobody.
        self._free.insert(0, taken.index)
