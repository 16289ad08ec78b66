"""Where sandboxes go out, as the operator says it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .errors import InvalidInput

MAX_INTERFACE = 15  # IFNAMSIZ
PROXY_ADDRESS = "192.0.0.8"
"""In the fabric; the dummy address of RFC 7600, which no packet outside ever has. Connections to it, on any port, are
the installation's own ingress."""
PROXY_PORT, DNS_PORT = 1080, 1053
"""There: of the proxy, to which TCP is diverted, and of the resolver."""
FORMS = "auto, none, an interface (eth0) or netns:NAME"


class Way(StrEnum):
    NONE = "none"
    AUTO = "auto"
    """The interface of the default route."""
    INTERFACE = "interface"
    NETNS = "netns"
    """A network namespace below /run/netns, through the interface of its default route."""


@dataclass(frozen=True)
class Uplink:
    way: Way
    name: str = ""

    def __str__(self) -> str:
        return {Way.INTERFACE: self.name, Way.NETNS: f"netns:{self.name}"}.get(self.way, self.way.value)


NO_UPLINK = Uplink(Way.NONE)


def parse_uplink(text: str) -> Uplink:
    if text in (Way.NONE.value, Way.AUTO.value):
        return Uplink(Way(text))
    kind, colon, name = text.partition(":")
    if colon and kind == "netns" and _is_name(name, 255):
        return Uplink(Way.NETNS, name)
    if not colon and _is_name(text, MAX_INTERFACE):
        return Uplink(Way.INTERFACE, text)
    raise InvalidInput(f"{text!r} is not {FORMS}")


def _is_name(text: str, longest: int) -> bool:
    """It becomes a file name and a word of a rule set."""
    safe = all(letter.isascii() and (letter.isalnum() or letter in "-_.") for letter in text)
    return safe and 0 < len(text) <= longest and text not in (".", "..")
