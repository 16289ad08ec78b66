"""What is found at the beginning of a connection whose other end is a sandbox: the outcomes of `client_hello` and
`request_sniff`.

A sniffer never raises and never takes back what it said: for one stream of bytes the outcomes are the same however the
bytes were cut into pieces, and whatever follows `Malformed` or `OPAQUE` changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Mark(Enum):
    NEED_MORE = auto()
    OPAQUE = auto()
    """Another protocol: there is no name in it, only the address counts."""
    END = auto()
    """The request's body is over."""


NEED_MORE, OPAQUE, END = Mark.NEED_MORE, Mark.OPAQUE, Mark.END


@dataclass(frozen=True)
class Malformed:
    """It begins as our protocol and can be read in two ways, or in none."""

    why: str


class Unreadable(ValueError):
    """How the sniffers leave their innermost function; it becomes `Malformed`."""
