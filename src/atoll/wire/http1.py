"""Heads and bodies of HTTP/1.1 as they pass through a proxy: bytes in, decisions out; no socket, no clock.

    outcome = read_request(buffer)      →  Request, NEED_MORE; raises Malformed
    outcome = read_answer(buffer, …)    →  Answer, NEED_MORE; raises Malformed
    body = request.body()               →  takes what arrives, gives what may be sent on, knows its end

Whatever the pieces are in which bytes arrive, what is made of them is the same. A reader of long heads that come in
small pieces does well to ask again only after a line end.

One expression reads a whole head, so that a request costs some microseconds. It is the strict grammar: CRLF only, no
folded line, no blank before a colon, no control character; and nothing that two servers could read in two ways: one
Host, one length, never a length and chunks. A name or a value that is not understood is refused, not mended.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

Field = tuple[bytes, bytes]

MAX_HEAD = 64 * 1024
"""Cookies and tokens of large web applications come near 32 KiB."""
MAX_FIELDS = 200
MAX_TRAILERS = 16 * 1024
MAX_CHUNK_LINE = 256
"""16 hexadecimal digits and a modest extension."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_VALUE = rb"[ -~\t\x80-\xff]*+"
_FIELDS = rb"(?>(?:" + _TOKEN + rb":" + _VALUE + rb"\r\n)*)"
"""Atomic, and not possessive: after a group that is, Python before 3.11.5 may go on at a wrong place."""
_REQUEST_LINE = rb"(" + _TOKEN + rb") ([!-~\x80-\xff]++) HTTP/1\.([01])\r\n"
_STATUS = rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: (" + _VALUE + rb"))?"
_STATUS_LINE = _STATUS + rb"\r\n"
_REQUEST = re.compile(_REQUEST_LINE + rb"(" + _FIELDS + rb")\r\n")
_REQUEST_AGAIN = re.compile(rb"(" + _TOKEN + rb") (/[!\"$-~\x80-\xff]*+)(?= )")
_ANSWER = re.compile(_STATUS + rb"((?>(?:\r\n" + _TOKEN + rb":" + _VALUE + rb")*))\r\n\r\n")
_TRAILERS = re.compile(rb"(" + _FIELDS + rb")\r\n")
_REQUEST_LINES = re.compile(_REQUEST_LINE + _FIELDS)
_ANSWER_LINES = re.compile(_STATUS_LINE + _FIELDS)
_TRAILER_LINES = re.compile(_FIELDS)
_OTHER_VERSION = re.compile(_TOKEN + rb" [!-~\x80-\xff]++ HTTP/[0-9](?:\.[0-9])?\r\n")
_FIELD = re.compile(rb"([^:]++):[ \t]*+([^\r]*+)\r\n")
"""In lines that are well-formed."""
_FRAMING = re.compile(rb"\r\n((?i:connection|content-length|transfer-encoding|upgrade)):[ \t]*+([^\r]*+)")  # likewise
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]++|;[\t -~]*+)?\r\n")
_CHUNK_SO_FAR = re.compile(rb"[0-9A-Fa-f]{1,15}(?:[ \t]++|;[\t -~]*+)?\r?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_OF_REQUESTS = frozenset(
    (
        *(b"content-length", b"transfer-encoding", b"connection", b"upgrade"),
        *(b"host", b"expect", b"content_length", b"transfer_encoding"),
    )
)
"""Gateways to programs (CGI, WSGI) know no difference between `-` and `_`."""


class Mark(Enum):
    NEED_MORE = auto()


NEED_MORE: Final = Mark.NEED_MORE


