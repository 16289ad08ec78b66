"""The thin shell around `wire/http.py`: one asyncio protocol per connection, one request at a time on it.

A handler gets a `Request` and returns what to answer (`dict` → JSON, `Content` → bytes of known length, `Descriptor` →
JSON with a socket beside it), or None after it wrote a stream itself. The client closing the connection cancels
the handler. Writing is synchronous and never blocks; a handler that can produce more than the client reads looks
at `writable` or awaits `drain`, so the agent's memory does not depend on the client's speed.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from atoll.wire import frames, http

from .bulk import Bulk, write_all
from .errors import AgentError, Kind, invalid, translate

MAX_JSON = 16 * 1024 * 1024
MAX_DISCARD = 256 * 1024 * 1024  # of an upload that was refused; beyond it the connection is closed instead
BODY_HIGH_WATER = 512 * 1024
PIPELINE_HIGH_WATER = 64 * 1024
FILE_SEND_BUFFER = 1024 * 1024
"""Of a connection that a file goes out on; the kernel gives what `net.core.wmem_max` allows. With its default we and
the reader take turns four times as often, which on a busy machine is most of a download's time."""
FRAMING_BYTES = 64  # the end of a chunk and the size of the next one; little of the content with them
FRAMES_TYPE = "application/vnd.atoll.frames"

JsonObject = dict[str, Any]  # Any: JSON values of every shape


@dataclass
class Content:
    """A body of known length: bytes, or `count` bytes of an open file from `start`. The server closes the file."""

    data: bytes | io.FileIO
    start: int = 0
    count: int = 0
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    type: str = "application/octet-stream"


@dataclass
class Descriptor:
    """A JSON answer with an open socket beside it (SCM_RIGHTS). The server closes its own copy."""

    socket: socket.socket
    value: JsonObject = field(default_factory=dict)


Answer = JsonObject | Content | Descriptor | None
Dispatch = Callable[["Request"], Awaitable[Answer]]


@dataclass
class Counters:
    requests: int = 0
    errors: int = 0


class Request:
    def __init__(self, head: http.Head, connection: Connection) -> None:
        self.method = head.method
        self.path = head.path
        self.query = head.query
        self.headers = head.headers
        self.parameters: dict[str, str] = {}
        """What the route's pattern took out of the path."""
        self.stream: Stream | None = None
        self._head = head
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._complete = False
        self._failure: http.HttpError | None = None
        self._arrival = asyncio.Event()

    async def body(self) -> AsyncIterator[bytes]:
        self._connection.continue_if_expected(self._head)
        while True:
            while self._chunks:
                data = self._chunks.popleft()
                self._held -= len(data)
                yield data
            if self._failure is not None:
                raise invalid(str(self._failure))
            if self._complete:
                return
            self._arrival.clear()
            self._connection.update_reading()
            await self._arrival.wait()

    async def pour_into(self, fd: int) -> None:
        """The body into a file. What has not arrived yet goes there past the transport."""
        self._connection.continue_if_expected(self._head)
        while self._chunks:
            data = self._chunks.popleft()
            self._held -= len(data)
            write_all(fd, data)
        if not self._complete and self._failure is None:
            await self._connection.pour(self, fd)
        if self._failure is not None:
            raise invalid(str(self._failure))

    async def read_body(self, limit: int) -> bytes:
        if (self._head.content_length or 0) > limit:
            raise AgentError(Kind.TOO_LARGE, f"a body of more than {limit} bytes")
        parts: list[bytes] = []
        size = 0
        async for data in self.body():
            size += len(data)
            if size > limit:
                raise AgentError(Kind.TOO_LARGE, f"a body of more than {limit} bytes")
            parts.append(data)
        return b"".join(parts)

    async def json(self) -> JsonObject:
        """An object; an empty body is an empty one."""
        raw = await self.read_body(MAX_JSON)
        try:
            value = json.loads(raw) if raw else {}
        except (ValueError, RecursionError) as error:
            raise invalid("the body is not JSON") from error
        if not isinstance(value, dict):
            raise invalid("the body is not a JSON object")
        return value

    def start_stream(self) -> Stream:
        self.stream = Stream(self._connection)
        return self.stream

    @property
    def wants_more(self) -> bool:
        return self._held < BODY_HIGH_WATER

    @property
    def complete(self) -> bool:
        return self._complete

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self._held += len(data)
        self._arrival.set()

    def finish(self) -> None:
        self._complete = True
        self._arrival.set()

    def fail(self, error: http.HttpError) -> None:
        self._failure = error
        self._arrival.set()

    async def discard_rest(self) -> bool:
        """Whether the connection can carry a next request: a refused upload is read to its end first."""
        if self._head.expects_continue and not self._connection.continued and not self._complete:
            return False
        discarded = 0
        with suppress(AgentError):
            async for data in self.body():
                discarded += len(data)
                if discarded > MAX_DISCARD:
                    return False
            return True
        return False


