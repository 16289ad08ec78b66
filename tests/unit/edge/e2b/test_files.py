"""The pure half of `/files`; the rest is in tests/root/test_envd_files.py."""

from __future__ import annotations

import asyncio
import gzip
import os

import pytest

from atoll.edge.e2b.files import MAX_METADATA, Unpacked, disposition, metadata_of
from atoll.wire.connect import ConnectError


class Pieces:
    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    async def read_into(self, room: memoryview) -> int:
        piece = self._pieces.pop(0) if self._pieces else b""
        room[: len(piece)] = piece
        return len(piece)


async def unpacked(*pieces: bytes, room: int = 1000) -> bytes:
    source, taken = Unpacked(Pieces(*pieces)), bytearray()
    place = memoryview(bytearray(room))
    while count := await source.read_into(place):
        taken += place[:count]
    return bytes(taken)


async def test_a_packed_body_is_the_same_however_it_comes():
    content = os.urandom(5000) + b"a" * 5000
    packed = gzip.compress(content)
    assert await unpacked(packed) == content
    assert await unpacked(*(packed[at : at + 1] for at in range(len(packed)))) == content
    assert await unpacked(packed, room=1) == content


async def test_a_small_body_that_becomes_large_is_taken_in_pieces():
    packed = gzip.compress(bytes(50 * 1024 * 1024))
    source, place, total = Unpacked(Pieces(packed)), memoryview(bytearray(64 * 1024)), 0
    while count := await source.read_into(place):
        assert count <= len(place)
        total += count
    assert total == 50 * 1024 * 1024


async def test_while_it_becomes_large_others_have_their_turn():
    packed, turns, place = gzip.compress(bytes(4 * 1024 * 1024)), 0, memoryview(bytearray(64 * 1024))

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task, source, pieces = asyncio.create_task(other()), Unpacked(Pieces(packed)), 0
    while await source.read_into(place):
        pieces += 1
    task.cancel()
    assert turns >= pieces >= 64


@pytest.mark.parametrize("body", [b"", b"no gzip", gzip.compress(b"x" * 100)[:-5]])
async def test_a_broken_packed_body_is_refused(body):
    with pytest.raises(ConnectError):
        await unpacked(body)


async def test_what_follows_the_packed_body_is_dropped():
    assert await unpacked(gzip.compress(b"x") + b"trailing", b"more") == b"x"


def test_metadata_comes_from_its_headers():
    headers = {"X-Metadata-Author": "ann", "x-metadata-a.b": "", "Content-Type": "text/plain"}
    assert metadata_of(headers) == {"author": "ann", "a.b": ""}


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Metadata-": "v"},
        {"X-Metadata-" + "k" * 247: "v"},
        {"X-Metadata-k": "ü"},
        {"X-Metadata-k": "v" * MAX_METADATA},
        {"X-Metadata-k": "a\tb"},
    ],
)
def test_other_metadata_is_refused(headers):
    with pytest.raises(ConnectError):
        metadata_of(headers)


@pytest.mark.parametrize("name", ['a"\r\nSet-Cookie: x', "ü", "", "..", "a;b=c"])
def test_a_name_from_a_sandbox_makes_no_header(name):
    shown = disposition(name)
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.count('"') == 2
