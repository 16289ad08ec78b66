"""JSON from strangers, bounded by what it costs to read, which its length does not say: `{},` is three bytes, and an
object of 64. Pure."""

from __future__ import annotations

import json
from typing import Any

MAX_VALUES = 500_000
"""Some ten MB and a tenth of a second."""
PIECE = 1024 * 1024
_BEFORE_VALUES = b",[{"


def load(raw: bytes, most: int = MAX_VALUES) -> Any:  # Any: JSON
    """ValueError for what is not JSON, nests too deep, or has more than about `most` values.

    >>> load(b'{"text": "a,b,c"}', most=3)
    {'text': 'a,b,c'}
    """
    if has_more(raw, most):
        raise ValueError(f"more than {most} values")
    try:
        return json.loads(raw)
    except RecursionError:
        raise ValueError("it nests too deep") from None


def has_more(raw: bytes, most: int) -> bool:
    """Whether what seems to be JSON has more than about `most` values.

    >>> has_more(b"[1, 2, 3, 4]", 3), has_more(b'["1, 2, 3, 4"]', 3)
    (True, False)
    """
    return _has_more(raw, most) and not _is_mostly_text(raw, most)


def _has_more(raw: bytes, most: int) -> bool:
    """Counted piece by piece: where they are dense, the first ones say it."""
    count = 0
    for at in range(0, len(raw), PIECE):
        piece = raw[at : at + PIECE]
        count += len(piece) - len(piece.translate(None, _BEFORE_VALUES))
        if count > most:
            return True
    return False


def _is_mostly_text(raw: bytes, most: int) -> bool:
    """Commas and brackets in strings begin no values. A backslash outside of strings hides none: JSON ends there."""
    bare = raw.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in raw else raw
    parts = bare.split(b'"', 2 * most)
    strings = len(parts) // 2
    return strings < most and not _has_more(b"".join(parts[::2]), most - strings)
