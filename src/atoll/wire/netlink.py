"""What the kernel's netlink messages share: headers, and attributes within attributes. Pure.

    length u32 | type u16 | flags u16 | sequence u32 | port u32 | body …        each part padded to four bytes
    length u16 | type u16 | payload …                                           an attribute

A datagram that is cut short yields what is whole in it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

HEADER, ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")
NFGENMSG = 4
"""Bytes that begin the body of each netfilter message: family, version, resource."""
TYPE_MASK = 0x3FFF

NETLINK_NETFILTER = 12
SOL_NETLINK, NETLINK_NO_ENOBUFS = 270, 5
NLMSG_ERROR = 2
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE = 1, 4, 0x400
NLA_F_NESTED = 0x8000


def messages(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and body of each."""
    start = 0
    while start + HEADER.size <= len(datagram):
        length, kind, flags, _, _ = HEADER.unpack_from(datagram, start)
        if not HEADER.size <= length <= len(datagram) - start:
            return
        yield kind, flags, datagram[start + HEADER.size : start + length]
        start += length + 3 & ~3


def attributes(data: bytes, start: int = 0) -> dict[int, bytes]:
    """By type; the last one counts."""
    found = {}
    size = len(data)
    while start + 4 <= size:
        length, kind = ATTRIBUTE.unpack_from(data, start)
        if not 4 <= length <= size - start:
            break
        found[kind & TYPE_MASK] = data[start + 4 : start + length]
        start += length + 3 & ~3
    return found


def attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return ATTRIBUTE.pack(length, kind) + payload + b"\0" * (-length % 4)


def netfilter_message(kind: int, flags: int, family: int, resource: int, body: bytes, number: int = 0) -> bytes:
    whole = struct.pack("=BB", family, 0) + struct.pack("!H", resource) + body
    return HEADER.pack(HEADER.size + len(whole), kind, NLM_F_REQUEST | flags, number, 0) + whole


def outcome(datagram: bytes) -> int | None:
    """Of a request: the error's number, 0 when it was done; None when this is no answer to one."""
    kind = HEADER.unpack_from(datagram)[1]
    return -int(struct.unpack_from("=i", datagram, HEADER.size)[0]) if kind == NLMSG_ERROR else None
