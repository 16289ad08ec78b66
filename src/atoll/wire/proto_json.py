"""Fields of protobuf messages in their JSON form, as a hostile or sloppy client may have written them. Pure.

Names are lowerCamelCase or snake_case, `null` is an absent field, unknown fields are nobody's business. A field of
another type than it should have is `ConnectError` (invalid_argument) with the field's name.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeGuard, TypeVar

from .connect import ConnectError, Object, invalid

MAX_ENTRIES = 100_000
_NUMBER = re.compile(r"-?[0-9]{1,20}")
_CAPITAL = re.compile(r"[A-Z]")
_URL_SAFE = str.maketrans("-_", "+/")
T = TypeVar("T")


def field(message: Object, name: str) -> Any:  # Any: JSON
    """By its lowerCamelCase name or its snake_case one; None when absent.

    >>> field({"include_entry": True}, "includeEntry")
    True
    """
    value = message.get(name)
    return message.get(_CAPITAL.sub(lambda found: "_" + found[0].lower(), name)) if value is None else value


def has(message: Object, name: str) -> bool:
    """Which of several exclusive fields was sent."""
    return field(message, name) is not None


def text(message: Object, name: str) -> str:
    return optional_text(message, name) or ""


def optional_text(message: Object, name: str) -> str | None:
    value = field(message, name)
    if value is None or _is_text(value):
        return value
    raise _wrong(name, "a string")


def boolean(message: Object, name: str, otherwise: bool = False) -> bool:
    value = field(message, name)
    if value is None:
        return otherwise
    if not isinstance(value, bool):
        raise _wrong(name, "true or false")
    return value


def whole(message: Object, name: str, otherwise: int = 0, most: int = 2**32 - 1, least: int = 0) -> int:
    """A whole number, also as a string, as 64-bit ones are written."""
    value = field(message, name)
    if value is None:
        return otherwise
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(name, f"a whole number from {least} to {most}")
    return value


def blob(message: Object, name: str) -> bytes:
    """Base64 in either alphabet, with padding or without."""
    value = optional_text(message, name) or ""
    given = value.translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(given + "=" * (-len(given) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _wrong(name, "base64") from error


def choice(message: Object, name: str, names: Mapping[str, int]) -> int:
    """An enum's number, sent by name or by number; 0 when absent."""
    value = field(message, name)
    if isinstance(value, str) and value in names:
        return names[value]
    return whole(message, name, most=2**31 - 1, least=-(2**31))


def part(message: Object, name: str) -> Object:
    """A message inside; empty when absent."""
    value = field(message, name)
    if value is not None and not isinstance(value, dict):
        raise _wrong(name, "an object")
    return value or {}


def texts(message: Object, name: str) -> list[str]:
    value = field(message, name)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_ENTRIES or not all(map(_is_text, value)):
        raise _wrong(name, "a list of strings")
    return value


def text_map(message: Object, name: str) -> dict[str, str]:
    values = part(message, name)
    if len(values) > MAX_ENTRIES or not all(map(_is_text, [*values, *values.values()])):
        raise _wrong(name, "an object of strings")
    return values


def base64_bytes(data: bytes) -> bytes:
    return base64.b64encode(data)


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC. A time that no calendar has is the nearest one that it has.

    >>> timestamp(1.5)
    '1970-01-01T00:00:01.500000Z'
    """
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        moment = datetime.fromtimestamp(0, UTC) if seconds < 0 else datetime.max.replace(tzinfo=UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def without_defaults(message: Mapping[str, T]) -> dict[str, T]:
    """As protobuf's JSON leaves them away: empty texts, zeros, falsehoods, empty lists, and None.

    >>> without_defaults({"exitCode": 0, "exited": True})
    {'exited': True}
    """
    return {name: value for name, value in message.items() if value}


def _is_text(value: object) -> TypeGuard[str]:
    """JSON can hold halves of characters (lone surrogates), which are no text."""
    if not isinstance(value, str):
        return False
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong(name: str, wanted: str) -> ConnectError:
    return invalid(f"the field {name!r} must be {wanted}")
