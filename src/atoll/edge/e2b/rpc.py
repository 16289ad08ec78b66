"""Connect calls as web requests: one message or a stream of them, each way. What they mean is the handlers' business.

A handler is given a message and raises ConnectError, or lets an AgentError through. The deadline is the call's whole
time. The answer of a stream has status 200, also when it fails; one that breaks off without its last envelope means
that the sandbox has gone, and clients then ask whether it is alive.

Back-pressure: a handler waits in `send` until the client has taken enough, and reads nothing meanwhile.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from atoll.edge.agent_link import AgentError
from atoll.edge.body import Room, TooLarge, TooManyBodies, read_whole
from atoll.wire import connect
from atoll.wire.connect import Code, ConnectError, Object

from .call import Call, answer
from .errors import from_agent
from .streamed import Streamed

KEEPALIVE_S = 90
MAX_KEEPALIVE_S = 3600
MAX_STREAMED = 16 * 1024 * 1024
"""One message of a stream."""
AT_ONCE = 256
"""Messages of a client, until others have their turn: of empty ones tens of thousands come together."""
_SECONDS = re.compile(r"[0-9]{1,6}")

Send = Callable[[bytes], Awaitable[None]]
"""Takes a message's envelope; comes back when there is room for the next."""


@dataclass(frozen=True, slots=True)
class Unary:
    handle: Callable[[Call, Object], Awaitable[Object]]


@dataclass(frozen=True, slots=True)
class ServerStream:
    handle: Callable[[Call, Object, Send], Awaitable[None]]
    keepalive: Object
    """The message that says only that the stream lives."""


@dataclass(frozen=True, slots=True)
class ClientStream:
    handle: Callable[[Call, AsyncIterator[Object]], Awaitable[Object]]


Method = Unary | ServerStream | ClientStream


async def serve(call: Call, method: Method) -> web.StreamResponse:
    if call.request.method != "POST":
        return web.Response(status=405, headers={"Allow": "POST, OPTIONS"})
    wanted = connect.UNARY_TYPE if isinstance(method, Unary) else connect.STREAM_TYPE
    if call.content_type != wanted:
        return web.Response(status=415, headers={"Accept-Post": wanted})
    if isinstance(method, Unary):
        return await _unary(call, method)
    return await _stream(call, method)


# ---- one message, one answer


async def _unary(call: Call, method: Unary) -> web.Response:
    try:
        async with asyncio.timeout(call.deadline_s):
            return answer(await method.handle(call, await message_of(call)))
    except (ConnectError, AgentError, TimeoutError) as error:
        failure = as_connect(error, call)
        return answer(failure.to_json(), failure.status)


async def message_of(call: Call, most: int = connect.MAX_MESSAGE) -> Object:
    """The one that the body is, of at most so many bytes."""
    if call.request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ConnectError(Code.UNIMPLEMENTED, "compressed messages are not supported; send them as they are")
    try:
        return connect.parse(await read_whole(call.request, most))
    except TooLarge as error:
        raise ConnectError(Code.RESOURCE_EXHAUSTED, f"a message is larger than {most} bytes") from error
    except TooManyBodies as error:
        raise _no_room() from error


# ---- streams


async def _stream(call: Call, method: ServerStream | ClientStream) -> web.StreamResponse:
    sender = Streamed(call.exchange, connect.STREAM_TYPE)
    try:
        async with asyncio.timeout(call.deadline_s):
            messages = read_messages(call)
            if isinstance(method, ClientStream):
                await sender.send(connect.message(await method.handle(call, messages)))
            else:
                message = await _only(messages)
                every_s = keepalive_of(call.request.headers.get("Keepalive-Ping-Interval"))
                alive = connect.message(method.keepalive)
                async with sender.kept_alive(alive, every_s, may_be_first=False):  # clients want a start
                    await method.handle(call, message, sender.send)
    except (ConnectError, AgentError, TimeoutError) as error:
        return await sender.finish(connect.end(as_connect(error, call)))
    return await sender.finish(connect.end(None))


async def read_messages(call: Call) -> AsyncIterator[Object]:
    """What the client sends, as it comes."""
    reader = connect.EnvelopeReader(MAX_STREAMED)
    with Room() as room:
        async for chunk in call.request.content.iter_any():
            for number, envelope in enumerate(reader.feed(chunk), 1):
                if envelope.is_end:
                    raise connect.invalid("clients send no end of a stream but the end of the request")
                yield connect.parse(envelope.payload)
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)
            try:
                room.keep(reader.held)
            except TooManyBodies as error:
                raise _no_room() from error
    if not reader.at_boundary():
        raise connect.invalid("the request ends in the middle of a message")


async def _only(messages: AsyncIterator[Object]) -> Object:
    found: Object | None = None
    async for message in messages:
        if found is not None:
            raise connect.invalid("this call takes one message, and there are more")
        found = message
    if found is None:
        raise connect.invalid("this call takes one message, and there is none")
    return found


def keepalive_of(text: str | None) -> int:
    """Seconds of a `Keepalive-Ping-Interval`; the usual ones when it says nothing of use."""
    digits = (text or "").strip(" \t")
    if not _SECONDS.fullmatch(digits):
        return KEEPALIVE_S
    return min(max(1, int(digits)), MAX_KEEPALIVE_S)


def as_connect(error: ConnectError | AgentError | TimeoutError, call: Call) -> ConnectError:
    """Raises an AgentGone again."""
    match error:
        case ConnectError():
            return error
        case AgentError():
            return from_agent(error, call.user)
        case _:
            return ConnectError(Code.DEADLINE_EXCEEDED, "the call's time is over")


def _no_room() -> ConnectError:
    return ConnectError(Code.RESOURCE_EXHAUSTED, "too many large requests at once; try again")
