"""One sandbox's part of the fabric's table, as changes over netlink. Pure; `rules.py` says the same as text."""

from __future__ import annotations

from collections.abc import Iterator

from . import nft
from .nft import Change, Element, Verdict, address_key, goto, interface_key, mark_key
from .policy_rules import ACCEPT, FAMILIES, Plan, Rule
from .rules import (
    BLOCKED4,
    BLOCKED6,
    BLOCKED_PORTS,
    DIVERTS,
    FLOWS,
    FLOWS6,
    PASSES,
    PASSES6,
    REJUDGED,
    VERDICTS,
    Blocked,
    Pass,
)

REJUDGED_S = 10
"""Longer than it takes to cut what a policy forbids."""


def given(each: Pass, plan: Plan) -> list[Change]:
    """A pass with its policy."""
    return [
        *(change for name, elements in _pass_elements(each) for change in nft.add_elements(name, elements)),
        *_policy(plan),
    ]


def taken_back(each: Pass, plan: Plan) -> list[Change]:
    return [
        *(change for name, elements in _pass_elements(each) for change in nft.remove_elements(name, elements)),
        *_no_policy(plan),
    ]


def replaced(mark: int, old: Plan, new: Plan) -> list[Change]:
    """Where the link leads, changed in one step, for what is open too; then what nobody is led to any more."""
    again = nft.add_elements(REJUDGED, [Element(mark_key(mark), timeout_s=REJUDGED_S)])
    return [*again, *_led_nowhere(old), *_policy(new), *_unused(old)]


def blocked(wanted: Blocked) -> list[Change]:
    """In the place of what was."""
    return [
        *(nft.empty_set(name) for name in (BLOCKED4, BLOCKED6, BLOCKED_PORTS)),
        *nft.add_intervals(BLOCKED4, 4, wanted.intervals4),
        *nft.add_intervals(BLOCKED6, 16, wanted.intervals6),
        *nft.add_elements(BLOCKED_PORTS, (Element(nft.port_key(*each)) for each in wanted.ports)),
    ]


def _pass_elements(each: Pass) -> Iterator[tuple[str, list[Element]]]:
    mark = mark_key(each.mark)
    addresses = ((PASSES, FLOWS, each.address), (PASSES6, FLOWS6, each.address6))
    for passes, flows, address in addresses:
        if address is not None:
            key = interface_key(each.link) + address_key(address)
            yield passes, [Element(key, mark)]
            yield flows, [Element(key + mark)]


def _policy(plan: Plan) -> Iterator[Change]:
    numbers = {}
    for number, (name, version, intervals) in enumerate(plan.sets, 1):
        size = FAMILIES[version].size
        numbers[name] = number
        yield nft.new_interval_set(name, size, number)
        yield from nft.add_intervals(name, size, intervals, number)
    for name, rules in plan.chains:
        yield nft.new_chain(name)
        yield from (nft.new_rule(name, *_expressions(rule, numbers)) for rule in rules)
    for name, element in _leads(plan):
        yield from nft.add_elements(name, [element])


def _no_policy(plan: Plan) -> Iterator[Change]:
    yield from _led_nowhere(plan)
    yield from _unused(plan)


def _led_nowhere(plan: Plan) -> Iterator[Change]:
    for name, element in _leads(plan):
        yield from nft.remove_elements(name, [element])


def _unused(plan: Plan) -> Iterator[Change]:
    for name, _ in plan.chains:
        yield from nft.delete_chain(name)
    yield from (nft.delete_set(name) for name, _, _ in plan.sets)


def _leads(plan: Plan) -> Iterator[tuple[str, Element]]:
    key = interface_key(plan.link)
    yield VERDICTS, Element(key, goto(plan.verdict))
    if plan.divert:
        yield DIVERTS, Element(key, goto(plan.divert))


def _expressions(rule: Rule, numbers: dict[str, int]) -> Iterator[bytes]:
    if rule.set:
        family = FAMILIES[rule.version]
        yield nft.destination_in(rule.set, numbers[rule.set], family.protocol, family.destination, family.size)
    yield nft.then(Verdict(nft.ACCEPT) if rule.target == ACCEPT else goto(rule.target))
