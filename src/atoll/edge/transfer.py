"""File contents between a client and the agent, on a connection to the agent of their own.

What nobody has to look at is spliced from the agent's socket to the client's: the pages that the agent's `sendfile`
gave out are the ones that the client's connection sends. No descriptor of the sandbox's disk comes out of it, so
none can keep a disk mounted whose sandbox has ended.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from types import TracebackType

from aiohttp import web
from yarl import URL

from atoll.wire import http
from atoll.wire.frames import FrameError

from .agent_link import CONNECT_TIMEOUT_S, MAX_ERROR, AgentGone, AgentLink, AgentMisbehaved, refusal_of
from .body import is_bare
from .frames_in import mapping, parse_json
from .splice import Pipe, readable, writable

PIECE = 256 * 1024
SEND_BUFFER = 1024 * 1024
"""The kernel gives what the host's `net.core.wmem_max` allows. With less, edge and agent take turns so often that an
upload takes a fifth longer (212,992, the kernel's default) or a third (none of this)."""

Headers = Iterable[tuple[str, str]]


class Transfer:
    """Leaving it before its end closes the connection, which ends the work inside."""

    def __init__(self, link: AgentLink) -> None:
        link.enter()
        self._link = link
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._early = b""
        """Of the content, come together with the head."""
        self._left = 0
        """Of the content, still to come."""
        self._closed = False
        self.status = 0
        self.content_length = 0
        self.headers: Mapping[str, str] = {}
        link.answers.add(self)

    @classmethod
    async def fetch(cls, link: AgentLink, path: str, query: Mapping[str, str], headers: Headers = ()) -> Transfer:
        """With the head of the answer. AgentRefused."""
        return await cls(link)._begin("GET", path, query, headers, hear=True)

    @classmethod
    async def store(cls, link: AgentLink, path: str, query: Mapping[str, str]) -> Transfer:
        """Content is written, and `finish` hears whether it was taken."""
        return await cls(link)._begin("PUT", path, query, [("Transfer-Encoding", "chunked")], hear=False)

    async def __aenter__(self) -> Transfer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._link.answers.discard(self)
            self._link.leave()
            self._socket.close()

    def break_off(self) -> None:
        """Whoever waits for the socket finds its end."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    # -- content that comes

    async def chunks(self) -> AsyncIterator[bytes]:
        if self._early:
            early, self._early = self._early, b""
            yield early
        while self._left:
            data = await self._receive(min(self._left, PIECE))
            self._left -= len(data)
            yield data

    async def pour_into(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """All that is left, behind what `response` has written so far."""
        transport = request.transport
        if self._left <= PIECE or transport is None or not is_bare(transport):
            async for chunk in self.chunks():
                await response.write(chunk)
            return
        if self._early:
            await response.write(self._early)
            self._early = b""
        await _written_out(request, transport)
        target = os.dup(transport.get_extra_info("socket").fileno())
        try:
            await self._splice_into(target)
        finally:
            os.close(target)

    async def _splice_into(self, target: int) -> None:
        with Pipe() as pipe:
            while self._left:
                await asyncio.sleep(0)  # others have their turn when both sides are always ready
                moved = await pipe.fill(self._socket.fileno(), self._left)
                if moved == 0:
                    raise AgentGone("the content ended early")
                self._left -= moved
                await pipe.drain(target)

    # -- content that goes

    async def write(self, data: memoryview) -> None:
        """AgentRefused when the agent has said no without waiting for the rest."""
        if self._answer_has_come():
            await self._hear_refusal()
        await self._send(b"%x\r\n" % len(data), data, b"\r\n")

    async def finish(self) -> Mapping[str, object]:
        """What the agent says of it."""
        await self._send(http.LAST_CHUNK)
        await self._hear()
        return mapping(await self._json())

    def _answer_has_come(self) -> bool:
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    # -- the connection

    async def _begin(
        self, method: str, path: str, query: Mapping[str, str], headers: Headers, *, hear: bool
    ) -> Transfer:
        try:
            await self._connect()
            target = URL.build(path=path, query=query).raw_path_qs
            await self._send(http.request_head(method, target, [("Host", "agent"), ("Connection", "close"), *headers]))
            if hear:
                await self._hear()
        except BaseException:
            self.close()
            raise
        return self

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().sock_connect(self._socket, self._link.socket)
        except (OSError, TimeoutError) as error:
            raise AgentGone("nobody answers at the sandbox's socket") from error

    async def _send(self, *parts: bytes | memoryview) -> None:
        views = [memoryview(part) for part in parts]
        while views:
            try:
                sent = self._socket.sendmsg(views)
            except BlockingIOError:
                await writable(self._socket.fileno())
            except OSError:
                await self._hear_refusal()
            else:
                while views and sent >= len(views[0]):
                    sent -= len(views.pop(0))
                if views:
                    views[0] = views[0][sent:]

    async def _receive(self, limit: int) -> bytes:
        while True:
            try:
                data = self._socket.recv(limit)
            except BlockingIOError:
                await readable(self._socket.fileno())
            except OSError as error:
                raise AgentGone("the connection broke") from error
            else:
                if not data:
                    raise AgentGone("the answer broke off")
                return data

    async def _hear(self) -> None:
        """The head of the answer; of a refusal all of it."""
        raw = b""
        while (end := raw.find(b"\r\n\r\n")) < 0:
            if len(raw) > http.MAX_HEAD:
                raise AgentMisbehaved("the head of an answer is too large")
            raw += await self._receive(http.MAX_HEAD)
        try:
            head = http.parse_response_head(raw[:end])
        except http.HttpError as error:
            raise AgentMisbehaved(str(error)) from error
        self._early = raw[end + 4 :]
        self._left = head.content_length - len(self._early)
        if self._left < 0:
            raise AgentMisbehaved("more content than was announced")
        self.status, self.headers, self.content_length = head.status, head.headers, head.content_length
        if self.status >= 400:
            raise refusal_of(self.status, mapping(await self._json()))

    async def _hear_refusal(self) -> None:
        await self._hear()
        raise AgentMisbehaved("an answer before the end of the content")

    async def _json(self) -> object:
        if self.content_length > MAX_ERROR:
            raise AgentMisbehaved(f"a refusal of {self.content_length} bytes")
        raw = b"".join([chunk async for chunk in self.chunks()])
        try:
            return parse_json(raw)
        except FrameError as error:
            raise AgentMisbehaved(str(error)) from error


async def _written_out(request: web.BaseRequest, transport: asyncio.Transport) -> None:
    """Nothing of the answer is left in the transport, so what goes past it cannot overtake."""
    transport.set_write_buffer_limits(high=0)
    try:
        while transport.get_write_buffer_size():
            await request.writer.drain()
    finally:
        transport.set_write_buffer_limits()
