from __future__ import annotations

import ipaddress

import pytest

from atoll.core.blocklist import parse_blocklist
from atoll.core.policy import parse
from atoll.egress.decision import VIP, Onward, Refused, Surroundings, decide, is_own, still_allowed

ALL = ["0.0.0.0/0"]
HERE = ipaddress.ip_address("203.0.113.10")
ELSEWHERE = ipaddress.ip_address("203.0.113.66")
AROUND = Surroundings((), parse_blocklist(["pool.test", "192.0.2.0/24"]), "d.test")
PROXY = {"address": "socks.test:1080"}
RULES = {"a.test": [{"transform": {"headers": {"X-Key": "1"}}}]}
NAMED = {"allow_out": ["a.test", "*.b.test"], "deny_out": ALL}


def of(given, name, address=HERE, port=443, ech=False, access=True):
    return decide(parse(given, access), address, port, name, ech, AROUND)


@pytest.mark.parametrize(
    ("given", "name", "rule"),
    [
        (NAMED, "c.test", "deny_out: 0.0.0.0/0"),
        (NAMED, None, "no name"),
        (NAMED, "b.test", "deny_out: 0.0.0.0/0"),
        ({"allow_out": ["*"], "deny_out": ALL}, "x.pool.test", "blocklist: pool.test"),
        ({"inspect": True}, "pool.test", "blocklist: pool.test"),
        ({"inspect": True, "deny_out": ["203.0.113.0/24"]}, "a.test", "deny_out: 203.0.113.0/24"),
        ({"deny_out": ALL}, None, "deny_out: 0.0.0.0/0"),
    ],
)
def test_refused(given, name, rule):
    assert of(given, name) == Refused(rule)


def test_no_name_opens_what_is_never_reachable():
    decision = of(NAMED, "a.test", ipaddress.ip_address("10.0.0.1"))
    assert decision == Refused("never: private")


def test_a_name_on_another_port_than_those_of_names_is_none():
    assert of(NAMED, "a.test", port=8443) == Refused("deny_out: 0.0.0.0/0")


@pytest.mark.parametrize("name", ["a.test", "x.b.test"])
def test_an_allowed_name_is_dialled_by_name(name):
    decision = of(NAMED, name)
    assert isinstance(decision, Onward)
    assert (decision.host, decision.by_name) == (name, True)


@pytest.mark.parametrize("given", [{"inspect": True}, {**NAMED, "allow_out": ["a.test", "203.0.113.10"]}])
def test_where_the_address_is_judged_the_address_is_dialled(given):
    decision = of(given, "elsewhere.test")
    assert isinstance(decision, Onward)
    assert (decision.host, decision.by_name) == ("203.0.113.10", False)


def test_header_rules_are_for_their_name_which_is_dialled():
    decision = of({"rules": RULES}, "a.test", ELSEWHERE)
    assert isinstance(decision, Onward)
    assert decision.transform is not None
    assert (decision.host, decision.by_name) == ("a.test", False)
    other = of({"rules": RULES}, "b.test", ELSEWHERE)
    assert isinstance(other, Onward)
    assert (other.transform, other.host) == (None, "203.0.113.66")


@pytest.mark.parametrize(
    ("given", "name", "host"),
    [
        ({"egress_proxy": PROXY}, "a.test", "a.test"),
        ({"egress_proxy": PROXY}, None, "203.0.113.10"),
        ({"egress_proxy": PROXY, "deny_out": ["192.0.2.0/24"]}, "a.test", "203.0.113.10"),
        ({"egress_proxy": PROXY, **NAMED}, "a.test", "a.test"),
    ],
)
def test_a_socks_server_gets_a_name_unless_the_address_was_what_counted(given, name, host):
    decision = of(given, name)
    assert isinstance(decision, Onward)
    assert decision.proxy is not None
    assert decision.host == host


def test_ech_is_refused_where_that_is_asked_for():
    assert of({**NAMED, "ech": "refuse"}, "a.test", ech=True) == Refused("ech")
    assert isinstance(of(NAMED, "a.test", ech=True), Onward)


@pytest.mark.parametrize(
    ("given", "access", "name", "expected"),
    [
        ({}, True, "8000-x.d.test", "default"),
        ({}, True, "d.test", "default"),
        ({}, True, None, Refused("no name")),
        ({}, True, "ad.test", Refused("never: protocol assignments, and metadata of a cloud")),
        ({}, True, "a.test", Refused("never: protocol assignments, and metadata of a cloud")),
        ({}, False, "x.d.test", Refused("internet_access: false")),
        ({"deny_out": ALL}, True, "x.d.test", Refused("deny_out: 0.0.0.0/0")),
        ({"deny_out": ALL, "allow_out": ["*.d.test"]}, True, "x.d.test", "allow_out: *.d.test"),
        ({"egress_proxy": PROXY}, True, "x.d.test", "default"),
    ],
)
def test_the_installations_own_names(given, access, name, expected):
    decision = of(given, name, VIP, 8080, access=access)
    if isinstance(expected, str):
        assert isinstance(decision, Onward)
        assert (decision.rule, decision.ingress, decision.proxy) == (expected, True, None)
    else:
        assert decision == expected


def test_without_a_domain_there_is_no_own_name():
    assert not is_own("x.test", None)
    decision = decide(parse({}), VIP, 80, "x.test", False, Surroundings())
    assert isinstance(decision, Refused)


@pytest.mark.parametrize(
    ("after", "stands"),
    [
        (NAMED, True),
        ({"allow_out": ["a.test"], "deny_out": ALL}, True),
        ({"allow_out": ["b.test"], "deny_out": ALL}, False),
        ({"allow_out": ["203.0.113.0/24"], "deny_out": ALL}, True),
        ({"allow_out": ["203.0.113.10"], "deny_out": ALL}, False),  # where it claims to be, not where it is
        ({}, True),
        ({"deny_out": ["203.0.113.66"]}, False),
        ({"rules": RULES}, False),
        ({"egress_proxy": PROXY}, False),
    ],
)
def test_a_connection_that_is_on_its_way_is_judged_by_where_it_goes(after, stands):
    was = of(NAMED, "a.test")
    assert isinstance(was, Onward)
    assert still_allowed(parse(after), AROUND, was, HERE, ELSEWHERE, 443, "a.test", False) is stands
