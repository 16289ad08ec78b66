"""The asyncio shell around `wire/rpc.py`: one client, one server, Unix stream sockets.

A call ends in exactly one of: the result, an `AtollError` of the peer, `Unavailable` (the connection is gone or the
time is over). After `Unavailable` the caller does not know whether the peer acted: methods are idempotent or are
cleaned up by reconciliation. A handler is never cancelled because its caller left, so an effect is not cut in half.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from atoll.core.errors import AtollError, InternalError, InvalidInput, Unavailable, from_wire, to_wire
from atoll.wire import rpc as wire

log = logging.getLogger(__name__)

Params = dict[str, Any]  # Any: JSON values; each method's shape is in docs/architecture.md
Handler = Callable[[str, Params, "Connection"], Awaitable[Params | None]]
EventCallback = Callable[[str, Params], None]


class RpcClient:
    """One connection. When it is lost it stays lost: connecting again is the caller's decision."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_event: EventCallback | None = None
    ) -> None:
        self._writer = writer
        self._on_event = on_event
        self._pending: dict[int, asyncio.Future[Params]] = {}
        self._next_id = 0
        self._closed = asyncio.Event()
        self._reading = asyncio.create_task(self._read(reader), name="rpc-client")

    @classmethod
    async def connect(cls, path: Path | str, on_event: EventCallback | None = None) -> RpcClient:
        try:
            reader, writer = await asyncio.open_unix_connection(str(path), limit=wire.MAX_LINE)
        except OSError as error:
            raise Unavailable(f"nobody answers on {Path(path).name}") from error
        return cls(reader, writer, on_event)

    @property
    def connected(self) -> bool:
        return not self._closed.is_set()

    async def call(self, method: str, params: Params | None = None, timeout_s: float | None = 30.0) -> Params:
        if not self.connected:
            raise Unavailable(f"{method}: not connected")
        self._next_id += 1
        call_id = self._next_id
        future: asyncio.Future[Params] = asyncio.get_running_loop().create_future()
        self._pending[call_id] = future
        try:
            self._writer.write(wire.encode({"id": call_id, "method": method, "params": params or {}}))
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError as error:
            raise Unavailable(f"{method}: no answer within {timeout_s} s") from error
        finally:
            self._pending.pop(call_id, None)

    async def wait_closed(self) -> None:
        """Returns when the connection is lost or closed."""
        await self._closed.wait()

    async def close(self) -> None:
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
        await _close_writer(self._writer)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._dispatch(wire.decode(line))
        except (OSError, ValueError) as error:  # ValueError: a line that is too long or not ours
            log.warning("rpc connection lost: %s", error)
        finally:
            self._closed.set()
            self._writer.close()
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(Unavailable("the connection was lost before the answer"))

    def _dispatch(self, message: wire.Message) -> None:
        if "event" in message:
            self._deliver(str(message["event"]), message.get("data") or {})
            return
        future = self._pending.get(message["id"])
        if future is None or future.done():
            return  # the caller gave up
        if "error" in message:
            future.set_exception(from_wire(message["error"]))
        else:
            future.set_result(message.get("result") or {})

    def _deliver(self, event: str, data: Params) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event, data)
        except Exception:
            log.exception("the callback of event %s failed", event)


class Connection:
    """The server's side of one client."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    @property
    def lost(self) -> bool:
        """Nobody hears an answer any more."""
        return self._writer.is_closing()

    def emit(self, event: str, data: Params) -> None:
        """Never blocks and never fails; a client that is gone misses it and learns by listing when it is back."""
        self.send({"event": event, "data": data})

    def send(self, message: wire.Message) -> None:
        if not self.lost:
            self._writer.write(wire.encode(message))


class RpcServer:
    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.connections: set[Connection] = set()
        self._readers: set[asyncio.Task[None]] = set()
        self._requests: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def broadcast(self, event: str, data: Params) -> None:
        for connection in self.connections:
            connection.emit(event, data)

    async def listen(self, path: Path | str, mode: int) -> None:
        await self.serve(listening_socket(path, mode))

    async def serve(self, listening: socket.socket) -> None:
        self._server = await asyncio.start_unix_server(self._accept, sock=listening, limit=wire.MAX_LINE)

    async def close(self) -> None:
        """Stops listening, drops the connections; requests under way get to their end first."""
        if self._server is not None:
            self._server.close()
        if self._requests:
            await asyncio.gather(*self._requests, return_exceptions=True)
        for task in self._readers:
            task.cancel()
        if self._readers:
            await asyncio.gather(*self._readers, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(writer)
        task = asyncio.current_task()
        assert task is not None
        self._readers.add(task)
        self.connections.add(connection)
        try:
            while line := await reader.readline():
                self._start(wire.decode(line), connection)
        except (OSError, ValueError) as error:
            log.warning("rpc client dropped: %s", error)
        except asyncio.CancelledError:
            pass  # close() is the only canceller, and it waits for nothing but this clean-up
        finally:
            self.connections.discard(connection)
            self._readers.discard(task)
            await _close_writer(writer)

    def _start(self, message: wire.Message, connection: Connection) -> None:
        task = asyncio.create_task(self._answer(message, connection))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _answer(self, message: wire.Message, connection: Connection) -> None:
        answer: wire.Message = {"id": message.get("id")}
        try:
            method, params = message.get("method"), message.get("params")
            if not isinstance(method, str) or not isinstance(params, dict):
                raise InvalidInput("a request has a method and an object of parameters")
            answer["result"] = await self._handler(method, params, connection) or {}
        except AtollError as error:
            answer["error"] = to_wire(error)
        except Exception:
            error_id = secrets.token_hex(8)
            log.exception("error %s in %s", error_id, message.get("method"))
            answer["error"] = to_wire(InternalError(f"internal error {error_id}", error_id=error_id))
        connection.send(answer)


async def serve(path: Path | str, handler: Handler, mode: int = 0o600) -> RpcServer:
    """Listens until `close()`. A socket file left over by a dead process is replaced."""
    server = RpcServer(handler)
    await server.listen(path, mode)
    return server


def listening_socket(path: Path | str, mode: int = 0o600) -> socket.socket:
    """Bound beside its name and renamed into place: nobody can connect before the mode is right, or finds no file."""
    final = Path(path)
    staging = final.with_name(f".{final.name}.{os.getpid()}")
    staging.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(staging))
        staging.chmod(mode)
        sock.listen(1024)
        sock.setblocking(False)
        staging.rename(final)
    except OSError:
        sock.close()
        staging.unlink(missing_ok=True)
        raise
    return sock


async def _close_writer(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
