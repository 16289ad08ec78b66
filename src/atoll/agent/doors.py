"""Doors to the surfaces that the edge serves for this sandbox, for programs inside: 127.0.0.1, the ports of `PORTS`.

The surfaces are served outside. So a connection that a program makes is handed out as a descriptor, to whoever asks for
the next one; until then it waits in the kernel's queue.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

PORTS = (7777, 49983, 49999)
ADDRESS = "127.0.0.1"
BACKLOG = 16


class Doors:
    def __init__(self, ports: tuple[int, ...] = PORTS) -> None:
        self._listening = [sock for port in ports if (sock := _listen(port)) is not None]
        self._turn = asyncio.Lock()

    @classmethod
    def inside(cls) -> Doors:
        """No doors where the agent is an ordinary process: the ports would be its machine's."""
        return cls(PORTS if os.getpid() == 1 else ())

    def owns(self, port: int, address: str) -> bool:
        return (address, port) in {sock.getsockname() for sock in self._listening}

    async def next(self) -> tuple[int, socket.socket]:
        """Who comes next, and to which port. Nobody is accepted while nobody asks."""
        async with self._turn:
            loop = asyncio.get_running_loop()
            come: asyncio.Future[tuple[int, socket.socket]] = loop.create_future()
            try:
                for sock in self._listening:
                    loop.add_reader(sock.fileno(), _accept, sock, come)
                return await come
            finally:
                for sock in self._listening:
                    loop.remove_reader(sock.fileno())


def _listen(port: int) -> socket.socket | None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((ADDRESS, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        return None
    return sock


def _accept(listening: socket.socket, come: asyncio.Future[tuple[int, socket.socket]]) -> None:
    if come.done():
        return
    with suppress(OSError):  # it has left again
        connection, _ = listening.accept()
        come.set_result((listening.getsockname()[1], connection))
