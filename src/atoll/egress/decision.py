"""What becomes of one connection that was diverted to the proxy, once it has shown its name or has none. Pure.

An allowed *name* is dialled by name: what address the sandbox held for it is its own claim. Where the *address* was
judged, that address is dialled, whatever name was said to it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from atoll.core.blocklist import NOTHING_BLOCKED, BlockList
from atoll.core.policy import DEFAULT_VERDICT, Ech, EgressProxy, Policy, Transform, denied_all, judge, judge_name
from atoll.core.reach import Address, Network
from atoll.core.uplink import PROXY_ADDRESS

VIP = ipaddress.IPv4Address(PROXY_ADDRESS)
NO_NAME, ECH, MALFORMED = "no name", "ech", "malformed"


@dataclass(frozen=True)
class Surroundings:
    """What counts for all sandboxes."""

    opened: Sequence[Network] = ()
    blocked: BlockList = NOTHING_BLOCKED
    domain: str | None = None


@dataclass(frozen=True)
class Refused:
    rule: str


@dataclass(frozen=True)
class Onward:
    rule: str
    host: str
    """A name that is resolved here, or an address."""
    by_name: bool = False
    ingress: bool = False
    """To the installation's own programs with URLs."""
    transform: Transform | None = None
    proxy: EgressProxy | None = None

    def same_way(self, other: Onward) -> bool:
        """Bytes that go one way would go the same by the other."""
        return (self.ingress, self.transform, self.proxy) == (other.ingress, other.transform, other.proxy)


Decision = Refused | Onward


def decide(
    policy: Policy, address: Address, port: int, name: str | None, ech: bool, surroundings: Surroundings
) -> Decision:
    """`name` in its normal form; None: there is none, or nothing that names a host."""
    if ech and policy.ech is Ech.REFUSE:
        return Refused(ECH)
    if address == VIP:
        return _to_ingress(policy, port, name, surroundings)
    verdict = judge(policy, address, "tcp", port, name, surroundings.opened, surroundings.blocked)
    if not verdict.allowed:
        nameless = name is None and policy.allow_names and policy.denies_all and verdict == denied_all(policy)
        return Refused(NO_NAME if nameless else verdict.rule)
    by_name = name is not None and judge_name(policy, name) == verdict
    transform = policy.treatment(name) if name is not None else None
    spoken = name is not None and (by_name or transform is not None or (policy.proxy and not policy.deny_networks))
    return Onward(
        verdict.rule,
        host=name if spoken and name is not None else str(address),
        by_name=by_name,
        transform=transform,
        proxy=policy.proxy,
    )


def _to_ingress(policy: Policy, port: int, name: str | None, surroundings: Surroundings) -> Decision:
    if name is None:
        return Refused(NO_NAME)
    if not is_own(name, surroundings.domain):
        return Refused(judge(policy, VIP, "tcp", port).rule)
    if (entry := surroundings.blocked.name(name)) is not None:
        return Refused(f"blocklist: {entry}")
    verdict = judge_name(policy, name) or (denied_all(policy) if policy.denies_all else DEFAULT_VERDICT)
    if not verdict.allowed:
        return Refused(verdict.rule)
    return Onward(verdict.rule, name, by_name=True, ingress=True, transform=policy.treatment(name))


def is_own(name: str, domain: str | None) -> bool:
    return domain is not None and (name == domain or name.endswith(f".{domain}"))


def still_allowed(
    policy: Policy,
    surroundings: Surroundings,
    was: Onward,
    address: Address,
    remote: Address | None,
    port: int,
    name: str | None,
    ech: bool,
) -> bool:
    """Of a connection that is on its way: by another policy, to where it really goes."""
    now = decide(policy, address, port, name, ech, surroundings)
    if isinstance(now, Refused) or not now.same_way(was):
        return False
    if remote is None or now.ingress or now.by_name:
        return True
    return judge(policy, remote, "tcp", port, None, surroundings.opened, surroundings.blocked).allowed
