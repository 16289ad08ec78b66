from __future__ import annotations

import ipaddress

import pytest

from atoll.core.errors import Unsupported
from atoll.core.reach import is_never_reachable
from atoll.core.uplink import NO_UPLINK, Uplink, Way
from atoll.engines.native import uplink

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def row(interface: str, destination: str, metric: int, mask: str) -> str:
    return f"{interface}\t{destination}\t010200C0\t0003\t0\t0\t{metric}\t{mask}\t0\t0\t0\n"


def test_the_default_route_with_the_lowest_metric_is_taken():
    table = HEAD + row("wlan0", "00000000", 600, "00000000") + row("eth0", "00000000", 100, "00000000")
    assert uplink.parse_default_interface(table) == "eth0"


@pytest.mark.parametrize("table", ["", HEAD, HEAD + row("eth0", "000200C0", 0, "00FFFFFF"), HEAD + "broken\n"])
def test_without_a_default_route_there_is_none(table):
    assert uplink.parse_default_interface(table) is None


def test_an_interface_that_is_missing_is_refused():
    with pytest.raises(Unsupported, match="nosuch0"):
        uplink.choose(Uplink(Way.INTERFACE, "nosuch0"))


def test_a_namespace_that_is_missing_is_refused():
    with pytest.raises(Unsupported, match="no network namespace 'no-such-place'"):
        uplink.choose(Uplink(Way.NETNS, "no-such-place"))


def test_none_stays_none():
    assert uplink.choose(NO_UPLINK) == NO_UPLINK


@pytest.mark.parametrize("pair", [0, 1, uplink.PAIRS - 1])
def test_a_links_two_ends_are_one_31_outside_the_sandboxes_range_and_never_reachable(pair):
    outer, inner = uplink.addresses(pair)
    assert ipaddress.ip_address(inner) in ipaddress.ip_network(f"{outer}/31")
    assert ipaddress.ip_address(outer) not in ipaddress.ip_network("100.96.0.0/11")
    assert is_never_reachable(outer)
    assert is_never_reachable(inner)
