"""The three WebSockets. Each is a pump from an agent stream to the client beside a loop that reads the client.

The loop must always be reading: pings are answered and a departure is noticed only there. When either side ends, the
other is ended: leaving the agent's stream is what stops the cell, the terminal or the watch.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from atoll.edge.agent_link import AgentError, AgentRefused, Answer
from atoll.edge.frames_in import Frame, mapping, text, whole

from .call import Call, Object, absolute, dump, optional_text, timestamp
from .errors import Kind, SurfaceError, body, from_agent
from .execution import GRACE_S, Run, cannot_start, parse_code, plain_id, running, start_process
from .outcome import Chunks, Ending, Messages, ending_of, timed_out
from .pacing import ANSWER_S, MARK, Outbox, hears_one_at_a_time

PING_EVERY_S = 30.0  # notices a client that vanished without a word
FIRST_MESSAGE_S = 30.0
CLOSE_S = 2.0
MAX_MESSAGE = 16 * 1024 * 1024
MAX_PENDING_INPUT = 4 * 1024 * 1024
STREAM_TIMEOUT_S = 60.0
TERMINAL_SIZE = (80, 24)
MAX_TERMINAL_SIDE = 4096
FILE_EVENTS = frozenset(("created", "modified", "deleted", "renamed"))


class ClientLeft(Exception):
    pass


@dataclass
class Socket:
    ws: web.WebSocketResponse
    outbox: Outbox | None = None
    """For a client that has to be given one message at a time. Pings are ours to answer then."""
    _answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, message: Object) -> None:
        if self.outbox is None:
            await self.ws.send_str(dump(message).decode())
            return
        while self.outbox.full:
            await self._next_turn(self.outbox)
        self.outbox.put(message)
        await self._pass_on(self.outbox)

    async def _next_turn(self, outbox: Outbox) -> None:
        self._answered.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await self._answered.wait()
        await self._pass_on(outbox)

    async def _pass_on(self, outbox: Outbox) -> None:
        message = outbox.take(time.monotonic())
        if message is not None:
            await self.ws.send_str(dump(message).decode())
            await self.ws.ping(MARK)

    async def _keep_pace(self, outbox: Outbox, message: WSMessage) -> None:
        if message.type is WSMsgType.PING:
            await self.ws.pong(message.data)
        elif message.type is WSMsgType.PONG and message.data == MARK:
            outbox.answered()
            await self._pass_on(outbox)
            self._answered.set()

    async def finish(self) -> None:
        """Sends what waits for its turn. Nobody else may be reading any more."""
        if self.outbox is None:
            return
        reading = asyncio.ensure_future(self.until_left())
        reading.add_done_callback(lambda _: self._answered.set())
        try:
            while not (self.outbox.empty or reading.done()):
                await self._next_turn(self.outbox)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def receive(self) -> Object:
        """The next JSON object; what is none is skipped. ClientLeft at the end."""
        while True:
            message = await self.ws.receive()
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                raise ClientLeft
            if self.outbox is not None:
                await self._keep_pace(self.outbox, message)
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                continue
            try:
                value = json.loads(message.data)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                return value

    async def first(self) -> Object:
        try:
            async with asyncio.timeout(FIRST_MESSAGE_S):
                return await self.receive()
        except TimeoutError as error:
            raise ClientLeft from error

    async def until_left(self) -> None:
        with suppress(ClientLeft):
            while True:
                await self.receive()


Session = Callable[[Call, Socket], Awaitable[None]]


def websocket(session: Session) -> Callable[[Call], Awaitable[web.StreamResponse]]:
    async def handle(call: Call) -> web.StreamResponse:
        outbox = Outbox() if hears_one_at_a_time(call.request.headers) else None
        ws = web.WebSocketResponse(
            heartbeat=PING_EVERY_S,
            max_msg_size=MAX_MESSAGE,
            compress=False,
            timeout=CLOSE_S,
            autoping=outbox is None,
        )
        if not ws.can_prepare(call.request).ok:
            raise SurfaceError(Kind.UPGRADE_REQUIRED, "This path is a WebSocket")
        await call.exchange.begin(ws)
        call.open_sockets.add(ws)
        socket = Socket(ws, outbox)
        try:
            await session(call, socket)
        except ClientLeft:
            pass
        except SurfaceError as error:
            await _tell(socket, call, error)
        except AgentError as error:
            await _tell(socket, call, from_agent(error, call.route.id))
        finally:
            call.open_sockets.discard(ws)
        with suppress(ConnectionError):
            await socket.finish()
        await ws.close(code=WSCloseCode.OK)
        return ws

    return handle


async def _tell(socket: Socket, call: Call, error: SurfaceError) -> None:
    with suppress(ConnectionError):
        await socket.send({"type": "error", **body(error, call.exchange.id, timestamp())})


async def either(*sides: Awaitable[None]) -> None:
    """Until one side ends; the others are cancelled and waited for. The first failure is raised."""
    tasks = [asyncio.ensure_future(side) for side in sides]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        finished = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in finished:
        _raise_failure(task)


def _raise_failure(task: asyncio.Future[None]) -> None:
    """A client that is gone while we write to it is no failure."""
    if task.cancelled():
        return
    error = task.exception()
    if error is not None and not isinstance(error, ConnectionError):
        raise error


# /execute/stream


async def execute_stream(call: Call, socket: Socket) -> None:
    await either(_execute(call, socket, await socket.first()), socket.until_left())


async def _execute(call: Call, socket: Socket, request: Object) -> None:
    code = parse_code(request, call.route, STREAM_TIMEOUT_S)
    messages, ending, begun = Messages(), Ending(1, 0.0), time.monotonic()
    try:
        async with asyncio.timeout(code.timeout_s + GRACE_S), running(call.agent, code, call.route) as stream:
            async for frame in stream.frames():
                for message in messages.of(frame, timestamp()):
                    await socket.send(message)
                if frame.type == "end":
                    ending = ending_of(frame, code.timeout_s)
    except TimeoutError:
        ending = timed_out(code.timeout_s, time.monotonic() - begun)
    except AgentRefused as refused:
        ending = cannot_start(refused, code)
    for message in messages.closing(ending, timestamp()):
        await socket.send(message)


# /terminal


@dataclass
class Pending:
    """Input on its way to the terminal: joined while the previous piece is being taken."""

    data: bytearray = field(default_factory=bytearray)
    size: tuple[int, int] | None = None
    there: asyncio.Event = field(default_factory=asyncio.Event)

    def put_input(self, data: bytes) -> bool:
        if len(self.data) + len(data) > MAX_PENDING_INPUT:
            return False
        self.data += data
        self.there.set()
        return True

    def put_size(self, size: tuple[int, int]) -> None:
        self.size = size
        self.there.set()

    async def take(self) -> tuple[tuple[int, int] | None, bytes]:
        await self.there.wait()
        self.there.clear()
        taken = (self.size, bytes(self.data))
        self.size = None
        self.data.clear()
        return taken


async def terminal(call: Call, socket: Socket) -> None:
    cols, rows = TERMINAL_SIZE
    shell = Run(argv=("bash", "-l"), otherwise=("sh", "-l"), cwd=call.route.workdir, timeout_s=0, name="terminal")
    mechanics = {"attach": True, "kill_on_disconnect": True, "timeout_s": None, "pty": {"cols": cols, "rows": rows}}
    async with await start_process(call.agent, shell, **mechanics) as stream:
        frames = stream.frames()
        start = await anext(frames)
        process = f"/processes/{plain_id(text(mapping(start.value.get('process')).get('id')))}"
        pending = Pending()
        await either(
            _show_terminal(socket, frames),
            _read_terminal(socket, pending),
            _feed_terminal(call, process, pending),
        )


async def _show_terminal(socket: Socket, frames: AsyncIterator[Frame]) -> None:
    chunks = Chunks()
    async for frame in frames:
        if frame.type == "end":
            for piece in chunks.feed(b"", final=True):
                await socket.send({"type": "output", "data": piece})
            await socket.send({"type": "exit", "code": ending_of(frame, 0.0).exit_code})
        for piece in chunks.feed(frame.payload):
            await socket.send({"type": "output", "data": piece})


async def _read_terminal(socket: Socket, pending: Pending) -> None:
    with suppress(ClientLeft):
        while True:
            message = await socket.receive()
            match message.get("type"):
                case "input" if not pending.put_input(text(message.get("data")).encode("utf-8", "replace")):
                    raise SurfaceError(Kind.TOO_MANY, "The terminal does not take its input; too much is waiting")
                case "resize":
                    pending.put_size((_side(message.get("cols")), _side(message.get("rows"))))


def _side(value: object) -> int:
    return max(1, min(MAX_TERMINAL_SIDE, whole(value, 1)))


async def _feed_terminal(call: Call, process: str, pending: Pending) -> None:
    """The terminal may take no input for hours (its program reads none), so this has no time limit; its end ends it."""
    while True:
        size, data = await pending.take()
        try:
            if size is not None:
                await call.agent.call("POST", f"{process}/resize", json={"cols": size[0], "rows": size[1]})
            if data:
                async with await call.agent.open("POST", f"{process}/stdin", body=data) as taken:
                    await taken.json()
        except AgentRefused:
            continue  # the program has just ended, and its end is on its way


# /files/watch


async def watch(call: Call, socket: Socket) -> None:
    request = await socket.first()
    if request.get("action", "watch") != "watch":
        raise SurfaceError(Kind.INVALID_REQUEST, 'The first message must be {"action": "watch", "path": …}')
    path = absolute(optional_text(request, "path") or call.route.workdir, call.route.workdir)
    try:
        stream = await call.agent.open("GET", "/files/watch", query={"path": path, "recursive": "1"})
    except AgentRefused as refused:
        raise from_agent(refused, call.route.id, path=path) from refused
    async with stream:
        await either(_show_changes(socket, stream, request.get("ready") is True), socket.until_left())


async def _show_changes(socket: Socket, stream: Answer, says_ready: bool) -> None:
    """`says_ready`: only where it was asked for, since HopX's clients take each message for a change."""
    async for frame in stream.frames():
        if frame.type == "ready" and says_ready:
            await socket.send({"type": "ready", "timestamp": timestamp()})
        elif frame.type == "overflow":
            await socket.send(
                {"type": "overflow", "message": "Too many directories to watch", "timestamp": timestamp()}
            )
        elif frame.type == "event" and (event := text(frame.value.get("event"))) in FILE_EVENTS:
            await socket.send(
                {
                    "type": "change",
                    "path": text(frame.value.get("path")),
                    "event": event,
                    "from": frame.value.get("from"),
                    "is_directory": frame.value.get("is_directory") is True,
                    "timestamp": timestamp(),
                }
            )
