from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from atoll.core.errors import Unavailable
from atoll.node import health

HEALTH = ("GET", "/health", 10.0)


async def answering(path: Path, answer: bytes, keep_open: bool = False) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if keep_open:
            await reader.read()
        writer.close()

    return await asyncio.start_unix_server(serve, str(path))


async def test_200_is_healthy(tmp_path: Path) -> None:
    async with await answering(tmp_path / "s", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"):
        await health.ask(tmp_path / "s", *HEALTH)


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"HTTP/1.1 500 No\r\n\r\n", b"SSH-2.0\r\n", b"HTTP/1.1\r\n", b"HTTP/1.1 yes ok\r\n"),
        b"HTTP/1.1 200 " + b"x" * (2 * health.MAX_ANSWER),
    ],
    ids=["nothing", "500", "another protocol", "no status", "no number", "endless line"],
)
async def test_anything_else_is_unavailable(tmp_path: Path, answer: bytes) -> None:
    async with await answering(tmp_path / "s", answer):
        with pytest.raises(Unavailable):
            await health.ask(tmp_path / "s", *HEALTH)


async def test_silence_ends_at_the_deadline(tmp_path: Path) -> None:
    async with await answering(tmp_path / "s", b"", keep_open=True):
        with pytest.raises(Unavailable):
            await health.ask(tmp_path / "s", "GET", "/health", 0.01)


async def test_no_socket_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await health.ask(tmp_path / "s", *HEALTH)


async def test_live_is_the_agents_word_within_bounds(tmp_path: Path) -> None:
    for said, taken in ((b"3", 3), (b"-3", 0), (b"1e30", health.MAX_LIVE)):
        path = tmp_path / said.decode()
        async with await answering(path, b'HTTP/1.1 200 OK\r\n\r\n{"live": ' + said + b"}"):
            assert await health.live(path) == taken


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"live": null}', b'{"live": 1e999}', b'{"live": "x"}'])
async def test_a_live_that_is_no_number_is_unavailable(tmp_path: Path, body: bytes) -> None:
    async with await answering(tmp_path / "s", b"HTTP/1.1 200 OK\r\n\r\n" + body):
        with pytest.raises(Unavailable):
            await health.live(tmp_path / "s")
