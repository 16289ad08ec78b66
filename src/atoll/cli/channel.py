"""A program in a sandbox, byte for byte: the client's side of `/processes/connect`. It blocks; input goes from another
thread.

The edge takes input only as fast as the program reads it, and says how much was taken: at most WINDOW bytes are on
their way, so that a copy of any size needs no memory.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from atoll.core.errors import AtollError, AuthenticationFailed, InvalidInput, NotFound, Unavailable

PATH = "/processes/connect"
WINDOW = 1024 * 1024
PIECE = 128 * 1024
MAX_MESSAGE = 1024 * 1024
MAX_MESSAGE_TEXT = 4096
OPEN_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 2.0
PING_EVERY_S = 10.0
"""More often than the edge does: who reads slowly (`| less`) hears no ping for long, and must not seem to be gone.
For the same reason no answer is waited for."""
STDOUT, STDERR = b"O", b"E"

_ERRORS: dict[str, type[AtollError]] = {
    "PROCESS_NOT_FOUND": NotFound,
    "SANDBOX_NOT_FOUND": NotFound,
    "INVALID_REQUEST": InvalidInput,
    "INVALID_PATH": InvalidInput,
}


@dataclass(frozen=True)
class Order:
    """What to start."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    user: str = ""
    timeout_s: float | None = None
    stdin: bool = False
    size: tuple[int, int] | None = None
    """Columns and rows of a terminal; None: pipes."""
    keep: bool = False
    """Goes on when we leave."""
    name: str = ""

    def to_wire(self) -> dict[str, Any]:  # Any: JSON
        return {
            "argv": list(self.argv),
            "env": dict(self.env),
            "workdir": self.workdir,
            "user": self.user,
            "timeout": self.timeout_s,
            "stdin": self.stdin,
            "pty": None if self.size is None else {"cols": self.size[0], "rows": self.size[1]},
            "keep": self.keep,
            "name": self.name,
        }


@dataclass(frozen=True)
class Output:
    kind: bytes
    data: bytes


@dataclass(frozen=True)
class Exit:
    code: int
    message: str


Event = Output | Exit


class Left(Exception):
    """The connection has ended; there is nobody to write to."""


class Socket(Protocol):
    def send(self, message: str | bytes, /) -> None: ...

    def recv(self) -> str | bytes: ...

    def close(self) -> None: ...


class Program:
    """Made by `start` or `attach`. Leaving it closes the connection."""

    def __init__(self, socket: Socket) -> None:
        self.id = ""
        self._socket = socket
        self._room = WINDOW
        self._closed = False
        self._early: deque[Event] = deque()
        """What came while we waited for the start: a program that is not there says so and exits."""
        self._turn = threading.Condition()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        self._socket.close()

    # ---- in

    def write(self, data: bytes) -> None:
        """Waits until all of it is on its way. Left: the program or the connection has ended."""
        for at in range(0, len(data), PIECE):
            piece = data[at : at + PIECE]
            with self._turn:
                self._turn.wait_for(lambda: self._closed or self._room >= PIECE)
                if self._closed:
                    raise Left
                self._room -= len(piece)
            self._send(piece)

    def end_input(self) -> None:
        self._tell({"type": "eof"})

    def resize(self, cols: int, rows: int) -> None:
        self._tell({"type": "resize", "cols": cols, "rows": rows})

    def signal(self, name: str) -> None:
        self._tell({"type": "signal", "signal": name})

    def _tell(self, message: Mapping[str, Any]) -> None:  # Any: JSON
        self._send(json.dumps(message))

    def _send(self, message: str | bytes) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            self._socket.send(message)
        except ConnectionClosed as error:
            raise Left from error

    # ---- out

    def started(self) -> None:
        """Waits until it is known whether it runs. The error that the edge tells, when there is one."""
        while not (self.id or (self._early and isinstance(self._early[-1], Exit))):
            if (event := self._next()) is not None:
                self._early.append(event)

    def events(self) -> Iterator[Event]:
        """Output as it comes, at last one Exit. Left when we have closed; Unavailable when the connection broke."""
        while True:
            event = self._early.popleft() if self._early else self._next()
            if event is not None:
                yield event
            if isinstance(event, Exit):
                return

    def _next(self) -> Event | None:
        """None for what only this class minds."""
        message = self._receive()
        if isinstance(message, bytes):
            return Output(message[:1], message[1:])
        value = _parsed(message)
        match value.get("type"):
            case "start":
                self.id = str(value.get("id", ""))[:64]
            case "taken":
                with self._turn:
                    taken = value.get("bytes")
                    self._room = min(WINDOW, self._room + (taken if isinstance(taken, int) else 0))
                    self._turn.notify_all()
            case "exit":
                code = value.get("code")
                return Exit(code if isinstance(code, int) else 1, str(value.get("message", ""))[:MAX_MESSAGE_TEXT])
            case "error":
                kind = _ERRORS.get(str(value.get("code")), Unavailable)
                raise kind(str(value.get("message", "the sandbox refused"))[:MAX_MESSAGE_TEXT])
        return None

    def _receive(self) -> str | bytes:
        from websockets.exceptions import ConnectionClosed

        try:
            return self._socket.recv()
        except ConnectionClosed as error:
            if self._closed:
                raise Left from error
            raise Unavailable("the connection to the sandbox broke") from error


