"""Names of hosts and patterns for them, in one normal form: lower case, A-labels, no dot at the end. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

Pattern = str
"""`example.com`, `*.example.com` (below it, at any depth, without itself) or `*`."""

MAX_NAME = 253
MAX_TEXT = 4 * MAX_NAME  # letters outside ASCII can vanish or shrink on their way to the normal form; not that much
_DEVIATING = frozenset("ß\u03c2\u200c\u200d")
"""Two names, of two owners, by the two versions of IDNA: `straße.de` is `strasse.de` by the older one alone."""
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


def normal(text: str) -> str | None:
    """None when it is no name of a host: addresses are not, nor anything that could be read as one."""
    if len(text) > MAX_TEXT:
        return None
    name = text.removesuffix(".").lower()
    if not name.isascii():
        if not _DEVIATING.isdisjoint(name):
            return None
        try:
            name = name.encode("idna").decode().lower()
        except UnicodeError:
            return None
    return name if is_name(name) else None


def is_name(name: str) -> bool:
    """Whether it is one, in its normal form."""
    labels = name.split(".")
    return len(name) <= MAX_NAME and all(_LABEL.fullmatch(label) for label in labels) and not _numeric(labels[-1])


def _numeric(label: str) -> bool:
    """As URLs have it: a last label like this makes the whole an address, `127.1` and `0x7f000001` too."""
    return label.isdigit() or re.fullmatch(r"0x[0-9a-f]*", label) is not None


def parse_pattern(text: str) -> Pattern | None:
    if text == "*":
        return text
    if text.startswith("*."):
        name = normal(text[2:])
        return f"*.{name}" if name is not None else None
    return normal(text)


def patterns_of(name: str) -> Iterator[Pattern]:
    """All that match it."""
    yield name
    labels = name.split(".")
    yield from (f"*.{'.'.join(labels[start:])}" for start in range(1, len(labels)))
    yield "*"


def matches(pattern: Pattern, name: str) -> bool:
    """`name` in its normal form."""
    if pattern == "*":
        return True
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern
