"""Connections to the ports of one sandbox. Its agent makes each and hands its descriptor over (docs/agent-protocol.md,
"Ports"); from then on the bytes run between the edge and the server inside alone.

The descriptor is the sandbox's word: it may be a file, a listener, a socket of another kind or one that leads
elsewhere.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from atoll.wire.frames import FrameError

from .agent_link import (
    CONNECT_TIMEOUT_S,
    AgentGone,
    AgentMisbehaved,
    AgentRefused,
    AgentSilent,
)
from .frames_in import mapping, parse_json, text, whole
from .guest_transport import GuestTransport

DIAL_TIMEOUT_S = 5.0  # the agent tries for 2 s
MAX_REPLY = 64 * 1024
MAX_DESCRIPTORS = 8  # that are received, to be closed; the kernel closes the rest
HANDSHAKE_S = 10


class NoTls(AgentMisbehaved):
    """The program at the port does not speak it."""


class NotConnected(AgentMisbehaved):
    """A descriptor that is no connection to the port that was asked for."""


async def dial(agent_socket: str, port: int) -> socket.socket:
    try:
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            return await _dial(agent_socket, port)
    except TimeoutError as error:
        raise AgentSilent(f"no connection within {DIAL_TIMEOUT_S:g} s") from error


async def _dial(agent_socket: str, port: int) -> socket.socket:
    reply, received = await _ask(agent_socket, f"/ports/{port}/connect")
    with _closed_unless_kept(received):
        _answer(reply)
        checked = checked_connection(received, port)
        received.clear()
        return checked


async def next_caller(agent_socket: str, ports: Collection[int]) -> tuple[int, socket.socket]:
    """A program inside that has come to one of these ports of ours. Waits for it."""
    reply, received = await _ask(agent_socket, "/doors/next")
    with _closed_unless_kept(received):
        port = whole(_answer(reply).get("port"))
        if port not in ports:
            raise NotConnected("a connection to another port")
        checked = checked_connection(received, port, ours=True)
        received.clear()
        return port, checked


async def _ask(agent_socket: str, path: str) -> tuple[bytes, list[int]]:
    loop = asyncio.get_running_loop()
    head = f"POST {path} HTTP/1.1\r\nHost: agent\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.sock_connect(sock, agent_socket)
            await loop.sock_sendall(sock, head.encode())
            return await _receive(sock)
        except OSError as error:
            raise AgentGone("nobody answers at the sandbox's socket") from error


async def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Everything to the end of the answer, and every descriptor that came with it."""
    parts: list[bytes] = []
    received: list[int] = []
    try:
        while sum(map(len, parts)) <= MAX_REPLY:
            await _readable(sock)
            try:
                data, fds = _receive_some(sock)
            except BlockingIOError:
                continue
            received += fds
            if len(received) > MAX_DESCRIPTORS:
                raise NotConnected("the sandbox's agent sent more than one descriptor")
            if not data:
                return b"".join(parts), received
            parts.append(data)
        raise AgentMisbehaved("an answer that is too long")
    except BaseException:
        close_all(received)
        raise


def _receive_some(sock: socket.socket) -> tuple[bytes, list[int]]:
    room = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
    data, ancillary, flags, _ = sock.recvmsg(8192, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    if flags & socket.MSG_CTRUNC:
        close_all(fds)
        raise NotConnected("the sandbox's agent sent more than one descriptor")
    return data, list(fds)


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock.fileno())


def _answer(reply: bytes) -> Mapping[str, object]:
    head, _, body = reply.partition(b"\r\n\r\n")
    words = head[:64].split(b" ")
    if len(words) < 2 or words[0] != b"HTTP/1.1" or not (len(words[1]) == 3 and words[1].isdigit()):
        raise AgentGone("the connection broke") if not reply else AgentMisbehaved("an answer that is not HTTP")
    try:
        said = mapping(parse_json(body))
    except FrameError as error:
        raise AgentMisbehaved(str(error)) from error
    if words[1] == b"200":
        return said
    raise AgentRefused(text(said.get("kind"), "internal"), text(said.get("message"))[:4096])


def checked_connection(received: list[int], port: int, ours: bool = False) -> socket.socket:
    """The one descriptor, when it is a TCP connection inside the sandbox to `port`, of the other end or, with `ours`,
    of this one. Takes it over then."""
    if len(received) != 1:
        raise NotConnected(f"{len(received)} descriptors instead of one")
    try:
        sock = socket.socket(fileno=received[0])
    except OSError as error:
        raise NotConnected("a descriptor that is no socket") from error
    try:
        _check_connection(sock, port, ours)
    except BaseException:
        sock.detach()  # the caller closes it
        raise
    return sock


def _check_connection(sock: socket.socket, port: int, ours: bool) -> None:
    try:
        kind = tuple(sock.getsockopt(socket.SOL_SOCKET, name) for name in (socket.SO_TYPE, socket.SO_PROTOCOL))
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or kind != (socket.SOCK_STREAM, socket.IPPROTO_TCP):
            raise NotConnected("a socket that is not TCP")
        own, peer = sock.getsockname(), sock.getpeername()
        sock.setblocking(False)
    except OSError as error:
        raise NotConnected("a socket that is not connected") from error
    if own[0] != peer[0]:
        raise NotConnected("a connection that leaves the sandbox")
    if (own if ours else peer)[1] != port:
        raise NotConnected("a connection to another port")


def close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        with suppress(OSError):
            os.close(fd)


@contextmanager
def _closed_unless_kept(fds: list[int]) -> Iterator[None]:
    try:
        yield
    finally:
        close_all(fds)


def unverified() -> ssl.SSLContext:
    """For programs that speak TLS to the loopback of their sandbox: nothing is between them and us that it would keep
    out, and their certificates are their own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


_UNVERIFIED = unverified()


async def connect(agent_socket: str, port: int, protocol: asyncio.Protocol, tls: bool) -> None:
    """Returns when `protocol` has its connection."""
    loop = asyncio.get_running_loop()
    sock = await dial(agent_socket, port)
    if not tls:
        GuestTransport(loop, sock, protocol)
        return
    ready: asyncio.Future[None] = loop.create_future()
    wrapped = SSLProtocol(loop, protocol, _UNVERIFIED, ready, server_side=False, ssl_handshake_timeout=HANDSHAKE_S)
    transport = GuestTransport(loop, sock, wrapped)
    try:
        await ready
    except OSError as error:  # ssl.SSLError too
        transport.abort()
        raise NoTls(f"no TLS at port {port}") from error
    except BaseException:
        transport.abort()
        raise
