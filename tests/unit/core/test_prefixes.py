from __future__ import annotations

import ipaddress
import time

from hypothesis import given
from hypothesis import strategies as st

from atoll.core.blocklist import MAX_LINES, parse_blocklist
from atoll.core.policy import MAX_ENTRIES, judge, parse
from atoll.core.prefixes import Prefixes
from atoll.core.reach import Address, Network

ANY = ipaddress.ip_network("0.0.0.0/0")

near4 = st.integers(0xCB007100, 0xCB0071FF).map(ipaddress.IPv4Address)
near6 = st.integers(0, 255).map(lambda last: ipaddress.IPv6Address((0x2001_0DB8 << 96) + last))
addresses = st.one_of(near4, near6, st.ip_addresses())
networks = st.one_of(
    st.tuples(addresses, st.integers(0, 128)).map(
        lambda drawn: ipaddress.ip_network((drawn[0], min(drawn[1], drawn[0].max_prefixlen)), strict=False)
    ),
    st.just(ANY),
)


def one_by_one(all_of_them: list[Network], asked: list[Address], everything: Network | None) -> Network | None:
    return next((each for each in all_of_them if each == everything or any(address in each for address in asked)), None)


@given(
    given_=st.lists(networks, max_size=12),
    asked=st.lists(addresses, min_size=1, max_size=2),
    everything=st.sampled_from([None, ANY]),
)
def test_it_finds_the_one_that_looking_at_each_in_turn_finds(given_, asked, everything):
    edges = [edge for network in given_ for edge in (network[0], network[-1])]
    for each in [asked, *([edge] for edge in edges)]:
        assert Prefixes(given_, everything).first(*each) == one_by_one(given_, each, everything)


def test_many_networks_cost_a_connection_no_more_than_few():
    """Looking at each takes a minute here, instead of a tenth of a second."""
    blocked = parse_blocklist(
        f"198.{number // 65536}.{number // 256 % 256}.{number % 256}" for number in range(MAX_LINES)
    )
    named = [f"h{number}.example.com" for number in range(MAX_ENTRIES)]
    policy = parse({"allow_out": named, "deny_out": ["0.0.0.0/0"]})
    address = ipaddress.ip_address("203.0.113.9")
    before = time.process_time()
    for _ in range(1000):
        assert judge(policy, address, "tcp", 443, named[-1], (), blocked).allowed
    assert time.process_time() - before < 5.0
