"""Recorded packets that the filter logged (Linux 6.18)."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.wire import netlink, nflog
from atoll.wire.nflog import Logged, read

TWO_REFUSED = bytes.fromhex(
    "c40000000004000000000000000000000200000708000100080002000e000a00626c6f636b6c69737400000008000400"
    "000000020800050000000003100008000006000022bf056d2480000006000f000001000006001100000e000012001000"
    "0e0b31c31bc122bf056d24800800000014000300000000006b01447c00000000000c520a400009004500003ce6454000"
    "3f06b50964600002cb00710ace0c0019bf28420900000000a002faf0a09b0000020405b40402080aa87c9d1c00000000"
    "0103030ac80000000004000000000000000000000a0000070800010086dd02000e000a00626c6f636b6c697374000000"
    "08000400000000020800050000000003100008000006000022bf056d2480000006000f000001000006001100000e0000"
    "120010000e0b31c31bc122bf056d248086dd000014000300000000006b01447c00000000000c538944000900600eac65"
    "0028063f20010db800010000000000000000000220010db8000200000000000000000002b7a60019e058d95400000000"
    "a002fd205ba70000020405a01400000003000000000000000000000000000007"
)


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def message(packet: bytes, prefix: bytes = b"deny\0") -> bytes:
    body = netlink.attribute(nflog.PREFIX, prefix) + netlink.attribute(nflog.PAYLOAD, packet)
    return netlink.netfilter_message(nflog.SUBSYSTEM << 8, 0, 2, 7, body)


def v4(protocol: int, rest: bytes, options: bytes = b"") -> bytes:
    head = bytes([0x40 | 5 + len(options) // 4, *bytes(8), protocol, 0, 0])
    return head + packed("100.96.0.2") + packed("203.0.113.10") + options + rest


def test_refused_packets_of_both_families_in_one_datagram():
    assert read(TWO_REFUSED) == [
        Logged("blocklist", packed("100.96.0.2"), packed("203.0.113.10"), "tcp", 25),
        Logged("blocklist", packed("2001:db8:1::2"), packed("2001:db8:2::2"), "tcp", 25),
    ]


@pytest.mark.parametrize(
    ("number", "rest", "protocol", "port"),
    [
        (6, struct.pack("!HH", 4000, 443), "tcp", 443),
        (17, struct.pack("!HH", 4000, 53), "udp", 53),
        (1, bytes([8, 0, 1, 187]), "icmp", 0),
        (47, bytes(8), "47", 0),
        (6, b"\0\1\2", "tcp", 0),
    ],
)
def test_protocols_and_ports(number, rest, protocol, port):
    (logged,) = read(message(v4(number, rest)))
    assert (logged.protocol, logged.port) == (protocol, port)


def test_the_port_is_found_behind_options():
    (logged,) = read(message(v4(6, struct.pack("!HH", 1, 22), options=bytes(8))))
    assert logged.port == 22


@pytest.mark.parametrize("packet", [b"", b"\x45", b"\x60" + bytes(38), b"\x10" + bytes(60)])
def test_what_is_no_packet_is_nothing(packet):
    assert read(message(packet)) == []


def test_a_datagram_that_is_cut_says_less():
    whole = read(TWO_REFUSED)
    for length in range(len(TWO_REFUSED)):
        found = read(TWO_REFUSED[:length])
        assert found == whole[: len(found)]


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_any_bytes_are_read(packet, prefix):
    read(message(packet, prefix))
    read(packet)


def test_a_group_is_bound_by_requests_with_answers():
    requests = [next(netlink.messages(request)) for request in nflog.bind(7)]
    assert [kind for kind, _, _ in requests] == [0x0401] * 2
    assert all(flags & netlink.NLM_F_ACK and body[2:4] == b"\0\7" for _, flags, body in requests)
