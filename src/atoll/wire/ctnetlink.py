"""Events of connection tracking: what the kernel says when a connection begins, changes and is forgotten. Pure.

Bytes are those of IP packets, with their headers. What the two programs wrote to each other is worked out from them
(`payload`): exact for UDP; for TCP as long as both ends use timestamps (nearly all do; it is seen when they do not in
most cases) and nothing was sent twice. A packet that the network stack put together from many counts as one with one
header, so this holds there too.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum, auto

from .netlink import NFGENMSG, NLA_F_NESTED, attribute, attributes, messages, netfilter_message

SUBSYSTEM = 1
MESSAGE_NEW, MESSAGE_DELETE = 0, 2
GROUP_NEW, GROUP_UPDATE, GROUP_DESTROY = 1, 2, 3
NLM_F_CREATE = 0x400

TUPLE_ORIG, TUPLE_REPLY, STATUS, PROTOINFO, MARK = 1, 2, 3, 4, 8
COUNTERS_ORIG, COUNTERS_REPLY, ID, TIMESTAMP = 9, 10, 12, 20
TUPLE_IP, TUPLE_PROTO = 1, 2
IP_V4_SOURCE, IP_V4_DESTINATION, IP_V6_SOURCE, IP_V6_DESTINATION = 1, 2, 3, 4
PROTO_NUMBER, PROTO_DESTINATION_PORT = 1, 3
PROTOINFO_TCP, TCP_STATE = 1, 1
COUNTED_PACKETS, COUNTED_BYTES = 1, 2
STARTED, STOPPED = 1, 2

SEEN_REPLY, ASSURED = 1 << 1, 1 << 2
TIME_WAIT, CLOSE = 7, 8
OVER = (TIME_WAIT, CLOSE)
"""States of TCP in which nothing more comes."""

PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp"}


class Change(Enum):
    NEW = auto()
    UPDATE = auto()
    """Only those to a state in `OVER` are read."""
    DESTROY = auto()


@dataclass(frozen=True, slots=True)
class Count:
    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Tracked:
    """One connection as the kernel knows it; addresses as packets carry them."""

    change: Change
    id: bytes
    protocol: str
    source: bytes
    destination: bytes
    port: int
    answerer: bytes
    """Who really answers: another than `destination` when that was translated."""
    status: int
    tcp_state: int | None
    out: Count
    back: Count
    started_ns: int
    stopped_ns: int

    @property
    def answered(self) -> bool:
        """A TCP connection is, when it was established: a reset is no answer."""
        return bool(self.status & (ASSURED if self.protocol == "tcp" else SEEN_REPLY))


def read(datagram: bytes) -> list[Tracked]:
    """Without the updates of what goes on: they are most of all events, and say nothing that anybody asks for."""
    return [tracked for kind, flags, body in messages(datagram) if (tracked := _tracked(kind, flags, body)) is not None]


def closed_tuple(datagram: bytes) -> bytes | None:
    """Of an UPDATE that says that a TCP connection is over: what names it in `deletion`."""
    for kind, flags, body in messages(datagram):
        if _change(kind, flags) is Change.UPDATE:
            parts = attributes(body, NFGENMSG)
            if _tcp_state(parts) in OVER and TUPLE_ORIG in parts and ID in parts:
                return body[:1] + attribute(TUPLE_ORIG | NLA_F_NESTED, parts[TUPLE_ORIG]) + attribute(ID, parts[ID])
    return None


def deletion(named: bytes) -> bytes:
    """A request without an answer wanted; errors come all the same."""
    return netfilter_message(SUBSYSTEM << 8 | MESSAGE_DELETE, 0, named[0], 0, named[1:])


def _change(kind: int, flags: int) -> Change | None:
    if kind == SUBSYSTEM << 8 | MESSAGE_DELETE:
        return Change.DESTROY
    if kind == SUBSYSTEM << 8 | MESSAGE_NEW:
        return Change.NEW if flags & NLM_F_CREATE else Change.UPDATE
    return None


def _tracked(kind: int, flags: int, body: bytes) -> Tracked | None:
    change = _change(kind, flags)
    if change is None:
        return None
    try:
        parts = attributes(body, NFGENMSG)
        state = _tcp_state(parts)
        if change is Change.UPDATE and state not in OVER:
            return None
        source, destination, number, port = _ends(parts[TUPLE_ORIG])
        times = attributes(parts.get(TIMESTAMP, b""))
        return Tracked(
            change=change,
            id=parts.get(ID, b""),
            protocol=PROTOCOLS.get(number, str(number)),
            source=source,
            destination=destination,
            port=port,
            answerer=_ends(parts[TUPLE_REPLY])[0],
            status=_number(parts.get(STATUS, b"")),
            tcp_state=state,
            out=_count(parts.get(COUNTERS_ORIG)),
            back=_count(parts.get(COUNTERS_REPLY)),
            started_ns=_number(times.get(STARTED, b"")),
            stopped_ns=_number(times.get(STOPPED, b"")),
        )
    except (KeyError, IndexError, struct.error):
        return None  # a kernel that says less than all we know of


def _ends(part: bytes) -> tuple[bytes, bytes, int, int]:
    """Source, destination, protocol and destination port of a tuple."""
    halves = attributes(part)
    addresses, protocol = attributes(halves[TUPLE_IP]), attributes(halves[TUPLE_PROTO])
    v4 = IP_V4_SOURCE in addresses
    source = addresses[IP_V4_SOURCE if v4 else IP_V6_SOURCE]
    destination = addresses[IP_V4_DESTINATION if v4 else IP_V6_DESTINATION]
    return source, destination, protocol[PROTO_NUMBER][0], _number(protocol.get(PROTO_DESTINATION_PORT, b""))


def _tcp_state(parts: dict[int, bytes]) -> int | None:
    if PROTOINFO not in parts:
        return None
    state = attributes(attributes(parts[PROTOINFO]).get(PROTOINFO_TCP, b"")).get(TCP_STATE)
    return state[0] if state else None


def _count(part: bytes | None) -> Count:
    if part is None:
        return Count()
    numbers = attributes(part)
    return Count(_number(numbers.get(COUNTED_PACKETS, b"")), _number(numbers.get(COUNTED_BYTES, b"")))


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


# ---- what the programs wrote

_IP_HEADER = {4: 20, 16: 40}
_TCP_HEADER, _TIMESTAMPS, _SYN_MORE = 20, 12, 8
"""With timestamps a SYN has 8 bytes of options more than others have; without them it has 12, and the others none."""
_SYN_MORE_PLAIN = 12
_SMALL_HEADER = 8  # UDP, ICMP


def payload(tracked: Tracked) -> tuple[int, int]:
    """Bytes out and back, without headers."""
    if not tracked.answered and tracked.protocol == "tcp":
        return 0, 0
    ip = _IP_HEADER.get(len(tracked.source), 20)
    if tracked.protocol != "tcp":
        header = ip + (_SMALL_HEADER if tracked.protocol in ("udp", "icmp") else 0)
        return _without(tracked.out, header), _without(tracked.back, header)
    stamped = ip + _TCP_HEADER + _TIMESTAMPS
    if all(_without(count, stamped, _SYN_MORE) >= 0 for count in (tracked.out, tracked.back)):
        header, more = stamped, _SYN_MORE
    else:
        header, more = ip + _TCP_HEADER, _SYN_MORE_PLAIN
    return max(0, _without(tracked.out, header, more)), max(0, _without(tracked.back, header, more))


def _without(count: Count, header: int, more: int = 0) -> int:
    return count.bytes - count.packets * header - more if count.packets else 0