class Malformed(ValueError):
    """The connection ends after the answer. `status`: what a client is told."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.why = why
        self.status = status


@dataclass(slots=True)
class Request:
    method: bytes
    target: bytes
    """Origin form: a path, and perhaps a query."""
    host: bytes
    """As written; empty in a request of HTTP/1.0 that has none."""
    fields: list[Field]
    """Without Host; names as written, values without blanks around them."""
    length: int | None
    """Of the body; None: chunked."""
    keeps_alive: bool
    expects: bool
    """It waits for a 100 (Continue)."""
    upgrade: bytes
    """In lower case, where Connection says so too."""
    named: frozenset[bytes]
    """Fields that Connection names: they are for this hop only."""
    old: bool
    """HTTP/1.0: it knows no chunks."""
    size: int
    """Of the head in the buffer."""
    block: bytes = field(default=b"", compare=False, repr=False)
    """Of HTTP/1, with a path for a target: all of the head behind that, as it came."""

    def body(self, framed: bool = True) -> Body:
        return Chunks(framed) if self.length is None else Counted(self.length)


class Answer:
    __slots__ = (
        *("_fields", "block", "chunked", "keeps_alive", "length", "named", "onward", "reason", "size", "status"),
        "upgrade",
    )

    def __init__(
        self,
        status: int,
        reason: bytes,
        fields: list[Field] | None,
        length: int | None,
        chunked: bool,
        keeps_alive: bool,
        upgrade: bytes,
        named: frozenset[bytes],
        size: int,
        block: bytes = b"",
    ) -> None:
        self.status = status
        self.reason = reason
        self._fields = fields
        self.length = length
        """None: chunked, or to the end of the connection."""
        self.chunked = chunked
        self.keeps_alive = keeps_alive
        """The connection may be used again after the body."""
        self.upgrade = upgrade
        self.named = named
        self.size = size
        self.block = block
        """Of HTTP/1: the fields as they came, each behind a line end."""
        self.onward: bytes | None = None
        """What of `block` passes a proxy, where it has found out."""

    @property
    def fields(self) -> list[Field]:
        """Names as written, values without blanks around them; read from `block` when somebody asks."""
        if self._fields is None:
            self._fields = _split(self.block[2:] + b"\r\n" if self.block else b"")
        return self._fields

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Answer) and self._told() == other._told()

    def __repr__(self) -> str:
        return f"Answer{self._told()}"

    def _told(self) -> tuple[object, ...]:
        told = (self.status, self.reason, self.fields, self.length, self.chunked, self.keeps_alive)
        return (*told, self.upgrade, self.named, self.size)

    @property
    def preliminary(self) -> bool:
        return self.status < 200 and self.status != 101

    def body(self, framed: bool = True) -> Body:
        if self.chunked:
            return Chunks(framed)
        return ToTheEnd() if self.length is None else Counted(self.length)


# ---- heads


def read_request(buffer: bytes | bytearray) -> Request | Mark:
    match = _REQUEST.match(buffer)
    if match is None or match.end() > MAX_HEAD:
        return _unread(buffer, _REQUEST_LINES, "a request")
    method, target, minor, raw = match.groups()
    length: int | None = None
    host = coding = None
    fields = _split(raw)
    _count(len(fields), "a request")
    connection: list[bytes] = []
    upgrade = b""
    expects = False
    host_at = -1
    for at, (name, value) in enumerate(fields):
        low = name.lower()
        if low not in _OF_REQUESTS:
            continue
        match low:
            case b"host":
                if host is not None:
                    raise Malformed("the field Host is there more than once")
                host, host_at = value, at
            case b"content-length":
                length = length_of(value, length)
            case b"transfer-encoding":
                coding = _coding(value, coding)
            case b"connection":
                connection.append(value)
            case b"upgrade":
                upgrade = value.lower()
            case b"expect":
                if value.lower() != b"100-continue":
                    raise Malformed("only 100-continue can be expected", 417)
                expects = minor == b"1"
            case _:
                raise Malformed("a name that some servers take for Content-Length or Transfer-Encoding")
    if host_at >= 0:
        del fields[host_at]
    if coding and (length is not None or minor == b"0"):
        raise Malformed("two ways to say where the body ends")
    path, host = _whom(method, target, host, minor)
    options = _options(connection)
    return Request(
        method=method,
        target=path,
        host=host,
        fields=fields,
        length=None if coding else length or 0,
        keeps_alive=_keeps_alive(minor, options),
        expects=expects,
        upgrade=_tunnel(upgrade, minor) if b"upgrade" in options else b"",
        named=options,
        old=minor == b"0",
        size=match.end(),
        block=bytes(buffer[match.end(2) : match.end()]) if path == target else b"",
    )


def read_again(buffer: bytes, before: Request) -> Request | None:
    """As `read_request`, for a request with another path at the most. None: it differs in more, or is not all here."""
    line = _REQUEST_AGAIN.match(buffer)
    if line is None or line[1] != before.method or not before.block or not buffer.startswith(before.block, line.end()):
        return None
    size = line.end() + len(before.block)
    if size > MAX_HEAD:
        return None
    return Request(
        before.method,
        line[2],
        before.host,
        before.fields,
        before.length,
        before.keeps_alive,
        before.expects,
        before.upgrade,
        before.named,
        before.old,
        size,
        before.block,
    )


def read_answer(buffer: bytes | bytearray, method: bytes) -> Answer | Mark:
    """`method`: of the request. Raises `Malformed` for what is no answer of HTTP/1."""
    match = _ANSWER.match(buffer)
    if match is None or match.end() > MAX_HEAD:
        return _unread(buffer, _ANSWER_LINES, "an answer")
    minor, status, reason, block = match.groups()
    _count(block.count(b"\r\n"), "an answer")
    length: int | None = None
    coding = None
    connection: list[bytes] = []
    upgrade = b""
    for name, blank_ended in _FRAMING.findall(block):
        value = blank_ended.rstrip(b" \t")
        match name.lower():
            case b"content-length":
                length = length_of(value, length)
            case b"transfer-encoding":
                coding = _coding(value, coding)
            case b"connection":
                connection.append(value)
            case _:
                upgrade = value.lower()
    if coding and (length is not None or minor == b"0"):
        raise Malformed("two ways to say where the body ends")
    end = length
    if status == b"204" or status[:1] == b"1":
        if length:  # RFC 9110, 8.6: a proxy before us could wait for it, and take the next answer for it
            raise Malformed("an answer that has no body, and a length of it")
        coding, end = None, 0
    elif method == b"HEAD" or status == b"304":
        coding, end = None, 0
    options = _options(connection)
    return Answer(
        int(status),
        reason or b"",
        None,
        end,
        coding is not None,
        _keeps_alive(minor, options) and (coding is not None or end is not None),
        upgrade if b"upgrade" in options else b"",
        options,
        match.end(),
        block,
    )


def _unread(buffer: bytes | bytearray, lines: re.Pattern[bytes], what: str) -> Mark:
    """More is awaited while all lines that are whole are good. However the bytes arrive, what is wrong first counts."""
    whole = buffer.rfind(b"\n", 0, MAX_HEAD) + 1
    start = lines.match(buffer, 0, whole)
    good = start.end() if start else 0
    if buffer.count(b"\n", 0, good) > MAX_FIELDS + 1:
        raise Malformed(f"{what} has too many fields", 431)
    if good < whole:
        if lines is _REQUEST_LINES and _OTHER_VERSION.match(buffer) and not good:
            raise Malformed("only HTTP/1.1 and HTTP/1.0 are spoken here", 505)
        raise Malformed(f"{what} that is not well-formed")
    if len(buffer) >= MAX_HEAD:
        raise Malformed(f"the head of {what} is too large", 431)
    return NEED_MORE


def _count(fields: int, what: str) -> None:
    if fields > MAX_FIELDS:
        raise Malformed(f"{what} has too many fields", 431)


def _split(raw: bytes) -> list[Field]:
    fields: list[Field] = _FIELD.findall(raw)
    if b" \r" in raw or b"\t\r" in raw:
        return [(name, value.rstrip(b" \t")) for name, value in fields]
    return fields


def length_of(value: bytes, before: int | None) -> int:
    if before is not None or _LENGTH.fullmatch(value) is None:
        raise Malformed("Content-Length has to be one number")
    return int(value)


def _coding(value: bytes, before: bytes | None) -> bytes:
    """What does not end in `chunked` has no end that could be known: that is no matter of what we know of."""
    if before is not None or value.lower() != b"chunked":
        *others, last = (each.strip(b" \t") for each in value.lower().split(b","))
        unknown = before is None and last == b"chunked" and others and b"chunked" not in others
        raise Malformed("the only transfer coding is chunked", 501 if unknown else 400)
    return value


def _tunnel(upgrade: bytes, minor: bytes) -> bytes:
    """Not to HTTP again: whatever is done to requests would not be done to those in the tunnel."""
    again = any(each.strip(b" \t").startswith((b"h2", b"http")) for each in upgrade.split(b","))
    return b"" if again or minor == b"0" else upgrade


_COMMON = {(): frozenset[bytes](), (b"keep-alive",): frozenset((b"keep-alive",)), (b"close",): frozenset((b"close",))}


def _options(connection: Iterable[bytes]) -> frozenset[bytes]:
    common = _COMMON.get(tuple(connection))
    if common is not None:
        return common
    return frozenset(option.strip(b" \t").lower() for value in connection for option in value.split(b","))


def _keeps_alive(minor: bytes, options: frozenset[bytes]) -> bool:
    return b"close" not in options and (minor == b"1" or b"keep-alive" in options)


def is_host(text: bytes) -> bool:
    """A name or an address, perhaps with a port."""
    return _HOST.fullmatch(text) is not None


def _whom(method: bytes, target: bytes, host: bytes | None, minor: bytes) -> tuple[bytes, bytes]:
    """The path, and the host: an absolute target's own."""
    if host is None and minor == b"1":
        raise Malformed("the field Host is missing")
    if b"#" in target:
        raise Malformed("a '#' is not part of a request's target")
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            raise Malformed("the target is neither a path nor a URL", 405 if method == b"CONNECT" else 400)
        authority, path = absolute.groups()
        if host is not None and host.lower() != authority.lower():
            raise Malformed("the target and the field Host name two hosts")
        host, target = authority, path if path.startswith(b"/") else b"/" + path
    if host is None:
        return target, b""
    if not is_host(host):
        raise Malformed("the host is no name or address")
    return target, host


