"""Terminals in a sandbox."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from atoll.sdk._core import agent

from .client import OPEN_S, AsyncAgent, AsyncMessages

if TYPE_CHECKING:
    from atoll.sdk._aio_sockets import Socket


class AsyncTerminalSession:
    """An open terminal with a login shell in it. It ends with the session, and the session with the shell.

    >>> async with await sandbox.terminal.connect() as session:
    ...     await session.send_input("echo $((6 * 7)); exit 3\\n")
    ...     async for message in session:
    ...         if message["type"] == "exit":
    ...             print(message["code"])
    3
    """

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._messages = AsyncMessages(socket, "the terminal")

    async def send_input(self, data: str) -> None:
        """Types.

        >>> async with await sandbox.terminal.connect() as session:
        ...     await session.send_input("exit\\n")
        """
        await self._socket.send(json.dumps({"type": "input", "data": data}))

    async def resize(self, cols: int, rows: int) -> None:
        """Says how many columns and rows are shown.

        >>> async with await sandbox.terminal.connect() as session:
        ...     await session.resize(120, 40)
        """
        await self._socket.send(json.dumps({"type": "resize", "cols": cols, "rows": rows}))

    def __aiter__(self) -> AsyncTerminalSession:
        """`{"type": "output", "data": …}` as it comes, at last `{"type": "exit", "code": …}`."""
        return self

    async def __anext__(self) -> dict[str, Any]:  # Any: JSON values
        message = await self._messages.__anext__()
        if agent.is_last(message):
            await self.close()
        return message

    async def close(self) -> None:
        """Ends the terminal and what runs in it.

        >>> session = await sandbox.terminal.connect()
        >>> await session.close()
        """
        await self._socket.close()

    async def __aenter__(self) -> AsyncTerminalSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncTerminal:
    """`sandbox.terminal`.

    >>> session = await sandbox.terminal.connect()
    >>> await sandbox.terminal.send_input(session, "exit\\n")
    >>> messages = [message async for message in sandbox.terminal.iter_output(session)]
    >>> messages[-1]["type"]
    'exit'
    """

    def __init__(self, agent: AsyncAgent) -> None:
        self._agent = agent

    async def connect(self, *, timeout: float | None = 30) -> AsyncTerminalSession:
        """Opens a terminal. `timeout`: seconds for it to be opened.

        >>> async with await sandbox.terminal.connect() as session:
        ...     await session.resize(100, 30)
        """
        return AsyncTerminalSession(await self._agent.socket("/terminal", OPEN_S if timeout is None else timeout))

    async def send_input(self, ws: AsyncTerminalSession, data: str) -> None:
        """The same as `ws.send_input(data)`.

        >>> async with await sandbox.terminal.connect() as session:
        ...     await sandbox.terminal.send_input(session, "exit\\n")
        """
        await ws.send_input(data)

    async def resize(self, ws: AsyncTerminalSession, cols: int, rows: int) -> None:
        """The same as `ws.resize(cols, rows)`.

        >>> async with await sandbox.terminal.connect() as session:
        ...     await sandbox.terminal.resize(session, 100, 30)
        """
        await ws.resize(cols, rows)

    def iter_output(self, ws: AsyncTerminalSession) -> AsyncIterator[dict[str, Any]]:  # Any: JSON values
        """The same as a loop over `ws`.

        >>> session = await sandbox.terminal.connect()
        >>> await session.send_input("exit 5\\n")
        >>> async for message in sandbox.terminal.iter_output(session):
        ...     if message["type"] == "exit":
        ...         print(message["code"])
        5
        """
        return ws
