"""Changes to an nftables table over netlink: a create has no time to start the `nft` program (5 ms, and with a hundred
rules much more).

Rules are text and are loaded by `uplink.py`; what belongs to one sandbox comes and goes here, in messages as the kernel
reads them. A list of changes is one transaction: all of it holds afterwards, or nothing.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from atoll.wire.netlink import (
    NETLINK_NETFILTER,
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLMSG_ERROR,
    attribute,
    netfilter_message,
)

SUBSYSTEM = 10
BATCH_BEGIN, BATCH_END = 16, 17
NEW_CHAIN, DEL_CHAIN, NEW_RULE, DEL_RULE, NEW_SET, DEL_SET, NEW_ELEMENTS, DEL_ELEMENTS = 3, 5, 6, 8, 9, 11, 12, 14
NLM_F_APPEND = 0x800
NFPROTO_INET = 1

TABLE, CHAIN_NAME, RULE_CHAIN, RULE_EXPRESSIONS = 1, 3, 2, 4
SET_NAME, SET_FLAGS, SET_KEY_TYPE, SET_KEY_LENGTH, SET_ID = 2, 3, 4, 5, 10
INTERVAL, INTERVAL_END = 4, 1
ELEMENTS_SET, ELEMENTS, ELEMENTS_SET_ID = 2, 3, 4
ITEM, ELEMENT_KEY, ELEMENT_DATA, ELEMENT_FLAGS, ELEMENT_TIMEOUT = 1, 1, 2, 3, 4
DATA_VALUE, DATA_VERDICT, VERDICT_CODE, VERDICT_CHAIN = 1, 2, 1, 2
EXPRESSION_NAME, EXPRESSION_DATA = 1, 2
META_DREG, META_KEY, META_NFPROTO = 1, 2, 15
CMP_SREG, CMP_OP, CMP_DATA = 1, 2, 3
PAYLOAD_DREG, PAYLOAD_BASE, PAYLOAD_OFFSET, PAYLOAD_LENGTH, NETWORK_HEADER = 1, 2, 3, 4, 1
LOOKUP_SET, LOOKUP_SREG, LOOKUP_SET_ID = 1, 2, 4
IMMEDIATE_DREG, IMMEDIATE_DATA = 1, 2
REGISTER_VERDICT, REGISTER = 0, 1
ACCEPT, GOTO = 1, -4
ADDRESS_TYPES = {4: 7, 16: 8}
"""By size: the numbers by which `nft` shows elements as addresses."""
MAX_LIST = 60_000
"""Bytes of a list of elements in one message: an attribute's length has 16 bits."""
BUFFER = 32 * 1024 * 1024
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33


@dataclass(frozen=True)
class Change:
    kind: int
    flags: int
    body: bytes


@dataclass(frozen=True)
class Verdict:
    code: int
    chain: str = ""

    def bytes(self) -> bytes:
        chain = _text(VERDICT_CHAIN, self.chain) if self.chain else b""
        return _nested(DATA_VERDICT, _number(VERDICT_CODE, self.code) + chain)


def goto(chain: str) -> Verdict:
    return Verdict(GOTO, chain)


@dataclass(frozen=True)
class Element:
    key: bytes
    data: bytes | Verdict | None = None
    """Of a map."""
    timeout_s: int = 0

    def bytes(self) -> bytes:
        value = _nested(ELEMENT_KEY, attribute(DATA_VALUE, self.key))
        if self.data is not None:
            data = self.data.bytes() if isinstance(self.data, Verdict) else attribute(DATA_VALUE, self.data)
            value += _nested(ELEMENT_DATA, data)
        if self.timeout_s:
            value += attribute(ELEMENT_TIMEOUT, struct.pack("!Q", self.timeout_s * 1000))
        return _nested(ITEM, value)


