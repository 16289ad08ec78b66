"""Elements of nftables sets and entries of connection tracking, changed over netlink: a create has no time to start
the `nft` program (5 ms).

Rules are text and are loaded by `uplink.py`; only the elements that say which sandbox may pass come and go here. Each
call is one transaction: all of its elements are there afterwards, or none.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

NETLINK_NETFILTER = 12
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17
NFNL_SUBSYS_NFTABLES = 10
NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM = 12, 14
NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE, CTA_MARK, CTA_MARK_MASK = 1, 2, 8, 21
NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_ELEMENTS = 1, 2, 3
NFTA_LIST_ELEM, NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_DATA, NFTA_DATA_VALUE = 1, 1, 2, 1
NFPROTO_INET = 1
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE = 1, 4, 0x400
NLA_F_NESTED = 0x8000
NLMSG_ERROR = 2


@dataclass(frozen=True)
class Element:
    set: str
    key: bytes
    data: bytes | None = None
    """Of a map."""


def interface_key(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


def address_key(address: str) -> bytes:
    return socket.inet_aton(address)


def mark_key(mark: int) -> bytes:
    return struct.pack("=I", mark)


class Elements:
    """Of one table, through a socket in the network namespace that was current when this was made."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.bind((0, 0))

    def add(self, elements: Sequence[Element]) -> None:
        self._send(NFT_MSG_NEWSETELEM, NLM_F_CREATE, elements)

    def remove(self, elements: Sequence[Element]) -> None:
        """One that is not there fails the call, and nothing is removed."""
        self._send(NFT_MSG_DELSETELEM, 0, elements)

    def close(self) -> None:
        self._socket.close()

    def _send(self, kind: int, flags: int, elements: Sequence[Element]) -> None:
        begin = _message(NFNL_MSG_BATCH_BEGIN, 0, 0, _nfgenmsg(socket.AF_UNSPEC, NFNL_SUBSYS_NFTABLES))
        changes = [
            _message(NFNL_SUBSYS_NFTABLES << 8 | kind, flags | NLM_F_ACK, number, self._body(element))
            for number, element in enumerate(elements, 1)
        ]
        end = _message(NFNL_MSG_BATCH_END, 0, 0, _nfgenmsg(socket.AF_UNSPEC, NFNL_SUBSYS_NFTABLES))
        self._socket.send(b"".join((begin, *changes, end)))
        self._read_answers(len(changes))

    def _read_answers(self, wanted: int) -> None:
        """One for each change; an error ends the transaction, and of a batch that cannot begin it is the only one."""
        answered: set[int] = set()
        first: OSError | None = None
        while len(answered) < wanted:
            answer = self._socket.recv(65536)
            _, kind, _, number, _ = struct.unpack_from("=IHHII", answer)
            code = struct.unpack_from("=i", answer, 16)[0] if kind == NLMSG_ERROR else 0
            if code and first is None:
                first = OSError(-code, f"nftables: {os.strerror(-code)}")
            if number == 0:
                break
            answered.add(number)
        if first:
            raise first

    def _body(self, element: Element) -> bytes:
        value = _nested(NFTA_SET_ELEM_KEY, _attribute(NFTA_DATA_VALUE, element.key))
        if element.data is not None:
            value += _nested(NFTA_SET_ELEM_DATA, _attribute(NFTA_DATA_VALUE, element.data))
        return (
            _nfgenmsg(NFPROTO_INET, 0)
            + _attribute(NFTA_SET_ELEM_LIST_TABLE, self._table.encode() + b"\0")
            + _attribute(NFTA_SET_ELEM_LIST_SET, element.set.encode() + b"\0")
            + _nested(NFTA_SET_ELEM_LIST_ELEMENTS, _nested(NFTA_LIST_ELEM, value))
        )


class Conntrack:
    """The connections that the kernel remembers in the network namespace that was current when this was made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.bind((0, 0))

    def forget(self, mark: int) -> None:
        """All with this mark."""
        mask = struct.pack("!I", 0xFFFFFFFF)
        body = (
            _nfgenmsg(socket.AF_INET, 0)
            + _attribute(CTA_MARK, struct.pack("!I", mark))
            + _attribute(CTA_MARK_MASK, mask)
        )
        self._socket.send(_message(NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, NLM_F_ACK, 1, body))
        code = struct.unpack_from("=i", self._socket.recv(65536), 16)[0]
        if code:
            raise OSError(-code, f"connection tracking: {os.strerror(-code)}")

    def close(self) -> None:
        self._socket.close()


def _attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + b"\0" * (-length % 4)


def _nested(kind: int, payload: bytes) -> bytes:
    return _attribute(kind | NLA_F_NESTED, payload)


def _nfgenmsg(family: int, resource: int) -> bytes:
    return struct.pack("=BB", family, 0) + struct.pack("!H", resource)


def _message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | flags, number, 0) + body
