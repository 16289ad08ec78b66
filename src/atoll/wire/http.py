"""HTTP/1.1 requests as bytes in, events out: no socket, no clock.

    parser = RequestParser()
    parser.receive(data)
    parser.next_event()   →  Head, then Data …, then End; NEED_MORE when nothing is complete

After `End` nothing further is parsed until `start_next()`, so a pipelined request waits for its turn.
Strict where leniency made request smuggling possible elsewhere: CRLF only, no folded headers, no blank
before the colon, never both `Content-Length` and `Transfer-Encoding`, no second different length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

MAX_HEAD = 32 * 1024  # room for a 4 KiB path, percent-encoded, and a client's usual headers, many times over
MAX_CHUNK_LINE = 256  # 16 hex digits and a modest extension
MAX_DATA = 256 * 1024  # one Data event is never larger

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(r"/[\x21-\x7e]*")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_DIGITS = re.compile(r"[0-9]{1,19}")
_STATUS_LINE = re.compile(r"HTTP/1\.1 ([2-5][0-9]{2})(?: .*)?")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")


class HttpError(ValueError):
    """The peer does not speak HTTP/1.1 as we read it; the connection ends after the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class UnsatisfiableRange(ValueError):
    """A well-formed range that lies outside the content."""


@dataclass(frozen=True)
class Head:
    method: str
    path: str
    """Percent-decoded; bytes that are not UTF-8 survive as surrogate escapes, as in `os.fsdecode`."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case; repeated ones joined by a comma."""
    keep_alive: bool
    content_length: int | None
    """None: chunked."""

    @property
    def expects_continue(self) -> bool:
        return self.headers.get("expect", "").lower() == "100-continue"


class Data(NamedTuple):
    data: bytes


class Mark(Enum):
    END = auto()
    NEED_MORE = auto()


END, NEED_MORE = Mark.END, Mark.NEED_MORE
Event = Head | Data | Mark


class _State(Enum):
    HEAD = auto()
    LENGTH = auto()
    CHUNK_SIZE = auto()
    CHUNK_DATA = auto()
    CHUNK_END = auto()
    TRAILERS = auto()
    DONE = auto()


class RequestParser:
    def __init__(self, max_head: int = MAX_HEAD) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._remaining = 0
        self._max_head = max_head
        self._state = _State.HEAD

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    def receive(self, data: bytes) -> None:
        self._buffer += data

    @property
    def data_ahead(self) -> int:
        """Bytes that have not arrived and that are the body's, all of them: they need not come this way."""
        in_data = self._state in (_State.LENGTH, _State.CHUNK_DATA) and not self._buffer
        return self._remaining if in_data else 0

    def passed_by(self, count: int) -> None:
        """So many bytes of the body went another way."""
        if count > self.data_ahead:
            raise RuntimeError("more than was ahead")
        self._remaining -= count

    def start_next(self) -> None:
        if self._state is not _State.DONE:
            raise RuntimeError("the current request is not over")
        self._state = _State.HEAD

    def next_event(self) -> Event:
        """Raises HttpError; the parser is unusable afterwards."""
        while True:
            event = _STEPS[self._state](self)
            if event is not None:
                return event

    def _take(self, count: int) -> bytes:
        taken = bytes(memoryview(self._buffer)[:count])
        del self._buffer[:count]
        return taken

    def _take_line(self, terminator: bytes, limit: int, too_long: HttpError) -> bytes | None:
        end = self._buffer.find(terminator, max(0, self._searched - len(terminator)))
        if end > limit or (end < 0 and len(self._buffer) > limit):
            raise too_long
        if end < 0:
            self._searched = len(self._buffer)
            return None
        self._searched = 0
        return self._take(end + len(terminator))[:end]

    def _head(self) -> Event | None:
        raw = self._take_line(b"\r\n\r\n", self._max_head, HttpError("the request's head is too large", 431))
        if raw is None:
            return NEED_MORE
        head = parse_head(raw)
        self._remaining = head.content_length or 0
        self._state = _State.CHUNK_SIZE if head.content_length is None else _State.LENGTH
        return head

    def _length(self) -> Event | None:
        if self._remaining == 0:
            self._state = _State.DONE
            return END
        return self._data()

    def _chunk_size(self) -> Event | None:
        line = self._take_line(b"\r\n", MAX_CHUNK_LINE, HttpError("a chunk's size line is too long"))
        if line is None:
            return NEED_MORE
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise HttpError("a chunk's size is not a hexadecimal number")
        self._remaining = int(match[1], 16)
        self._state = _State.CHUNK_DATA if self._remaining else _State.TRAILERS
        return None

    def _chunk_data(self) -> Event | None:
        if self._remaining == 0:
            self._state = _State.CHUNK_END
            return None
        return self._data()

    def _chunk_end(self) -> Event | None:
        if len(self._buffer) < 2:
            return NEED_MORE
        if self._take(2) != b"\r\n":
            raise HttpError("a chunk is longer than its size")
        self._state = _State.CHUNK_SIZE
        return None

    def _trailers(self) -> Event | None:
        """Read to the empty line and dropped: nothing we do depends on a trailer."""
        line = self._take_line(b"\r\n", self._max_head, HttpError("a trailer is too large", 431))
        if line is None:
            return NEED_MORE
        if line == b"":
            self._state = _State.DONE
            return END
        return None

    def _data(self) -> Event:
        if not self._buffer:
            return NEED_MORE
        data = self._take(min(self._remaining, len(self._buffer), MAX_DATA))
        self._remaining -= len(data)
        return Data(data)

    def _done(self) -> Event:
        return NEED_MORE


