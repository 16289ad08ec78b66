"""`/processes/connect`: one program of a sandbox over a WebSocket, byte for byte, in both directions. Ours, not HopX's.

    client → edge   first   {"argv": [...], "env": {}, "workdir": "", "user": "user", "timeout": s, "name": "",
                             "stdin": true, "pty": {"cols": 80, "rows": 24}, "keep": false}    a new program, or
                            {"id": "…"}                                                        one that runs already
                    then    binary: standard input; {"type": "eof"}, {"type": "resize", "cols", "rows"},
                            {"type": "signal", "signal": "SIGINT"}
    edge → client           {"type": "start", "id", "name"}; binary: `O` or `E` and then output;
                            {"type": "taken", "bytes"}; at last {"type": "exit", "code", "message"},
                            or {"type": "error", …}

A client lets at most WINDOW bytes of input wait that were not `taken`. A program that is not to be kept ends when its
client leaves. One that is kept goes on; who names its id gets its last output first, and then what follows.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType

from atoll.edge.agent_link import AgentRefused, Answer
from atoll.edge.frames_in import Frame, mapping, text, whole

from .call import Call, Object, env_of, optional_text, workdir_of
from .errors import Kind, SurfaceError
from .execution import Run, cannot_start, plain_id, start_process
from .outcome import ending_of
from .sockets import FIRST_MESSAGE_S, MAX_TERMINAL_SIDE, ClientLeft, Socket, either

WINDOW = 1024 * 1024
MAX_WAITING = 4 * WINDOW  # what a client may be ahead of its window before it is put out
MAX_OUTPUT_PIECE = 256 * 1024
SIGNALS = frozenset(f"SIG{name}" for name in ("HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM", "CONT", "STOP"))
LEFT = frozenset((WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR))

Message = bytes | Object


class Input:
    """Standard input on its way: joined while the previous piece is being taken."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ended = False
        self._there = asyncio.Event()

    def put(self, data: bytes) -> None:
        if len(self._data) + len(data) > MAX_WAITING:
            raise SurfaceError(Kind.TOO_MANY, f"More than {WINDOW} bytes of input wait to be taken")
        self._data += data
        self._there.set()

    def end(self) -> None:
        self._ended = True
        self._there.set()

    async def take(self) -> tuple[bytes, bool]:
        await self._there.wait()
        self._there.clear()
        taken = bytes(self._data)
        self._data.clear()
        return taken, self._ended


async def connect(call: Call, socket: Socket) -> None:
    order = await _first(socket)
    try:
        async with _program(call, order) as stream:
            frames = stream.frames()
            record = mapping((await anext(frames)).value.get("process"))
            process = f"/processes/{plain_id(text(record.get('id')))}"
            await _say(socket, {"type": "start", "id": text(record.get("id")), "name": text(record.get("name"))[:256]})
            pending = Input()
            await either(
                _show(socket, frames, _timeout(order) or 0.0),
                _listen(call, socket, process, pending),
                _feed(call, socket, process, pending),
            )
    except AgentRefused as refused:
        if "id" in order:
            raise
        ending = cannot_start(refused, run_of(call, order))
        await socket.ws.send_bytes(b"E" + ending.message.encode("utf-8", "replace"))
        await _say(socket, {"type": "exit", "code": ending.exit_code, "message": ""})


def run_of(call: Call, order: Object) -> Run:
    argv = order.get("argv")
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) and "\0" not in word for word in argv):
        raise SurfaceError(Kind.INVALID_REQUEST, "The field 'argv' must be a list of strings, the program first")
    shell = argv[0] == "bash"
    return Run(
        argv=tuple(argv),
        cwd=workdir_of(order, call.route),
        timeout_s=_timeout(order) or 0.0,
        env=env_of(order),
        otherwise=("sh", *argv[1:]) if shell else (),
        name=optional_text(order, "name")[:256] or None,
    )


def _timeout(order: Object) -> float | None:
    value = order.get("timeout")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise SurfaceError(Kind.INVALID_REQUEST, "The field 'timeout' must be a positive number of seconds")
    return float(value)


