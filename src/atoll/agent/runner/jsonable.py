"""Values of a program as JSON values: numpy scalars as numbers, moments as ISO 8601, NaN and infinities as null.

What is described is bounded by a budget: a million points would cost the cell, the wire and the client
more than they tell, so beyond it there is no description at all rather than a part that looks whole.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import sys
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from .channel import clean

MAX_VALUES = 200_000  # numbers and texts: about 4 MB of JSON, 0.1 s
MAX_TEXT = 2 * 1024 * 1024  # characters in all
MAX_DEPTH = 50
INTEGERS = 1 << 64
MOMENTS = (datetime.date, datetime.time)  # a datetime is a date


class NotDescribed(Exception):
    """The value has no JSON form, or is too large to be worth one."""


class Budget:
    def __init__(self, values: int = MAX_VALUES, characters: int = MAX_TEXT) -> None:
        self._values = values
        self._characters = characters

    def take(self, values: int) -> None:
        self._values -= values
        if self._values < 0:
            raise NotDescribed("too many values")

    def text(self, value: object) -> str:
        text = clean(str(value))
        self._characters -= len(text)
        if self._characters < 0:
            raise NotDescribed("too much text")
        return text


def is_missing(value: Any) -> bool:
    """NaN, NaT and pandas.NA; None is not asked for."""
    if type(value).__name__ == "NAType":
        return True
    return isinstance(value, (float, datetime.date)) and value != value  # NaT is a datetime


def finite(values: Iterable[float]) -> list[float | None]:
    return [value if value - value == 0 else None for value in values]


def number(value: Any) -> float | None:
    found = float(value)
    return found if found - found == 0 else None


def numbers(array: Any) -> list[float | None]:
    """A numpy array of numbers, maybe masked, as floats; what is masked or not finite is None."""
    numpy: Any = sys.modules["numpy"]
    plain = numpy.ma.filled(numpy.ma.asarray(array).astype(float), numpy.nan).ravel()
    found: list[float | None] = plain.tolist()
    return found if numpy.isfinite(plain).all() else finite(plain.tolist())


def refuse(value: object) -> Any:
    raise NotDescribed(f"no JSON form of {type(value)!r}")


def jsonable(value: Any, budget: Budget, other: Callable[[Any], Any] = refuse, depth: int = MAX_DEPTH) -> Any:
    """`other` says what becomes of a value that JSON does not know. Raises NotDescribed."""
    budget.take(1)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return jsonable(value.value, budget, other, depth - 1)
    if isinstance(value, int):
        return int(value) if abs(value) < INTEGERS else other(value)
    if is_missing(value):
        return None
    if isinstance(value, float):
        return float(value) if value - value == 0 else None
    if isinstance(value, str):
        return budget.text(value)
    if isinstance(value, MOMENTS):
        return budget.text(value.isoformat())
    if isinstance(value, uuid.UUID):
        return budget.text(value)
    if not depth:
        raise NotDescribed("nested too deep")
    if isinstance(value, dict):
        return {_key(key, budget): jsonable(item, budget, other, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item, budget, other, depth - 1) for item in value]
    plain = _of_numpy(value, budget)
    return other(value) if plain is value else jsonable(plain, budget, other, depth - 1)


def _of_numpy(value: Any, budget: Budget) -> Any:
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return value
    if isinstance(value, numpy.ndarray):
        budget.take(value.size)
        return value.tolist() if value.dtype.kind in "biufUO" else value
    if isinstance(value, numpy.datetime64):
        return value.astype("datetime64[us]").item()
    return value.item() if isinstance(value, numpy.generic) else value


def _key(key: Any, budget: Budget) -> str:
    if key is None or isinstance(key, bool):
        return "null" if key is None else "true" if key else "false"
    if isinstance(key, enum.Enum):
        return _key(key.value, budget)
    if isinstance(key, MOMENTS):
        return budget.text(key.isoformat())
    if isinstance(key, (str, int, float, uuid.UUID)):
        return budget.text(key)
    plain = _of_numpy(key, budget)
    return str(refuse(key)) if plain is key else _key(plain, budget)


def cell(value: Any, budget: Budget) -> Any:
    """One cell of a table; what JSON does not know is its text."""

    def other(value: Any) -> Any:
        return float(value) if isinstance(value, decimal.Decimal) and value.is_finite() else budget.text(value)

    return jsonable(value, budget, other)
