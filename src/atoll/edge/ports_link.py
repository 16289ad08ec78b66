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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader
from aiohttp.tracing import Trace

from atoll.wire.frames import FrameError

from .agent_link import (
    CONNECT_TIMEOUT_S,
    AgentError,
    AgentGone,
    AgentMisbehaved,
    AgentRefused,
    AgentSilent,
    TooManyCalls,
)
from .frames_in import mapping, parse_json, text
from .guest_transport import GuestTransport

MAX_OPEN = 1024
"""Requests and tunnels of one sandbox at once."""
DIAL_TIMEOUT_S = 5.0  # the agent tries for 2 s
MAX_REPLY = 64 * 1024
MAX_DESCRIPTORS = 8  # that are received, to be closed; the kernel closes the rest
IDLE_S = 4.0  # of a connection that may be used again; servers close theirs after 5 s and more
MAX_LINE = 64 * 1024  # of an answer's head
MAX_PRELIMINARY = 16  # answers (100 Continue, 103 Early Hints …) before the one that counts


class NotConnected(AgentMisbehaved):
    """A descriptor that is no connection to the port that was asked for."""


async def dial(agent_socket: str, port: int) -> socket.socket:
    try:
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            return await _dial(agent_socket, port)
    except TimeoutError as error:
        raise AgentSilent(f"no connection within {DIAL_TIMEOUT_S:g} s") from error


async def _dial(agent_socket: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.sock_connect(sock, agent_socket)
            await loop.sock_sendall(sock, _question(port))
            reply, received = await _receive(sock)
        except OSError as error:
            raise AgentGone("nobody answers at the sandbox's socket") from error
    with _closed_unless_kept(received):
        _check_reply(reply)
        checked = checked_connection(received, port)
        received.clear()
        return checked


def _question(port: int) -> bytes:
    head = f"POST /ports/{port}/connect HTTP/1.1\r\nHost: agent\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    return head.encode()


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


def _check_reply(reply: bytes) -> None:
    head, _, body = reply.partition(b"\r\n\r\n")
    words = head[:64].split(b" ")
    if len(words) < 2 or words[0] != b"HTTP/1.1" or not (len(words[1]) == 3 and words[1].isdigit()):
        raise AgentGone("the connection broke") if not reply else AgentMisbehaved("an answer that is not HTTP")
    if words[1] == b"200":
        return
    try:
        refusal = mapping(parse_json(body))
    except FrameError as error:
        raise AgentMisbehaved(str(error)) from error
    raise AgentRefused(text(refusal.get("kind"), "internal"), text(refusal.get("message"))[:4096])


def checked_connection(received: list[int], port: int) -> socket.socket:
    """The one descriptor, when it is a TCP connection inside the sandbox to `port`. Takes it over then."""
    if len(received) != 1:
        raise NotConnected(f"{len(received)} descriptors instead of one")
    try:
        sock = socket.socket(fileno=received[0])
    except OSError as error:
        raise NotConnected("a descriptor that is no socket") from error
    try:
        _check_connection(sock, port)
    except BaseException:
        sock.detach()  # the caller closes it
        raise
    return sock


def _check_connection(sock: socket.socket, port: int) -> None:
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
    if peer[1] != port:
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


class _AnswerHandler(ResponseHandler):
    """aiohttp's, which reads preliminary answers (1xx) for as long as they come: without end, they would keep the edge
    busy for nobody."""

    _preliminary = 0

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        if self.exception() is not None:
            return
        self._preliminary = self._preliminary + 1 if 100 <= data[0].code < 200 else 0
        if self._preliminary <= MAX_PRELIMINARY:
            super().feed_data(data, size)
        elif self.transport is not None:
            self.transport.close()
            self.set_exception(HttpProcessingError(message="too many preliminary answers"))


class _Connector(aiohttp.BaseConnector):
    """aiohttp's pool over connections that the sandbox hands out; the port is the URL's."""

    def __init__(self, link: PortsLink, *, reuse: bool) -> None:
        if reuse:
            super().__init__(limit=0, keepalive_timeout=IDLE_S)
        else:
            super().__init__(limit=0, force_close=True)
        self._link = link

    async def _create_connection(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        del traces, timeout
        try:
            sock = await dial(self._link.agent_socket, req.url.port or 80)
        except AgentError as error:
            raise DialFailed(error) from error
        protocol = _AnswerHandler(self._loop)
        self._link.adopt(GuestTransport(self._loop, sock, protocol, self._link.forget))
        return protocol


class DialFailed(aiohttp.ClientError):
    def __init__(self, reason: AgentError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class PortsLink:
    """One per sandbox and incarnation."""

    def __init__(self, agent_socket: str, max_open: int = MAX_OPEN) -> None:
        self.agent_socket = agent_socket
        self.open = 0
        self.listening: tuple[float, list[int]] | None = None
        """Who listens, and until when that is believed."""
        self._max_open = max_open
        self._transports: set[GuestTransport] = set()
        self._closed = False
        self._reused = _session(_Connector(self, reuse=True))
        self._fresh = _session(_Connector(self, reuse=False))

    def session(self, *, repeatable: bool) -> aiohttp.ClientSession:
        """A connection that was used before may be closing just now, so it is for what can be sent again."""
        return self._reused if repeatable else self._fresh

    @contextmanager
    def passage(self) -> Iterator[None]:
        if self.open >= self._max_open:
            raise TooManyCalls(f"more than {self._max_open} connections open at once")
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    def adopt(self, transport: GuestTransport) -> None:
        self._transports.add(transport)
        if self._closed:
            transport.break_off()

    def forget(self, transport: GuestTransport) -> None:
        self._transports.discard(transport)

    async def close(self) -> None:
        self._closed = True
        for transport in tuple(self._transports):
            transport.break_off()
        await asyncio.sleep(0)  # whoever waits hears of it before aiohttp forgets whom it would tell
        await self._reused.close()
        await self._fresh.close()


def _session(connector: _Connector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=256 * 1024,
        max_line_size=MAX_LINE,
        max_field_size=MAX_LINE,
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        timeout=aiohttp.ClientTimeout(total=None),
    )
