"""Parts of JSON that somebody else wrote: a value of another type than expected is an absent one. Pure."""

from __future__ import annotations

import math
from typing import Any

Object = dict[str, Any]  # Any: JSON values


def text(value: object, otherwise: str = "") -> str:
    return value if isinstance(value, str) else otherwise


def number(value: object, otherwise: float = 0.0) -> float:
    """Finite. JSON has whole numbers that are larger than any float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return otherwise
    try:
        return float(value) if math.isfinite(value) else otherwise
    except OverflowError:
        return otherwise


def objects(value: object) -> list[Object]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def mapping(value: object) -> Object:
    return value if isinstance(value, dict) else {}
