from __future__ import annotations

import struct

import pytest

from atoll.engines.native import nft
from atoll.wire.netlink import NLMSG_ERROR, attributes, messages


def test_keys_are_laid_out_as_the_kernel_compares_them():
    assert nft.interface_key("at5") == b"at5" + bytes(13)
    assert nft.address_key("100.96.0.5") == bytes([100, 96, 0, 5])
    assert nft.address_key("fd00::1") == bytes([0xFD, *bytes(14), 1])
    assert nft.mark_key(1) == struct.pack("=I", 1)
    assert nft.port_key("udp", 137) == bytes([17, 0, 0, 0, 0, 137, 0, 0])


class Scripted:
    """A netlink socket that remembers what it was sent and answers what it was told."""

    def __init__(self, *answers: bytes) -> None:
        self.sent: list[bytes] = []
        self.answers = list(answers)

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def recv(self, _: int) -> bytes:
        return self.answers.pop(0)


def answer(number: int, code: int = 0) -> bytes:
    return struct.pack("=IHHIIi", 36, NLMSG_ERROR, 0, number, 0, -code) + bytes(16)


def table(*answers: bytes) -> tuple[nft.Table, Scripted]:
    made, scripted = nft.Table.__new__(nft.Table), Scripted(*answers)
    made._name, made._socket = b"", scripted
    return made, scripted


CHANGES = [
    *nft.add_elements("passes", [nft.Element(b"k" * 20, b"mark")]),
    *nft.add_elements("flows", [nft.Element(b"k" * 24)]),
]


def test_changes_go_as_one_transaction():
    made, scripted = table(answer(2))
    made.commit(CHANGES)
    (batch,) = scripted.sent
    add = nft.SUBSYSTEM << 8 | nft.NEW_ELEMENTS
    assert [kind for kind, _, _ in messages(batch)] == [nft.BATCH_BEGIN, add, add, nft.BATCH_END]


def test_nothing_to_change_is_no_transaction():
    made, scripted = table()
    made.commit([])
    assert scripted.sent == []


def test_the_first_refusal_is_raised_and_all_answers_are_read():
    made, scripted = table(answer(1, 2), answer(2, 17))
    with pytest.raises(FileNotFoundError):
        made.commit(CHANGES)
    assert scripted.answers == []


def test_a_batch_that_cannot_begin_has_one_answer():
    made, _ = table(answer(0, 1))
    with pytest.raises(PermissionError):
        made.commit(CHANGES)


@pytest.mark.parametrize(("count", "parts"), [(0, 0), (1, 1), (5000, 4)])
def test_a_list_that_is_too_long_for_one_message_goes_in_several(count, parts):
    changes = nft.add_intervals("except4", 4, ((3 * n, 3 * n + 1) for n in range(count)))
    assert len(changes) == parts
    assert all(len(each.body) < 65536 for each in changes)


def test_an_interval_to_the_very_end_is_never_over():
    (ends,) = nft.add_intervals("except4", 4, [(0, 0xFFFFFFFF)])
    (until,) = nft.add_intervals("except4", 4, [(0, 0xFFFFFFFE)])
    assert len(ends.body) < len(until.body)


def test_a_large_number_of_seconds_is_milliseconds_in_the_kernel():
    element = nft.Element(b"mark", timeout_s=60).bytes()
    (item,) = attributes(element).values()
    assert attributes(item)[nft.ELEMENT_TIMEOUT] == struct.pack("!Q", 60_000)
