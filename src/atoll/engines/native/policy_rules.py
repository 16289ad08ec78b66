"""What one sandbox's policy adds to the fabric's table: at most two sets and two chains. Pure.

A rule is one set and where an address in it leads; the last rule of a chain has no set. All else is in the chains that
every sandbox shares (`rules.py`), so that a policy without addresses adds nothing but where its link leads.
"""

from __future__ import annotations

from dataclasses import dataclass

from atoll.core.packet_policy import Divert, Intervals, KernelPolicy, Refusal

REFUSE = "refuse"
DENY, MODE = (f"{REFUSE}_{each.name.lower()}" for each in (Refusal.DENY, Refusal.MODE))
ALLOWED, ALLOWED_BUT_WEB = "allowed", "allowed_but_web"
DIVERT_WEB, DIVERT_TCP = "divert_web", "divert_tcp"
ACCEPT = "accept"
"""In the chains of `diverts`: goes on as it is."""


@dataclass(frozen=True)
class Family:
    word: str
    type: str
    protocol: int
    """NFPROTO_*."""
    destination: int
    """Offset in the header."""
    size: int


FAMILIES = {4: Family("ip", "ipv4_addr", 2, 16, 4), 6: Family("ip6", "ipv6_addr", 10, 24, 16)}


@dataclass(frozen=True)
class Rule:
    target: str
    set: str = ""
    version: int = 0

    def __str__(self) -> str:
        match = f"{FAMILIES[self.version].word} daddr @{self.set} " if self.set else ""
        return f"{match}{'' if self.target == ACCEPT else 'goto '}{self.target}"


@dataclass(frozen=True)
class Plan:
    link: str
    sets: tuple[tuple[str, int, Intervals], ...]
    chains: tuple[tuple[str, tuple[Rule, ...]], ...]
    verdict: str
    divert: str


def plan(link: str, serial: str, policy: KernelPolicy) -> Plan:
    """`serial` tells a policy from the one that it replaces in the same transaction."""
    end = f"{link}{'.' if serial else ''}{serial}"
    sets = tuple(
        (f"except{version}-{end}", version, intervals)
        for version, intervals in ((4, policy.except4), (6, policy.except6))
        if intervals
    )
    verdict = _verdict_rules(policy, sets)
    divert = _divert_rules(policy, sets)
    chains = tuple(
        (name, rules) for name, rules in ((f"verdict-{end}", verdict), (f"divert-{end}", divert)) if len(rules) > 1
    )
    return Plan(
        link,
        sets,
        chains,
        f"verdict-{end}" if len(verdict) > 1 else verdict[0].target,
        f"divert-{end}" if len(divert) > 1 else divert[0].target if divert else "",
    )


Sets = tuple[tuple[str, int, Intervals], ...]


def _verdict_rules(policy: KernelPolicy, sets: Sets) -> tuple[Rule, ...]:
    """In the forward hook: what was not diverted."""
    passing = {Divert.NONE: ALLOWED, Divert.WEB: ALLOWED_BUT_WEB, Divert.TCP: MODE}[policy.divert]
    ordinary, exceptional = (passing, DENY) if policy.open else (DENY, passing)
    return (*(Rule(exceptional, name, version) for name, version, _ in sets), Rule(ordinary))


def _divert_rules(policy: KernelPolicy, sets: Sets) -> tuple[Rule, ...]:
    """In the nat hook, for IPv4."""
    allowed = {Divert.NONE: ACCEPT, Divert.WEB: DIVERT_WEB, Divert.TCP: DIVERT_TCP}[policy.divert]
    denied = DIVERT_WEB if policy.by_name else ACCEPT
    if allowed == denied:
        return () if allowed == ACCEPT else (Rule(allowed),)
    ordinary, exceptional = (allowed, denied) if policy.open else (denied, allowed)
    own = tuple(Rule(exceptional, name, version) for name, version, _ in sets if version == 4)
    if not own and ordinary == ACCEPT:
        return ()
    return (*own, Rule(ordinary))
