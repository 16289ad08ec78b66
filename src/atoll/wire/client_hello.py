"""The name in a TLS ClientHello: no socket, no clock.

    sniffer = ClientHelloSniffer()
    sniffer.receive(data)
    sniffer.next_event()   →  NEED_MORE | Tls | OPAQUE | Malformed
    sniffer.take_rest()    →  every byte that came, to be sent on as it is

Read as RFC 8446 section 4.1.2 and RFC 6066 section 3 write it, and refused where two servers could read two names:
an extension twice, several names, bytes left over. The record's version is not looked at (RFC 8446 section 5.1).
A hello may lie in many records; every record before its end holds a piece of it, and it ends where a record does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .sniffing import NEED_MORE, OPAQUE, Malformed, Mark, Unreadable

MAX_HELLO = 64 * 1024  # with the records' headers; browsers' are 2 KiB with a post-quantum key, OpenSSL takes 128 KiB
MAX_RECORDS = 2048  # a hello of today in pieces of one byte; each costs 2 µs, which everybody waits for
MAX_RECORD = 16 * 1024  # RFC 8446 section 5.1
MAX_SERVER_NAME = 255  # a DNS name and its dot

HANDSHAKE_RECORD, CLIENT_HELLO = 22, 1
SSL_3_OR_TLS = 3
RECORD_HEADER, MESSAGE_HEADER = 5, 4
SERVER_NAME, ALPN, ECH, ESNI = 0, 16, 0xFE0D, 0xFFCE
HOST_NAME = 0
ECH_OUTER = 0
_HOST = re.compile(rb"[A-Za-z0-9._:-]+")  # addresses too: clients that should not send them do


@dataclass(frozen=True)
class Tls:
    name: str | None
    """Lower case, otherwise as it was sent: `core.names.normal` says whether it names a host."""
    alpn: tuple[bytes, ...] = ()
    ech: bool = False
    """The true name may be in an encrypted hello inside (RFC 9849; browsers send a look-alike with every hello)."""


Event = Mark | Tls | Malformed


class ClientHelloSniffer:
    def __init__(self) -> None:
        self._raw = bytearray()
        self._at = 0
        """Where the next record begins."""
        self._records = 0
        self._message = bytearray()
        self._outcome: Event = NEED_MORE

    def receive(self, data: bytes) -> None:
        self._raw += data

    def next_event(self) -> Event:
        """The last outcome again when there is one."""
        if self._outcome is NEED_MORE:
            try:
                self._outcome = self._read()
            except Unreadable as error:
                self._outcome = Malformed(str(error))
        return self._outcome

    def take_rest(self) -> bytes:
        rest = bytes(self._raw)
        self._raw.clear()
        return rest

    def _read(self) -> Event:
        if not _may_be_tls(self._raw):
            return OPAQUE
        while (fragment := self._next_fragment()) is not None:
            self._records += 1
            if self._records > MAX_RECORDS:
                raise Unreadable("the ClientHello has too many records")
            self._message += fragment
            if len(self._message) >= MESSAGE_HEADER and len(self._message) == _message_size(self._message):
                return parse_hello(bytes(self._message[MESSAGE_HEADER:]))
        return NEED_MORE

    def _next_fragment(self) -> bytes | None:
        """Every check is made as soon as its bytes are there: a client that stops halfway is not waited for."""
        header = self._raw[self._at : self._at + RECORD_HEADER]
        start = self._at + RECORD_HEADER
        if len(header) > 0 and header[0] != HANDSHAKE_RECORD:
            raise Unreadable("another record inside the ClientHello")
        if len(header) > 1 and header[1] != SSL_3_OR_TLS:
            raise Unreadable("a record of another protocol inside the ClientHello")
        if len(header) < RECORD_HEADER:
            return None
        end = start + int.from_bytes(header[3:])
        if not start < end <= start + MAX_RECORD:
            raise Unreadable("a record that is empty or too long")
        if end > MAX_HELLO:
            raise Unreadable("the ClientHello is too large")
        self._check_message_header(start, end)
        if len(self._raw) < end:
            return None
        self._at = end
        return bytes(self._raw[start:end])

    def _check_message_header(self, start: int, end: int) -> None:
        begun = bytes(self._message[:MESSAGE_HEADER])
        begun += self._raw[start : min(end, start + MESSAGE_HEADER - len(begun))]
        if begun and begun[0] != CLIENT_HELLO:
            raise Unreadable("a handshake that does not begin with a ClientHello")
        if len(begun) == MESSAGE_HEADER:
            size = _message_size(begun)
            if size > MAX_HELLO:
                raise Unreadable("the ClientHello is too large")
            if len(self._message) + end - start > size:
                raise Unreadable("something follows the ClientHello in its record")


def _may_be_tls(raw: bytearray) -> bool:
    return raw[:1] in (b"", bytes([HANDSHAKE_RECORD])) and raw[1:2] in (b"", bytes([SSL_3_OR_TLS]))


def _message_size(message: bytes | bytearray) -> int:
    return MESSAGE_HEADER + int.from_bytes(message[1:MESSAGE_HEADER])


# ---- the message


class _Reader:
    """Takes bytes from the front; what is not there is a fault, not a wait: the message is whole."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise Unreadable("a field is longer than what holds it")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width))

    def vector(self, width: int) -> bytes:
        return self.take(self.number(width))

    @property
    def over(self) -> bool:
        return self._at == len(self._data)


