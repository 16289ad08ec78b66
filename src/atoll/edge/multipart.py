"""multipart/form-data as bytes in, events out: no socket, no clock, and the content of a part is never copied.

    parser = Multipart(content_type)
    parser.filled(read_into(parser.room()))
    parser.next_event()   →  PartHead, then Data …, then the next PartHead … END; NEED_MORE when nothing is complete

What stands before the first boundary and after the last one is dropped, as RFC 2046 wants. Linear: a byte is searched
once, but for the few that may begin a boundary.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import NamedTuple
from urllib.parse import unquote

MAX_BOUNDARY = 200  # RFC 2046 says 70
MAX_PART_HEAD = 16 * 1024
MAX_PARTS = 64
BUFFER = 512 * 1024  # stays in the cache between reading, searching and sending
_PLAIN = ("", "7bit", "8bit", "binary")
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"([^"\\]*(?:\\.[^"\\]*)*)"|([^;"]*))', re.DOTALL)
"""Linear: whatever comes after an equals sign is a value. The library's own parser takes the square of the length."""


class MultipartError(ValueError):
    pass


class PartHead(NamedTuple):
    name: str
    filename: str = ""
    """As it was sent: it may be a whole path."""


class Data(NamedTuple):
    data: memoryview
    """Of the parser's own buffer: valid until the next `room`."""


class Mark(Enum):
    END = auto()
    NEED_MORE = auto()


END, NEED_MORE = Mark.END, Mark.NEED_MORE
Event = PartHead | Data | Mark


class _State(Enum):
    PREAMBLE = auto()
    AFTER_BOUNDARY = auto()
    HEAD = auto()
    CONTENT = auto()
    EPILOGUE = auto()


class Multipart:
    def __init__(self, content_type: str) -> None:
        self._delimiter = b"\r\n--" + _boundary(content_type)
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._buffer[:2] = b"\r\n"  # so that a boundary that comes first looks like any other
        self._at, self._end = 0, 2
        self._state = _State.PREAMBLE
        self._parts = 0

    @property
    def ended(self) -> bool:
        return self._state is _State.EPILOGUE

    def room(self) -> memoryview:
        """Where to put what comes next. Events that were ready before have been taken, so little is left."""
        left = self._end - self._at
        self._view[:left] = bytes(self._view[self._at : self._end])
        self._at, self._end = 0, left
        return self._view[left:]

    def filled(self, count: int) -> None:
        self._end += count

    def next_event(self) -> Event:
        while True:
            event = _STEPS[self._state](self)
            if event is not None:
                return event

    def _preamble(self) -> Event | None:
        if self._content() is NEED_MORE:
            return NEED_MORE
        return None

    def _after_boundary(self) -> Event | None:
        """Padding and a line's end, or two dashes after the last part."""
        end = self._buffer.find(b"\r\n", self._at, self._end)
        line = self._between(self._at, end if end >= 0 else min(self._end, self._at + MAX_BOUNDARY))
        if line.startswith(b"--"):
            self._state = _State.EPILOGUE
            return None
        if line.strip(b" \t-\r") or len(line) >= MAX_BOUNDARY:
            raise MultipartError("a boundary is followed by something else")
        if end < 0:
            return NEED_MORE
        self._at = end  # the head's lines begin after it, and there may be none
        self._state = _State.HEAD
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise MultipartError(f"more than {MAX_PARTS} parts")
        return None

    def _head(self) -> Event:
        end = self._buffer.find(b"\r\n\r\n", self._at, self._end)
        if (end if end >= 0 else self._end) - self._at > MAX_PART_HEAD:
            raise MultipartError("the head of a part is too large")
        if end < 0:
            return NEED_MORE
        lines = self._between(self._at + 2, end)
        self._at = end + 4
        self._state = _State.CONTENT
        return PartHead(*_names(lines))

    def _content(self) -> Event | None:
        found = self._buffer.find(self._delimiter, self._at, self._end)
        start, end = self._at, found if found >= 0 else self._safe_end()
        if end > start:
            self._at = end
            return Data(self._view[start:end])
        if found < 0:
            return NEED_MORE
        self._at = found + len(self._delimiter)
        self._state = _State.AFTER_BOUNDARY
        return None

    def _safe_end(self) -> int:
        """Where a boundary may begin that has not wholly come."""
        first = max(self._at, self._end - len(self._delimiter) + 1)
        while (first := self._buffer.find(b"\r", first, self._end)) >= 0:
            if self._delimiter.startswith(self._between(first, self._end)):
                return first
            first += 1
        return self._end

    def _between(self, start: int, end: int) -> bytes:
        return bytes(self._view[start:end])

    def _epilogue(self) -> Event:
        self._at = self._end
        return END


_STEPS = {
    _State.PREAMBLE: Multipart._preamble,
    _State.AFTER_BOUNDARY: Multipart._after_boundary,
    _State.HEAD: Multipart._head,
    _State.CONTENT: Multipart._content,
    _State.EPILOGUE: Multipart._epilogue,
}


def _boundary(content_type: str) -> bytes:
    boundary = _parameter(content_type, "boundary")
    if not 0 < len(boundary) <= MAX_BOUNDARY or not boundary.isascii() or not boundary.isprintable():
        raise MultipartError("no usable boundary")
    return boundary.encode()


def _names(raw: bytes) -> tuple[str, str]:
    headers: dict[str, str] = {}
    for line in raw.decode("utf-8", "replace").split("\r\n") if raw else ():
        name, colon, value = line.partition(":")
        if not colon:
            raise MultipartError("malformed header of a part")
        headers[name.strip().lower()] = value.strip()
    if headers.get("content-transfer-encoding", "").lower() not in _PLAIN:
        raise MultipartError("a part is not sent as it is")
    disposition = headers.get("content-disposition", "")
    return _parameter(disposition, "name"), _parameter(disposition, "filename")


def _parameter(value: str, name: str) -> str:
    """The first of this name; in the extended form (`name*=UTF-8''…`) where there is no other."""
    found: dict[str, str] = {}
    for given in _PARAMETER.finditer(value.replace("\r", "").replace("\n", "")):
        found.setdefault(given[1].lower(), _unescaped(given[2]) if given[3] is None else given[3].strip())
    return found[name] if name in found else unquote(found.get(f"{name}*", "").rpartition("'")[2], errors="replace")


def _unescaped(quoted: str) -> str:
    """Other backslashes stay: browsers and Windows send paths so."""
    return quoted.replace("\\\\", "\\").replace('\\"', '"')
