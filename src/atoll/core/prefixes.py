"""Which of many networks has an address: the first in their order, found without looking at each. Pure.

A table for each length of prefix that occurs, so one search is at most one look-up a length, whether there are ten
networks or a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .reach import Address, Network


class Prefixes:
    def __init__(self, networks: Sequence[Network], everything: Network | None = None) -> None:
        """`everything`: the one that has the addresses of the other version too."""
        self._networks = networks
        found: dict[tuple[int, int], dict[int, int]] = {}
        for place, network in enumerate(networks):
            shift = network.max_prefixlen - network.prefixlen
            table = found.setdefault((network.version, shift), {})
            table.setdefault(int(network.network_address) >> shift, place)
        if everything in networks:
            place = networks.index(everything)
            for version, bits in ((4, 32), (6, 128)):
                table = found.setdefault((version, bits), {})
                table[0] = min(place, table.get(0, place))
        self._tables = {
            version: [(shift, table) for (which, shift), table in found.items() if which == version]
            for version in (4, 6)
        }

    def first(self, *addresses: Address) -> Network | None:
        """The first network that has any of them."""
        place = min((each for address in addresses for each in self._places(address)), default=None)
        return None if place is None else self._networks[place]

    def _places(self, address: Address) -> Iterator[int]:
        value = int(address)
        for shift, table in self._tables[address.version]:
            if (place := table.get(value >> shift)) is not None:
                yield place
