"""Messages of DNS (RFC 1035, EDNS of RFC 6891) as a forwarder needs them: the question, and where things are. Pure.

Names stay as they are on the wire. A message is walked once and bounded by its own length; a name may point backwards
only. What follows the authority section of an answer is never handed on: a stub resolver needs nothing from there. So
an answer is kept as the bytes after its question, and where its TTLs are.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

HEADER = struct.Struct("!HHHHHH")
QUESTION_END = struct.Struct("!HH")
RECORD = struct.Struct("!HHIH")
TTL = struct.Struct("!I")
LENGTH = struct.Struct("!H")  # before a message over TCP

MAX_MESSAGE = 65_535
MAX_RECORDS = 256
"""Of one answer; the name's owner decides how many, and reading each is work for us."""
MAX_NAME = 255
MAX_LABEL = 63
PLAIN_UDP = 512
"""What a client without EDNS takes over UDP."""
OUR_SIZE = 1232
"""That no path has to fragment (DNS flag day 2020)."""
MAX_TTL = 0x7FFFFFFF


class Flag(IntFlag):
    RESPONSE = 0x8000
    TRUNCATED = 0x0200
    RECURSION_DESIRED = 0x0100
    RECURSION_AVAILABLE = 0x0080
    AUTHENTIC = 0x0020
    CHECKING_DISABLED = 0x0010


OPCODE = 0x7800
DO = 0x8000


class Rcode(IntEnum):
    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class Type(IntEnum):
    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    MX = 15
    TXT = 16
    AAAA = 28
    SRV = 33
    DNAME = 39
    OPT = 41
    DS = 43
    RRSIG = 46
    SVCB = 64
    HTTPS = 65
    ANY = 255


IN = 1


@dataclass(frozen=True, slots=True)
class Query:
    id: int
    flags: int
    name: bytes
    """As it was written, its case kept: the answer repeats it."""
    rdtype: int
    rdclass: int
    size: int = 0
    """What the client takes over UDP; 0: it did not speak EDNS."""
    do: bool = False
    version: int = 0


@dataclass(frozen=True, slots=True)
class Faulty:
    """It is answered, but by an error."""

    id: int
    flags: int
    rcode: Rcode


@dataclass(frozen=True, slots=True)
class NoQuery:
    """Nothing to answer: it is too short, or an answer itself (two servers could go on for ever)."""


@dataclass(frozen=True, slots=True)
class Record:
    rdtype: int
    rdclass: int
    ttl: int
    at: int
    """Of its TTL."""
    data: bytes
    authority: bool


@dataclass(frozen=True, slots=True)
class Response:
    id: int
    flags: int
    rcode: int
    """Its four bits in the header."""
    name: bytes
    rdtype: int
    rdclass: int
    counts: tuple[int, int]
    """Records of the answer and authority sections."""
    records: tuple[Record, ...]
    start: int
    """Of the answer section."""
    end: int
    """Of the authority section."""


@dataclass(frozen=True, slots=True)
class Malformed:
    why: str


class _Bad(Exception):
    pass


# ---- reading


def parse_query(data: bytes) -> Query | Faulty | NoQuery:
    if len(data) < HEADER.size:
        return NoQuery()
    ident, flags, questions, answers, authorities, additional = HEADER.unpack_from(data)
    if flags & Flag.RESPONSE:
        return NoQuery()
    if flags & OPCODE:
        return Faulty(ident, flags, Rcode.NOTIMP)
    if questions != 1 or answers or authorities:
        return Faulty(ident, flags, Rcode.FORMERR)
    try:
        name, at = _question_name(data)
        rdtype, rdclass = QUESTION_END.unpack_from(data, at)
        size, do, version = _edns(data, at + QUESTION_END.size, additional)
    except (_Bad, struct.error):
        return Faulty(ident, flags, Rcode.FORMERR)
    return Query(ident, flags, name, rdtype, rdclass, size, do, version)


def parse_response(data: bytes) -> Response | Malformed:
    try:
        return _response(data)
    except _Bad as error:
        return Malformed(str(error))
    except struct.error:
        return Malformed("it ends too early")


def _response(data: bytes) -> Response:
    ident, flags, questions, answers, authorities, _additional = HEADER.unpack_from(data)
    if not flags & Flag.RESPONSE or flags & OPCODE or questions != 1:
        raise _Bad("it is no answer to one question")
    name, at = _question_name(data)
    rdtype, rdclass = QUESTION_END.unpack_from(data, at)
    start = at + QUESTION_END.size
    records, end = _records(data, start, answers, authorities)
    return Response(ident, flags, flags & 0xF, name, rdtype, rdclass, (answers, authorities), records, start, end)


def _records(data: bytes, at: int, answers: int, authorities: int) -> tuple[tuple[Record, ...], int]:
    if answers + authorities > MAX_RECORDS:
        raise _Bad("it has too many records")
    found: list[Record] = []
    for number in range(answers + authorities):
        at = _skip_name(data, at)
        rdtype, rdclass, ttl, length = RECORD.unpack_from(data, at)
        begin = at + RECORD.size
        end = begin + length
        if end > len(data):
            raise _Bad("it ends too early")
        known_ttl = ttl if ttl <= MAX_TTL else 0  # RFC 2181, 8
        found.append(Record(rdtype, rdclass, known_ttl, at + 4, data[begin:end], number >= answers))
        at = end
    return tuple(found), at


def without_additional(data: bytes, response: Response) -> bytes:
    """Its answer and authority alone."""
    return data[: HEADER.size - 2] + bytes(2) + data[HEADER.size : response.end]


