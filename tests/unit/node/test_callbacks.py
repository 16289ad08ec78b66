"""A call-back goes where the sandbox itself could go, and nowhere else."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from atoll.core.blocklist import DEFAULT_BLOCKLIST
from atoll.core.errors import PermissionDenied
from atoll.core.policy import parse
from atoll.core.reach import parse_open_ranges
from atoll.node.callbacks import allowed_by

NAMES_ONLY = {"allow_out": ["hooks.example.com", "*.deep.example", "203.0.113.7"], "deny_out": ["0.0.0.0/0"]}
PROXY = {"egress_proxy": {"address": "proxy.example.com:1080"}}


def kept(given: dict[str, Any], host: str, port: int, *addresses: str, internet_access: bool = True) -> list[str]:
    policy = parse(given, internet_access)
    keep = allowed_by(policy, host, port, parse_open_ranges(""), DEFAULT_BLOCKLIST)
    return [str(address) for address in keep([ipaddress.ip_address(address) for address in addresses])]


@pytest.mark.parametrize(
    ("given", "host", "port", "address"),
    [
        ({}, "hooks.example.com", 443, "203.0.113.1"),
        ({}, "203.0.113.1", 8443, "203.0.113.1"),
        (NAMES_ONLY, "hooks.example.com", 443, "203.0.113.1"),
        (NAMES_ONLY, "Hooks.Example.COM.", 80, "203.0.113.1"),
        (NAMES_ONLY, "a.b.deep.example", 443, "203.0.113.1"),
        (NAMES_ONLY, "203.0.113.7", 9999, "203.0.113.7"),
        (NAMES_ONLY, "hooks.example.com", 8443, "203.0.113.7"),
        ({"deny_out": ["198.51.100.0/24"]}, "hooks.example.com", 443, "203.0.113.1"),
    ],
)
def test_what_the_policy_allows(given: dict[str, Any], host: str, port: int, address: str) -> None:
    assert kept(given, host, port, address) == [address]


@pytest.mark.parametrize(
    ("given", "host", "port", "address"),
    [
        (NAMES_ONLY, "203.0.113.1", 443, "203.0.113.1"),
        (NAMES_ONLY, "hooks.example.com", 8443, "203.0.113.1"),
        ({"deny_out": ["203.0.113.0/24"]}, "hooks.example.com", 443, "203.0.113.1"),
        ({"deny_out": ["203.0.113.0/24"]}, "x.example", 443, "::ffff:203.0.113.1"),
        ({}, "mail.example.com", 25, "203.0.113.1"),
        ({}, "x.example", 443, "10.0.0.1"),
    ],
)
def test_what_it_does_not(given: dict[str, Any], host: str, port: int, address: str) -> None:
    with pytest.raises(PermissionDenied, match="network policy"):
        kept(given, host, port, address)


@pytest.mark.parametrize("host", ["other.example.com", "deep.example", "hooks.example.com.evil.example"])
def test_a_name_that_is_not_allowed_is_not_even_resolved(host: str) -> None:
    policy = parse(NAMES_ONLY)
    with pytest.raises(PermissionDenied, match="network policy"):
        allowed_by(policy, host, 443, (), DEFAULT_BLOCKLIST)


def test_of_several_addresses_the_allowed_ones_are_left() -> None:
    given = {"deny_out": ["203.0.113.0/24"]}
    assert kept(given, "x.example", 443, "203.0.113.1", "198.51.100.1", "203.0.113.2") == ["198.51.100.1"]


@pytest.mark.parametrize(("given", "access"), [({}, False), ({"deny_out": ["0.0.0.0/0"]}, True)])
def test_where_nothing_is_allowed_it_says_so(given: dict[str, Any], access: bool) -> None:
    with pytest.raises(PermissionDenied, match="without internet access"):
        kept(given, "hooks.example.com", 443, "203.0.113.1", internet_access=access)


def test_what_goes_through_the_sandboxs_own_proxy_does_not_go_around_it() -> None:
    with pytest.raises(PermissionDenied, match="proxy"):
        kept(PROXY, "hooks.example.com", 443, "203.0.113.1")