_STEPS = {
    _State.HEAD: RequestParser._head,
    _State.LENGTH: RequestParser._length,
    _State.CHUNK_SIZE: RequestParser._chunk_size,
    _State.CHUNK_DATA: RequestParser._chunk_data,
    _State.CHUNK_END: RequestParser._chunk_end,
    _State.TRAILERS: RequestParser._trailers,
    _State.DONE: RequestParser._done,
}


def parse_head(raw: bytes) -> Head:
    """`raw` is everything before the empty line."""
    request_line, *lines = raw.decode("latin-1").split("\r\n")
    method, target, version = _request_line(request_line)
    headers = _headers(lines)
    path, _, query = target.partition("?")
    return Head(
        method=method,
        path=unquote(path, errors="surrogateescape"),
        query=dict(parse_qsl(query, keep_blank_values=True, errors="surrogateescape")),
        headers=headers,
        keep_alive=_keep_alive(version, headers.get("connection", "")),
        content_length=_body_length(version, headers),
    )


def _request_line(line: str) -> tuple[str, str, str]:
    parts = line.split(" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or not _TARGET.fullmatch(parts[1]):
        raise HttpError("malformed request line")
    if parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise HttpError("only HTTP/1.1 is spoken here", 505)
    return parts[0], parts[1], parts[2]


def _headers(lines: Iterable[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise HttpError("malformed header")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _keep_alive(version: str, connection: str) -> bool:
    options = {option.strip().lower() for option in connection.split(",")}
    return "close" not in options and (version == "HTTP/1.1" or "keep-alive" in options)


def _body_length(version: str, headers: Mapping[str, str]) -> int | None:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is None:
        return _content_length(length) if length is not None else 0
    if length is not None or version != "HTTP/1.1":
        raise HttpError("two ways to say where the body ends")
    if coding.lower() != "chunked":
        raise HttpError("the only transfer coding is chunked", 501)
    return None


def _content_length(text: str) -> int:
    values = {part.strip() for part in text.split(",")}
    if len(values) != 1 or not _DIGITS.fullmatch(value := values.pop()):
        raise HttpError("malformed Content-Length")
    return int(value)


def parse_range(text: str | None, size: int) -> tuple[int, int] | None:
    """`(start, end)`, end exclusive; None when the whole content is meant, which is also what RFC 9110 wants for
    a unit or a form (several ranges) that the server does not know."""
    match = _RANGE.fullmatch(text) if text else None
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= end:
        raise UnsatisfiableRange
    return start, end


@dataclass(frozen=True)
class ResponseHead:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    content_length: int


def parse_response_head(raw: bytes) -> ResponseHead:
    """`raw` is everything before the empty line; only an answer that says how long it is."""
    status_line, *lines = raw.decode("latin-1").split("\r\n")
    match = _STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise HttpError("malformed status line")
    headers = _headers(lines)
    if "transfer-encoding" in headers or "content-length" not in headers:
        raise HttpError("an answer of unknown length")
    return ResponseHead(int(match[1]), headers, _content_length(headers["content-length"]))


def request_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def response_head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


_REASONS = {status.value: status.phrase for status in HTTPStatus}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(*parts: bytes) -> bytes:
    """Empty parts are fine; an altogether empty chunk would end the body, so it is nothing."""
    size = sum(map(len, parts))
    return b"".join((b"%x\r\n" % size, *parts, b"\r\n")) if size else b""
