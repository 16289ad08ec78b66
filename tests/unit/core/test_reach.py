from __future__ import annotations

import ipaddress

import pytest

from atoll.core.errors import InvalidInput
from atoll.core.reach import (
    EMBEDDINGS,
    METADATA,
    NEVER_REACHABLE,
    is_never_reachable,
    networks_v4,
    networks_v6,
    parse_open_ranges,
    plain,
)

V4 = [each for each in NEVER_REACHABLE if each.network.version == 4]
V6 = [each for each in NEVER_REACHABLE if each.network.version == 6]


@pytest.mark.parametrize("each", NEVER_REACHABLE, ids=lambda each: str(each.network))
def test_both_ends_of_each_range_are_never_reachable(each):
    assert is_never_reachable(each.network.network_address)
    assert is_never_reachable(each.network.broadcast_address)


@pytest.mark.parametrize("each", V4, ids=lambda each: str(each.network))
def test_the_neighbours_of_each_range_are_reachable_unless_another_range_has_them(each):
    others = [other.network for other in V4]
    for number in (int(each.network.network_address) - 1, int(each.network.broadcast_address) + 1):
        if 0 <= number < 2**32:
            address = ipaddress.IPv4Address(number)
            assert is_never_reachable(address) == any(address in network for network in others)


@pytest.mark.parametrize("each", V4, ids=lambda each: str(each.network))
@pytest.mark.parametrize("embedding", EMBEDDINGS, ids=lambda each: str(each.prefix))
def test_an_ipv6_address_that_carries_a_never_reachable_one_is_never_reachable(embedding, each):
    around = embedding.around(each.network)
    assert is_never_reachable(around.network_address)
    assert is_never_reachable(around.broadcast_address)


@pytest.mark.parametrize("embedding", EMBEDDINGS, ids=lambda each: str(each.prefix))
def test_one_that_carries_a_public_address_is_judged_by_it(embedding):
    carrier = embedding.around(ipaddress.IPv4Network("8.8.8.8/32")).network_address
    assert plain(carrier) == ipaddress.IPv4Address("8.8.8.8")
    assert not is_never_reachable(carrier)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "203.0.113.10",
        "198.51.100.1",
        "192.0.2.1",
        "172.15.255.255",
        "172.32.0.0",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "2606:4700:4700::1111",
        "2001:db8::1",
        "::ffff:8.8.8.8",
    ],
)
def test_public_and_documentation_addresses_are_reachable(address):
    assert not is_never_reachable(address)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::169.254.169.254",
        "::ffff:0:169.254.169.254",
        "fd00:ec2::254",
        "fe80::1%eth0",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "ff02::1",
        "100.96.0.1",
        "168.63.129.16",
    ],
)
def test_ways_of_writing_an_address_do_not_matter(address):
    assert is_never_reachable(address)


def test_the_kernels_sets_are_the_table():
    assert networks_v4() == sorted(each.network for each in V4)
    assert set(networks_v6()) >= {each.network for each in V6}
    assert ipaddress.ip_network("::ffff:10.0.0.0/104") in networks_v6()


def test_an_opened_range_is_a_hole_in_every_form():
    opened = parse_open_ranges("10.1.0.0/16, fd12::/32")
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd12::1"):
        assert not is_never_reachable(address, opened)
    for address in ("10.0.255.255", "10.2.0.0", "fd13::1", "::ffff:10.2.0.0"):
        assert is_never_reachable(address, opened)
    assert not any(ipaddress.ip_address("10.1.2.3") in network for network in networks_v4(opened))
    assert any(ipaddress.ip_address("10.2.0.0") in network for network in networks_v4(opened))
    assert not any(ipaddress.ip_address("fd12::1") in network for network in networks_v6(opened))
    assert any(ipaddress.ip_address("fd13::1") in network for network in networks_v6(opened))


def test_a_whole_range_can_be_opened():
    assert ipaddress.ip_network("192.168.0.0/16") not in networks_v4(parse_open_ranges("192.168.0.0/16"))


@pytest.mark.parametrize(
    "text",
    [
        "169.254.0.0/16",
        "127.0.0.0/8",
        "0.0.0.0/0",
        "8.8.8.0/24",
        "224.0.0.0/4",
        "::1/128",
        "::/0",
        "10.0.0.0/7",
        "fc00::/7",
        "fd00:ec2::/32",
        "10.1.2.3/8",
        "intranet",
        "::ffff:10.0.0.0/104",
    ],
)
def test_what_may_not_be_opened_is_refused_saying_so(text):
    with pytest.raises(InvalidInput) as refused:
        parse_open_ranges(text)
    assert text in refused.value.message


def test_nothing_is_opened_by_default():
    assert parse_open_ranges("") == parse_open_ranges(" , ") == ()


def test_metadata_services_are_in_the_table():
    assert all(is_never_reachable(address) for address in METADATA)
