"""Who listens, and a connection to one of them as a descriptor."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from atoll.agent import ports
from atoll.agent.errors import AgentError


async def receive(path: str, port: int | str) -> tuple[bytes, list[socket.socket]]:
    """What the agent answers, and the sockets beside it."""

    def exchange() -> tuple[bytes, list[int]]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            sock.sendall(f"POST /ports/{port}/connect HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            said, fds, _, _ = socket.recv_fds(sock, 4096, 4)
            while more := sock.recv(4096):
                said += more
            return said, fds

    said, fds = await asyncio.to_thread(exchange)
    return said, [socket.socket(fileno=fd) for fd in fds]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
async def test_a_connection_to_any_address_is_handed_out_and_works(agent, host):
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        port = listener.getsockname()[1]
        said, (got,) = await receive(str(agent.path), port)
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        with got, listener.accept()[0] as peer:
            assert got.getpeername()[1] == port
            peer.sendall(b"hello")
            got.setblocking(True)
            assert got.recv(5) == b"hello"


async def test_the_agent_keeps_no_copy(agent):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _, (got,) = await receive(str(agent.path), listener.getsockname()[1])
        with listener.accept()[0] as peer:
            got.close()
            assert await asyncio.to_thread(peer.recv, 1) == b""


@pytest.mark.parametrize("port", ["0", "65536", "08", "x", "-1", "%D9%A3"])
async def test_what_is_no_port_is_refused(agent, port):
    said, got = await receive(str(agent.path), port)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert got == []


async def test_a_closed_port_is_not_found_after_two_seconds_at_most(agent):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        begun = asyncio.get_running_loop().time()
        said, got = await receive(str(agent.path), unused.getsockname()[1])
    assert said.startswith(b"HTTP/1.1 404 ")
    assert got == []
    assert asyncio.get_running_loop().time() - begun < 3


def test_it_is_tried_five_times_within_two_seconds():
    assert len(ports.WAITS_S) == 5
    assert sum(ports.WAITS_S) < 2


async def test_who_listens_is_listed(agent):
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("::1", 0), family=socket.AF_INET6) as two:
        listed = (await agent.request("GET", "/ports")).json()["ports"]
        assert {"port": one.getsockname()[1], "address": "127.0.0.1"} in listed
        assert {"port": two.getsockname()[1], "address": "::1"} in listed


TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:1F91 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 1 1
   2: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A
   3: nonsense:0050 00000000:0000 0A
   4: 0100007F:zz 00000000:0000 0A
   5:
"""


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("0.0.0.0", True),
        ("::", True),
        ("10.0.0.2", True),
        ("::ffff:127.0.0.1", True),
        ("127.0.0.2", False),
        ("::ffff:127.64.0.1", False),
    ],
)
def test_what_no_connection_reaches_is_no_service(address, reached):
    assert ports.is_service(ports.Listener(80, address)) is reached


def test_only_listeners_are_read_from_the_table():
    assert list(ports.parse_table(TABLE)) == [ports.Listener(8080, "127.0.0.1"), ports.Listener(80, "::1")]


def test_tables_that_are_not_there_are_none(tmp_path: Path):
    assert ports.listeners([tmp_path / "tcp6"]) == []


def test_ports_are_numbers_from_1_to_65535():
    assert [ports.parse_port(text) for text in ("1", "65535")] == [1, 65535]
    for text in ("", "0", "01", "65536", "1.0", "٣", "1" * 99):
        with pytest.raises(AgentError):
            ports.parse_port(text)
