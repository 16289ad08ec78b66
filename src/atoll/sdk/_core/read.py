"""Reads JSON values that somebody else wrote: a value of another type than expected is an absent one."""

from __future__ import annotations

from datetime import UTC, datetime

from atoll.wire.json_values import Object as Json
from atoll.wire.json_values import mapping, number, objects, text, texts

__all__ = [
    "Json",
    "flag",
    "flag_or_none",
    "mapping",
    "moment",
    "number",
    "objects",
    "pairs",
    "text",
    "text_or_none",
    "texts",
    "whole",
    "whole_or_none",
]


def pairs(value: object) -> dict[str, str]:
    return {name: each for name, each in mapping(value).items() if isinstance(each, str)}


def text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def flag(value: object, otherwise: bool = False) -> bool:
    return value if isinstance(value, bool) else otherwise


def flag_or_none(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def whole_or_none(value: object) -> int | None:
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def whole(value: object, otherwise: int = 0) -> int:
    found = whole_or_none(value)
    return otherwise if found is None else found


def moment(value: object) -> datetime | None:
    """ISO 8601, or seconds since 1970; always with a time zone."""
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None
