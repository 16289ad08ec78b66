"""Recorded events of connection tracking (Linux 6.18): whole, cut anywhere, and as numbers."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.wire import ctnetlink, netlink
from atoll.wire.ctnetlink import Change, Count, Tracked, payload, read

TCP_NEW = bytes.fromhex(
    "d0000000000100060000000000000000020000003400018014000180080001006460000208000200cb00710a1c000280"
    "050001000600000006000200ad780000060003001b590000340002801400018008000100cb00710a0800020064400001"
    "1c0002800500010006000000060002001b59000006000300ad78000008000c0027ec1be3080003000000019808000700"
    "00000078300004802c0001800500010001000000050002000a0000000500030000000000060004000300000006000500"
    "000000000c001b0018e9fdfaf6b63a01"
)
TCP_TIME_WAIT = bytes.fromhex(
    "d0000000000100000000000000000000020000003400018014000180080001006460000208000200cb00710a1c000280"
    "050001000600000006000200ad780000060003001b590000340002801400018008000100cb00710a0800020064400001"
    "1c0002800500010006000000060002001b59000006000300ad78000008000c0027ec1be3080003000000019e08000700"
    "00000078300004802c0001800500010007000000050002000a000000050003000a000000060004002700000006000500"
    "230000000c001b0018e9fdfaf6bbea24"
)
TCP_ESTABLISHED = bytes.fromhex(
    "d0000000000100000000000000000000020000003400018014000180080001006460000208000200cb00710a1c000280"
    "050001000600000006000200ad780000060003001b590000340002801400018008000100cb00710a0800020064400001"
    "1c0002800500010006000000060002001b59000006000300ad78000008000c0027ec1be3080003000000019e08000700"
    "00069780300004802c0001800500010003000000050002000a000000050003000a000000060004002300000006000500"
    "230000000c001b0018e9fdfaf6b70f41"
)
TCP_DESTROY = bytes.fromhex(
    "04010000020100000000000039cbe1d1020000003400018014000180080001006460000208000200cb00710a1c000280"
    "050001000600000006000200ad780000060003001b590000340002801400018008000100cb00710a0800020064400001"
    "1c0002800500010006000000060002001b59000006000300ad78000008000c0027ec1be3080003000000039e08000700"
    "000000761c0009800c00010000000000000000060c00020000000000000001431c000a800c0001000000000000000004"
    "0c00020000000000000000dd1c0014800c00010018e9fdfaf6b668070c00020018e9fdfb505850a5100004800c000180"
    "05000100070000000c001b0018e9fdfb505850eb"
)
TCP6_REFUSED = bytes.fromhex(
    "340100000201000000000000000000000a0000004c0001802c0001801400030020010db8000100000000000000000002"
    "1400040020010db80002000000000000000000021c000280050001000600000006000200dd580000060003001b8f0000"
    "4c0002802c0001801400030020010db80002000000000000000000021400040020010db8000200000000000000000001"
    "1c0002800500010006000000060002001b8f000006000300dd58000008000c00d80de521080003000000039808000700"
    "000000781c0009800c00010000000000000000010c00020000000000000000501c000a800c0001000000000000000001"
    "0c000200000000000000003c1c0014800c00010018e9fdfaf6cdf2bb0c00020018e9fdfaf6ce77e8100004800c000180"
    "05000100080000000c001b0018e9fdfaf6ce7838"
)
UDP6_DESTROY = bytes.fromhex(
    "24010000020100000000000039cbe1d10a0000004c0001802c0001801400030020010db8000100000000000000000002"
    "1400040020010db80002000000000000000000021c000280050001001100000006000200b05e0000060003001b5a0000"
    "4c0002802c0001801400030020010db80002000000000000000000021400040020010db8000200000000000000000001"
    "1c0002800500010011000000060002001b5a000006000300b05e000008000c00bdf8542a080003000000039808000700"
    "0000001c1c0009800c00010000000000000000010c000200000000000000003a1c000a800c0001000000000000000000"
    "0c00020000000000000000001c0014800c00010018e9fdfaf6e0f9580c00020018e9fdfb5057c52a0c001b0018e9fdfb"
    "5057c571"
)
PING_DESTROY = bytes.fromhex(
    "04010000020100000000000039cbe1d1020000003c00018014000180080001006460000208000200cb00710a24000280"
    "050001000100000006000400aa8c0000050005000800000005000600000000003c0002801400018008000100cb00710a"
    "080002006440000124000280050001000100000006000400aa8c00000500050000000000050006000000000008000c00"
    "7edf26c7080003000000039a080007000000001c1c0009800c00010000000000000000010c0002000000000000000020"
    "1c000a800c00010000000000000000010c00020000000000000000201c0014800c00010018e9fdfaf6d7919c0c000200"
    "18e9fdfb50572dc00c001b0018e9fdfb50572ef6"
)
ALL = (TCP_NEW, TCP_TIME_WAIT, TCP_DESTROY, TCP6_REFUSED, UDP6_DESTROY, PING_DESTROY)


def one(datagram: bytes) -> Tracked:
    (tracked,) = read(datagram)
    return tracked


def ends(tracked: Tracked) -> tuple[str, str, int]:
    source, destination = ipaddress.ip_address(tracked.source), ipaddress.ip_address(tracked.destination)
    return str(source), str(destination), tracked.port


def test_a_connection_that_began():
    tracked = one(TCP_NEW)
    assert (tracked.change, tracked.protocol) == (Change.NEW, "tcp")
    assert ends(tracked) == ("100.96.0.2", "203.0.113.10", 7001)
    assert tracked.answerer == tracked.destination


def test_a_connection_that_is_forgotten_has_its_counts_and_times():
    tracked = one(TCP_DESTROY)
    assert (tracked.change, tracked.tcp_state, tracked.answered) == (Change.DESTROY, ctnetlink.TIME_WAIT, True)
    assert (tracked.out, tracked.back) == (Count(6, 323), Count(4, 221))
    assert payload(tracked) == (3, 5)
    assert 1.5e9 < tracked.stopped_ns - tracked.started_ns < 1.6e9
    assert tracked.id == one(TCP_NEW).id


def test_an_update_says_that_a_connection_is_closed_or_nothing():
    assert read(TCP_ESTABLISHED) == []
    tracked = one(TCP_TIME_WAIT)
    assert (tracked.change, tracked.tcp_state) == (Change.UPDATE, ctnetlink.TIME_WAIT)


def test_a_reset_is_no_answer():
    tracked = one(TCP6_REFUSED)
    assert ends(tracked) == ("2001:db8:1::2", "2001:db8:2::2", 7055)
    assert not tracked.answered
    assert payload(tracked) == (0, 0)


def test_udp_that_nobody_answered():
    tracked = one(UDP6_DESTROY)
    assert (tracked.protocol, ends(tracked)[2], tracked.answered) == ("udp", 7002, False)
    assert payload(tracked) == (10, 0)


def test_a_ping_has_no_port():
    tracked = one(PING_DESTROY)
    assert (tracked.protocol, tracked.port, payload(tracked)) == ("icmp", 0, (4, 4))


@pytest.mark.parametrize("datagram", [TCP_NEW, TCP_ESTABLISHED, TCP_DESTROY])
def test_what_is_not_over_is_not_deleted(datagram):
    assert ctnetlink.closed_tuple(datagram) is None


def test_the_deletion_of_a_closed_connection_names_exactly_that_one():
    closed = ctnetlink.closed_tuple(TCP_TIME_WAIT)
    assert closed is not None
    ((kind, flags, body),) = netlink.messages(ctnetlink.deletion(closed))
    assert (kind, flags) == (0x102, netlink.NLM_F_REQUEST)
    named, event = netlink.attributes(body, 4), netlink.attributes(TCP_TIME_WAIT, 20)
    assert {key: named[key] for key in named} == {key: event[key] for key in (ctnetlink.TUPLE_ORIG, ctnetlink.ID)}


def test_without_timestamps_there_are_no_headers_of_them():
    """A SYN of 52 bytes, four acknowledgements of 40, one byte; the answers alike."""
    plain = Tracked(Change.DESTROY, b"", "tcp", bytes(4), bytes(4), 80, bytes(4), ctnetlink.ASSURED, None,
                    Count(6, 52 + 4 * 40 + 41), Count(4, 52 + 3 * 40), 0, 0)  # fmt: skip
    assert payload(plain) == (1, 0)


@pytest.mark.parametrize("datagram", ALL)
def test_a_datagram_that_is_cut_says_less_and_nothing_wrong(datagram):
    whole = one(datagram)
    for length in range(len(datagram)):
        for tracked in read(datagram[:length]):
            assert tracked == whole
        ctnetlink.closed_tuple(datagram[:length])


@pytest.mark.parametrize("datagram", ALL)
@given(position=st.integers(0, 400), byte=st.integers(0, 255))
def test_no_byte_makes_it_fail(datagram, position, byte):
    changed = bytearray(datagram)
    changed[position % len(datagram)] = byte
    for tracked in read(bytes(changed)):
        payload(tracked)
    ctnetlink.closed_tuple(bytes(changed))


@given(st.binary(max_size=200))
def test_any_bytes_are_read(datagram):
    read(datagram)
    ctnetlink.closed_tuple(datagram)


def test_other_messages_are_nothing():
    assert read(netlink.netfilter_message(0x0A00, 0, 2, 0, b"")) == []


def test_several_in_one_datagram():
    assert [tracked.change for tracked in read(TCP_NEW + TCP_DESTROY)] == [Change.NEW, Change.DESTROY]
