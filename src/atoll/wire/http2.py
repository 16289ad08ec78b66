"""Heads of HTTP/2 as the requests and answers that HTTP/1.1 has; what a field may be is no wider here. Pure.

What is in the frames, and most of RFC 9113's rules of fields, are the library's (`h2`); what it lets through and
HTTP/1.1 could not say, is refused: it will be HTTP/1.1 on the next hop. Here bytes are cut into frames as well: the
library would wait for all of one before it finds it too large, and is ahead of us when it is given several.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from .http1 import MAX_FIELDS, Answer, Field, Malformed, Request, is_host, length_of, passing_trailers

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEAD = 9
MAX_FRAME = 16 * 1024
"""The least that RFC 9113 allows us to allow."""
MAX_HEAD = 64 * 1024
ACK = 0x1
KNOWN_SETTINGS = frozenset((1, 2, 3, 4, 5, 6, 8))
"""The others mean nothing here, and the library would keep each of 65536."""

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATH = re.compile(rb"/[!\"$-~\x80-\xff]*")
_STATUS = re.compile(rb"[1-5][0-9][0-9]")
CONNECTION = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"),
        *(b"content_length", b"transfer_encoding"),  # which gateways to programs read as the others
    )
)
NONE: frozenset[bytes] = frozenset()


def request_of(given: Iterable[Field], ended: bool) -> Request:
    """`ended`: nothing follows the head. Raises `Malformed`."""
    pseudo, fields = _parted(given)
    method, path, authority = pseudo.get(b":method", b""), pseudo.get(b":path", b""), pseudo.get(b":authority")
    if _METHOD.fullmatch(method) is None or (method != b"CONNECT" and _PATH.fullmatch(path) is None):
        raise Malformed("the method or the path of a request is not well-formed")
    if method == b"CONNECT":
        raise Malformed("CONNECT is not allowed here", 405)
    length: int | None = None
    kept: list[Field] = []
    cookies: list[bytes] = []
    for name, value in fields:
        match name:
            case b"host":
                if authority is not None and authority.lower() != value.lower():
                    raise Malformed(":authority and Host name two hosts")
                authority = value
            case b"content-length":
                length = length_of(value, length)
                kept.append((name, value))
            case b"cookie":
                cookies += [value] if value else []
            case b"expect" if value.lower() != b"100-continue":
                raise Malformed("only 100-continue can be expected", 417)
            case _:
                kept.append((name, value))
    if cookies:
        kept.append((b"cookie", b"; ".join(cookies)))  # RFC 9113, 8.2.3
    _count(len(kept))
    if authority is None or not is_host(authority):
        raise Malformed("the host is missing, or no name or address")
    if ended and length:
        raise Malformed("a length, and no body")
    return Request(
        method=method,
        target=path,
        host=authority,
        fields=kept,
        length=0 if ended else length,
        keeps_alive=True,
        expects=False,
        upgrade=b"",
        named=NONE,
        old=False,
        size=0,
    )


def answer_of(given: Iterable[Field]) -> Answer:
    """Of a program that speaks HTTP/2. Raises `Malformed`."""
    pseudo, fields = _parted(given)
    status = pseudo.get(b":status", b"")
    if _STATUS.fullmatch(status) is None or status == b"101":
        raise Malformed("an answer without a status")
    _count(len(fields))
    return Answer(
        status=int(status),
        reason=b"",
        fields=fields,
        length=None,
        chunked=True,
        keeps_alive=True,
        upgrade=b"",
        named=NONE,
        size=0,
    )


def trailers_of(given: Iterable[Field]) -> list[Field]:
    """Those that may pass."""
    _, fields = _parted(given)
    _count(len(fields))
    return passing_trailers(fields)


def _parted(given: Iterable[Field]) -> tuple[dict[bytes, bytes], list[Field]]:
    pseudo: dict[bytes, bytes] = {}
    fields: list[Field] = []
    for name, value in given:
        name, value = bytes(name), bytes(value).strip(b" \t")
        if _VALUE.fullmatch(value) is None:
            raise Malformed("a field's value has a control character")
        if name[:1] == b":":
            if name in pseudo or fields:
                raise Malformed("a pseudo-header that is there more than once, or behind a field")
            pseudo[name] = value
        elif _NAME.fullmatch(name) is None or name in CONNECTION:
            raise Malformed("a field that is not well-formed, or of a single connection")
        else:
            fields.append((name, value))
    return pseudo, fields


def _count(fields: int) -> None:
    if fields > MAX_FIELDS - 2:  # HTTP/1.1 adds the host and how the body ends
        raise Malformed("too many fields", 431)


# ---- frames


class Kind(IntEnum):
    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


@dataclass(slots=True)
class Frame:
    kind: int
    """Perhaps none that is known."""
    length: int
    raw: bytes

    @property
    def last_stream(self) -> int:
        """Of a GOAWAY."""
        return int.from_bytes(self.raw[FRAME_HEAD : FRAME_HEAD + 4]) & 0x7FFFFFFF


class Frames:
    """Bytes in, whole frames out, one at a time."""

    def __init__(self, from_client: bool) -> None:
        self._buffer = bytearray()
        self._preface = PREFACE if from_client else b""
        self._first = True
        self._head = 0
        """Bytes of a head so far."""

    def __len__(self) -> int:
        """Bytes that wait for the rest of a frame, or for being asked for."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> Frame | None:
        """None: more is awaited. Raises `Malformed`. The first bears the preface."""
        start = len(self._preface)
        if self._first and not self._preface.startswith(self._buffer[:start]):
            raise Malformed("what comes is not HTTP/2")
        if len(self._buffer) < start + FRAME_HEAD:
            return None
        length = int.from_bytes(self._buffer[start : start + 3])
        kind, flags = self._buffer[start + 3], self._buffer[start + 4]
        if self._first and (kind != Kind.SETTINGS or flags & ACK):
            raise Malformed("what comes is not HTTP/2: SETTINGS have to be first")
        if length > MAX_FRAME:
            raise Malformed("a frame that is too large")
        end = start + FRAME_HEAD + length
        if len(self._buffer) < end:
            return None
        raw = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._preface, self._first = b"", False
        self._head = self._head + length if kind == Kind.CONTINUATION else length
        if self._head > MAX_HEAD:
            raise Malformed("a head that is too large")
        if kind == Kind.GOAWAY and length < 8:
            raise Malformed("a GOAWAY that is too short")
        if kind == Kind.SETTINGS and length % 6 == 0:
            raw = _known(raw, start)
        return Frame(kind, length, raw)


def _known(raw: bytes, start: int) -> bytes:
    at = start + FRAME_HEAD
    settings = [raw[each : each + 6] for each in range(at, len(raw), 6)]
    body = b"".join(each for each in settings if int.from_bytes(each[:2]) in KNOWN_SETTINGS)
    return raw[:start] + len(body).to_bytes(3) + raw[start + 3 : at] + body
