"""How the programs that listen in a sandbox are reached, as its creator says it. Pure.

Checked once, when it is given (`parse`, `changes`); from then on it is data, which the route carries to the edge. Who
may enter is two words of which the stricter counts: `inbound_auth`, and `allow_public_traffic` here.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from .errors import InvalidInput

PORT = "${PORT}"
LAST_PORT = 65535
DEFAULT_WEB_PORT = 8000
AGENT_PORT = 7777
OWN_HOST = 0
"""In a link, in the place of a port: what the sandbox's own host serves."""
MAX_HTTPS_PORTS = 100
MAX_MASK = 253
TOKEN_BYTES = 32
LINK_AUDIENCE = "atoll-link"
VOLUME_AUDIENCE = "atoll-volume"
LINK_S, MIN_LINK_S, MAX_LINK_S = 3600, 60, 7 * 24 * 3600

Wire = dict[str, Any]  # Any: JSON values


class Dialect(StrEnum):
    """By which API a sandbox was created: whoever reaches its ports is answered in its words."""

    HOPX = "hopx"
    E2B = "e2b"
    NOVITA = "novita"


@dataclass(frozen=True)
class Ingress:
    web_port: int | None = None
    """What its own host serves; None: 8000, else the only one that listens."""
    auto_resume: bool = False
    """Traffic resumes it when it is paused."""
    allow_public_traffic: bool = True
    """False: a traffic token is another key to its ports, and without one of the keys nobody enters."""
    mask_request_host: str = ""
    """The Host that its programs see, with `${PORT}` for their port; empty: as it was sent."""
    https_ports: tuple[int, ...] = ()
    """Ports whose programs speak TLS; whatever certificate they show."""
    traffic_token: str = field(default="", repr=False)
    """Made when it is first needed, and kept for the sandbox's life."""

    @property
    def token_in_force(self) -> str:
        return "" if self.allow_public_traffic else self.traffic_token

    @property
    def traffic_digest(self) -> str:
        """What a traffic token is compared with; empty when there is none in force."""
        token = self.token_in_force
        return hashlib.sha256(token.encode()).hexdigest() if token else ""


DEFAULT = Ingress()
NETWORK_FIELDS = ("allow_public_traffic", "mask_request_host", "https_ports")
"""Those that are given in `network`, beside what goes out; the others stand beside `network`."""


def new_token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


def with_token(ingress: Ingress, token: str) -> Ingress:
    """`token` is taken when one is needed that was not there yet."""
    missing = not ingress.allow_public_traffic and not ingress.traffic_token
    return replace(ingress, traffic_token=token) if missing else ingress


def link_port(ingress: Ingress, port: int | None, has_own_host: bool) -> int:
    """What a signed link is for. Without a port: the web port, by the sandbox's own host where it has one."""
    if port is None:
        port = OWN_HOST if has_own_host else ingress.web_port or DEFAULT_WEB_PORT
    elif not 0 < port <= LAST_PORT:
        raise InvalidInput(f"port is a number from 1 to {LAST_PORT}", field="port")
    if port == AGENT_PORT:
        raise InvalidInput(f"port {port} is the agent's, which takes no links: use the sandbox token", field="port")
    return port


def check_link_seconds(seconds: int) -> None:
    if not MIN_LINK_S <= seconds <= MAX_LINK_S:
        raise InvalidInput(f"seconds is a number from {MIN_LINK_S} to {MAX_LINK_S}", field="seconds")


# ---- reading what a caller gives


def parse(given: Mapping[str, Any]) -> Ingress:
    """`given` has our own field names. Absent and None are the same; other fields are not looked at.

    Raises InvalidInput; the messages are those that clients match on.
    """
    return replace(DEFAULT, **changes(given))


def changes(given: Mapping[str, Any]) -> Wire:
    """What `dataclasses.replace` takes: the fields that were given, checked."""
    readers = {
        "web_port": _port,
        "auto_resume": _flag,
        "allow_public_traffic": _flag,
        "mask_request_host": _mask,
        "https_ports": _ports,
    }
    return {name: read(name, given[name]) for name, read in readers.items() if given.get(name) is not None}


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidInput(f"{name} is true or false", field=name)


def _port(name: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LAST_PORT:
        return value
    raise InvalidInput(f"{name} is a number from 1 to {LAST_PORT}", field=name)


def _ports(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_HTTPS_PORTS:
        raise InvalidInput(f"{name} is a list of up to {MAX_HTTPS_PORTS} ports", field=name)
    return tuple(dict.fromkeys(_port(f"each of {name}", port) for port in value))


_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_AUTHORITY = re.compile(rf"({_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::([1-9][0-9]{{0,4}}))?")


def _mask(name: str, value: Any) -> str:
    """Empty is none. With the longest port in its place it has to be what a Host may be."""
    if not isinstance(value, str):
        raise InvalidInput(f"{name} is a text", field=name)
    shown = value[:MAX_MASK].encode(errors="backslashreplace").decode()
    if not value.isascii():
        raise InvalidInput(
            f"mask request host '{shown}' is not ASCII. Please use ASCII characters only.", field="mask_request_host"
        )
    if value and not _is_authority(value.replace(PORT, str(LAST_PORT))):
        raise InvalidInput(f"mask request host is not valid: {shown}", field="mask_request_host")
    return value


def _is_authority(text: str) -> bool:
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return False
    host, port = match.groups()
    return len(host) <= MAX_MASK and (port is None or int(port) <= LAST_PORT) and (host[0] != "[" or _is_ipv6(host))


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host[1:-1])
    except ValueError:
        return False
    return True


# ---- writing it down


def to_wire(ingress: Ingress) -> Wire:
    """Everything, the token too, defaults left out; `from_wire` reads it back. For our own keeping."""
    form = {name: getattr(ingress, name) for name in Ingress.__dataclass_fields__}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in form.items()
        if value != getattr(DEFAULT, name)
    }


def from_wire(data: Mapping[str, Any]) -> Ingress:
    return replace(parse(data), traffic_token=str(data.get("traffic_token", "")))


def given_form(ingress: Ingress) -> Wire:
    """What stands in `network`, as it was given, defaults left out."""
    form = to_wire(ingress)
    return {name: form[name] for name in NETWORK_FIELDS if name in form}
