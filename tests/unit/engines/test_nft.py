from __future__ import annotations

import struct

import pytest

from atoll.engines.native import nft


def test_keys_are_laid_out_as_the_kernel_compares_them():
    assert nft.interface_key("at5") == b"at5" + bytes(13)
    assert nft.address_key("100.96.0.5") == bytes([100, 96, 0, 5])
    assert nft.mark_key(1) == struct.pack("=I", 1)


class Scripted:
    """A netlink socket that remembers what it was sent and answers what it was told."""

    def __init__(self, *answers: bytes) -> None:
        self.sent: list[bytes] = []
        self.answers = list(answers)

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def recv(self, _: int) -> bytes:
        return self.answers.pop(0)


def acknowledged(number: int, code: int = 0) -> bytes:
    return struct.pack("=IHHIIi", 36, nft.NLMSG_ERROR, 0, number, 0, -code) + bytes(16)


def elements(*answers: bytes) -> tuple[nft.Elements, Scripted]:
    made, scripted = nft.Elements.__new__(nft.Elements), Scripted(*answers)
    made._table, made._socket = "egress", scripted
    return made, scripted


CHANGES = [nft.Element("passes", b"k" * 20, b"mark"), nft.Element("flows", b"k" * 24)]


def test_changes_go_as_one_transaction():
    made, scripted = elements(acknowledged(1), acknowledged(2))
    made.add(CHANGES)
    (batch,) = scripted.sent
    kinds = []
    while batch:
        length, kind = struct.unpack_from("=IH", batch)
        kinds.append(kind)
        batch = batch[length:]
    add = nft.NFNL_SUBSYS_NFTABLES << 8 | nft.NFT_MSG_NEWSETELEM
    assert kinds == [nft.NFNL_MSG_BATCH_BEGIN, add, add, nft.NFNL_MSG_BATCH_END]


def test_the_first_refusal_is_raised_and_all_answers_are_read():
    made, scripted = elements(acknowledged(1, 2), acknowledged(2, 17))
    with pytest.raises(FileNotFoundError):
        made.remove(CHANGES)
    assert scripted.answers == []


def test_a_batch_that_cannot_begin_has_one_answer():
    made, _ = elements(acknowledged(0, 1))
    with pytest.raises(PermissionError):
        made.add(CHANGES)
