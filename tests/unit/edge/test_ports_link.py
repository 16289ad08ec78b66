"""What a sandbox may hand out as a connection: one TCP connection to the port that was asked for, inside itself."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from atoll.edge.agent_link import AgentGone, AgentMisbehaved, AgentRefused, AgentSilent
from atoll.edge.guest_transport import HIGH_WATER, GuestTransport
from atoll.edge.ports_link import NotConnected, dial

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@asynccontextmanager
async def answering(path: Path, *parts: tuple[bytes, list[int]], hold: bool = False) -> AsyncIterator[str]:
    """An agent that sends these, and closes unless it holds on."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.setblocking(False)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        connection, _ = await loop.sock_accept(listener)
        with connection:
            await loop.sock_recv(connection, 4096)
            for data, fds in parts:
                if fds:
                    socket.send_fds(connection, [data], fds)
                else:
                    await loop.sock_sendall(connection, data)
            if hold:
                await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    try:
        yield str(path)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listener.close()


@pytest.fixture
def kept() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def tcp(kept: ExitStack) -> socket.socket:
    listener = kept.enter_context(socket.create_server(("127.0.0.1", 0)))
    return kept.enter_context(socket.create_connection(listener.getsockname()))


def port_of(sock: socket.socket) -> int:
    return int(sock.getpeername()[1])


def descriptors() -> set[str]:
    return {f"{name}:{os.readlink(f'/proc/self/fd/{name}')}" for name in os.listdir("/proc/self/fd") if _open(name)}


def _open(name: str) -> bool:
    try:
        fcntl.fcntl(int(name), fcntl.F_GETFD)
    except OSError:
        return False
    return True


async def test_a_connection_is_taken_over_and_not_inherited(tmp_path, kept):
    sock = tcp(kept)
    async with answering(tmp_path / "s", (OK, [sock.fileno()])) as path:
        with await dial(path, port_of(sock)) as got:
            assert got.getsockname() == sock.getsockname()
            assert not got.get_inheritable()
            assert not got.getblocking()


async def test_an_answer_in_pieces_is_read(tmp_path, kept):
    sock = tcp(kept)
    parts = [(OK[:5], [sock.fileno()]), *((OK[at : at + 1], []) for at in range(5, len(OK)))]
    async with answering(tmp_path / "s", *parts) as path:
        with await dial(path, port_of(sock)) as got:
            assert got.getpeername() == sock.getpeername()


def a_file(kept: ExitStack) -> int:
    return kept.enter_context(open(__file__, "rb")).fileno()


def a_pipe(kept: ExitStack) -> int:
    reader, writer = os.pipe()
    kept.callback(os.close, writer)
    kept.callback(os.close, reader)
    return reader


def a_listener(kept: ExitStack) -> int:
    return kept.enter_context(socket.create_server(("127.0.0.1", 0))).fileno()


def an_unconnected_one(kept: ExitStack) -> int:
    return kept.enter_context(socket.socket()).fileno()


def a_datagram_one(kept: ExitStack) -> int:
    sock = kept.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.connect(("127.0.0.1", 7))
    return sock.fileno()


def a_unix_one(kept: ExitStack) -> int:
    a, b = socket.socketpair()
    kept.enter_context(a)
    return kept.enter_context(b).fileno()


def one_to_another_port(kept: ExitStack) -> int:
    return tcp(kept).fileno()


def one_that_leaves(kept: ExitStack) -> int:
    listener = kept.enter_context(socket.create_server(("127.0.0.3", 7)))
    sock = kept.enter_context(socket.socket())
    sock.bind(("127.0.0.2", 0))
    sock.connect(listener.getsockname())
    return sock.fileno()


HOSTILE = [a_file, a_pipe, a_listener, an_unconnected_one, a_datagram_one, a_unix_one, one_to_another_port]
if os.geteuid() == 0:
    HOSTILE.append(one_that_leaves)


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
async def test_what_is_no_connection_to_the_port_is_refused_and_closed(make, tmp_path, kept):
    fd = make(kept)
    name = os.readlink(f"/proc/self/fd/{fd}")
    async with answering(tmp_path / "s", (OK, [fd])) as path:
        before = {each for each in descriptors() if each.endswith(name)}
        with pytest.raises(NotConnected):
            await dial(path, 7)
        assert {each for each in descriptors() if each.endswith(name)} == before


@pytest.mark.parametrize("count", [2, 9, 200])
async def test_more_than_one_descriptor_is_refused_and_all_are_closed(count, tmp_path, kept):
    sock = tcp(kept)
    name = os.readlink(f"/proc/self/fd/{sock.fileno()}")
    async with answering(tmp_path / "s", (OK, [sock.fileno()] * count)) as path:
        with pytest.raises(NotConnected):
            await dial(path, port_of(sock))
        assert [each for each in descriptors() if each.endswith(name)] == [f"{sock.fileno()}:{name}"]


async def test_a_descriptor_with_every_byte_is_refused(tmp_path, kept):
    sock = tcp(kept)
    name = os.readlink(f"/proc/self/fd/{sock.fileno()}")
    async with answering(tmp_path / "s", *((OK[at : at + 1], [sock.fileno()]) for at in range(20))) as path:
        with pytest.raises(NotConnected):
            await dial(path, port_of(sock))
        assert [each for each in descriptors() if each.endswith(name)] == [f"{sock.fileno()}:{name}"]


