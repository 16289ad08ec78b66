"""Whether a connection may be made in a sandbox's name, by its own policy: a call-back is no way around it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from atoll.core.blocklist import BlockList
from atoll.core.errors import PermissionDenied
from atoll.core.policy import (
    DEFAULT_DNS,
    Policy,
    Verdict,
    given_form,
    has_way_out,
    judge,
    judge_question,
)
from atoll.core.reach import Address, Network


def allowed_by(
    policy: Policy, host: str, port: int, opened: Sequence[Network], blocked: BlockList
) -> Callable[[list[Address]], list[Address]]:
    """Keeps those of the addresses of `host` that the policy allows. Raises PermissionDenied when there are none, and
    at once when the name is not even to be resolved."""
    if not has_way_out(policy.internet_access, given_form(policy)):
        raise PermissionDenied("this sandbox is without internet access")
    if policy.proxy is not None:
        raise PermissionDenied("all that this sandbox sends goes through its egress proxy, which call-backs do not use")
    name = None if _is_address(host) else host.rstrip(".").lower()
    if name is not None:
        resolvers = DEFAULT_DNS if policy.dns_servers is None else policy.dns_servers
        _require(host, port, judge_question(policy, name, resolvers, blocked))

    def keep(addresses: list[Address]) -> list[Address]:
        verdicts = [judge(policy, address, "tcp", port, name, opened, blocked) for address in addresses]
        kept = [address for address, verdict in zip(addresses, verdicts, strict=True) if verdict.allowed]
        if not kept:
            _require(host, port, verdicts[0])
        return kept

    return keep


def _require(host: str, port: int, verdict: Verdict) -> None:
    if not verdict.allowed:
        raise PermissionDenied(f"{host} port {port} is refused by the sandbox's network policy ({verdict.rule})")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
