"""What the log of outbound traffic says: one entry a connection, a request of plain HTTP, a question or an event. Pure.

An entry is one line of JSON; `to_wire` leaves out what is empty. Names and paths come from sandboxes: they are bounded
and hold no control characters when they are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    CONNECTION = "connection"
    """TCP, or an exchange of UDP or ICMP; written when it is over."""
    REQUEST = "request"
    """Of plain HTTP, where names are read."""
    QUESTION = "question"
    """To the resolver."""
    EVENT = "event"
    """Something about the sandbox as a whole: scanning was seen, the policy was replaced."""


class NameSource(StrEnum):
    SNI = "sni"
    HOST = "host"
    DNS = "dns"
    """What our resolver last answered for that address: likely, not certain."""


class Outcome(StrEnum):
    ALLOWED = "allowed"
    DENIED = "denied"
    FAILED = "failed"
    """Allowed, and nobody answered there."""


@dataclass(frozen=True)
class Entry:
    at: float
    """Unix seconds at the beginning."""
    sandbox_id: str
    kind: Kind
    verdict: Outcome
    rule: str
    """What decided: `default`, `allow_out: 1.1.1.0/24`, `deny_out: 0.0.0.0/0`, `never: …`, `blocklist: tcp/25`,
    `rate`, `connections`, `scan`, `no name`, `malformed` …"""
    protocol: str = ""
    """tcp, udp, icmp …"""
    address: str = ""
    port: int = 0
    name: str = ""
    name_from: NameSource | None = None
    bytes_out: int = 0
    bytes_in: int = 0
    duration_s: float = 0.0
    method: str = ""
    path: str = ""
    """Without the query."""
    detail: str = ""

    def to_wire(self) -> dict[str, Any]:  # Any: JSON values
        wanted = ("at", "sandbox_id", "kind", "verdict", "rule")
        wire = {name: value for name, value in asdict(self).items() if value or name in wanted}
        if self.kind is Kind.CONNECTION:
            wire |= {"bytes_out": self.bytes_out, "bytes_in": self.bytes_in, "duration_s": round(self.duration_s, 3)}
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Entry:
        known = {name: wire[name] for name in cls.__dataclass_fields__ if name in wire}
        known["kind"], known["verdict"] = Kind(known["kind"]), Outcome(known["verdict"])
        if known.get("name_from"):
            known["name_from"] = NameSource(known["name_from"])
        return cls(**known)


def shown(text: str, longest: int = 255) -> str:
    """Bounded, without control characters, for an entry."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:longest])
