"""Sandboxes that use the installation's URLs come by a Unix socket, which shows whose they are."""

from __future__ import annotations

import socket
import stat

import pytest

from atoll.core.settings import EdgeSettings
from atoll.edge.main import serving
from atoll.egress import ingress_exit
from atoll.wire.ingress_peer import peer_name, sandbox_of

SANDBOX = "a" * 20
GET = b"GET /health HTTP/1.1\r\nHost: d.test\r\nConnection: close\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"


@pytest.fixture
async def place(places, server):
    settings = EdgeSettings(places, "127.0.0.1", 0)
    server.answers("GET", "/health", {"status": "ok"})
    async with serving(settings) as running:
        await running.routes.ready.wait()
        yield places.ingress_socket


async def ask(sock: socket.socket) -> bytes:
    import asyncio

    reader, writer = await asyncio.open_connection(sock=sock)
    writer.write(GET)
    answer = await reader.read()
    writer.close()
    return answer


async def test_the_server_is_told_which_sandbox_asks(place, server):
    assert (await ask(await ingress_exit.connect(place, SANDBOX))).startswith(b"HTTP/1.1 200")
    (seen,) = server.asked("GET", "/health")
    assert seen.headers["X-Forwarded-For"] == f"sandbox {SANDBOX}"


async def test_only_its_owner_may_come_near(place):
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700


async def test_without_an_edge_it_is_unavailable(tmp_path):
    from atoll.core.errors import Unavailable

    with pytest.raises(Unavailable):
        await ingress_exit.connect(tmp_path / "none.sock", SANDBOX)
    with pytest.raises(Unavailable):
        await ingress_exit.connect(None, SANDBOX)


@pytest.mark.parametrize(
    "name", ["", b"", "/run/x.sock", b"\0atoll sandbox", b"\0atoll sandbox A 1", b"\0atoll sandbox a 1 ", None]
)
def test_other_names_are_no_sandboxs(name):
    assert sandbox_of(name) is None


def test_a_name_says_its_sandbox():
    assert sandbox_of(peer_name(SANDBOX, "0f")) == SANDBOX
