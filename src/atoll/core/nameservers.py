"""Who is asked for names on behalf of sandboxes, as the operator says it. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence

from .errors import InvalidInput
from .reach import Network, is_never_reachable

OF_HOST = "host"
MAX_NAMESERVERS = 10


def parse_nameservers(text: str, opened: Sequence[Network], resolv_conf: Callable[[], str]) -> tuple[str, ...]:
    """`8.8.8.8,1.1.1.1`, or `host`: those that `resolv_conf` names. They are reached where sandboxes go out, so an
    internal one has to be opened."""
    if text.strip() == OF_HOST:
        return _of_host(resolv_conf(), opened)
    servers = tuple(dict.fromkeys(_address(word.strip()) for word in text.split(",") if word.strip()))
    if not 0 < len(servers) <= MAX_NAMESERVERS:
        raise InvalidInput(f"give 1 to {MAX_NAMESERVERS} IPv4 addresses, or {OF_HOST}")
    for server in servers:
        if is_never_reachable(server, opened):
            raise InvalidInput(f"{server} is in a range that is never reached; open it: --open-ranges {server}/32")
    return servers


def _of_host(resolv_conf: str, opened: Sequence[Network]) -> tuple[str, ...]:
    named = tuple(dict.fromkeys(_named(resolv_conf)))
    usable = tuple(server for server in named if not is_never_reachable(server, opened))
    if not usable:
        found = f"only {', '.join(named)}, which sandboxes never reach" if named else "none with an IPv4 address"
        raise InvalidInput(f"/etc/resolv.conf names {found}; give addresses, or open internal ones with --open-ranges")
    return usable[:MAX_NAMESERVERS]


def _named(resolv_conf: str) -> Iterator[str]:
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                yield str(ipaddress.IPv4Address(words[1]))
            except ValueError:
                continue


def _address(word: str) -> str:
    try:
        return str(ipaddress.IPv4Address(word))
    except ValueError:
        raise InvalidInput(f"{word!r} is not an IPv4 address") from None
