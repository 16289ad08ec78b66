"""Frames: how the agent and the interpreters inside a sandbox send mixed output on one byte stream.

    type: 1 byte | length: 4 bytes, big endian | payload: `length` bytes

`O` and `E` carry raw standard output and error, `J` carries one UTF-8 JSON object. The decoder is
fed whatever arrived and gives back whole frames; it keeps at most one frame's bytes. A peer is
hostile, so a length above `MAX_PAYLOAD` or an unknown type ends the stream with `FrameError`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

STDOUT = b"O"
STDERR = b"E"
JSON = b"J"
TYPES = frozenset((STDOUT, STDERR, JSON))
HEADER = struct.Struct(">cI")
MAX_PAYLOAD = 64 * 1024 * 1024  # a figure or a data frame as HTML; nothing we send comes near


class FrameError(ValueError):
    """The peer does not speak frames."""


class Frame(NamedTuple):
    type: bytes
    payload: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.payload)
        except ValueError as error:
            raise FrameError("a JSON frame that is not JSON") from error


def encode(frame_type: bytes, payload: bytes) -> bytes:
    return HEADER.pack(frame_type, len(payload)) + payload


def encode_json(value: object) -> bytes:
    return encode(JSON, json.dumps(value, separators=(",", ":")).encode())


class FrameDecoder:
    def __init__(self, max_payload: int = MAX_PAYLOAD) -> None:
        self._buffer = bytearray()
        self._max_payload = max_payload

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= HEADER.size:
                frame_type, length = HEADER.unpack_from(self._buffer, start)
                if frame_type not in TYPES or length > self._max_payload:
                    raise FrameError(f"bad frame header: type {frame_type!r}, length {length}")
                end = start + HEADER.size + length
                if len(self._buffer) < end:
                    return
                payload = bytes(self._buffer[start + HEADER.size : end])
                start = end
                yield Frame(frame_type, payload)
        finally:
            del self._buffer[:start]

    def at_boundary(self) -> bool:
        return not self._buffer
