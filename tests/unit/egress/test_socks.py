"""Our client with the server of the tests; curl, which knows neither, with that server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator

import pytest

from atoll.core.errors import PermissionDenied, Unavailable
from atoll.core.policy import EgressProxy
from atoll.egress import socks
from atoll.egress.authority import Authority, make, now_utc
from atoll.egress.streams import PlainStream, TlsStream, read_exactly
from atoll.testing.socks_server import SocksServer
from atoll.wire.socks5 import MEANING, Reply

PASSWORD = "s3cret-word"


class _Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.request.recv(65536):
                self.request.sendall(data.upper())


@contextlib.contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def echo() -> Iterator[tuple[str, int]]:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo)
    server.daemon_threads = True
    with running(server):
        yield server.server_address


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(*make("of the proxy", now_utc()))


@pytest.fixture
def proxy_server(echo, authority, request) -> Iterator[SocksServer]:
    """Whatever name is asked for is the echo."""
    options = getattr(request, "param", {})
    server = SocksServer(
        ("127.0.0.1", 0),
        username="ann" if "password" in options else "",
        password=PASSWORD if "password" in options else "",
        tls=authority.context("proxy.example.com") if "tls" in options else None,
        dial=lambda host, port: socket.create_connection(echo, 5),
    )
    with running(server):
        yield server


def settings(server: SocksServer, **changes: object) -> EgressProxy:
    given: dict[str, object] = {"host": "proxy.example.com", "port": server.port}
    if server.username:
        given |= {"username": server.username, "password": server.password}
    return EgressProxy(**{**given, **changes})  # type: ignore[arg-type]


async def dial(host: str, port: int) -> socket.socket:
    del host
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock


with_and_without = pytest.mark.parametrize(
    "proxy_server", [{}, {"password"}, {"tls"}, {"password", "tls"}], indirect=True, ids=lambda value: "+".join(value)
)


@with_and_without
@pytest.mark.parametrize("host", ["example.com", "203.0.113.7", "2001:db8::7"])
async def test_it_asks_for_names_as_names_and_then_bytes_pass(proxy_server, authority, host):
    tls = {"tls": True, "ca_cert": authority.pem} if proxy_server.tls else {}
    stream = await socks.connect(settings(proxy_server, **tls), host, 443, dial)
    assert proxy_server.requests == [(host, 443)]
    assert isinstance(stream, TlsStream if tls else PlainStream)
    await stream.write(b"hello")
    assert await read_exactly(stream, 5) == b"HELLO"
    await stream.finish()
    assert await stream.read() == b""
    stream.close()


@pytest.mark.parametrize("proxy_server", [{"password"}], indirect=True)
@pytest.mark.parametrize("changes", [{"password": "wr0ng-word"}, {"username": "bob"}, {"username": "", "password": ""}])
async def test_a_wrong_password_is_said_without_saying_it(proxy_server, changes):
    with pytest.raises(Unavailable) as error:
        await socks.connect(settings(proxy_server, **changes), "example.com", 443, dial)
    assert proxy_server.requests == []
    told = repr(error.value) + str(error.value.__dict__)
    assert not any(word in told for word in (PASSWORD, "wr0ng-word", "ann", "bob"))


@pytest.mark.parametrize("code", [code for code in Reply if code is not Reply.DONE])
async def test_what_the_server_answers_is_passed_on(proxy_server, code):
    proxy_server.answer_with = code
    with pytest.raises(Unavailable, match=f"proxy.example.com:[0-9]+ does not connect: {MEANING[code]}"):
        await socks.connect(settings(proxy_server), "example.com", 443, dial)


@pytest.mark.parametrize("proxy_server", [{"tls"}], indirect=True)
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "certificate was not accepted: unable to get local issuer"),
        ({"ca_cert": "own", "server_name": "other.example.com"}, "certificate was not accepted: Hostname mismatch"),
        ({"ca_cert": "own", "host": "127.0.0.1"}, "certificate was not accepted: IP address mismatch"),
        ({"ca_cert": "nonsense"}, "ca_cert is not a certificate"),
    ],
)
async def test_the_proxys_certificate_is_checked(proxy_server, authority, changes, why):
    if changes.get("ca_cert") == "own":
        changes = changes | {"ca_cert": authority.pem}
    with pytest.raises(Unavailable, match=why):
        await socks.connect(settings(proxy_server, tls=True, **changes), "example.com", 443, dial)
    assert proxy_server.requests == []


@pytest.mark.parametrize("proxy_server", [{"tls"}], indirect=True)
async def test_server_name_is_what_the_certificate_is_compared_with(proxy_server, authority):
    proxy = settings(proxy_server, host="127.0.0.1", tls=True, server_name="proxy.example.com", ca_cert=authority.pem)
    (await socks.connect(proxy, "example.com", 443, dial)).close()


async def test_the_installations_own_authorities_count_for_a_proxy_without_one(echo, authority):
    server = SocksServer(
        ("127.0.0.1", 0),
        tls=authority.context("proxy.example.com"),
        dial=lambda host, port: socket.create_connection(echo, 5),
    )
    with running(server):
        trusted = ssl.create_default_context(cadata=authority.pem)
        (await socks.connect(settings(server, tls=True), "example.com", 443, dial, trusted)).close()


async def test_a_server_that_is_silent_or_says_something_else_is_no_proxy(monkeypatch):
    monkeypatch.setattr(socks, "ANSWER_S", 1.0)
    answers = {b"": "no answer in time", b"HTTP/1.1 400 Bad\r\n": "not speak SOCKS5", b"\x05\x00\x05\x00": "closed"}
    for answer, why in answers.items():

        async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes = answer) -> None:
            with contextlib.suppress(OSError):
                if answer:
                    writer.write(answer)
                    await reader.readexactly(3)
                else:
                    await reader.read()
            writer.close()

        server = await asyncio.start_server(say, "127.0.0.1", 0)
        async with server:
            proxy = EgressProxy("proxy.example.com", server.sockets[0].getsockname()[1])
            with pytest.raises(Unavailable, match=why):
                await socks.connect(proxy, "example.com", 443, dial)


async def test_a_proxy_that_may_not_be_reached_is_not(echo):
    async def refuse(host: str, port: int) -> socket.socket:
        raise PermissionDenied(f"{host}:{port} never")

    with pytest.raises(PermissionDenied):
        await socks.connect(EgressProxy("10.0.0.1", 1080), "example.com", 443, refuse)


class _Page(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        request = self.rfile.readline()
        self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(request) + request)


def test_curl_understands_the_server():
    with contextlib.ExitStack() as stack:
        page = socketserver.TCPServer(("127.0.0.1", 0), _Page)
        server = SocksServer(
            ("127.0.0.1", 0),
            username="ann",
            password=PASSWORD,
            dial=lambda host, port: socket.create_connection(page.server_address, 5),
        )
        stack.enter_context(running(page))
        stack.enter_context(running(server))
        proxy = f"socks5h://ann:{PASSWORD}@127.0.0.1:{server.port}"
        argv = ("curl", "-sS", "--max-time", "10", "--noproxy", "", "--proxy", proxy, "http://example.com/path")
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("GET /path HTTP/1.1\n", "")
        assert server.requests == [("example.com", 80)]
