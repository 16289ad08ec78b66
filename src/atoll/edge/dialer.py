"""The edge's side of RUN/dial.sock: connections outward, made and checked by the node (docs/architecture.md)."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Protocol

from atoll.core.errors import Unavailable, from_wire

MAX_PACKET = 8192
ANSWER_S = 20.0  # the node resolves for 5 s and connects for 10 s


class Dialer(Protocol):
    async def dial(self, sandbox_id: str, host: str, port: int) -> socket.socket:
        """Connected, not blocking. AtollError: the node's word why not."""
        ...


class NodeDialer:
    def __init__(self, path: Path) -> None:
        self._path = path

    async def dial(self, sandbox_id: str, host: str, port: int) -> socket.socket:
        asked = json.dumps({"sandbox_id": sandbox_id, "host": host, "port": port}).encode()
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._ask(asked)
        except TimeoutError as error:
            raise Unavailable(f"no connection to {host} within {ANSWER_S:g} s") from error
        except OSError as error:
            raise Unavailable("the node, which makes connections outward, does not answer") from error

    async def _ask(self, asked: bytes) -> socket.socket:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
            link.setblocking(False)
            link.connect(str(self._path))
            link.send(asked)
            await _readable(link)
            raw, descriptors, _, _ = socket.recv_fds(link, MAX_PACKET, 1)
        if descriptors:
            dialled = socket.socket(fileno=descriptors[0])
            dialled.setblocking(False)
            return dialled
        if not raw:
            raise Unavailable("the node was replaced meanwhile")
        raise from_wire(json.loads(raw)["error"])


async def _readable(link: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def arrived() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(link.fileno(), arrived)
    try:
        await ready
    finally:
        loop.remove_reader(link.fileno())