def _parsed(message: str) -> Mapping[str, Any]:  # Any: JSON
    try:
        value = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise Unavailable("what answers is not Atoll") from error
    return value if isinstance(value, dict) else {}


def start(agent_url: str, key: str, order: Order, tls: ssl.SSLContext | None = None) -> Program:
    """`agent_url`: of the sandbox, `URL/s/ID`. NotFound, Unavailable … say why there is no program.

    >>> with start("http://127.0.0.1:8080/s/…", key, Order(("ls", "-l"))) as program:   # doctest: +SKIP
    ...     for event in program.events(): print(event)
    """
    return _open(agent_url, key, order.to_wire(), tls)


def attach(agent_url: str, key: str, process_id: str, tls: ssl.SSLContext | None = None) -> Program:
    """A program that runs already: its last output first, then what follows."""
    return _open(agent_url, key, {"id": process_id}, tls)


def _open(agent_url: str, key: str, first: Mapping[str, Any], tls: ssl.SSLContext | None) -> Program:  # Any: JSON
    program = Program(_connect(agent_url, key, tls))
    try:
        program._tell(first)
        return program
    except BaseException:
        program.close()
        raise


def _connect(agent_url: str, key: str, tls: ssl.SSLContext | None) -> Socket:
    from websockets.exceptions import InvalidStatus, WebSocketException
    from websockets.sync.client import connect

    try:
        opened = connect(
            "ws" + agent_url.removeprefix("http") + PATH,
            additional_headers={"X-API-Key": key},
            compression=None,
            max_size=MAX_MESSAGE,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=PING_EVERY_S,
            ping_timeout=None,
            proxy=None,
            ssl=tls,
        )
        return opened.__enter__()  # it is left by `close`
    except InvalidStatus as error:
        raise _refused(error.response.status_code, bytes(error.response.body or b"")) from error
    except (WebSocketException, OSError, TimeoutError) as error:
        raise Unavailable(f"nothing answers at {agent_url}: {error}") from error


def _refused(status: int, body: bytes) -> AtollError:
    try:
        message = str(json.loads(body)["message"])[:MAX_MESSAGE_TEXT]
    except (ValueError, KeyError, TypeError, RecursionError):
        message = f"the sandbox answered {status}"
    kinds: dict[int, type[AtollError]] = {401: AuthenticationFailed, 404: NotFound}
    return kinds.get(status, Unavailable)(message)