# ---- bodies


class Body:
    """`take` gives what may be sent on, and what is not the body's any more."""

    over: bool

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        raise NotImplementedError

    def ended(self) -> bool:
        """Whether a connection that ends here leaves the body whole."""
        return self.over


class Counted(Body):
    __slots__ = ("left", "over")

    def __init__(self, length: int) -> None:
        self.left = length
        self.over = not length

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        size = len(data)
        if size < self.left:
            self.left -= size
            return data, b""
        left, self.left, self.over = self.left, 0, True
        return (data, b"") if size == left else (data[:left], data[left:])


class ToTheEnd(Body):
    __slots__ = ("over",)

    def __init__(self) -> None:
        self.over = False

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        return data, b""

    def ended(self) -> bool:
        return True


class Chunks(Body):
    """Sent on as they come, each line of them checked; of the trailers those that mean nothing to us."""

    __slots__ = ("_framed", "_in_trailers", "_left", "_line", "over", "trailers")

    def __init__(self, framed: bool = True) -> None:
        """Not `framed`: what is sent on is the content alone, and `trailers` has what came behind it."""
        self.over = False
        self.trailers: list[Field] = []
        self._framed = framed
        self._left = 0
        """Of a chunk and the line end behind it."""
        self._line = b""
        """What is there of a line that is not whole."""
        self._in_trailers = False

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        if self._left > len(data) + 2 and not self._line:
            self._left -= len(data)
            return data, b""
        if self.over:
            return b"", data
        if self._in_trailers and b"\n" not in data and len(self._line) + len(data) < MAX_TRAILERS:
            self._line += data
            return b"", b""
        sent: list[bytes] = []
        data = self._line + data
        self._line = b""
        at = 0
        while not self.over:
            if self._in_trailers:
                end = _trailers_end(data, at)
                if end < 0:
                    break
                self.trailers = _trailers(data[at:end])
                if self._framed:
                    sent.append(_written(self.trailers))
                at, self.over = end, True
            elif self._left:
                at, whole = self._chunk(data, at, sent)
                if not whole:
                    break
            else:
                line = _CHUNK.match(data, at, at + MAX_CHUNK_LINE)
                if line is None:
                    _still_a_line(data, at)
                    break
                size = int(line[1], 16)
                self._left, self._in_trailers = (size + 2, False) if size else (0, True)
                if self._framed:
                    sent.append(b"%x\r\n" % size)
                at = line.end()
        rest = data[at:]
        if self.over:
            return b"".join(sent), rest
        self._line = rest
        return b"".join(sent), b""

    def _chunk(self, data: bytes, at: int, sent: list[bytes]) -> tuple[int, bool]:
        """What there is of it; the last two bytes are its line end."""
        there = len(data) - at
        if there < self._left:
            some = min(there, self._left - 2)
            if not b"\r\n".startswith(data[at + some :]):
                raise Malformed("a chunk is longer than its size")
            sent.append(data[at : at + some])
            self._left -= some
            return at + some, False
        end = at + self._left
        if data[end - 2 : end] != b"\r\n":
            raise Malformed("a chunk is longer than its size")
        sent.append(data[at : end if self._framed else end - 2])
        self._left = 0
        return end, True


