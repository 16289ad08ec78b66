"""What the seed of a newborn may say: it runs a template's files."""

from __future__ import annotations

import asyncio
import json
import os
import socket

import pytest

from atoll.core.errors import InternalError
from atoll.engines.native.newborn import expect_ready


def hear(said: bytes, fds: int = 0) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        before = len(os.listdir("/proc/self/fd"))
        socket.send_fds(theirs, [said], [0] * fds)
        try:
            asyncio.run(expect_ready(ours, "join"))
        finally:
            assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("fds", [0, 1, 16, 200])
def test_what_is_sent_along_is_closed(fds):
    hear(json.dumps({"ready": True}).encode(), fds)


LIES = [b"{}", b"[]", b"1", b"null", b'"ready"', b"{", b"\xff", b"[" * 100_000, b'{"error": "no"}']


@pytest.mark.parametrize("said", LIES, ids=lambda said: repr(said[:12]))
def test_anything_else_is_a_failed_birth_and_leaves_nothing_open(said):
    with pytest.raises(InternalError, match=r"^join failed: "):
        hear(said, 16)


def test_its_words_are_cut():
    with pytest.raises(InternalError) as caught:
        hear(json.dumps({"error": "x" * 100_000}).encode())
    assert len(str(caught.value)) < 1000


def test_its_end_is_one():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with ours, pytest.raises(InternalError, match="the newborn ended"):
        asyncio.run(expect_ready(ours, "join"))
