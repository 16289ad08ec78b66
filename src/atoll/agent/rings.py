"""The last output of a process, bounded, in the order it came."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from atoll.wire.frames import STDERR, STDOUT

RING_BYTES = 1024 * 1024
_SEGMENT = 16 * 1024  # a program that writes single bytes must not cost an object per byte


def tail(data: bytes, size: int) -> bytes:
    """The last `size` bytes, less the rest of a UTF-8 character whose beginning is not among them."""
    cut = data[len(data) - size :]
    while cut and cut[0] & 0xC0 == 0x80 and len(cut) > size - 4:
        cut = cut[1:]
    return cut


class Ring:
    def __init__(self, limit: int = RING_BYTES) -> None:
        self._segments: deque[tuple[bytes, bytearray]] = deque()
        self._limit = limit
        self.size = 0
        self.truncated = 0

    def append(self, frame_type: bytes, data: bytes) -> None:
        if self._segments and self._segments[-1][0] == frame_type and len(self._segments[-1][1]) < _SEGMENT:
            self._segments[-1][1].extend(data)
        else:
            self._segments.append((frame_type, bytearray(data)))
        self.size += len(data)
        while self.size > self._limit:
            self._drop_oldest(self.size - self._limit)

    def clear(self) -> None:
        self.truncated += self.size
        self.size = 0
        self._segments.clear()

    def segments(self) -> Iterator[tuple[bytes, bytes]]:
        for frame_type, data in self._segments:
            yield frame_type, bytes(data)

    def stdout(self, last: int | None = None) -> str:
        return self._text(STDOUT, last)

    def stderr(self, last: int | None = None) -> str:
        return self._text(STDERR, last)

    def _text(self, wanted: bytes, last: int | None) -> str:
        """A character that a limit cuts in two is left away."""
        whole = b"".join(data for frame_type, data in self._segments if frame_type == wanted)
        if last is None or len(whole) <= last:
            return whole.decode(errors="replace")
        return tail(whole, last).decode(errors="replace")

    def _drop_oldest(self, excess: int) -> None:
        _, oldest = self._segments[0]
        dropped = min(excess, len(oldest))
        if dropped == len(oldest):
            self._segments.popleft()
        else:
            del oldest[:dropped]
        self.size -= dropped
        self.truncated += dropped
