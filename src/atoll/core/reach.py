"""Which addresses no sandbox reaches, whatever else it may. Pure; the kernel's sets are made from this table.

The ranges are those of the IANA special-purpose registries (RFC 6890 and its successors) that are not ordinary public
destinations, and the addresses by which clouds serve their machines. Documentation ranges are not among them: nobody is
there, and what tests need as an internet has to be somewhere. An address that carries an IPv4 address inside (mapped,
NAT64, 6to4) is judged by that one, or it would be a way around.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .errors import InvalidInput

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
N = TypeVar("N", ipaddress.IPv4Network, ipaddress.IPv6Network)


@dataclass(frozen=True)
class Range:
    network: Network
    what: str
    openable: bool = False
    """The operator may open parts of it: somebody's own machines may be there."""


def _ranges(*rows: tuple[str, str, bool]) -> tuple[Range, ...]:
    return tuple(Range(ipaddress.ip_network(text), what, openable) for text, what, openable in rows)


NEVER_REACHABLE = _ranges(
    ("0.0.0.0/8", "this host", False),
    ("10.0.0.0/8", "private", True),
    ("100.64.0.0/10", "shared, and sandboxes", True),
    ("127.0.0.0/8", "loopback", False),
    ("168.63.129.16/32", "host agent of a cloud", False),
    ("169.254.0.0/16", "link-local and metadata", False),
    ("172.16.0.0/12", "private", True),
    ("192.0.0.0/24", "protocol assignments, and metadata of a cloud", False),
    ("192.88.99.0/24", "6to4 relays", False),
    ("192.168.0.0/16", "private", True),
    ("198.18.0.0/15", "benchmarks", True),
    ("224.0.0.0/4", "multicast", False),
    ("240.0.0.0/4", "reserved, and broadcast", False),
    ("::/96", "unspecified, loopback, IPv4-compatible", False),
    ("64:ff9b:1::/48", "local NAT64", False),
    ("100::/64", "discard", False),
    ("2001::/32", "Teredo", False),
    ("2001:2::/48", "benchmarks", True),
    ("2001:10::/28", "ORCHID", False),
    ("2001:20::/28", "ORCHIDv2", False),
    ("fc00::/7", "unique local, and metadata of clouds", True),
    ("fe80::/10", "link-local", False),
    ("fec0::/10", "site-local", False),
    ("ff00::/8", "multicast", False),
)

METADATA = tuple(ipaddress.ip_address(text) for text in ("169.254.169.254", "fd00:ec2::254", "fd20:ce::254"))
"""Never opened, not even as a part of a range that may be."""


@dataclass(frozen=True)
class Embedding:
    """IPv6 addresses below `prefix` hold an IPv4 address, of which `shift` bits follow."""

    prefix: ipaddress.IPv6Network
    shift: int

    def inside(self, address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
        if address not in self.prefix:
            return None
        return ipaddress.IPv4Address(int(address) >> self.shift & 0xFFFFFFFF)

    def carried(self, network: ipaddress.IPv6Network) -> ipaddress.IPv4Network | None:
        inside = self.inside(network.network_address)
        bits = min(network.prefixlen - self.prefix.prefixlen, 32)
        return ipaddress.IPv4Network((int(inside), bits), strict=False) if inside is not None and bits else None

    def around(self, network: ipaddress.IPv4Network) -> ipaddress.IPv6Network:
        start = int(self.prefix.network_address) | int(network.network_address) << self.shift
        return ipaddress.IPv6Network((start, self.prefix.prefixlen + network.prefixlen))


EMBEDDINGS = tuple(
    Embedding(ipaddress.IPv6Network(text), shift)
    for text, shift in (
        ("::ffff:0:0/96", 0),  # mapped
        ("::ffff:0:0:0/96", 0),  # translated (SIIT)
        ("64:ff9b::/96", 0),  # NAT64
        ("2002::/16", 80),  # 6to4
    )
)


def is_never_reachable(address: Address | str, opened: Iterable[Network] = ()) -> bool:
    given = plain(ipaddress.ip_address(address) if isinstance(address, str) else address)
    if any(given in network for network in opened):
        return False
    return any(given in each.network for each in NEVER_REACHABLE)


def plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one carries, else the address itself; without a zone."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    bare = ipaddress.IPv6Address(int(address))
    return next((inside for each in EMBEDDINGS if (inside := each.inside(bare)) is not None), bare)


_NETWORK = re.compile(r"[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?")


def parse_network(text: str) -> Network | None:
    """An address or `address/prefix`; bits behind the prefix do not count. A network of addresses that carry IPv4 ones
    is the one of those. None: it is no network, or one of carriers as wide as IPv4, which nobody means."""
    try:
        network = ipaddress.ip_network(text, strict=False) if _NETWORK.fullmatch(text) else None
    except ValueError:
        return None
    if not isinstance(network, ipaddress.IPv6Network):
        return network
    carrier = next((each for each in EMBEDDINGS if network.subnet_of(each.prefix)), None)
    return carrier.carried(network) if carrier is not None else network


def networks_v4(opened: Sequence[Network] = ()) -> list[ipaddress.IPv4Network]:
    """What a packet filter refuses: the table without what is opened."""
    return _without((each.network for each in NEVER_REACHABLE), opened, ipaddress.IPv4Network)


def networks_v6(opened: Sequence[Network] = ()) -> list[ipaddress.IPv6Network]:
    own = _without((each.network for each in NEVER_REACHABLE), opened, ipaddress.IPv6Network)
    return own + [each.around(network) for each in EMBEDDINGS for network in networks_v4(opened)]


def _without(ranges: Iterable[Network], opened: Sequence[Network], family: type[N]) -> list[N]:
    left = [network for network in ranges if isinstance(network, family)]
    for hole in opened:
        if isinstance(hole, family):
            left = [part for network in left for part in _minus(network, hole)]
    return sorted(left)


def _minus(network: N, hole: N) -> Iterator[N]:
    if not network.overlaps(hole):
        yield network
    elif network != hole and hole.subnet_of(network):
        yield from network.address_exclude(hole)


def parse_open_ranges(text: str) -> tuple[Network, ...]:
    """`10.1.0.0/16,fd12::/32`: parts of ranges that may be opened."""
    words = (word.strip() for word in text.split(","))
    return tuple(dict.fromkeys(_open_range(word) for word in words if word))


def _open_range(word: str) -> Network:
    try:
        network = ipaddress.ip_network(word)
    except ValueError as error:
        raise InvalidInput(f"{word!r} is not a network such as 10.1.0.0/16: {error}") from error
    if not any(each.openable and _within(network, each.network) for each in NEVER_REACHABLE):
        names = ", ".join(str(each.network) for each in NEVER_REACHABLE if each.openable)
        raise InvalidInput(f"{word} cannot be opened to sandboxes; only parts of {names} can")
    if any(address in network for address in METADATA):
        raise InvalidInput(f"{word} holds the address of a metadata service; open narrower ranges beside it")
    return network


def _within(network: Network, other: Network) -> bool:
    if isinstance(network, ipaddress.IPv4Network) and isinstance(other, ipaddress.IPv4Network):
        return network.subnet_of(other)
    if isinstance(network, ipaddress.IPv6Network) and isinstance(other, ipaddress.IPv6Network):
        return network.subnet_of(other)
    return False
