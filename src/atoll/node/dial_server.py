"""RUN/dial.sock: connections outward for the edge, which has no privileges and may live in another network namespace.

One packet each way on a SOCK_SEQPACKET connection: `{"sandbox_id","host","port"}`, then `{}` with the connected socket
(SCM_RIGHTS), or `{"error"}` in the form of the rpc. The edge writes and reads on it alone from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from atoll.core.errors import AtollError, InternalError, InvalidInput, to_wire
from atoll.core.ids import is_sandbox_id

log = logging.getLogger(__name__)

MAX_PACKET = 8192
MAX_HOST = 253
ASK_S = 5.0  # from connecting to the question
BACKLOG = 256
NO_DESCRIPTORS_S = 0.1

Dial = Callable[[str, str, int], Awaitable[socket.socket]]
"""For a sandbox, to a host and a port."""


class DialServer:
    def __init__(self, path: Path, dial: Dial) -> None:
        self._path = path
        self._dial = dial
        self._calls: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    def open(self) -> None:
        self._listener = _listen(self._path)
        self._accepting = asyncio.create_task(self._accept(self._listener))

    async def close(self) -> None:
        if self._accepting is None or self._listener is None:
            return
        tasks = (self._accepting, *self._calls)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("a question for a connection is not heard: %s", error)
                await asyncio.sleep(NO_DESCRIPTORS_S)
                continue
            task = loop.create_task(self._answer(connection))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ASK_S):
                raw = await asyncio.get_running_loop().sock_recv(connection, MAX_PACKET)
            try:
                dialled = await self._dial(*question(raw))
            except AtollError as error:
                connection.send(_packet({"error": to_wire(error)}))
            except Exception:
                log.exception("a connection outward failed")
                connection.send(_packet({"error": to_wire(InternalError("no connection; the node's log says why"))}))
            else:
                with dialled:
                    socket.send_fds(connection, [_packet({})], [dialled.fileno()])


def question(raw: bytes) -> tuple[str, str, int]:
    try:
        asked = json.loads(raw)
        sandbox_id, host, port = asked["sandbox_id"], asked["host"], asked["port"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput("not a question for a connection") from error
    if not isinstance(sandbox_id, str) or not is_sandbox_id(sandbox_id):
        raise InvalidInput("not a sandbox id")
    if not isinstance(host, str) or not 0 < len(host) <= MAX_HOST or not host.isascii() or not host.isprintable():
        raise InvalidInput("not a host")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise InvalidInput("not a port")
    return sandbox_id, host, port


def _packet(value: dict[str, Any]) -> bytes:  # Any: JSON values
    return json.dumps(value).encode()


def _listen(path: Path) -> socket.socket:
    """Bound beside its name and renamed: nobody finds it before its mode is right."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    staging.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(str(staging))
        staging.chmod(0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        staging.rename(path)
    except OSError:
        listener.close()
        staging.unlink(missing_ok=True)
        raise
    return listener
