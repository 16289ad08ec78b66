from __future__ import annotations

import ipaddress
import socket
import struct

import pytest

from atoll.core.packet_policy import REFUSE_ALL, Divert, KernelPolicy
from atoll.engines.native import conntrack
from atoll.engines.native.network import doomed
from atoll.wire.netlink import NFGENMSG, NLA_F_NESTED, attribute, attributes

ADDRESS = int(ipaddress.ip_address("203.0.113.10"))
ALL_BUT_ONE = KernelPolicy(True, ((ADDRESS, ADDRESS),))


def half(kind: int, source: str, destination: str, number: int, ports: tuple[int, int] | None) -> bytes:
    v4 = ":" not in source
    family = socket.AF_INET if v4 else socket.AF_INET6
    kinds = (1, 2) if v4 else (3, 4)
    ends = [attribute(k, socket.inet_pton(family, a)) for k, a in zip(kinds, (source, destination), strict=True)]
    protocol = attribute(1, bytes([number]))
    if ports:
        protocol += b"".join(attribute(k, struct.pack("!H", port)) for k, port in zip((2, 3), ports, strict=True))
    else:
        protocol += attribute(4, b"\0\1") + attribute(5, b"\x08") + attribute(6, b"\0")
    parts = attribute(1 | NLA_F_NESTED, b"".join(ends)) + attribute(2 | NLA_F_NESTED, protocol)
    return attribute(kind | NLA_F_NESTED, parts)


def body(
    source: str, destination: str, number: int = 6, ports: tuple[int, int] | None = (4000, 80), by: str = ""
) -> bytes:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    back = half(2, by or destination, source, number, ports[::-1] if ports else None)
    return bytes([family, 0, 0, 0]) + half(1, source, destination, number, ports) + back + attribute(12, bytes(4))


USUAL = body("100.96.0.5", "203.0.113.10")
OTHERS = [
    body("100.96.0.5", "203.0.113.10", 1, None),
    body("fd00::5", "2001:db8::1"),
    body("fd00::5", "2001:db8::1", 58, None),
]


def test_what_is_read_at_once_is_what_is_taken_apart():
    assert conntrack._usual(USUAL) == conntrack._any(USUAL)
    found = conntrack._any(USUAL)
    assert (found.protocol, str(found.address), found.source_port, found.port) == ("tcp", "203.0.113.10", 4000, 80)
    assert not found.translated


@pytest.mark.parametrize("unusual", OTHERS)
def test_all_else_is_taken_apart(unusual):
    assert conntrack._usual(unusual) is None
    assert conntrack._connection(unusual).protocol in ("icmp", "tcp")


@pytest.mark.parametrize("size", range(len(USUAL)))
def test_what_is_cut_short_is_never_read_as_usual(size):
    reply_ends = len(USUAL) - 8
    assert (conntrack._usual(USUAL[:size]) is None) is (size < reply_ends)


def test_a_deletion_names_both_ends():
    named = conntrack._connection(USUAL).named
    assert named[0] == socket.AF_INET
    assert attributes(named[1:])[conntrack.TUPLE_ORIGINAL] == attributes(USUAL, NFGENMSG)[conntrack.TUPLE_ORIGINAL]


def connections(*bodies: bytes) -> list[conntrack.Connection]:
    return [conntrack._connection(each) for each in bodies]


def test_what_a_policy_forbids_is_doomed_and_nothing_else():
    kept, cut = body("100.96.0.5", "203.0.113.11"), body("100.96.0.5", "203.0.113.10", 17)
    assert [each.protocol for each in doomed(ALL_BUT_ONE, connections(kept, cut))] == ["udp"]
    assert len(doomed(REFUSE_ALL, connections(USUAL, *OTHERS))) == 4


def test_what_the_proxy_was_handed_is_left_to_it():
    assert doomed(REFUSE_ALL, connections(body("100.96.0.5", "203.0.113.10", by="192.0.0.8"))) == []


def test_what_has_to_go_through_the_proxy_from_now_on_is_doomed():
    inspecting = KernelPolicy(True, divert=Divert.WEB)
    other_port = body("100.96.0.5", "203.0.113.10", ports=(4000, 22))
    assert [each.port for each in doomed(inspecting, connections(USUAL, other_port))] == [80]