def _still_a_line(data: bytes, at: int) -> None:
    part = data[at : at + MAX_CHUNK_LINE]
    if len(part) == MAX_CHUNK_LINE or b"\n" in part or (part and _CHUNK_SO_FAR.fullmatch(part) is None):
        raise Malformed("a chunk's size is not a hexadecimal number on a line of its own")


def _trailers_end(data: bytes, at: int) -> int:
    """-1: not there yet."""
    if data.startswith(b"\r\n", at):
        return at + 2
    end = data.find(b"\r\n\r\n", at, at + MAX_TRAILERS)
    whole = end + 2 if end >= 0 else data.rfind(b"\n", at, at + MAX_TRAILERS) + 1
    if whole:
        start = _TRAILER_LINES.match(data, at, whole)
        good = start.end() if start else at
        if data.count(b"\n", at, good) > MAX_FIELDS:
            raise Malformed("too many trailers", 431)
        if good < whole:
            raise Malformed("trailers that are not well-formed")
    if end >= 0:
        return end + 4
    if len(data) - at >= MAX_TRAILERS:
        raise Malformed("the trailers are too large", 431)
    return -1


NOT_IN_TRAILERS = frozenset(
    (
        *(b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"te", b"trailer", b"expect"),
        *(b"keep-alive", b"proxy-authorization", b"proxy-connection", b"proxy-authenticate"),
        *(b"authorization", b"cookie", b"set-cookie", b"x-api-key", b"forwarded", b"x-real-ip", b"x-request-id"),
        *(b"content-encoding", b"content-type", b"content-range", b"cache-control", b"max-forwards"),
    )
)  # RFC 9110, 6.5.1: what frames, routes or authenticates; and what only we say