class Stream:
    """An answer of unknown length, in chunks. The head goes out with the first bytes."""

    def __init__(self, connection: Connection) -> None:
        self.on_writable: Callable[[], None] | None = None
        self._connection = connection
        self._head: bytes = http.response_head(
            200, [("Content-Type", FRAMES_TYPE), ("Transfer-Encoding", "chunked"), ("Cache-Control", "no-store")]
        )

    @property
    def writable(self) -> bool:
        return self._connection.writable

    def send(self, frame_type: bytes, payload: bytes) -> None:
        self._write(http.chunk(frames.HEADER.pack(frame_type, len(payload)), payload))

    def send_json(self, value: JsonObject) -> None:
        self._write(http.chunk(frames.encode_json(value)))

    async def drain(self) -> None:
        await self._connection.drain()

    def finish(self) -> None:
        self._write(http.LAST_CHUNK)

    def _write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        self._connection.write(data)


class Connection(asyncio.Protocol):
    def __init__(self, dispatch: Dispatch, counters: Counters) -> None:
        self._dispatch = dispatch
        self._counters = counters
        self._parser = http.RequestParser()
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._reading = True
        self._pouring = False
        self.writable = True
        self.continued = False

    # -- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.receive(data)
        self._advance()

    def eof_received(self) -> bool:
        """Our clients close both ways at once; a stream whose reader is gone must end now, not at the next write."""
        if self._transport is not None and self._task is not None:
            self._transport.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.resume_writing()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        stream = self._request.stream if self._request is not None else None
        if stream is not None and stream.on_writable is not None:
            stream.on_writable()

    # -- called by requests and streams

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def drain(self) -> None:
        while not self.writable:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def continue_if_expected(self, head: http.Head) -> None:
        if head.expects_continue and not self.continued:
            self.continued = True
            self.write(http.CONTINUE)

    def update_reading(self) -> None:
        """Reads while there is room, and while a stream runs, to notice the client's going away."""
        if self._transport is None or self._pouring:
            return
        request = self._request
        full = self._parser.buffered > PIPELINE_HIGH_WATER and (request is None or request.complete)
        wanted = not full and (request is None or request.wants_more)
        if wanted and not self._reading:
            self._reading = True
            self._transport.resume_reading()
            self._advance()
        elif not wanted and self._reading:
            self._reading = False
            self._transport.pause_reading()

    async def pour(self, request: Request, fd: int) -> None:
        """Takes the socket away from the transport until the body has passed, or until the file takes no more."""
        if self._transport is None:
            raise asyncio.CancelledError
        self._pouring, self._reading = True, False
        self._transport.pause_reading()
        try:
            with Bulk(self._transport.get_extra_info("socket").fileno()) as bulk:
                await self._pour(request, fd, bulk)
        except http.HttpError as error:
            request.fail(error)
        except EOFError:
            self._abort()
            await asyncio.get_running_loop().create_future()  # until the loss of the connection cancels us
        finally:
            self._pouring = False
            self.update_reading()

    async def _pour(self, request: Request, fd: int, bulk: Bulk) -> None:
        while True:
            match self._parser.next_event():
                case http.Data(data):
                    write_all(fd, data)
                case http.Mark.END:
                    request.finish()
                    return
                case _ if ahead := self._parser.data_ahead:
                    piece = await bulk.read(ahead)
                    self._parser.passed_by(len(piece))
                    write_all(fd, piece)
                case _:
                    self._parser.receive(bytes(await bulk.read(FRAMING_BYTES)))

    # -- one request after the other

    def _advance(self) -> None:
        try:
            while self._transport is not None and self._step():
                pass
        except http.HttpError as error:
            self._refuse(error)
        else:
            self.update_reading()

    def _step(self) -> bool:
        """Whether another event may be ready."""
        request = self._request
        if request is not None and not request.wants_more:
            return False
        match self._parser.next_event():
            case http.Head() as head:
                self._start(Request(head, self))
            case http.Data(data):
                assert request is not None
                request.feed(data)
            case http.Mark.END:
                assert request is not None
                request.finish()
            case http.Mark.NEED_MORE:
                return False
        return True

    def _start(self, request: Request) -> None:
        self._request = request
        self.continued = False
        self._counters.requests += 1
        self._task = asyncio.get_running_loop().create_task(self._serve(request))

    def _refuse(self, error: http.HttpError) -> None:
        self._counters.errors += 1
        if self._request is not None:
            self._request.fail(error)
            return
        self._write_json(AgentError(Kind.INVALID, str(error)).to_wire(), error.status, keep_alive=False)
        self._close()

    async def _serve(self, request: Request) -> None:
        keep = request._head.keep_alive
        try:
            await self._respond(request)
            keep = await request.discard_rest() and keep
        except asyncio.CancelledError:
            return  # the client is gone, and so is this connection
        except Exception:
            keep = False
            self._abort()
        finally:
            self._request = self._task = None
        if not keep:
            self._close()
            return
        if self._transport is not None:
            self._parser.start_next()
            self._advance()

    async def _respond(self, request: Request) -> None:
        try:
            answer = await self._dispatch(request)
        except asyncio.CancelledError:
            raise
        except Exception as cause:
            self._counters.errors += 1
            error = translate(cause)
            if request.stream is not None:  # half an answer is out: the only honest end is a broken one
                self._abort()
                return
            self._write_json(error.to_wire(), error.status)
            return
        match answer:
            case None:
                if request.stream is not None:
                    request.stream.finish()
            case Content():
                await self._write_content(answer)
            case Descriptor():
                await self._write_descriptor(answer)
            case _:
                self._write_json(answer)

    def _write_json(self, value: JsonObject, status: int = 200, keep_alive: bool = True) -> None:
        body = json.dumps(value, separators=(",", ":")).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        if not keep_alive:
            headers.append(("Connection", "close"))
        self.write(http.response_head(status, headers) + body)

    async def _write_descriptor(self, answer: Descriptor) -> None:
        """Past the transport, which knows no descriptors: everything before must be out first."""
        with answer.socket:
            body = json.dumps(answer.value, separators=(",", ":")).encode()
            headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            whole = http.response_head(200, headers) + body
            if self._transport is None:
                return
            if self._transport.get_write_buffer_size() or not self._send_descriptor(whole, answer.socket):
                self._abort()  # a client that pipelines here and does not read

    def _send_descriptor(self, data: bytes, passed: socket.socket) -> bool:
        assert self._transport is not None
        with socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno())) as own:
            try:
                return socket.send_fds(own, [data], [passed.fileno()], socket.MSG_DONTWAIT) == len(data)
            except OSError:
                return False

    async def _write_content(self, content: Content) -> None:
        if isinstance(content.data, bytes):
            headers = [("Content-Type", content.type), ("Content-Length", str(len(content.data))), *content.headers]
            self.write(http.response_head(content.status, headers) + content.data)
            return
        with content.data:
            headers = [("Content-Type", content.type), ("Content-Length", str(content.count)), *content.headers]
            self.write(http.response_head(content.status, headers))
            await self._send_file(content.data, content.start, content.count)

    async def _send_file(self, file: io.FileIO, start: int, count: int) -> None:
        """A file that shrinks meanwhile leaves the promised length unmet: the connection is broken off."""
        if self._transport is None:
            raise asyncio.CancelledError
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, FILE_SEND_BUFFER)
        try:
            sent = await asyncio.get_running_loop().sendfile(self._transport, file, start, count)
        except (ConnectionError, RuntimeError, OSError):
            sent = -1
        self._reading = self._transport is not None and self._transport.is_reading()
        if sent != count:
            self._abort()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def listen(sock: socket.socket, dispatch: Dispatch, counters: Counters) -> asyncio.AbstractServer:
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(lambda: Connection(dispatch, counters), sock=sock, backlog=512)
