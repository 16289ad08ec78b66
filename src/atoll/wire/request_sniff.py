"""HTTP/1 requests on their way through a relay that sends the bytes on as they are: bytes in, events out.

    sniffer = RequestSniffer()
    sniffer.receive(data)
    sniffer.next_event()   →  Request, Body …, END, Request …; NEED_MORE when nothing is complete;
                              OPAQUE | Connect | Malformed once and for good
    sniffer.take_rest()    →  bytes that were in no event, when the rest is none of our business (OPAQUE, 101)

Every byte is in the `raw` of exactly one event, in order, so a relay that sends these sends what came, and nothing that
was not understood. What the server could read in another way than we do is Malformed: another request behind ours
would pass unseen. Stricter than RFC 9112 asks where it lets a recipient repair.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .sniffing import END, NEED_MORE, OPAQUE, Malformed, Mark, Unreadable

MAX_HEAD = 32 * 1024  # as much as nginx takes by default, more than Apache and Node do
MAX_FIELDS = 256  # Apache takes 100 by default
MAX_METHOD = 32  # the longest registered one has 17 letters
MAX_CHUNK_LINE = 256  # 15 digits and a modest extension
MAX_TRAILERS = 8 * 1024
STEPS_A_BODY = 192  # 64 chunks, less than a millisecond: a body in chunks of one byte is not read at one go

Fields = Sequence[tuple[str, str]]
"""Names in lower case."""


@dataclass(frozen=True)
class Request:
    raw: bytes = field(repr=False)
    """The head with its empty line."""
    method: str
    host: str | None
    """Lower case, without port and dot at the end; `core.names.normal` says whether it is a name. None: not said."""
    path: str
    """Without the query, still percent-encoded; `*` of the server as a whole."""
    fields: tuple[tuple[str, str], ...] = field(repr=False)
    body_length: int | None
    """None: chunked."""
    upgrade: tuple[str, ...] = ()
    """Protocols to which the client asks to change; they begin after a 101 (see `ResponseSniffer`)."""


class Connect(NamedTuple):
    """It wants a proxy, and we are none."""

    authority: str


class Body(NamedTuple):
    raw: bytes
    """With the chunks' framing and the trailers."""


Event = Request | Body | Connect | Malformed | Mark

# What other readers of HTTP take for the end of a line, of a name or of nothing at all.
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{0,32}")
_TARGET = re.compile(r"[\x21\x22\x24-\x7e]+")  # no fragment
_ABSOLUTE = re.compile(r"(?i:http)://([^/?]*)(/[^?]*)?(?:\?.*)?")
_HOST = re.compile(r"(?:([A-Za-z0-9._-]+)|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,17}")
_CHUNK_SIZE = re.compile(r"([0-9A-Fa-f]{1,15})(?:;.*)?")
_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([1-5][0-9]{2})(?: .*)?")
_FORMS = (b"/", b"*", b"http:", b"https:")
"""How the target of a request begins, unless it is CONNECT's."""
DECIDING = ("host", "content-length", "transfer-encoding")
"""Fields that say for whom a request is and where it ends."""
HTTP_2 = "PRI * HTTP/2.0"
HTTP_PORT, SWITCHING = 80, 101
HEAD_TOO_LARGE = "the head is too large"


