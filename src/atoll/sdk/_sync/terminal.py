"""Terminals in a sandbox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from atoll.sdk._core import agent

from .client import OPEN_S, Agent, Messages

if TYPE_CHECKING:
    from atoll.sdk._sio_sockets import Socket


class TerminalSession:
    """An open terminal with a login shell in it. It ends with the session, and the session with the shell.

    >>> with sandbox.terminal.connect() as session:
    ...     session.send_input("echo $((6 * 7)); exit 3\\n")
    ...     for message in session:
    ...         if message["type"] == "exit":
    ...             print(message["code"])
    3
    """

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._messages = Messages(socket, "the terminal")

    def send_input(self, data: str) -> None:
        """Types.

        >>> with sandbox.terminal.connect() as session:
        ...     session.send_input("exit\\n")
        """
        self._socket.send(json.dumps({"type": "input", "data": data}))

    def resize(self, cols: int, rows: int) -> None:
        """Says how many columns and rows are shown.

        >>> with sandbox.terminal.connect() as session:
        ...     session.resize(120, 40)
        """
        self._socket.send(json.dumps({"type": "resize", "cols": cols, "rows": rows}))

    def __iter__(self) -> TerminalSession:
        """`{"type": "output", "data": …}` as it comes, at last `{"type": "exit", "code": …}`."""
        return self

    def __next__(self) -> dict[str, Any]:  # Any: JSON values
        message = self._messages.__next__()
        if agent.is_last(message):
            self.close()
        return message

    def close(self) -> None:
        """Ends the terminal and what runs in it.

        >>> session = sandbox.terminal.connect()
        >>> session.close()
        """
        self._socket.close()

    def __enter__(self) -> TerminalSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Terminal:
    """`sandbox.terminal`.

    >>> session = sandbox.terminal.connect()
    >>> sandbox.terminal.send_input(session, "exit\\n")
    >>> messages = [message for message in sandbox.terminal.iter_output(session)]
    >>> messages[-1]["type"]
    'exit'
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def connect(self, *, timeout: float | None = 30) -> TerminalSession:
        """Opens a terminal. `timeout`: seconds for it to be opened.

        >>> with sandbox.terminal.connect() as session:
        ...     session.resize(100, 30)
        """
        return TerminalSession(self._agent.socket("/terminal", OPEN_S if timeout is None else timeout))

    def send_input(self, ws: TerminalSession, data: str) -> None:
        """The same as `ws.send_input(data)`.

        >>> with sandbox.terminal.connect() as session:
        ...     sandbox.terminal.send_input(session, "exit\\n")
        """
        ws.send_input(data)

    def resize(self, ws: TerminalSession, cols: int, rows: int) -> None:
        """The same as `ws.resize(cols, rows)`.

        >>> with sandbox.terminal.connect() as session:
        ...     sandbox.terminal.resize(session, 100, 30)
        """
        ws.resize(cols, rows)

    def iter_output(self, ws: TerminalSession) -> Iterator[dict[str, Any]]:  # Any: JSON values
        """The same as a loop over `ws`.

        >>> session = sandbox.terminal.connect()
        >>> session.send_input("exit 5\\n")
        >>> for message in sandbox.terminal.iter_output(session):
        ...     if message["type"] == "exit":
        ...         print(message["code"])
        5
        """
        return ws
