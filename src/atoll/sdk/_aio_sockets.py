"""WebSockets of the async form; `_sio_sockets.py` has the same names. Loaded when the first one is opened."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConcurrencyError, ConnectionClosed, InvalidStatus, WebSocketException

from ._core import sockets
from ._core.request import Outcome


class Socket:
    """A WebSocket. Leaving `opened` closes it."""

    def __init__(self, connection: ClientConnection, opened: AsyncExitStack) -> None:
        self._connection = connection
        self._opened = opened

    async def send(self, message: str | bytes) -> None:
        try:
            await self._connection.send(message)
        except ConnectionClosed as error:
            raise sockets.gone(error) from error

    async def receive(self) -> str | bytes | None:
        """None when the other side has closed it as agreed."""
        try:
            return await self._connection.recv()
        except ConnectionClosed as error:
            if sockets.is_clean(error):
                return None
            raise sockets.gone(error) from error

    async def close(self) -> None:
        """What was not read stands before the server's goodbye, so it is read meanwhile."""
        await asyncio.gather(self._opened.aclose(), self._drain())

    async def _drain(self) -> None:
        with suppress(ConnectionClosed, ConcurrencyError):  # the second: somebody else reads
            while True:
                await self._connection.recv()


async def open_socket(url: str, headers: Mapping[str, str], timeout: float) -> Socket | Outcome:
    """A Socket, or why there is none."""
    opened = AsyncExitStack()
    try:
        connecting = connect(url, **sockets.options(url, headers, timeout))
        connection = await opened.enter_async_context(connecting)
        sockets.watch(connection.transport.get_extra_info("socket"))
        return Socket(connection, opened)
    except InvalidStatus as refused:
        return sockets.refusal(refused)
    except (OSError, WebSocketException) as error:
        return sockets.failure(url, error)


__all__ = ["Socket", "open_socket"]
