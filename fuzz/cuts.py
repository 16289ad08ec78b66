"""One stream of bytes in the pieces in which it may arrive."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

SINGLY = 48
"""Bytes that come one at a time in `cut`; with all of a long input it would be most of a run's time."""


def cut(data: bytes) -> list[bytes]:
    """In one way that depends on the input, so that in a million inputs all are there: byte by byte around some place,
    or in pieces of all sizes, empty ones too."""
    seed = zlib.crc32(data)
    if seed % 2:
        return list(_pieces(data, seed))
    start = (seed >> 1) % max(1, len(data) - SINGLY)
    return [data[:start], *singles(data[start : start + SINGLY]), data[start + SINGLY :]]


def singles(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def _pieces(data: bytes, seed: int) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        size = (seed >> 16) % (1 << (seed >> 8) % 9)
        yield data[at : at + size]
        at += size
