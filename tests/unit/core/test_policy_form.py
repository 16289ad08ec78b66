"""The JSON form of a policy: what is kept, what is shown, what tells two apart."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from atoll.core.policy import (
    CLOSED,
    OPEN,
    Policy,
    fingerprint,
    from_wire,
    given_form,
    has_way_out,
    parse,
    to_wire,
    without_secrets,
)

PROXIED = {
    "address": "proxy.example:1080",
    "username": "u",
    "password": "p",
    "tls": {"enabled": True, "server_name": "x.example", "ca_cert": "PEM"},
}
POLICIES = [
    OPEN,
    CLOSED,
    parse({"allow_out": ["1.1.1.0/24", "2001:db8::1", "*.a.example"], "deny_out": ["0.0.0.0/0"], "dns": "open"}),
    parse({"egress_proxy": PROXIED, "dns_servers": [], "ech": "refuse", "inspect": True}),
    parse({"rules": {"a.example": [{"transform": {"headers": {"A": "b"}}}]}}, internet_access=False),
]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_kept_form_survives_json_and_stays_the_same(policy: Policy) -> None:
    wire = to_wire(policy)
    again = from_wire(json.loads(json.dumps(wire)))
    assert again == policy
    assert fingerprint(to_wire(again)) == fingerprint(wire)


def test_every_two_policies_have_different_fingerprints() -> None:
    assert len({fingerprint(to_wire(policy)) for policy in POLICIES}) == len(POLICIES)


def test_secrets_are_kept_and_not_shown() -> None:
    policy = parse({"egress_proxy": PROXIED})
    kept = given_form(policy, secrets=True)
    assert kept["egress_proxy"] == PROXIED
    shown = {"address": "proxy.example:1080", "username": "u", "tls": {"enabled": True, "server_name": "x.example"}}
    assert without_secrets(kept)["egress_proxy"] == given_form(policy)["egress_proxy"] == shown
    assert kept["egress_proxy"] == PROXIED  # the kept one is not touched


def test_allowed_entries_come_back_in_the_order_given() -> None:
    given = ["b.example", "1.1.1.1", "*.a.example", "1.0.0.0/8", "1.1.1.1"]
    policy = parse({"allow_out": given, "deny_out": ["0.0.0.0/0"]})
    assert given_form(policy)["allow_out"] == given[:-1]
    assert given_form(from_wire(to_wire(policy)))["allow_out"] == given[:-1]
    assert given_form(replace(policy, allow_networks=()))["allow_out"] == ["b.example", "*.a.example"]


@pytest.mark.parametrize(
    ("internet_access", "given", "expected"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"deny_out": ["0.0.0.0/0"]}, False),
        (True, {"deny_out": ["1.0.0.0/8"]}, True),
        (False, {"allow_out": ["1.1.1.1"]}, True),
        (True, {"allow_out": ["a.example"], "deny_out": ["0.0.0.0/0"]}, True),
    ],
)
def test_whether_anything_is_allowed_at_all(internet_access: bool, given: dict[str, object], expected: bool) -> None:
    assert has_way_out(internet_access, given_form(parse(given, internet_access))) is expected
