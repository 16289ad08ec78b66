"""Jupyter's messaging protocol over ZeroMQ, as a client: four sockets, signed messages.

The kernel listens on an address of 127/8 that is drawn anew for each kernel, not on 127.0.0.1: so its ports are
neither reached nor listed as services of the sandbox. Whoever else is inside needs the key.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import importlib
import json
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
VERSION = "5.3"
RECONNECT_MS = 10  # the kernel binds when it is ready to; ZeroMQ's default of 100 ms would be waited for
DELIMITER = b"<IDS|MSG>"
AT_ONCE = 100
"""Then the other sockets and the signals have their turn: a kernel may publish without end."""


class Connection(NamedTuple):
    ip: str
    ports: Mapping[str, int]
    key: str

    def content(self, name: str) -> dict[str, Any]:
        """Of the connection file."""
        return {
            **self.ports,
            "ip": self.ip,
            "transport": "tcp",
            "key": self.key,
            "signature_scheme": "hmac-sha256",
            "kernel_name": name,
        }

    def address(self, port: str) -> str:
        return f"tcp://{self.ip}:{self.ports[port]}"


class Message(NamedTuple):
    kind: str
    parent: str
    """The request's id."""
    content: Mapping[str, Any]


def new_connection() -> Connection:
    ip = f"127.{64 + secrets.randbelow(64)}.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}"
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in PORTS]
        for sock in held:
            sock.bind((ip, 0))
        ports = {name: sock.getsockname()[1] for name, sock in zip(PORTS, held)}
    return Connection(ip, ports, secrets.token_hex(32))


class Link:
    def __init__(self, connection: Connection) -> None:
        zmq: Any = importlib.import_module("zmq")
        self._zmq = zmq
        self._key = connection.key.encode()
        self._session = secrets.token_hex(16)
        self._count = 0
        self._context = zmq.Context()
        self.shell = self._connect(zmq.DEALER, connection.address("shell_port"))
        self.control = self._connect(zmq.DEALER, connection.address("control_port"))
        self.stdin = self._connect(zmq.DEALER, connection.address("stdin_port"))
        self.iopub = self._connect(zmq.SUB, connection.address("iopub_port"))
        self._poller = zmq.Poller()
        for sock in (self.shell, self.control, self.stdin, self.iopub):
            self._poller.register(sock, zmq.POLLIN)

    def _connect(self, kind: int, address: str) -> Any:
        sock = self._context.socket(kind)
        sock.linger = 0
        sock.reconnect_ivl = RECONNECT_MS
        sock.rcvhwm = 0  # what does not fit would be dropped, a cell's end with it; the memory is the sandbox's own
        if kind == self._zmq.SUB:
            sock.subscribe(b"")
        sock.identity = self._session.encode()  # one for all: by it the kernel finds who is to be asked for input
        sock.connect(address)
        return sock

    def watch(self, fd: int) -> None:
        self._poller.register(fd, self._zmq.POLLIN)

    def wait(self, timeout_ms: float | None) -> set[Any]:
        """The sockets and watched descriptors that have something."""
        return {ready for ready, _ in self._poller.poll(timeout_ms)}

    def request(self, sock: Any, kind: str, content: Mapping[str, Any]) -> str:
        self._count += 1
        message_id = f"{self._session}_{os.getpid()}_{self._count}"
        header = {
            "msg_id": message_id,
            "msg_type": kind,
            "username": "user",
            "session": self._session,
            "date": "1970-01-01T00:00:00Z",  # asked for by the protocol, and by nobody else
            "version": VERSION,
        }
        parts = [json.dumps(part).encode() for part in (header, {}, {}, content)]
        sock.send_multipart([DELIMITER, sign(self._key, parts), *parts])
        return message_id

    def received(self, sock: Any) -> Iterator[Message]:
        """What is there now, up to AT_ONCE. What is not signed or not a message is passed over."""
        for _ in range(AT_ONCE):
            try:
                frames = sock.recv_multipart(self._zmq.NOBLOCK)
            except self._zmq.Again:
                return
            message = parse(self._key, frames)
            if message is not None:
                yield message


def parse(key: bytes, frames: list[bytes]) -> Message | None:
    """None: not a message, or not of who has the key."""
    if DELIMITER not in frames:
        return None
    signature, *parts = frames[frames.index(DELIMITER) + 1 :] or [b""]
    if len(parts) < 4 or not hmac.compare_digest(signature, sign(key, parts[:4])):
        return None
    try:
        header, parent, _, content = map(json.loads, parts[:4])
        return Message(str(header["msg_type"]), str(parent.get("msg_id")), dict(content))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def sign(key: bytes, parts: list[bytes]) -> bytes:
    digest = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        digest.update(part)
    return digest.hexdigest().encode()
