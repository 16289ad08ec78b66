"""TLS and plain HTTP on one port."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from atoll.core.settings import EdgeSettings, TlsFiles
from atoll.edge.certificates import Files, ensure
from atoll.edge.listener import Listener
from atoll.edge.main import serving
from atoll.edge.tls import TlsSource

DOMAIN = "d.test"


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Files:
    made = Files(tmp_path_factory.mktemp("tls"))
    ensure(made, DOMAIN, "local", now())
    return made


@pytest.fixture
def trusting(files) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files.ca))


@pytest.fixture
async def port(places, server, files) -> AsyncIterator[int]:
    settings = EdgeSettings(places, "127.0.0.1", 0, domain=DOMAIN, tls=TlsFiles(files.cert, files.key))
    async with serving(settings) as running:
        await running.routes.ready.wait()
        yield running.port


async def test_both_are_spoken_on_one_port(port, trusting):
    async with aiohttp.ClientSession() as session:
        for url in (f"http://127.0.0.1:{port}/", f"https://localhost:{port}/"):
            async with session.get(url, ssl=trusting) as response:
                assert (await response.json())["name"] == "atoll"


@pytest.mark.parametrize("name", [DOMAIN, f"8000-abc.{DOMAIN}", f"abc.local.{DOMAIN}"])
async def test_the_certificate_is_for_the_domain_and_below(port, trusting, name):
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=name)
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    writer.transport.abort()


@pytest.mark.parametrize("name", ["other.test", f"a.b.c.{DOMAIN}"])
async def test_the_certificate_is_for_no_other_name(port, trusting, name):
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=name)


async def test_older_tls_is_refused(port, trusting):
    trusting.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        trusting.minimum_version = ssl.TLSVersion.TLSv1
        trusting.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=DOMAIN)


async def test_a_tls_1_2_client_gets_forward_secrecy(port, trusting):
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=DOMAIN)
    assert writer.get_extra_info("cipher")[0].startswith("ECDHE-")
    writer.transport.abort()


async def test_a_client_that_says_nothing_is_let_go(port, monkeypatch):
    monkeypatch.setattr("atoll.edge.listener.FIRST_BYTE_S", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00"])
async def test_clients_that_wait_do_not_shut_out_those_who_speak(port, monkeypatch, said):
    """The first goes when there are too many."""
    monkeypatch.setattr("atoll.edge.listener.MAX_UNDECIDED", 4)
    waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
    for _, writer in waiting:
        writer.write(said)
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as response:
        assert response.status == 200
    assert await heard(waiting[0][0]) == b""
    for _, writer in waiting:
        writer.close()


async def test_a_handshake_that_stops_is_let_go(port, monkeypatch):
    monkeypatch.setattr("atoll.edge.listener.HANDSHAKE_S", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x16\x03\x01\x02\x00")
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_garbage_that_begins_like_tls_ends_and_others_are_served(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x16" + b"\xff" * 100)
    async with asyncio.timeout(5):
        await reader.read()
    writer.close()
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as response:
        assert response.status == 200


async def test_tls_without_a_certificate_is_closed(places, server):
    async with serving(EdgeSettings(places, "127.0.0.1", 0)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"\x16\x03\x01\x02\x00")
        assert await heard(reader) == b""
        writer.close()


async def heard(reader: asyncio.StreamReader) -> bytes:
    """To the end, which may be a reset."""
    async with asyncio.timeout(5):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


class Silent(asyncio.Protocol):
    made = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Silent.made += 1
        transport.close()


@pytest.mark.parametrize(("plain_for_all", "served"), [(False, 0), (True, 1)])
async def test_plain_http_from_elsewhere_is_refused_where_there_is_tls(files, plain_for_all, served, monkeypatch):
    monkeypatch.setattr("atoll.edge.listener.is_local", lambda connection: False)
    Silent.made = 0
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listener = Listener(sock, Silent, TlsSource(files.cert, files.key), plain_for_all)
        listener.start()
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        said = await heard(reader)
        writer.close()
        await listener.stop()
    assert Silent.made == served
    assert said.startswith(b"HTTP/1.1 426 ") is not plain_for_all


def test_a_changed_certificate_is_used_and_a_broken_one_is_not(tmp_path: Path):
    clock = [0.0]
    made = Files(tmp_path)
    ensure(made, DOMAIN, "local", now())
    source = TlsSource(made.cert, made.key, lambda: clock[0])
    first = source.context()
    clock[0] += 60
    assert source.context() is first
    made.cert.write_text("half")
    clock[0] += 60
    assert source.context() is first
    made.cert.unlink()
    ensure(made, DOMAIN, "local", now())
    clock[0] += 60
    assert source.context() is not first
