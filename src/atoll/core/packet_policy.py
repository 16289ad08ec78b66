"""A policy as the packet filter knows it: addresses only, as intervals, and what is handed to the proxy. Pure.

It holds no names, no secrets and nothing of the block list or of what is never reachable: those are the same for all
sandboxes and are judged before. `fate` is the rule that the filter's chains are made of.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Any

from .errors import InvalidInput
from .policy import EVERYWHERE, NAMED_PORTS, Policy
from .reach import EMBEDDINGS, Address, Network

LOG_GROUP = 7
"""Of nfnetlink_log: where refused packets are told of."""


class Refusal(StrEnum):
    """Why a packet is refused: the prefix in the log, the name of a counter."""

    NEVER = "never"
    BLOCKLIST = "blocklist"
    DENY = "deny"
    MODE = "mode"
    """Allowed, but only by way of a proxy that does not carry it."""
    RATE = "rate"
    """Too many new connections in a second."""
    CONNECTIONS = "connections"
    """Too many at a time."""
    SCAN = "scan"
    STRANGER = "no pass"
    PROTOCOL = "protocol"


class Divert(StrEnum):
    """Which TCP connections to allowed addresses are handed to the proxy."""

    NONE = "none"
    WEB = "web"
    """Those to the ports where names are read."""
    TCP = "tcp"
    """All."""


class Fate(Enum):
    DIRECT = auto()
    PROXY = auto()
    DENY = auto()
    MODE = auto()


WEB_PORTS = tuple(sorted(port for _, port in NAMED_PORTS))
Interval = tuple[int, int]
"""First and last address."""
Intervals = tuple[Interval, ...]
ALL4, ALL6 = ((0, (1 << 32) - 1),), ((0, (1 << 128) - 1),)


@dataclass(frozen=True)
class KernelPolicy:
    open: bool
    """Whether `except4` and `except6` are what is refused, or all that is allowed. Disjoint and in order."""
    except4: Intervals = ()
    except6: Intervals = ()
    divert: Divert = Divert.NONE
    by_name: bool = False
    """Whether the proxy also gets connections to `WEB_PORTS` of addresses that are not allowed: a name may be."""

    def allows(self, address: Address) -> bool:
        intervals = self.except4 if address.version == 4 else self.except6
        return _holds(intervals, int(address)) is not self.open

    def fate(self, address: Address, protocol: str, port: int) -> Fate:
        """Of a new connection that is neither blocked nor to what is never reachable. The proxy speaks IPv4 only."""
        web = protocol == "tcp" and port in WEB_PORTS
        proxied = Fate.PROXY if address.version == 4 else Fate.MODE
        if not self.allows(address):
            return Fate.PROXY if web and self.by_name and address.version == 4 else Fate.DENY
        match self.divert:
            case Divert.TCP:
                return proxied if protocol == "tcp" else Fate.MODE
            case Divert.WEB:
                quic = protocol == "udp" and port in WEB_PORTS
                return proxied if web else Fate.MODE if quic else Fate.DIRECT
            case _:
                return Fate.DIRECT

    def to_wire(self) -> dict[str, Any]:  # Any: JSON values
        return {
            "open": self.open,
            "except4": self.except4,
            "except6": self.except6,
            "divert": self.divert.value,
            "by_name": self.by_name,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> KernelPolicy:
        """What is not understood allows nothing: it raises InvalidInput."""
        try:
            return cls(
                open=wire["open"] is True,
                except4=_checked(wire["except4"], ALL4),
                except6=_checked(wire["except6"], ALL6),
                divert=Divert(wire["divert"]),
                by_name=wire["by_name"] is True,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"not a policy for packets: {error}") from error


REFUSE_ALL = KernelPolicy(open=False)


def compile_policy(policy: Policy) -> KernelPolicy:
    allow4, allow6 = _allowed(policy.allow_networks)
    divert = Divert.TCP if policy.proxy else Divert.WEB if policy.treatments or policy.inspect else Divert.NONE
    everything = EVERYWHERE in policy.allow_networks
    if policy.denies_all and not everything:
        return KernelPolicy(False, allow4, allow6, divert, bool(policy.allow_names))
    deny4, deny6 = ((), ()) if everything else _denied(policy.deny_networks)
    return KernelPolicy(True, minus(deny4, allow4), minus(deny6, allow6), divert, False)


def _allowed(networks: Sequence[Network]) -> tuple[Intervals, Intervals]:
    """An IPv6 address that carries an IPv4 one is allowed by that one alone."""
    if EVERYWHERE in networks:
        return ALL4, ALL6
    own = minus(merged(_of_version(networks, 6)), CARRIERS)
    return merged(_of_version(networks, 4)), merged((*own, *_carried(networks)))


def _denied(networks: Sequence[Network]) -> tuple[Intervals, Intervals]:
    """It is denied as itself, too."""
    return merged(_of_version(networks, 4)), merged((*_of_version(networks, 6), *_carried(networks)))


def interval(network: Network) -> Interval:
    return int(network.network_address), int(network.broadcast_address)


CARRIERS: Intervals = tuple(sorted(interval(each.prefix) for each in EMBEDDINGS))


def _of_version(networks: Iterable[Network], version: int) -> Iterator[Interval]:
    return (interval(network) for network in networks if network.version == version)


def _carried(networks: Iterable[Network]) -> Iterator[Interval]:
    for first, last in _of_version(networks, 4):
        for each in EMBEDDINGS:
            base = int(each.prefix.network_address)
            yield base | first << each.shift, base | (last + 1 << each.shift) - 1


def merged(intervals: Iterable[Interval]) -> Intervals:
    """In order, without overlaps; neighbours become one."""
    found: list[Interval] = []
    for first, last in sorted(intervals):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def minus(intervals: Intervals, holes: Intervals) -> Intervals:
    """Both as `merged` leaves them."""
    left: list[Interval] = []
    at = 0
    for first, last in intervals:
        while at < len(holes) and holes[at][1] < first:
            at += 1
        within = at
        while within < len(holes) and holes[within][0] <= last:
            hole_first, hole_last = holes[within]
            if first < hole_first:
                left.append((first, hole_first - 1))
            first = hole_last + 1
            within += 1
        if first <= last:
            left.append((first, last))
    return tuple(left)


def networks_as_intervals(texts: Iterable[str]) -> tuple[Intervals, Intervals]:
    """Of the operator's block list: IPv4, IPv6. Denied as itself and as what is carried."""
    return _denied([ipaddress.ip_network(text) for text in texts])


def _holds(intervals: Intervals, value: int) -> bool:
    low, high = 0, len(intervals)
    while low < high:
        middle = (low + high) // 2
        if intervals[middle][1] < value:
            low = middle + 1
        else:
            high = middle
    return low < len(intervals) and intervals[low][0] <= value


def _checked(given: Iterable[Sequence[int]], whole: Intervals) -> Intervals:
    intervals = tuple((int(first), int(last)) for first, last in given)
    if any(first > last for first, last in intervals) or merged(intervals) != intervals:
        raise ValueError("intervals overlap or are not in order")
    if intervals and not (whole[0][0] <= intervals[0][0] and intervals[-1][1] <= whole[0][1]):
        raise ValueError("an interval is out of range")
    return intervals