class _Lines:
    """Bytes that arrived and have not been handed on; `at` is how far they are understood."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.at = 0
        self._searched = 0

    def next_line(self, end: int, too_long: str) -> str | None:
        """None while it is not whole. Ends in CRLF before `end`; a control character inside is found as it comes."""
        found = _CONTROL.search(self.buffer, max(self.at, self._searched), end)
        if found is None:
            self._searched = min(len(self.buffer), end)
            if len(self.buffer) >= end:
                raise Unreadable(too_long)
            return None
        stop = found.start()
        self._searched = stop
        if self.buffer[stop] != 0x0D:
            raise Unreadable("a line feed without a carriage return, or another control character")
        if stop + 1 >= end:
            raise Unreadable(too_long)
        if stop + 1 == len(self.buffer):
            return None
        if self.buffer[stop + 1] != 0x0A:
            raise Unreadable("a carriage return without a line feed")
        line = self.buffer[self.at : stop].decode("latin-1")
        self.at = self._searched = stop + 2
        return line

    def take(self, count: int) -> bytes:
        taken = bytes(memoryview(self.buffer)[:count])
        del self.buffer[:count]
        self.at = max(0, self.at - count)
        self._searched = max(0, self._searched - count)
        return taken


class RequestSniffer:
    def __init__(self) -> None:
        self._lines = _Lines()
        self._step: Callable[[], Event | None] = self._start
        self._is_first = True
        self._in_body = False
        self._line = _RequestLine("", "", "")
        self._fields: list[tuple[str, str]] = []
        self._remaining = 0
        self._trailer_room = 0

    def receive(self, data: bytes) -> None:
        self._lines.buffer += data

    @property
    def buffered(self) -> int:
        return len(self._lines.buffer)

    @property
    def data_ahead(self) -> int:
        """Bytes that have not arrived and that are the body's, all of them: they need not come this way."""
        return 0 if self._lines.buffer else self._remaining

    def passed_by(self, count: int) -> None:
        """So many bytes of the body went another way."""
        if count > self.data_ahead:
            raise RuntimeError("more than was ahead")
        self._remaining -= count

    def take_rest(self) -> bytes:
        return self._lines.take(len(self._lines.buffer))

    def next_event(self) -> Event:
        while True:
            for _ in range(STEPS_A_BODY):
                try:
                    event = self._step()
                except Unreadable as error:
                    self._stay(Malformed(str(error)))
                    continue
                if event is not None:
                    return event
            if self._in_body and self._lines.at:
                return Body(self._lines.take(self._lines.at))

    def _stay(self, outcome: Event) -> None:
        self._step = (lambda: self._after_body(outcome)) if self._in_body else (lambda: outcome)

    def _after_body(self, outcome: Event) -> Event:
        """What was understood of the body goes first."""
        return Body(self._lines.take(self._lines.at)) if self._lines.at else outcome

    # ---- the head: nothing of it is sent before all of it was read

    def _start(self) -> Event | None:
        is_request = begins_as_request(self._lines.buffer)
        if is_request is None:
            return NEED_MORE
        if is_request:
            self._step = self._request_line
        elif self._is_first:
            self._stay(OPAQUE)
        else:
            raise Unreadable("what follows the request is none")
        return None

    def _request_line(self) -> Event | None:
        line = self._lines.next_line(MAX_HEAD, HEAD_TOO_LARGE)
        if line is None:
            return NEED_MORE
        if self._is_first and line == HTTP_2:
            self._stay(OPAQUE)
            return None
        self._line, self._step = _read_request_line(line), self._field
        if self._line.method == "CONNECT":
            self._stay(Connect(self._line.target))
        return None

    def _field(self) -> Event | None:
        line = self._lines.next_line(MAX_HEAD, HEAD_TOO_LARGE)
        if line is None:
            return NEED_MORE
        if line and len(self._fields) == MAX_FIELDS:
            raise Unreadable("too many headers")
        if line:
            self._fields.append(_read_field(line))
            return None
        request = _request(self._line, tuple(self._fields), bytes(self._lines.buffer[: self._lines.at]))
        self._lines.take(self._lines.at)
        self._fields, self._is_first, self._in_body = [], False, True
        self._remaining = request.body_length or 0
        self._step = self._chunk_size if request.body_length is None else self._length
        return request

    # ---- the body: sent as far as it was read

    def _length(self) -> Event | None:
        self._skip_data()
        if self._remaining:
            return self._after_body(NEED_MORE)
        self._step = self._end
        return None

    def _chunk_size(self) -> Event | None:
        line = self._lines.next_line(self._lines.at + MAX_CHUNK_LINE, "a chunk's size line is too long")
        if line is None:
            return self._after_body(NEED_MORE)
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise Unreadable("a chunk's size is not a hexadecimal number")
        self._remaining, self._trailer_room = int(match[1], 16), MAX_TRAILERS
        self._step = self._chunk_data if self._remaining else self._trailer
        return None

    def _chunk_data(self) -> Event | None:
        self._skip_data()
        if self._remaining:
            return self._after_body(NEED_MORE)
        self._step = self._chunk_end
        return None

    def _chunk_end(self) -> Event | None:
        lines = self._lines
        arrived = lines.buffer[lines.at : lines.at + 2]
        if not b"\r\n".startswith(arrived):
            raise Unreadable("a chunk is longer than its size")
        if len(arrived) < 2:
            return self._after_body(NEED_MORE)
        lines.at += 2
        self._step = self._chunk_size
        return None

    def _trailer(self) -> Event | None:
        line = self._lines.next_line(self._lines.at + self._trailer_room, "the trailers are too large")
        if line is None:
            return self._after_body(NEED_MORE)
        if line and _read_field(line)[0] in DECIDING:
            raise Unreadable("a trailer that would change the request")
        self._trailer_room -= len(line) + 2
        if not line:
            self._step = self._end
        return None

    def _end(self) -> Event | None:
        if self._lines.at:
            return self._after_body(END)
        self._in_body, self._step = False, self._start
        return END

    def _skip_data(self) -> None:
        count = min(self._remaining, len(self._lines.buffer) - self._lines.at)
        self._lines.at += count
        self._remaining -= count


# ---- the head's meaning


class _RequestLine(NamedTuple):
    method: str
    target: str
    version: str