def _edns(data: bytes, at: int, additional: int) -> tuple[int, bool, int]:
    """Size, DO and version of the one OPT record that there may be; other records mean nothing in a query."""
    found: tuple[int, bool, int] | None = None
    for _ in range(additional):
        root = data[at : at + 1] == b"\0"
        at = _skip_name(data, at)
        rdtype, size, ttl, length = RECORD.unpack_from(data, at)
        at += RECORD.size + length
        if at > len(data):
            raise _Bad("it ends too early")
        if rdtype == Type.OPT:
            if found is not None or not root:
                raise _Bad("more than one OPT record, or a named one")
            found = max(size, PLAIN_UDP), bool(ttl & DO), ttl >> 16 & 0xFF
    return found or (0, False, 0)


def _question_name(data: bytes) -> tuple[bytes, int]:
    """Nothing stands before it that it could point to."""
    at = start = HEADER.size
    while True:
        length = data[at] if at < len(data) else MAX_LABEL + 1
        if length > MAX_LABEL:
            raise _Bad("a name is malformed")
        at += 1 + length
        if at - start > MAX_NAME:
            raise _Bad("a name is too long")
        if length == 0:
            return data[start:at], at


def _skip_name(data: bytes, at: int) -> int:
    """Where the one at `at` ends. What it points to lies before it, where labels have been read or are data."""
    start = at
    while at < len(data):
        length = data[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            if at + 2 > len(data) or not HEADER.size <= LENGTH.unpack_from(data, at)[0] & 0x3FFF < start:
                raise _Bad("a name points nowhere")
            return at + 2
        if length > MAX_LABEL or at + 1 + length - start > MAX_NAME:
            raise _Bad("a name is malformed")
        at += 1 + length
    raise _Bad("it ends too early")


# ---- names


def name_text(name: bytes) -> str:
    """Lower case, no dot at the end; what no host has in its name is escaped, so a dot is always between labels."""
    labels = []
    at = 0
    while name[at]:
        labels.append(_label_text(name[at + 1 : at + 1 + name[at]]))
        at += 1 + name[at]
    return ".".join(labels)


_ORDINARY = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")


def _label_text(label: bytes) -> str:
    label = label.lower()
    if _ORDINARY.issuperset(label):
        return label.decode("ascii")
    return "".join(chr(each) if each in _ORDINARY else f"\\{each:03d}" for each in label)


def name_wire(text: str) -> bytes | None:
    """Of a name in its normal form (core.names)."""
    try:
        labels = [label.encode("ascii") for label in text.split(".")]
    except UnicodeError:
        return None
    if not all(0 < len(label) <= MAX_LABEL for label in labels):
        return None
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return wire if len(wire) <= MAX_NAME else None


def mixed_case(name: bytes, bits: int) -> bytes:
    """With the case of its letters chosen by `bits`: who has not seen the question does not know it (0x20)."""
    mixed = bytearray(name.lower())
    for at, byte in enumerate(mixed):
        if 0x61 <= byte <= 0x7A and bits >> at & 1:  # lengths are below
            mixed[at] = byte ^ 0x20
    return bytes(mixed)


# ---- writing


def query(ident: int, name: bytes, rdtype: int, do: bool = False, checking_disabled: bool = False) -> bytes:
    """To a resolver, with EDNS."""
    flags = Flag.RECURSION_DESIRED | (Flag.CHECKING_DISABLED if checking_disabled else 0)
    return b"".join(
        (HEADER.pack(ident, flags, 1, 0, 0, 1), name, QUESTION_END.pack(rdtype, IN), _opt(OUR_SIZE, DO if do else 0))
    )


def answer(
    asked: Query,
    rcode: int,
    body: bytes = b"",
    counts: tuple[int, int] = (0, 0),
    authentic: bool = False,
    limit: int = MAX_MESSAGE,
) -> bytes:
    """`body`: the sections of answers and authority. Longer than `limit`, it is left out and the client told so."""
    flags = _answering(asked.flags) | rcode & 0xF
    if authentic and (asked.do or asked.flags & Flag.AUTHENTIC):
        flags |= Flag.AUTHENTIC
    opt = _opt(OUR_SIZE, rcode >> 4 << 24 | (DO if asked.do else 0)) if asked.size else b""
    question = asked.name + QUESTION_END.pack(asked.rdtype, asked.rdclass)
    if HEADER.size + len(question) + len(body) + len(opt) > limit:
        body, counts, flags = b"", (0, 0), flags | Flag.TRUNCATED
    return HEADER.pack(asked.id, flags, 1, *counts, 1 if opt else 0) + question + body + opt


def error(asked: Faulty) -> bytes:
    return HEADER.pack(asked.id, _answering(asked.flags) | asked.flags & OPCODE | asked.rcode, 0, 0, 0, 0)


def udp_limit(asked: Query) -> int:
    return min(asked.size, OUR_SIZE) if asked.size else PLAIN_UDP


def address_record(packed: bytes, ttl: int) -> bytes:
    """A or AAAA, of the name in the question."""
    rdtype = Type.A if len(packed) == 4 else Type.AAAA
    return b"\xc0\x0c" + RECORD.pack(rdtype, IN, ttl, len(packed)) + packed


def _answering(flags: int) -> int:
    return Flag.RESPONSE | Flag.RECURSION_AVAILABLE | flags & (Flag.RECURSION_DESIRED | Flag.CHECKING_DISABLED)


def _opt(size: int, ttl: int) -> bytes:
    return b"\0" + RECORD.pack(Type.OPT, size, ttl, 0)