def interface_key(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


def address_key(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def mark_key(mark: int) -> bytes:
    return struct.pack("=I", mark)


def port_key(protocol: str, port: int) -> bytes:
    """Of protocol and port; each part is padded to four bytes."""
    return struct.pack("!B3xH2x", {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}[protocol], port)


def new_interval_set(name: str, size: int, number: int) -> Change:
    """`size`: of an address. `number` is its name within the transaction."""
    key = _number(SET_KEY_TYPE, ADDRESS_TYPES[size]) + _number(SET_KEY_LENGTH, size)
    return _change(
        NEW_SET, _text(SET_NAME, name) + _number(SET_FLAGS, INTERVAL) + key + _number(SET_ID, number), NLM_F_CREATE
    )


def add_elements(name: str, elements: Iterable[Element]) -> list[Change]:
    return _list(NEW_ELEMENTS, NLM_F_CREATE, name, (element.bytes() for element in elements))


def remove_elements(name: str, elements: Iterable[Element]) -> list[Change]:
    """One that is not there fails the transaction."""
    return _list(DEL_ELEMENTS, 0, name, (element.bytes() for element in elements))


def add_intervals(name: str, size: int, intervals: Iterable[tuple[int, int]], number: int = 0) -> list[Change]:
    return _list(NEW_ELEMENTS, NLM_F_CREATE, name, _interval_items(size, intervals), number)


def empty_set(name: str) -> Change:
    return _change(DEL_ELEMENTS, _text(ELEMENTS_SET, name))


def delete_set(name: str) -> Change:
    return _change(DEL_SET, _text(SET_NAME, name))


def new_chain(name: str) -> Change:
    return _change(NEW_CHAIN, _text(CHAIN_NAME, name), NLM_F_CREATE)


def delete_chain(name: str) -> list[Change]:
    return [_change(DEL_RULE, _text(RULE_CHAIN, name)), _change(DEL_CHAIN, _text(CHAIN_NAME, name))]


def new_rule(chain: str, *expressions: bytes) -> Change:
    body = _text(RULE_CHAIN, chain) + _nested(RULE_EXPRESSIONS, b"".join(expressions))
    return _change(NEW_RULE, body, NLM_F_CREATE | NLM_F_APPEND)


def destination_in(name: str, number: int, protocol: int, offset: int, size: int) -> bytes:
    """The packet is of this NFPROTO_*, and its destination is in the set."""
    return (
        _expression("meta", _number(META_DREG, REGISTER) + _number(META_KEY, META_NFPROTO))
        + _expression(
            "cmp",
            _number(CMP_SREG, REGISTER)
            + _number(CMP_OP, 0)
            + _nested(CMP_DATA, attribute(DATA_VALUE, bytes([protocol]))),
        )
        + _expression(
            "payload",
            _number(PAYLOAD_DREG, REGISTER)
            + _number(PAYLOAD_BASE, NETWORK_HEADER)
            + _number(PAYLOAD_OFFSET, offset)
            + _number(PAYLOAD_LENGTH, size),
        )
        + _expression("lookup", _text(LOOKUP_SET, name) + _number(LOOKUP_SREG, REGISTER) + _set_id(number))
    )


def then(verdict: Verdict) -> bytes:
    return _expression(
        "immediate", _number(IMMEDIATE_DREG, REGISTER_VERDICT) + _nested(IMMEDIATE_DATA, verdict.bytes())
    )


class Table:
    """Through a socket in the network namespace that was current when this was made."""

    def __init__(self, name: str) -> None:
        self._name = _text(TABLE, name)
        self._socket = netfilter_socket()

    def commit(self, changes: Sequence[Change]) -> None:
        """The first refusal is raised, and then nothing has changed."""
        if not changes:
            return
        last = len(changes)
        messages = (
            netfilter_message(
                SUBSYSTEM << 8 | each.kind,
                each.flags | (NLM_F_ACK if number == last else 0),
                NFPROTO_INET,
                0,
                self._name + each.body,
                number,
            )
            for number, each in enumerate(changes, 1)
        )
        begin, end = (netfilter_message(kind, 0, socket.AF_UNSPEC, SUBSYSTEM, b"") for kind in (BATCH_BEGIN, BATCH_END))
        self._socket.send(b"".join((begin, *messages, end)))
        self._read_answers(last)

    def close(self) -> None:
        self._socket.close()

    def _read_answers(self, last: int) -> None:
        """Of the last change, and of each that failed; of a transaction that cannot begin or end it is the only one."""
        first: OSError | None = None
        number = -1
        while number not in (0, last):
            answer = self._socket.recv(65536)
            _, kind, _, number, _ = struct.unpack_from("=IHHII", answer)
            code = struct.unpack_from("=i", answer, 16)[0] if kind == NLMSG_ERROR else 0
            if code and first is None:
                first = OSError(-code, f"nftables: {os.strerror(-code)}")
        if first:
            raise first


def netfilter_socket() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    try:
        for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
            made.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        made.bind((0, 0))
    except OSError:
        made.close()
        raise
    return made


def _interval_items(size: int, intervals: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """An interval is where it begins and where it is over; the last one of all addresses is never over."""
    over = _number(ELEMENT_FLAGS, INTERVAL_END)
    beyond = 1 << 8 * size
    for first, last in intervals:
        yield _nested(ITEM, _nested(ELEMENT_KEY, attribute(DATA_VALUE, first.to_bytes(size, "big"))))
        if last + 1 < beyond:
            key = _nested(ELEMENT_KEY, attribute(DATA_VALUE, (last + 1).to_bytes(size, "big")))
            yield _nested(ITEM, key + over)


def _list(kind: int, flags: int, name: str, items: Iterable[bytes], number: int = 0) -> list[Change]:
    head = _text(ELEMENTS_SET, name) + (_number(ELEMENTS_SET_ID, number) if number else b"")
    return [_change(kind, head + _nested(ELEMENTS, part), flags) for part in _parts(items)]


def _parts(items: Iterable[bytes]) -> Iterator[bytes]:
    part: list[bytes] = []
    size = 0
    for item in items:
        if size + len(item) > MAX_LIST:
            yield b"".join(part)
            part, size = [], 0
        part.append(item)
        size += len(item)
    if part:
        yield b"".join(part)


def _set_id(number: int) -> bytes:
    return _number(LOOKUP_SET_ID, number)


def _change(kind: int, body: bytes, flags: int = 0) -> Change:
    return Change(kind, flags, body)


def _expression(name: str, data: bytes) -> bytes:
    return _nested(ITEM, _text(EXPRESSION_NAME, name) + _nested(EXPRESSION_DATA, data))


def _nested(kind: int, payload: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, payload)


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!I", value & 0xFFFFFFFF))


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")