def parse_hello(body: bytes) -> Tls:
    """`body` is the message without its type and length. Raises Unreadable."""
    reader = _Reader(body)
    if reader.take(2)[0] != SSL_3_OR_TLS:
        raise Unreadable("a ClientHello of another protocol")
    reader.take(32)
    session, ciphers, compressions = reader.vector(1), reader.vector(2), reader.vector(1)
    if len(session) > 32 or not ciphers or len(ciphers) % 2 or not compressions:
        raise Unreadable("a ClientHello with a session, ciphers or compressions that cannot be")
    extensions = {} if reader.over else _extensions(reader.vector(2))
    if not reader.over:
        raise Unreadable("bytes after the extensions")
    return Tls(
        name=_server_name(extensions[SERVER_NAME]) if SERVER_NAME in extensions else None,
        alpn=_protocols(extensions[ALPN]) if ALPN in extensions else (),
        ech=_is_encrypted(extensions),
    )


def _extensions(block: bytes) -> dict[int, bytes]:
    reader = _Reader(block)
    found: dict[int, bytes] = {}
    while not reader.over:
        kind, data = reader.number(2), reader.vector(2)
        if kind in found:
            raise Unreadable("an extension twice")
        found[kind] = data
    return found


def _server_name(data: bytes) -> str:
    names = _whole_vector(data)
    kind, name = names.number(1), names.vector(2)
    if kind != HOST_NAME or not names.over:
        raise Unreadable("not exactly one server name")
    if len(name) > MAX_SERVER_NAME or not _HOST.fullmatch(name):
        raise Unreadable("a server name that cannot be one")
    return name.decode("ascii").lower()


def _protocols(data: bytes) -> tuple[bytes, ...]:
    reader = _whole_vector(data)
    found = []
    while not reader.over:
        found.append(reader.vector(1))
    if not found or not all(found):
        raise Unreadable("an empty protocol name")
    return tuple(found)


def _whole_vector(data: bytes) -> _Reader:
    reader = _Reader(data)
    inside = reader.vector(2)
    if not reader.over:
        raise Unreadable("bytes after the list in an extension")
    return _Reader(inside)


def _is_encrypted(extensions: dict[int, bytes]) -> bool:
    if ECH in extensions and extensions[ECH][:1] != bytes([ECH_OUTER]):
        raise Unreadable("an encrypted hello that is not an outer one")
    return ECH in extensions or ESNI in extensions