def _trailers(data: bytes) -> list[Field]:
    match = _TRAILERS.fullmatch(data)
    if match is None:
        raise Malformed("trailers that are not well-formed")
    return passing_trailers((name, value.rstrip(b" \t")) for name, value in _FIELD.findall(match[1]))


def passing_trailers(given: Iterable[Field]) -> list[Field]:
    """What frames, routes or authenticates has no place behind a body, however it is spelt."""
    return [
        (name, value)
        for name, value in given
        if (low := name.lower().replace(b"_", b"-")) not in NOT_IN_TRAILERS
        and not low.startswith((b"x-forwarded-", b"x-atoll-"))
    ]


def _written(fields: Iterable[Field]) -> bytes:
    return b"".join((*(b"%b: %b\r\n" % field for field in fields), b"\r\n"))


# ---- writing


def last_chunk(trailers: Iterable[Field]) -> bytes:
    return b"0\r\n" + _written(trailers)


def lines(fields: Iterable[Field]) -> bytes:
    """Each behind a line end."""
    return b"".join([b"\r\n%b: %b" % field for field in fields])


def request_head(method: bytes, target: bytes, fields: Iterable[Field]) -> bytes:
    parts = [method, b" ", target, b" HTTP/1.1\r\n"]
    for name, value in fields:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


def answer_head(status: int, reason: bytes, fields: Iterable[Field]) -> bytes:
    parts = [b"HTTP/1.1 %d %b\r\n" % (status, reason)]
    for name, value in fields:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)