async def test_no_descriptor_is_refused(tmp_path):
    async with answering(tmp_path / "s", (OK, [])) as path:
        with pytest.raises(NotConnected, match="0 descriptors"):
            await dial(path, 7)


async def test_a_descriptor_beside_a_refusal_is_closed(tmp_path, kept):
    sock = tcp(kept)
    name = os.readlink(f"/proc/self/fd/{sock.fileno()}")
    no = b'HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n{"kind": "not_found", "message": "no"}'
    async with answering(tmp_path / "s", (no, [sock.fileno()])) as path:
        with pytest.raises(AgentRefused) as refused:
            await dial(path, 7)
        assert refused.value.kind == "not_found"
        assert [each for each in descriptors() if each.endswith(name)] == [f"{sock.fileno()}:{name}"]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", AgentGone),
        (b"HTTP/1.1", AgentMisbehaved),
        (b"HTTP/1.1 abc\r\n\r\n", AgentMisbehaved),
        (b"HTTP/1.1 500 X\r\n\r\nnot json", AgentMisbehaved),
        (b"HTTP/1.1 404 X\r\n\r\n" + b"[" * 60_000, AgentMisbehaved),
        (b"x" * 100_000, AgentMisbehaved),
    ],
)
async def test_an_answer_that_is_none(said, error, tmp_path):
    async with answering(tmp_path / "s", (said, [])) as path:
        with pytest.raises(error):
            await dial(path, 7)


async def test_an_agent_that_says_nothing_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("atoll.edge.ports_link.DIAL_TIMEOUT_S", 0.05)
    async with answering(tmp_path / "s", hold=True) as path:
        with pytest.raises(AgentSilent):
            await dial(path, 7)


async def test_nobody_at_the_socket(tmp_path):
    with pytest.raises(AgentGone):
        await dial(str(tmp_path / "nobody"), 7)


# ---- the transport


class Ear(asyncio.Protocol):
    def __init__(self) -> None:
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.heard = asyncio.Event()
        self.data = b""
        self.paused = False

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.heard.set()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@pytest.fixture
def pair(kept) -> tuple[socket.socket, socket.socket]:
    listener = kept.enter_context(socket.create_server(("127.0.0.1", 0)))
    sock = socket.create_connection(listener.getsockname())
    peer = kept.enter_context(listener.accept()[0])
    return sock, peer


async def test_a_socket_that_is_made_blocking_by_its_other_holder_blocks_nobody(pair, kept):
    """The sandbox keeps a copy, clears O_NONBLOCK and reads nothing."""
    sock, _peer = pair
    copy = kept.enter_context(sock.dup())
    ear = Ear()
    transport = GuestTransport(asyncio.get_running_loop(), sock, ear)
    os.set_blocking(copy.fileno(), True)
    transport.write(b"x" * (32 * 1024 * 1024))  # would stand here for ever
    assert ear.paused
    assert transport.get_write_buffer_size() > HIGH_WATER
    await asyncio.sleep(0)
    transport.abort()
    assert await ear.lost is None


async def test_a_linger_that_its_other_holder_sets_blocks_nobody(pair, kept):
    sock, _peer = pair
    copy = sock.dup()
    ear = Ear()
    transport = GuestTransport(asyncio.get_running_loop(), sock, ear)
    transport.write(b"x" * (32 * 1024 * 1024))
    copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\x40\0\0\0")  # 64 s
    copy.close()
    begun = asyncio.get_running_loop().time()
    transport.abort()
    await ear.lost
    await asyncio.sleep(0)
    assert asyncio.get_running_loop().time() - begun < 2


async def test_everything_written_arrives_in_order_and_the_writer_is_held_back(pair):
    sock, peer = pair
    loop, ear = asyncio.get_running_loop(), Ear()
    transport = GuestTransport(loop, sock, ear)
    data = os.urandom(4 * 1024 * 1024)
    for at in range(0, len(data), 100_000):
        transport.write(memoryview(data)[at : at + 100_000])
    transport.close()
    peer.setblocking(False)
    got = bytearray()
    while piece := await loop.sock_recv(peer, 1 << 20):
        got += piece
    assert got == data
    assert await ear.lost is None


async def test_many_small_pieces_cost_little_more_than_their_bytes_and_arrive_in_order(pair):
    ear, (sock, far) = Ear(), pair
    loop = asyncio.get_running_loop()
    transport = GuestTransport(loop, sock, ear)
    first = 0
    while not transport.get_write_buffer_size():
        transport.write(b"x" * 65536)
        first += 65536
    numbers = [b"%d," % number for number in range(20_000)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in numbers:
            transport.write(number)
        cost = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert cost < 2 * len(b"".join(numbers))
    far.setblocking(False)
    wanted, found = b"x" * first + b"".join(numbers), b""
    async with asyncio.timeout(10):
        while len(found) < len(wanted):
            found += await loop.sock_recv(far, 1 << 20)
    assert found == wanted
    transport.abort()
    assert await ear.lost is None


async def test_what_the_other_side_says_is_heard_until_it_closes(pair):
    sock, peer = pair
    ear = Ear()
    transport = GuestTransport(asyncio.get_running_loop(), sock, ear)
    peer.sendall(b"a")
    await ear.heard.wait()
    transport.pause_reading()
    assert not transport.is_reading()
    peer.sendall(b"b")
    peer.close()
    transport.resume_reading()
    assert await ear.lost is None
    assert ear.data == b"ab"
