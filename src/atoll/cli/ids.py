"""Short ids: the beginning of one is enough where it says which. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from atoll.core.errors import InvalidInput, NotFound

LEAST = 4
WHOLE = 20
MAX_SHOWN = 5


def is_whole(text: str) -> bool:
    """Whether `text` can only be an id in full: it is sent as it is, without a question before.

    >>> is_whole("a" * 20), is_whole("abcd")
    (True, False)
    """
    return len(text) >= WHOLE


def resolve(text: str, ids: Iterable[str], noun: str = "sandbox") -> str:
    """The one of `ids` that is `text` or begins with it. InvalidInput: too short or several; NotFound: none.

    >>> resolve("abcd", ["abcdef", "xyz"])
    'abcdef'
    """
    found = sorted({each for each in ids if each.startswith(text)})
    if text in found:
        return text
    if len(text) < LEAST:
        raise InvalidInput(f"{text!r} is too short for a {noun}: give at least {LEAST} letters of its id")
    if not found:
        raise NotFound(f"no {noun} has an id that begins with {text!r}")
    if len(found) > 1:
        more = "" if len(found) <= MAX_SHOWN else f" and {len(found) - MAX_SHOWN} more"
        raise InvalidInput(f"{text!r} may be {', '.join(found[:MAX_SHOWN])}{more}: give more letters")
    return found[0]