def begins_as_request(data: bytes | bytearray) -> bool | None:
    """None: too little to say. A method and the first letters of a target; what servers forgive beyond that is not
    forgiven here, so it has no name and only its address counts."""
    method, space, target = bytes(data[: MAX_METHOD + 8]).partition(b" ")
    if not _METHOD.fullmatch(method) or (space and not method):
        return False
    if not space:
        return None
    target = target.lower()
    if method == b"CONNECT" or any(target.startswith(form) for form in _FORMS):
        return True
    return None if any(form.startswith(target) for form in _FORMS) else False


def _read_request_line(line: str) -> _RequestLine:
    parts = line.split(" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or not _TARGET.fullmatch(parts[1]):
        raise Unreadable("a request line that cannot be read")
    if parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise Unreadable("a version that is not HTTP/1.1 or HTTP/1.0")
    return _RequestLine(*parts)


def _read_field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not _TOKEN.fullmatch(name):
        raise Unreadable("a header that cannot be read")
    return name.lower(), value.strip(" \t")


def _request(line: _RequestLine, fields: tuple[tuple[str, str], ...], raw: bytes) -> Request:
    host, path = _whom(line, _only(fields, "host"))
    return Request(
        raw=raw,
        method=line.method,
        host=host,
        path=path,
        fields=fields,
        body_length=_body_length(line, fields),
        upgrade=_upgrade(fields) if line.version == "HTTP/1.1" else (),
    )


def _only(fields: Fields, name: str) -> str | None:
    values = [value for each, value in fields if each == name]
    if len(values) > 1:
        raise Unreadable(f"{name} twice")
    return values[0] if values else None


def _whom(line: _RequestLine, host_field: str | None) -> tuple[str | None, str]:
    if host_field is None and line.version == "HTTP/1.1":
        raise Unreadable("no host")
    host = _authority(host_field) if host_field else None
    if line.target.startswith("/"):
        return (host and host[0]), line.target.partition("?")[0]
    if line.target == "*" and line.method == "OPTIONS":
        return (host and host[0]), "*"
    absolute = _ABSOLUTE.fullmatch(line.target)
    if absolute is None:
        raise Unreadable("a target that cannot be read")
    if host is None or _authority(absolute[1]) != host:
        raise Unreadable("a target with another host than the host header's")
    return host[0], absolute[2] or "/"


def _authority(text: str) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    if match is None:
        raise Unreadable("a host that cannot be one")
    host = match[1].removesuffix(".") if match[1] else match[2]  # behind an address the dot means nothing
    return host.lower(), int(match[3] or HTTP_PORT)


def _body_length(line: _RequestLine, fields: Fields) -> int | None:
    coding, length = _only(fields, "transfer-encoding"), _only(fields, "content-length")
    if coding is None and length is None:
        return 0
    if coding is None and length is not None and _LENGTH.fullmatch(length):
        return int(length)
    if length is None and coding is not None and coding.lower() == "chunked" and line.version == "HTTP/1.1":
        return None
    raise Unreadable("a body whose end can be seen in two places")


def _upgrade(fields: Fields) -> tuple[str, ...]:
    return _options(fields, "upgrade") if "upgrade" in _options(fields, "connection") else ()


def _options(fields: Fields, name: str) -> tuple[str, ...]:
    words = (word.strip(" \t").lower() for each, value in fields if each == name for word in value.split(","))
    return tuple(word for word in words if word)


# ---- the answer to a request that asked for an upgrade


@dataclass(frozen=True)
class Response:
    status: int
    """Never of the 1xx that another one follows."""
    upgrade: tuple[str, ...]
    """With 101: what both sides speak from here on."""


class ResponseSniffer:
    """For the answers to the first request of a connection: does the protocol change? It is given a copy of what the
    server sent and keeps nothing of it; after a Response it has nothing more to say."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self._status: int | None = None
        self._fields: list[tuple[str, str]] = []
        self._outcome: Response | Malformed | None = None

    def receive(self, data: bytes) -> None:
        if self._outcome is None:
            self._lines.buffer += data

    def next_event(self) -> Response | Malformed | Mark:
        while self._outcome is None:
            try:
                line = self._lines.next_line(MAX_HEAD, HEAD_TOO_LARGE)
                if line is None:
                    return NEED_MORE
                self._outcome = self._read(line)
            except Unreadable as error:
                self._outcome = Malformed(str(error))
        return self._outcome

    def _read(self, line: str) -> Response | None:
        if self._status is None:
            match = _STATUS_LINE.fullmatch(line)
            if match is None:
                raise Unreadable("a status line that cannot be read")
            self._status = int(match[1])
            return None
        if line and len(self._fields) == MAX_FIELDS:
            raise Unreadable("too many headers")
        if line:
            self._fields.append(_read_field(line))
            return None
        self._lines.take(self._lines.at)
        status, fields, self._status, self._fields = self._status, self._fields, None, []
        if status < 200 and status != SWITCHING:
            return None
        self._lines.buffer.clear()
        return Response(status, _upgrade(fields) if status == SWITCHING else ())
