"""In the agent zygote, once: what an agent does from its birth to the end of its first cells.

Python rewrites a function while it warms up, keeps the names that it has looked up, and makes some things when they are
first wanted. Each page that this touches would be copied in every sandbox; after a rehearsal all of them share it.
Nobody is on the other side: client and seed are played here, on socket pairs that nobody else has.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from atoll.wire import frames

from . import main
from .http_server import Connection
from .quiet import Quiet
from .reaper import Reaper
from .routes import dispatcher
from .services import Config

ROUNDS = 20
PATIENCE_S = 10.0
NO_PID = 2**22 + 1  # Linux gives none above 2**22
MAX_PACKET = 256 * 1024
Body = dict[str, object]
CELL: Body = {"code": "1+1", "env": {"A": "B"}, "timeout_s": 60.0, "cwd": "/", "wait": True, "spare": False}
REQUESTS: tuple[tuple[str, str, Body], ...] = (
    ("GET", "/health", {}),
    ("PATCH", "/env", {"env": {"A": "B"}}),
    ("POST", "/contexts/default/execute", CELL),
    ("POST", "/contexts/default/execute", CELL),
    ("GET", "/activity", {}),
    ("GET", "/nothing", {}),
)
OUTCOME = b"".join(
    (
        frames.encode_json({"type": "result", "data": {"text/plain": "2"}, "metadata": {}}),
        frames.encode_json({"type": "end", "status": "ok", "execution_count": 1}),
    )
)


def rehearse() -> tuple[str, ...]:
    """What went wrong: an agent that has not rehearsed only needs more memory."""
    before = signal.getsignal(signal.SIGCHLD)
    try:
        for _ in range(ROUNDS):
            with _new_loop() as loop:
                loop.run_until_complete(asyncio.wait_for(_life(), PATIENCE_S))
    except Exception as error:
        return (f"rehearsal of the agent: {type(error).__name__}: {error}",)
    finally:
        signal.signal(signal.SIGCHLD, before)
    return ()


@contextmanager
def _new_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _life() -> None:
    loop = asyncio.get_running_loop()
    seed, player = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with player, Seed(player) as played:
        reaper = Reaper()
        loop.add_signal_handler(signal.SIGCHLD, reaper.reap)
        config = Config.from_wire({"workdir": "/", "trust_root": None, "python": True, "env": {"A": "B"}})
        services = main.services_of(reaper, seed, config)
        main.begin(services, config)
        quiet = Quiet(0, lambda: None)
        dispatch = quiet.around(dispatcher(services))
        quiet.begin()
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            await loop.connect_accepted_socket(lambda: Connection(dispatch, services.counters), theirs)
            for method, path, body in REQUESTS:
                await _ask(ours, method, path, body)
        played.end_contexts()
        for context in services.contexts.list():
            if context.interpreter is not None:
                await context.interpreter.gone.wait()


async def _ask(sock: socket.socket, method: str, path: str, body: Body) -> None:
    """The answer is read to its end, and not looked at."""
    loop = asyncio.get_running_loop()
    data = json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    await loop.sock_sendall(sock, head.encode() + data)
    answer = b""
    while not _is_whole(answer):
        piece = await loop.sock_recv(sock, MAX_PACKET)
        if not piece:
            raise ConnectionError(f"{method} {path} was not answered")
        answer += piece


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    _, counted, rest = head.lower().partition(b"content-length:")
    return len(body) >= int(rest.split(b"\r\n")[0]) if counted else body.endswith(b"0\r\n\r\n")


class Seed:
    """Answers every request for a context with one that says the same to each cell."""

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._contexts: dict[str, socket.socket] = {}

    def __enter__(self) -> Seed:
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._fork)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._socket)
        self.end_contexts()

    def end_contexts(self) -> None:
        for name, stream in self._contexts.items():
            self._tell({"op": "exited", "id": name, "status": 0})
            self._loop.remove_reader(stream)
            stream.close()
        self._contexts.clear()

    def _fork(self) -> None:
        data, descriptors, _, _ = socket.recv_fds(self._socket, MAX_PACKET, 4)
        if not data:
            return
        stream = socket.socket(fileno=descriptors[0])
        for fd in descriptors[1:]:
            os.close(fd)
        name = json.loads(data)["id"]
        self._contexts[name] = stream
        stream.setblocking(False)
        self._loop.add_reader(stream, self._cell, stream, frames.FrameDecoder())
        self._tell({"op": "forked", "id": name, "pid": NO_PID})

    def _cell(self, stream: socket.socket, decoder: frames.FrameDecoder) -> None:
        data = stream.recv(MAX_PACKET)
        if not data:
            self._loop.remove_reader(stream)
            return
        for _ in decoder.feed(data):
            stream.send(OUTCOME)

    def _tell(self, message: dict[str, object]) -> None:
        self._socket.send(json.dumps(message).encode())
