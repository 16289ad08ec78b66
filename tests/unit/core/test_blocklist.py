from __future__ import annotations

import ipaddress

import pytest

from atoll.core.blocklist import DEFAULT_BLOCKLIST, DEFAULT_LINES, MAX_LINES, BlockList, parse_blocklist
from atoll.core.errors import InvalidInput


def destination(blocked: BlockList, address: str, protocol: str = "tcp", port: int = 443) -> str | None:
    return blocked.destination(ipaddress.ip_address(address), protocol, port)


def test_a_line_is_a_name_a_network_or_a_port():
    blocked = parse_blocklist(
        ["# mine", "", "  Pool.Example.  # with a comment", "*.other.example", "203.0.113.0/24", "198.51.100.9/24",
         "2001:db8::1", "tcp/25", "udp/137"]
    )  # fmt: skip
    assert blocked == BlockList(
        frozenset({"pool.example", "other.example"}),
        tuple(map(ipaddress.ip_network, ("203.0.113.0/24", "198.51.100.0/24", "2001:db8::1"))),
        frozenset({("tcp", 25), ("udp", 137)}),
    )


@pytest.mark.parametrize(
    "line",
    [
        *(
            "a b",
            "http://a.b",
            "1.1.1.1/33",
            "fe80::1%eth0",
            "1.1.1.1/255.0.0.0",
            "tcp/0",
            "tcp/65536",
            "tcp/x",
            "tcp/",
        ),
        *("icmp/1", "tcp/１", "a..b", "*", "*.*", "1.1.1", "64:ff9b::/96", "-", "\x00", "tcp/25-30", "a" * 10_000),
    ],
)
def test_any_other_line_is_refused_by_its_number(line):
    with pytest.raises(InvalidInput, match=r"^line 2 of the block list is no name, network or port: "):
        parse_blocklist(["ok.example", line])


def test_the_number_of_lines_is_bounded():
    with pytest.raises(InvalidInput, match=f"at most {MAX_LINES} lines"):
        parse_blocklist("#" for _ in range(MAX_LINES + 1))


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("pool.example", "pool.example"),
        ("a.b.pool.example", "pool.example"),
        ("xpool.example", None),
        ("example", None),
        ("pool.example.org", None),
    ],
)
def test_a_name_blocks_all_below_it(name, entry):
    assert parse_blocklist(["pool.example"]).name(name) == entry


@pytest.mark.parametrize(
    ("line", "address", "blocked"),
    [
        ("203.0.113.0/24", "203.0.113.5", True),
        ("203.0.113.0/24", "203.0.114.5", False),
        ("203.0.113.0/24", "::ffff:203.0.113.5", True),
        ("203.0.113.0/24", "2002:cb00:7105::1", True),
        ("::ffff:203.0.113.5", "203.0.113.5", True),
        ("2001:db8::/32", "2001:db8::5", True),
        ("2002::/15", "2002:cb00:7105::1", True),
        ("2001:db8::/32", "203.0.113.5", False),
    ],
)
def test_a_network_blocks_its_addresses_however_they_are_written(line, address, blocked):
    assert (destination(parse_blocklist([line]), address) is not None) is blocked


@pytest.mark.parametrize(
    ("protocol", "port", "entry"),
    [("tcp", 25, "tcp/25"), ("udp", 25, None), ("tcp", 445, "tcp/445"), ("udp", 137, "udp/137"), ("tcp", 443, None)],
)
def test_a_port_is_blocked_everywhere(protocol, port, entry):
    assert destination(DEFAULT_BLOCKLIST, "203.0.113.5", protocol, port) == entry
    assert destination(DEFAULT_BLOCKLIST, "2001:db8::5", protocol, port) == entry


def test_the_list_that_is_on_by_default_holds_all_of_its_lines():
    held = len(DEFAULT_BLOCKLIST.names) + len(DEFAULT_BLOCKLIST.networks) + len(DEFAULT_BLOCKLIST.ports)
    assert held == len(DEFAULT_LINES) == len(set(DEFAULT_LINES))


@pytest.mark.parametrize(
    "name",
    ["metadata.google.internal", "metadata.goog", "pool.supportxmr.com", "eth.2miners.com", "xmr.nanopool.org"],
)
def test_it_has_metadata_names_and_mining_pools(name):
    assert DEFAULT_BLOCKLIST.name(name) is not None


def test_the_operators_lines_add_and_take_nothing_away():
    both = DEFAULT_BLOCKLIST | parse_blocklist(["mine.example", "203.0.113.0/24", "tcp/6667", "tcp/25"])
    assert both.name("mine.example") == "mine.example"
    assert destination(both, "203.0.113.5") == "203.0.113.0/24"
    assert both.ports == DEFAULT_BLOCKLIST.ports | {("tcp", 6667)}
    assert both.names > DEFAULT_BLOCKLIST.names
