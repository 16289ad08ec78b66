from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.errors import InvalidInput
from atoll.core.packet_policy import (
    ALL4,
    REFUSE_ALL,
    Divert,
    Fate,
    KernelPolicy,
    compile_policy,
    merged,
    minus,
    networks_as_intervals,
)
from atoll.core.policy import CLOSED, OPEN, Policy, judge, parse

ALL = "0.0.0.0/0"
# Few enough to meet each other, with edges and carriers among them.
NETWORKS = [
    "8.0.0.0/7", "8.8.8.0/24", "8.8.8.8", "8.8.9.0/24", "9.0.0.0/8", "128.0.0.0/1", "223.255.255.255",
    "2000::/3", "2001:db8::/32", "2001:db8::8", "2002:808:808::/48", "64:ff9b::808:800/120", ALL, "::/0",
]  # fmt: skip
ADDRESSES = [
    "8.8.7.255", "8.8.8.0", "8.8.8.8", "8.8.8.255", "8.8.9.0", "8.8.10.0", "9.255.255.255", "11.0.0.1", "150.1.1.1",
    "223.255.255.255", "2001:db8::8", "2001:db8::9", "2002:808:808::1", "2002:808:908::1", "64:ff9b::808:808",
    "64:ff9b::909:909", "2a00::1",
]  # fmt: skip
listed = st.lists(st.sampled_from(NETWORKS), max_size=5)


@given(allow=listed, deny=listed, access=st.booleans(), address=st.sampled_from(ADDRESSES), port=st.just(22))
def test_the_kernel_decides_as_the_policy_says(allow, deny, access, address, port):
    policy = parse({"allow_out": allow, "deny_out": deny}, access)
    wanted = judge(policy, ipaddress.ip_address(address), "tcp", port).allowed
    fate = compile_policy(policy).fate(ipaddress.ip_address(address), "tcp", port)
    assert fate is (Fate.DIRECT if wanted else Fate.DENY)


@given(allow=listed, deny=listed, access=st.booleans())
def test_it_comes_back_from_the_wire_as_it_was(allow, deny, access):
    compiled = compile_policy(parse({"allow_out": allow, "deny_out": deny}, access))
    assert KernelPolicy.from_wire(compiled.to_wire()) == compiled


@pytest.mark.parametrize(
    ("policy", "compiled"),
    [
        (OPEN, KernelPolicy(True)),
        (CLOSED, REFUSE_ALL),
        (parse({"allow_out": [ALL]}, internet_access=False), KernelPolicy(True)),
        (parse({"allow_out": ["8.8.8.8"], "deny_out": ["8.8.8.8"]}), KernelPolicy(True)),
        (Policy(inspect=True), KernelPolicy(True, divert=Divert.WEB)),
    ],
)
def test_a_policy_without_addresses_has_no_intervals(policy, compiled):
    assert compile_policy(policy) == compiled


NAMES = {"allow_out": ["example.com", "8.8.8.8"], "deny_out": [ALL]}
PROXY = {"egress_proxy": {"address": "203.0.113.1:1080"}}
ALLOWED, OTHER, OTHER6 = "8.8.8.8", "9.9.9.9", "2a00::1"


@pytest.mark.parametrize(
    ("given_policy", "address", "protocol", "port", "fate"),
    [
        (NAMES, ALLOWED, "tcp", 443, Fate.DIRECT),
        (NAMES, OTHER, "tcp", 443, Fate.PROXY),
        (NAMES, OTHER, "tcp", 80, Fate.PROXY),
        (NAMES, OTHER, "tcp", 22, Fate.DENY),
        (NAMES, OTHER, "udp", 443, Fate.DENY),
        (NAMES, OTHER6, "tcp", 443, Fate.DENY),
        ({"inspect": True}, OTHER, "tcp", 443, Fate.PROXY),
        ({"inspect": True}, OTHER, "udp", 443, Fate.MODE),
        ({"inspect": True}, OTHER, "tcp", 22, Fate.DIRECT),
        ({"inspect": True}, OTHER6, "tcp", 443, Fate.MODE),
        ({"inspect": True, "deny_out": [OTHER]}, OTHER, "tcp", 443, Fate.DENY),
        ({"inspect": True, **NAMES}, ALLOWED, "tcp", 443, Fate.PROXY),
        ({"inspect": True, **NAMES}, OTHER, "tcp", 443, Fate.PROXY),
        (PROXY, OTHER, "tcp", 22, Fate.PROXY),
        (PROXY, OTHER, "udp", 4000, Fate.MODE),
        (PROXY, OTHER, "icmp", 0, Fate.MODE),
        ({**PROXY, "deny_out": [OTHER]}, OTHER, "tcp", 22, Fate.DENY),
        ({**PROXY, **NAMES}, OTHER, "tcp", 443, Fate.PROXY),
        ({**PROXY, **NAMES}, OTHER, "tcp", 22, Fate.DENY),
        ({**PROXY, **NAMES}, ALLOWED, "tcp", 22, Fate.PROXY),
    ],
)
def test_what_goes_to_the_proxy(given_policy, address, protocol, port, fate):
    compiled = compile_policy(parse(given_policy))
    assert compiled.fate(ipaddress.ip_address(address), protocol, port) is fate


def test_secrets_stay_behind():
    policy = parse({"egress_proxy": {"address": "203.0.113.1:1080", "username": "u", "password": "hidden"}})
    assert "hidden" not in str(compile_policy(policy).to_wire())


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"open": True},
        {**REFUSE_ALL.to_wire(), "divert": "everything"},
        {**REFUSE_ALL.to_wire(), "except4": [[5, 4]]},
        {**REFUSE_ALL.to_wire(), "except4": [[1, 5], [4, 9]]},
        {**REFUSE_ALL.to_wire(), "except4": [[0, 1 << 32]]},
        {**REFUSE_ALL.to_wire(), "except6": [["a", "b"]]},
        {**REFUSE_ALL.to_wire(), "except6": None},
    ],
)
def test_what_is_not_understood_is_refused(broken):
    with pytest.raises(InvalidInput):
        KernelPolicy.from_wire(broken)


def test_only_true_opens():
    assert KernelPolicy.from_wire({**REFUSE_ALL.to_wire(), "open": "yes"}).open is False


def test_a_blocked_network_is_blocked_in_what_carries_it():
    four, six = networks_as_intervals(["8.8.8.8/32", "2001:db8::/32"])
    assert four == ((0x08080808, 0x08080808),)
    carried = int(ipaddress.ip_address("64:ff9b::808:808"))
    assert (carried, carried) in six
    assert len(six) == 5


numbers = st.integers(0, 40)
intervals = st.lists(st.tuples(numbers, numbers).map(lambda ends: (min(ends), max(ends))), max_size=6)


def inside(given_intervals) -> set[int]:
    return {number for first, last in given_intervals for number in range(first, last + 1)}


@given(left=intervals, right=intervals)
def test_intervals_are_sets_of_numbers(left, right):
    assert inside(merged(left)) == inside(left)
    remaining = minus(merged(left), merged(right))
    assert inside(remaining) == inside(left) - inside(right)
    assert merged(remaining) == remaining


def test_all_but_one_address_is_two_intervals():
    assert minus(ALL4, ((5, 5),)) == ((0, 4), (6, (1 << 32) - 1))
