"""The Connect protocol, version 1, with the JSON codec: envelopes, errors, deadlines. Pure.

A unary call is one JSON object each way. A stream is envelopes:

    flags: 1 byte | length: 4 bytes, big endian | JSON: `length` bytes

The answer of a stream has status 200 whatever happens. Its last envelope has the flag END and holds `{}` or an error;
a stream without one has broken off. What a client sends is bounded here and believed nowhere.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from . import json_in

UNARY_TYPE = "application/json"
STREAM_TYPE = "application/connect+json"

DATA = 0x00
COMPRESSED = 0x01
END = 0x02
HEADER = struct.Struct(">BI")
MAX_MESSAGE = 64 * 1024 * 1024
_TIMEOUT_MS = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,10})?")  # older clients write 500.0

Object = dict[str, Any]  # Any: JSON


class Code(StrEnum):
    CANCELED = "canceled"
    UNKNOWN = "unknown"
    INVALID_ARGUMENT = "invalid_argument"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    PERMISSION_DENIED = "permission_denied"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    FAILED_PRECONDITION = "failed_precondition"
    ABORTED = "aborted"
    OUT_OF_RANGE = "out_of_range"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    DATA_LOSS = "data_loss"
    UNAUTHENTICATED = "unauthenticated"


HTTP_STATUS: dict[Code, int] = {
    Code.CANCELED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
"""Of a unary call that failed."""


class ConnectError(Exception):
    """A call that fails with one of the protocol's codes; `message` is for the caller's eyes."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        return HTTP_STATUS[self.code]

    def to_json(self) -> Object:
        return {"code": self.code.value, "message": self.message}


def invalid(message: str) -> ConnectError:
    return ConnectError(Code.INVALID_ARGUMENT, message)


class Envelope(NamedTuple):
    flags: int
    payload: bytes

    @property
    def is_end(self) -> bool:
        return bool(self.flags & END)


def envelope(payload: bytes, flags: int = DATA) -> bytes:
    return HEADER.pack(flags, len(payload)) + payload


def message(value: object) -> bytes:
    """An envelope with a JSON object.

    >>> message({})
    b'\\x00\\x00\\x00\\x00\\x02{}'
    """
    return envelope(dump(value))


def end(error: ConnectError | None = None) -> bytes:
    """The last envelope of an answer.

    >>> end()
    b'\\x02\\x00\\x00\\x00\\x02{}'
    """
    return envelope(b"{}" if error is None else dump({"error": error.to_json()}), END)


def dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def parse(raw: bytes) -> Object:
    """A message. ConnectError (invalid_argument) for what is no JSON object, nests too deep or has too many values."""
    try:
        value = json_in.load(raw) if raw.strip() else {}
    except ValueError as error:
        raise invalid("the message is not valid JSON") from error
    if not isinstance(value, dict):
        raise invalid("the message is not a JSON object")
    return value


class EnvelopeReader:
    """Fed with whatever arrived, gives back whole envelopes; it keeps at most one envelope's bytes."""

    def __init__(self, max_message: int = MAX_MESSAGE) -> None:
        self._buffer = bytearray()
        self._max_message = max_message

    def feed(self, data: bytes) -> Iterator[Envelope]:
        """ConnectError: `resource_exhausted` for a message that is too large, `unimplemented` for a compressed one,
        `invalid_argument` for flags that nobody knows. Nothing can be read after one."""
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= HEADER.size:
                flags, length = HEADER.unpack_from(self._buffer, start)
                self._check(flags, length)
                stop = start + HEADER.size + length
                if len(self._buffer) < stop:
                    return
                payload = bytes(self._buffer[start + HEADER.size : stop])
                start = stop
                yield Envelope(flags, payload)
        finally:
            del self._buffer[:start]

    def _check(self, flags: int, length: int) -> None:
        if flags & COMPRESSED:
            raise ConnectError(Code.UNIMPLEMENTED, "compressed messages are not supported; send them as they are")
        if flags not in (DATA, END):
            raise invalid(f"an envelope with the unknown flags {flags:#04x}")
        if length > self._max_message:
            raise ConnectError(
                Code.RESOURCE_EXHAUSTED, f"a message of {length} bytes is larger than {self._max_message} bytes"
            )

    @property
    def held(self) -> int:
        """Bytes of an envelope that has not come whole."""
        return len(self._buffer)

    def at_boundary(self) -> bool:
        return not self._buffer


def deadline_of(text: str | None) -> float | None:
    """Seconds of a `Connect-Timeout-Ms`; None when there is none. 0 ms is no deadline either, as clients mean it.

    >>> deadline_of("1500")
    1.5
    """
    digits = (text or "").strip(" \t")
    if not digits:
        return None
    if not _TIMEOUT_MS.fullmatch(digits):
        raise invalid("Connect-Timeout-Ms is a number of milliseconds with at most ten digits")
    return float(digits) / 1000 or None
