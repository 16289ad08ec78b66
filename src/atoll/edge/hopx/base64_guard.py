"""Makes a download exact for clients that decode whatever happens to be canonical base64.

The Python HopX client decodes a downloaded file whose whole body is canonical base64: a file `test` would arrive
as three other bytes. For it, and only for such a file, the body is encoded once more. Pure; constant memory.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def decodes_downloads(headers: Mapping[str, str]) -> bool:
    return headers.get("User-Agent", "").startswith("python-httpx/") and "Range" not in headers


def can_be_canonical(size: int) -> bool:
    return size > 0 and size % 4 == 0


class CanonicalCheck:
    """Fed a file of known size; `possible` turns False at the first byte that rules it out."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._tail = b""
        self.possible = can_be_canonical(size)

    def feed(self, data: bytes) -> None:
        self._left -= len(data)
        joined = self._tail + data
        keep = max(0, 4 - max(0, self._left))  # bytes of the last group of four that have come
        body, self._tail = (joined[:-keep], joined[-keep:]) if keep else (joined, b"")
        if body.translate(None, _ALPHABET) or self._left < 0:
            self.possible = False
        elif self._left == 0:
            self.possible = self.possible and _is_canonical_group(self._tail)


def _is_canonical_group(group: bytes) -> bool:
    try:
        return base64.b64encode(base64.b64decode(group, validate=True)) == group
    except ValueError:
        return False


def encoded_size(size: int) -> int:
    return (size + 2) // 3 * 4


class Encoder:
    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes, final: bool = False) -> Iterator[bytes]:
        joined = self._rest + data
        whole = len(joined) if final else len(joined) - len(joined) % 3
        self._rest = joined[whole:]
        if whole:
            yield base64.b64encode(joined[:whole])
