"""WebSockets of the sync form; `_aio_sockets.py` has the same names. Loaded when the first one is opened."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress

from websockets.exceptions import ConcurrencyError, ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from ._core import sockets
from ._core.request import Outcome


class Socket:
    """A WebSocket. Leaving `opened` closes it."""

    def __init__(self, connection: ClientConnection, opened: ExitStack) -> None:
        self._connection = connection
        self._opened = opened

    def send(self, message: str | bytes) -> None:
        try:
            self._connection.send(message)
        except ConnectionClosed as error:
            raise sockets.gone(error) from error

    def receive(self) -> str | bytes | None:
        """None when the other side has closed it as agreed."""
        try:
            return self._connection.recv()
        except ConnectionClosed as error:
            if sockets.is_clean(error):
                return None
            raise sockets.gone(error) from error

    def close(self) -> None:
        """What was not read stands before the server's goodbye, so it is read meanwhile."""
        closing = threading.Thread(target=self._opened.close, daemon=True)
        closing.start()
        with suppress(ConnectionClosed, ConcurrencyError):  # the second: somebody else reads
            while True:
                self._connection.recv()
        closing.join()


def open_socket(url: str, headers: Mapping[str, str], timeout: float) -> Socket | Outcome:
    """A Socket, or why there is none."""
    opened = ExitStack()
    try:
        connection = opened.enter_context(connect(url, **sockets.options(url, headers, timeout)))
        sockets.watch(connection.socket)
        return Socket(connection, opened)
    except InvalidStatus as refused:
        return sockets.refusal(refused)
    except (OSError, WebSocketException) as error:
        return sockets.failure(url, error)


__all__ = ["Socket", "open_socket"]
