"""The three readers of a policy against each other, over policies and addresses of all shapes: `judge`, the intervals
of the packet filter, and a plain reading of the rules over the texts as they were given."""

from __future__ import annotations

import ipaddress
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll.core.errors import InvalidInput
from atoll.core.packet_policy import compile_policy
from atoll.core.policy import parse
from fuzz.targets import policy as fuzzed
from fuzz.targets.policy_json import check as check_json

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

addresses = st.one_of(
    st.sampled_from(fuzzed.ADDRESSES).map(ipaddress.ip_address),
    st.ip_addresses(v=4),
    st.ip_addresses(v=6),
    st.ip_addresses(v=4).map(lambda inside: ipaddress.IPv6Address(0xFFFF << 32 | int(inside))),
    st.ip_addresses(v=4).map(lambda inside: ipaddress.IPv6Address(0x2002 << 112 | int(inside) << 80)),
)
networks = st.tuples(addresses, st.integers(1, 32)).map(lambda drawn: f"{drawn[0]}/{drawn[1]}")
entries = st.one_of(networks, addresses.map(str), st.sampled_from(["0.0.0.0/0", "::/0", "2000::/3", "2002::/15"]))
names = st.sampled_from([None, "example.com", "a.example.com", "other.example"])


def usable(entry: str) -> bool:
    try:
        parse({"allow_out": [entry], "deny_out": [entry]})
    except InvalidInput:
        return False
    return True


@patient
@given(
    allow=st.lists(entries.filter(usable), max_size=8),
    deny=st.lists(entries.filter(usable), max_size=8),
    allow_names=st.lists(st.sampled_from(["example.com", "*.example.com", "*"]), max_size=2),
    access=st.booleans(),
    proxy=st.sampled_from([None, {"address": "203.0.113.1:1080"}]),
    inspect=st.booleans(),
    asked=st.lists(
        st.tuples(addresses, st.sampled_from(["tcp", "udp", "icmp"]), st.sampled_from([80, 443, 22])), min_size=1
    ),
    name=names,
)
def test_all_three_say_the_same(allow, deny, allow_names, access, proxy, inspect, asked, name):
    given_ = {"allow_out": allow + allow_names, "deny_out": deny, "egress_proxy": proxy, "inspect": inspect}
    access = access and not allow_names
    policy = parse(given_, access)
    kernel = compile_policy(policy)
    edges = [edge for network in policy.allow_networks + policy.deny_networks for edge in (network[0], network[-1])]
    for address, protocol, port in asked + [(edge, "tcp", 443) for edge in edges]:
        fuzzed.keeps_its_promises(policy, address, protocol, port, name)
        fuzzed.the_kernel_agrees(policy, kernel, address, protocol, port, name)
        verdict = fuzzed.judge(policy, address, protocol, port, name)
        assert verdict.allowed == fuzzed.plain_reading(given_, access, address, protocol, port, name)


@patient
@given(st.binary(max_size=300))
def test_a_policy_out_of_any_bytes_keeps_its_promises(data):
    fuzzed.check(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8) | st.sampled_from(fuzzed.ENTRIES),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=8), inside, max_size=4),
    max_leaves=8,
)
fields = st.sampled_from(
    ["allow_out", "deny_out", "rules", "egress_proxy", "dns_servers", "dns", "ech", "inspect", "internet_access"]
)


@patient
@given(st.dictionaries(fields, json_values))
def test_a_policy_out_of_any_json_is_refused_as_invalid_or_keeps_its_promises(given_):
    check_json(json.dumps(given_).encode())
