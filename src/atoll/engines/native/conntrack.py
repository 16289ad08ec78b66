"""The connections that the kernel remembers, by the mark of the sandbox that they belong to: forgotten, or cut.

Cut is forgotten and told of. A TCP socket inside is ended with an error, and its reset goes to the other side by the
entry that is deleted afterwards (sock_diag; a kernel that cannot leaves it to the next packet, which is refused). What
the proxy was handed is the proxy's to cut.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import NamedTuple

from atoll.core.reach import Address
from atoll.wire.ctnetlink import deletion
from atoll.wire.netlink import (
    HEADER,
    NFGENMSG,
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    attribute,
    attributes,
    messages,
    netfilter_message,
)

from .nft import BUFFER, SO_RCVBUFFORCE, SO_SNDBUFFORCE, netfilter_socket

SUBSYSTEM = 1
GET, DELETE = 1, 2
NLM_F_DUMP, NLMSG_DONE = 0x300, 3
TUPLE_ORIGINAL, TUPLE_REPLY, MARK, MARK_MASK = 1, 2, 8, 21
IP, PROTOCOL = 1, 2
IP4_SOURCE, IP4_DESTINATION, IP6_SOURCE, IP6_DESTINATION = 1, 2, 3, 4
PROTOCOL_NUMBER, SOURCE_PORT, DESTINATION_PORT = 1, 2, 3
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp"}

NETLINK_SOCK_DIAG, SOCK_DESTROY = 4, 21
NO_COOKIE = b"\xff" * 8
ALL_STATES = 0xFFFFFFFF
AT_ONCE = 256

Visit = Callable[[], AbstractContextManager[None]]


class Connection(NamedTuple):
    named: bytes
    """What `deletion` takes."""
    protocol: str
    source: bytes
    source_port: int
    destination: bytes
    port: int
    answerer: bytes
    """Another than `destination` where that was translated."""

    @property
    def address(self) -> Address:
        return ipaddress.ip_address(self.destination)

    @property
    def translated(self) -> bool:
        return self.answerer != self.destination


class Conntrack:
    """Of the network namespace that was current when this was made."""

    def __init__(self) -> None:
        self._socket = netfilter_socket()

    def forget(self, mark: int | None) -> None:
        """All with this mark; None: of everybody."""
        which = _marked(mark) if mark is not None else b""
        self._socket.send(netfilter_message(SUBSYSTEM << 8 | DELETE, NLM_F_ACK, 0, 0, which, 1))
        code = struct.unpack_from("=i", self._socket.recv(65536), HEADER.size)[0]
        if code:
            raise OSError(-code, f"connection tracking: {os.strerror(-code)}")

    def of(self, mark: int) -> list[Connection]:
        self._socket.send(netfilter_message(SUBSYSTEM << 8 | GET, NLM_F_DUMP, 0, 0, _marked(mark), 1))
        return [_connection(body) for body in self._dumped()]

    def cut(self, connections: Iterable[Connection], inside: Visit) -> None:
        """`inside` is a visit to the sandbox's network namespace."""
        doomed = list(connections)
        with inside():
            end_sockets(doomed)
        with netfilter_socket() as requests:  # what was gone before is an error that nobody reads
            for start in range(0, len(doomed), AT_ONCE):
                requests.send(b"".join(deletion(each.named) for each in doomed[start : start + AT_ONCE]))

    def close(self) -> None:
        self._socket.close()

    def _dumped(self) -> Iterator[bytes]:
        while True:
            for kind, _, body in messages(self._socket.recv(1 << 20)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    code = struct.unpack_from("=i", body)[0]
                    raise OSError(-code, f"connection tracking: {os.strerror(-code)}")
                yield body


def end_sockets(connections: Iterable[Connection]) -> None:
    """Those of TCP, in the current network namespace."""
    requests = [_destruction(each) for each in connections if each.protocol == "tcp"]
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as diag:
        for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
            diag.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        for start in range(0, len(requests), AT_ONCE):
            with suppress(OSError):
                diag.send(b"".join(requests[start : start + AT_ONCE]))


def _marked(mark: int) -> bytes:
    return attribute(MARK, struct.pack("!I", mark)) + attribute(MARK_MASK, struct.pack("!I", 0xFFFFFFFF))


# Two thousand connections are to be judged within milliseconds, so what most of them look like is read at once: both
# tuples first, each with addresses, protocol and ports in this order. All else is taken apart attribute by attribute.
_USUAL = struct.Struct("!8s4s4s4s8sB3x4sH2x4sH2x")
_USUAL_HEADS = (
    struct.pack("=HHHH", 20, IP | NLA_F_NESTED, 8, IP4_SOURCE),
    struct.pack("=HH", 8, IP4_DESTINATION),
    struct.pack("=HHHH", 28, PROTOCOL | NLA_F_NESTED, 5, PROTOCOL_NUMBER),
    struct.pack("=HH", 6, SOURCE_PORT),
    struct.pack("=HH", 6, DESTINATION_PORT),
)
_ORIGINAL_AT, _REPLY_AT = NFGENMSG + 4, NFGENMSG + 4 + _USUAL.size + 4
_ORIGINAL_HEAD, _REPLY_HEAD = (
    struct.pack("=HH", 4 + _USUAL.size, kind | NLA_F_NESTED) for kind in (TUPLE_ORIGINAL, TUPLE_REPLY)
)


def _connection(body: bytes) -> Connection:
    return _usual(body) or _any(body)


def _usual(body: bytes) -> Connection | None:
    if (
        body[NFGENMSG:_ORIGINAL_AT] != _ORIGINAL_HEAD
        or body[_REPLY_AT - 4 : _REPLY_AT] != _REPLY_HEAD
        or len(body) < _REPLY_AT + _USUAL.size
    ):
        return None
    ip, source, to, destination, protocol, number, from_port, source_port, to_port, port = _USUAL.unpack_from(
        body, _ORIGINAL_AT
    )
    if (ip, to, protocol, from_port, to_port) != _USUAL_HEADS:
        return None
    return Connection(
        body[:1] + body[NFGENMSG : _REPLY_AT - 4],
        PROTOCOLS.get(number, ""),
        source,
        source_port,
        destination,
        port,
        body[_REPLY_AT + 8 : _REPLY_AT + 12],
    )


def _any(body: bytes) -> Connection:
    parts = attributes(body, NFGENMSG)
    original = parts[TUPLE_ORIGINAL]
    source, destination, number, source_port, port = _ends(original)
    return Connection(
        named=body[:1] + attribute(TUPLE_ORIGINAL | NLA_F_NESTED, original),
        protocol=PROTOCOLS.get(number, ""),
        source=source,
        source_port=source_port,
        destination=destination,
        port=port,
        answerer=_ends(parts[TUPLE_REPLY])[0],
    )


def _ends(part: bytes) -> tuple[bytes, bytes, int, int, int]:
    halves = attributes(part)
    addresses, protocol = attributes(halves[IP]), attributes(halves[PROTOCOL])
    v4 = IP4_SOURCE in addresses
    return (
        addresses[IP4_SOURCE if v4 else IP6_SOURCE],
        addresses[IP4_DESTINATION if v4 else IP6_DESTINATION],
        protocol[PROTOCOL_NUMBER][0],
        int.from_bytes(protocol.get(SOURCE_PORT, b""), "big"),
        int.from_bytes(protocol.get(DESTINATION_PORT, b""), "big"),
    )


def _destruction(each: Connection) -> bytes:
    family = socket.AF_INET if len(each.source) == 4 else socket.AF_INET6
    ends = struct.pack("!HH", each.source_port, each.port) + each.source.ljust(16, b"\0")
    identity = ends + each.destination.ljust(16, b"\0") + bytes(4) + NO_COOKIE
    body = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, ALL_STATES) + identity
    return HEADER.pack(HEADER.size + len(body), SOCK_DESTROY, NLM_F_REQUEST, 0, 0) + body
