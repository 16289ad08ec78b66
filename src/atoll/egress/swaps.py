"""The placeholders of a sandbox's secrets in the headers of one request, and the values in their place. Pure.

A placeholder counts wherever it stands in a header's value, in the credentials of `Basic` too, which are Base64; not in
a path, a query or a body.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence

from atoll.core.secrets import PLACEHOLDER

MAX_HEADERS = 128 * 1024
"""Of what leaves: a request may be full of placeholders, each for a value that is far longer."""
_PLACEHOLDER = re.compile(PLACEHOLDER.pattern.encode())
_BASIC = re.compile(rb"(basic[ \t]+)([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)

Headers = list[tuple[bytes, bytes]]


def swapped(headers: Headers, swaps: Sequence[tuple[str, str]]) -> Headers | None:
    """`swaps`: placeholders and their values; others stay as they are. None: what would leave is too long."""
    if not swaps:
        return headers
    values = {word.encode(): value.encode() for word, value in swaps}
    done: Headers = []
    left = MAX_HEADERS
    for name, value in headers:
        scheme, text = _opened(name, value)
        found = [word for word in _PLACEHOLDER.findall(text) if word in values]
        left -= len(name) + len(value) + sum(len(values[word]) for word in found)
        if left < 0:
            return None
        done.append((name, _closed(scheme, _replaced(text, values)) if found else value))
    return done


def _opened(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Of `Basic` credentials the scheme and what they hold; of anything else nothing and the value."""
    found = _BASIC.fullmatch(value) if name.lower() == b"authorization" else None
    if found is None:
        return b"", value
    try:
        return found[1], base64.b64decode(found[2], validate=True)
    except binascii.Error:
        return b"", value


def _closed(scheme: bytes, text: bytes) -> bytes:
    return scheme + base64.b64encode(text) if scheme else text.strip(b" \t")


def _replaced(text: bytes, values: Mapping[bytes, bytes]) -> bytes:
    """Once: what a value says is not looked at again."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[0], found[0]), text)