@asynccontextmanager
async def _program(call: Call, order: Object) -> AsyncIterator[Answer]:
    if "id" in order:
        process_id = plain_id(optional_text(order, "id"))
        try:
            stream = await call.agent.open("GET", f"/processes/{process_id}/attach")
        except AgentRefused as refused:
            if refused.kind != "not_found":
                raise
            raise SurfaceError(Kind.PROCESS_NOT_FOUND, f"Process {process_id} not found") from refused
    else:
        stream = await start_process(call.agent, run_of(call, order), **_mechanics(order))
    async with stream:
        yield stream


def _mechanics(order: Object) -> Object:
    kept = order.get("keep") is True
    size = order.get("pty")
    return {
        "attach": True,
        "record": kept,
        "kill_on_disconnect": not kept,
        "timeout_s": _timeout(order),
        "user": optional_text(order, "user", "user") or "user",
        "stdin": order.get("stdin") is True,
        "pty": None if size is None else _size(mapping(size)),
    }


def _size(value: Object) -> dict[str, int]:
    return {name: max(1, min(MAX_TERMINAL_SIDE, whole(value.get(name), 1))) for name in ("cols", "rows")}


# ---- out


async def _show(socket: Socket, frames: AsyncIterator[Frame], timeout_s: float) -> None:
    async for frame in frames:
        if frame.type == "end":
            ending = ending_of(frame, timeout_s)
            await _say(socket, {"type": "exit", "code": ending.exit_code, "message": ending.message.strip()})
        elif frame.type in ("O", "E"):
            kind = frame.type.encode()
            for at in range(0, len(frame.payload), MAX_OUTPUT_PIECE):
                await socket.ws.send_bytes(kind + frame.payload[at : at + MAX_OUTPUT_PIECE])


async def _say(socket: Socket, message: Object) -> None:
    await socket.ws.send_str(json.dumps(message))


# ---- in


async def _first(socket: Socket) -> Object:
    try:
        async with asyncio.timeout(FIRST_MESSAGE_S):
            while isinstance(message := await _receive(socket), bytes):
                pass
            return message
    except TimeoutError as error:
        raise ClientLeft from error


async def _receive(socket: Socket) -> Message:
    """Bytes as they are; of text, JSON objects alone. ClientLeft at the end."""
    while True:
        message = await socket.ws.receive()
        if message.type in LEFT:
            raise ClientLeft
        if message.type is WSMsgType.PING:  # of a client for which the library does not answer
            await socket.ws.pong(message.data)
        elif message.type is WSMsgType.BINARY:
            return bytes(message.data)
        elif message.type is WSMsgType.TEXT and (value := _object(message.data)) is not None:
            return value


def _object(data: str) -> Object | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


async def _listen(call: Call, socket: Socket, process: str, pending: Input) -> None:
    while True:
        try:
            message = await _receive(socket)
        except ClientLeft:
            return
        if isinstance(message, bytes):
            pending.put(message)
            continue
        match message.get("type"):
            case "eof":
                pending.end()
            case "resize":
                await _tell(call, f"{process}/resize", _size(message))
            case "signal" if message.get("signal") in SIGNALS:
                await _tell(call, f"{process}/signal", {"signal": message["signal"], "tree": True})


async def _tell(call: Call, path: str, body: Any) -> None:  # Any: JSON
    try:
        await call.agent.call("POST", path, json=body)
    except AgentRefused:
        return  # the program has just ended, and its end is on its way


async def _feed(call: Call, socket: Socket, process: str, pending: Input) -> None:
    """A program may read nothing for hours, so this has no time limit; the program's end ends it."""
    while True:
        data, ended = await pending.take()
        try:
            if data:
                async with await call.agent.open("POST", f"{process}/stdin", body=data) as taken:
                    await taken.json()
            if ended:
                await call.agent.call("DELETE", f"{process}/stdin")
        except AgentRefused:
            pass  # it reads no more: what it was given counts as taken
        if data:
            await _say(socket, {"type": "taken", "bytes": len(data)})
