"""What a request for a file says about when and how it wants it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

_QUALITY = re.compile(r"\s*([^\s;,]+)\s*(?:;\s*q\s*=\s*([0-9.]+)\s*)?")


class Coding(Enum):
    IDENTITY = "identity"
    GZIP = "gzip"
    NEITHER = ""


def coding(accept_encoding: str | None) -> Coding:
    """As it is wherever that will do: packing costs more time than it saves on the way to most clients. Packed for who
    names gzip and nothing else.

    >>> coding(None), coding("gzip"), coding("gzip, deflate, br"), coding("identity;q=0, br")
    (<Coding.IDENTITY: 'identity'>, <Coding.GZIP: 'gzip'>, <Coding.IDENTITY: 'identity'>, <Coding.NEITHER: ''>)
    """
    if accept_encoding is None or not accept_encoding.strip():
        return Coding.IDENTITY
    wishes = _qualities(accept_encoding)
    rest = wishes.get("*", 1.0)
    gzip, identity = wishes.get("gzip", wishes.get("*", 0.0)), wishes.get("identity", 1.0 if rest else 0.0)
    if wishes.keys() == {"gzip"} and gzip:
        return Coding.GZIP
    if identity:
        return Coding.IDENTITY
    return Coding.GZIP if gzip else Coding.NEITHER


def _qualities(header: str) -> dict[str, float]:
    wishes: dict[str, float] = {}
    for part in header.split(","):
        match = _QUALITY.fullmatch(part)
        if match is not None:
            try:
                wishes[match[1].lower()] = float(match[2] or 1.0)
            except ValueError:
                wishes[match[1].lower()] = 0.0
    return wishes


def precondition(headers: Mapping[str, str], modified: str) -> int | None:
    """The status of an answer without content: 304 or 412; None: the content is wanted.

    >>> precondition({"If-Modified-Since": "Thu, 01 Jan 1970 00:00:01 GMT"}, "Thu, 01 Jan 1970 00:00:01 GMT")
    304
    """
    at = _moment(modified)
    unchanged_since, changed_since = (
        _moment(headers.get("If-Unmodified-Since")),
        _moment(headers.get("If-Modified-Since")),
    )
    if at is None:
        return None
    if unchanged_since is not None and at > unchanged_since:
        return 412
    return 304 if changed_since is not None and at <= changed_since else None


def wanted_range(headers: Mapping[str, str], modified: str = "") -> str | None:
    """The Range that holds. `If-Range` names a time: with another one, or anything else, all of it is wanted."""
    condition = headers.get("If-Range")
    if condition is None:
        return headers.get("Range")
    same = modified and _moment(condition) is not None and _moment(condition) == _moment(modified)
    return headers.get("Range") if same else None


def _moment(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text) if text else None
    except (ValueError, TypeError, OverflowError):
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found
