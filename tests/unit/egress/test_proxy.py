"""How the proxy reads; what it does with connections is in tests/root."""

from __future__ import annotations

import asyncio

import pytest

from atoll.egress import proxy
from atoll.wire.client_hello import MAX_RECORDS, ClientHelloSniffer, Tls
from hellos import extension, message, records, server_name


@pytest.mark.parametrize("after", [b"", b"\x17\x03\x03 what follows" * 400], ids=["alone", "with more behind it"])
async def test_a_hello_in_many_records_is_read_in_turns_and_whole(after):
    others = 0

    async def go_on():
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    going_on = asyncio.create_task(go_on())
    hello = records(message(server_name(b"a.example"), extension(21, bytes(1500))), *[1] * (MAX_RECORDS - 1)) + after
    sniffer = ClientHelloSniffer()
    assert await proxy._sniffed(sniffer, hello) == Tls("a.example")
    assert sniffer.take_rest() == hello
    assert others >= (len(hello) - len(after)) // proxy.HELLO_AT_ONCE
    going_on.cancel()
