"""The edge's side of the agent protocol. The peer is hostile: nothing it says is unbounded or believed unchecked.

    AgentError
    ├── AgentRefused       the agent said no: `kind` of docs/agent-protocol.md
    ├── AgentGone          nobody answers at the socket, or the answer broke off
    ├── AgentSilent        an answer that should be quick did not come
    ├── AgentMisbehaved    what came is not the protocol
    └── TooManyCalls       the cap on calls open at once

Redirects are not followed, bodies are never decompressed, cookies are dropped.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Mapping
from types import TracebackType
from typing import Any, Protocol

import aiohttp
from yarl import URL

from atoll.wire.frames import FrameDecoder, FrameError

from .cpu_usage import CpuUsage
from .frames_in import Frame, parse_json

MAX_JSON = 64 * 1024 * 1024
MAX_ERROR = 64 * 1024
MAX_OPEN_CALLS = 512
"""Each is a connection, with three pipes where it is a program's: half of the 4,096 descriptors that a sandbox's agent
has. And no more connections may come at once than wait at its socket (`engines.native.slot.SOCKET_BACKLOG`)."""
AT_ONCE = 256
"""Frames of one answer, until other calls have their turn: of tiny ones tens of thousands arrive together."""
LATEST_CALLS = 256
SLICE = 256 * 1024
CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 30.0
END_OF_STREAM_S = 1.0

Object = dict[str, Any]  # Any: JSON
Body = bytes | AsyncIterable[bytes] | None


class AgentError(Exception):
    pass


class AgentRefused(AgentError):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class AgentGone(AgentError):
    pass


class AgentSilent(AgentError):
    pass


class AgentMisbehaved(AgentError):
    pass


class TooManyCalls(AgentError):
    pass


class Open(Protocol):
    def break_off(self) -> None:
        """For whoever waits for more of it."""


class Answer:
    """An answer whose head has come. Leaving it before its end closes the connection, which ends the work inside."""

    def __init__(self, link: AgentLink, response: aiohttp.ClientResponse) -> None:
        self._link = link
        self._response = response
        self._closed = False
        link.answers.add(self)
        self.status = response.status
        self.content_length = response.content_length
        self.headers = response.headers

    async def __aenter__(self) -> Answer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._link.answers.discard(self)
        self._link.leave()
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()

    def break_off(self) -> None:
        """For whoever waits for more of it. Closing the session would leave them waiting: aiohttp forgets the body of
        a connection that it closes itself."""
        self._response.content.set_exception(ConnectionResetError("the sandbox has gone"))

    async def chunks(self) -> AsyncIterator[bytes]:
        content = self._response.content
        while True:
            try:
                chunk = await content.readany()
            except _BROKEN as error:
                raise AgentGone("the answer broke off") from error
            if not chunk:
                return
            yield chunk

    async def body(self, limit: int = MAX_JSON) -> bytes:
        if self.content_length is not None and self.content_length > limit:
            raise AgentMisbehaved(f"an answer of {self.content_length} bytes")
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit:
                raise AgentMisbehaved(f"an answer of more than {limit} bytes")
            parts.append(chunk)
        return b"".join(parts)

    async def json(self, limit: int = MAX_JSON) -> Object:
        try:
            value = parse_json(await self.body(limit))
        except FrameError as error:
            raise AgentMisbehaved(str(error)) from error
        if not isinstance(value, dict):
            raise AgentMisbehaved("an answer that is no JSON object")
        return value

    async def frames(self) -> AsyncIterator[Frame]:
        """Up to and including the frame of type `end`; without one the stream has broken off."""
        decoder, seen = FrameDecoder(), 0
        try:
            async for chunk in self.chunks():
                for raw in decoder.feed(chunk):
                    frame = Frame.of(raw)
                    seen += 1
                    if seen % AT_ONCE == 0:
                        await asyncio.sleep(0)
                    if frame.type == "end":
                        await self._finish()
                        yield frame
                        return
                    yield frame
        except FrameError as error:
            raise AgentMisbehaved(str(error)) from error
        raise AgentGone("the stream ended without its end")

    async def _finish(self) -> None:
        """Reads the closing chunk, so that the connection can be used again."""
        try:
            async with asyncio.timeout(END_OF_STREAM_S):
                await self._response.content.readany()
        except _BROKEN:
            self._response.close()


_BROKEN = (aiohttp.ClientError, TimeoutError, OSError, ValueError)
_NEVER_ARRIVED = (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError)


class AgentLink:
    """One per sandbox and incarnation: a pool of kept-alive connections, and counts for its metrics."""

    def __init__(self, socket: str, max_open_calls: int = MAX_OPEN_CALLS) -> None:
        self.socket = socket
        self.open_calls = 0
        self.calls: Counter[str] = Counter()
        self.errors = 0
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.latest: deque[float] = deque(maxlen=LATEST_CALLS)
        """Seconds that each of the last calls took."""
        self.cpu_usage = CpuUsage()
        self.answers: set[Open] = set()
        """Those whose end has not come."""
        self._max_open_calls = max_open_calls
        self._tasks: set[asyncio.Task[None]] = set()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=socket, limit=0, keepalive_timeout=300),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=256 * 1024,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        )

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for answer in self.answers:
            answer.break_off()
        await self._session.close()

    def afterwards(self, work: Coroutine[Any, Any, object]) -> None:
        """Tidying up that must outlive a cancelled call; what fails is gone with the sandbox."""

        async def quietly() -> None:
            try:
                await work
            except AgentError:
                return

        task = asyncio.create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json: object = None,
        body: Body = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> Object:
        try:
            async with asyncio.timeout(timeout_s):
                async with await self.open(method, path, query=query, json=json, body=body) as answer:
                    return await answer.json()
        except TimeoutError as error:
            raise AgentSilent(f"no answer within {timeout_s:g} s") from error

    async def open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json: object = None,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        self.enter()
        try:
            answer = Answer(self, await self._send(method, path, query, json, body, headers))
        except BaseException:
            self.leave()
            raise
        if answer.status < 400:
            return answer
        async with answer:
            raise await _refusal(answer)

    def enter(self) -> None:
        if self.open_calls >= self._max_open_calls:
            raise TooManyCalls(f"more than {self._max_open_calls} calls open at once")
        self.open_calls += 1

    def leave(self) -> None:
        self.open_calls -= 1

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        value: object,
        body: Body,
        headers: Mapping[str, str] | None,
    ) -> aiohttp.ClientResponse:
        sent = dict(headers or {})
        if value is not None:
            body = json.dumps(value).encode()
            sent["Content-Type"] = "application/json"
        if isinstance(body, bytes) and len(body) > SLICE:
            sent["Content-Length"] = str(len(body))
            body = _slices(body)
        url = URL.build(scheme="http", host="agent", path=path, query=query or {})
        try:
            return await self._session.request(method, url, data=body, headers=sent, allow_redirects=False)
        except _NEVER_ARRIVED as error:
            raise AgentGone("nobody answers at the sandbox's socket") from error
        except _BROKEN as error:
            raise AgentGone("the connection broke") from error


async def _slices(data: bytes) -> AsyncIterator[bytes]:
    """Written in pieces, so that a slow sandbox holds up nobody else."""
    view = memoryview(data)
    for at in range(0, len(data), SLICE):
        yield bytes(view[at : at + SLICE])


async def _refusal(answer: Answer) -> AgentError:
    try:
        return refusal_of(answer.status, await answer.json(MAX_ERROR))
    except AgentMisbehaved as error:
        return error


def refusal_of(status: int, data: Object) -> AgentError:
    kind, message = data.get("kind"), data.get("message")
    if not isinstance(kind, str) or not isinstance(message, str):
        return AgentMisbehaved(f"a status {status} without kind and message")
    return AgentRefused(kind, message[:4096])
