"""Structured values out of an input's bytes, so that a small change of the input is a small change of the value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


class Source:
    """Zeros when the bytes are over."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def over(self) -> bool:
        return self._at >= len(self._data)

    def number(self, width: int = 1) -> int:
        taken = self._data[self._at : self._at + width].ljust(width, b"\0")
        self._at += width
        return int.from_bytes(taken)

    def flag(self) -> bool:
        return self.number() % 2 == 1

    def pick(self, values: Sequence[T]) -> T:
        return values[self.number() % len(values)]

    def text(self) -> str:
        size = self.number() % 32
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken.decode("utf-8", "surrogateescape")

    def many(self, make: Callable[[], T], most: int = 6) -> list[T]:
        return [make() for _ in range(self.number() % (most + 1))]
