"""What callers write on things of theirs, to find them again: names and values, which mean nothing to Atoll. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import InvalidInput

MAX_PAIRS = 64
MAX_NAME, MAX_VALUE, MAX_TOTAL = 256, 2048, 16 * 1024
"""Bytes in UTF-8: of a name, of a value, of all names and values together."""


def check_metadata(given: Mapping[str, str], field: str = "metadata") -> dict[str, str]:
    """The same as a dict of its own. `field` is what the errors name.

    Raises InvalidInput.

    >>> check_metadata({"user": "ann"})
    {'user': 'ann'}
    """
    if len(given) > MAX_PAIRS:
        raise InvalidInput(f"{field} has more than {MAX_PAIRS} entries", field=field)
    total = 0
    for name, value in given.items():
        total += _size(name, 1, MAX_NAME, f"a name in {field}", field)
        total += _size(value, 0, MAX_VALUE, f"a value in {field}", field)
    if total > MAX_TOTAL:
        raise InvalidInput(f"{field} is larger than {MAX_TOTAL} bytes", field=field)
    return dict(given)


def _size(text: str, least: int, most: int, what: str, field: str) -> int:
    """Half a surrogate pair, which JSON can write, is no text."""
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InvalidInput(f"{what} is not a text", field=field)
    size = len(text.encode())
    if not least <= size <= most:
        raise InvalidInput(f"{what} has {least} to {most} bytes, and one here has {size}", field=field)
    return size
