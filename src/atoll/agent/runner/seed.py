"""The seed: forks a context for each request of the agent, and tells when one has ended.

It holds root of the sandbox's user namespace and runs no user code; all it reads is the agent's packets.
One packet is one JSON object (`SOCK_SEQPACKET`). An environment too large for a packet comes in a fourth
descriptor, a file that holds it as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
from array import array
from typing import Any, NamedTuple

from . import context, pages

MAX_PACKET = 256 * 1024  # above what the kernel's default send buffer lets through
MAX_DESCRIPTORS = 8
MAX_ENV = 4 * 1024 * 1024  # 1 MiB of variables, escaped as JSON


class BadRequest(ValueError):
    pass


class Packet(NamedTuple):
    data: bytes
    descriptors: list[int]
    truncated: bool


def serve_seed(sock: socket.socket) -> None:
    """Serve until the agent closes the channel; then nothing that was forked is left."""
    seed = Seed(sock)
    wake, notify = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    _set_signals(notify)
    try:
        seed.serve(wake)
    finally:
        signal.set_wakeup_fd(-1)
        seed.end_all()
        os.close(wake)
        os.close(notify)


def _set_signals(notify: int) -> None:
    """Whatever the zygote was started with: an inherited SIG_IGN for SIGCHLD would hide every exit."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a context is born with it ignored, not deadly
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
    signal.set_wakeup_fd(notify, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class Seed:
    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._contexts: dict[int, str] = {}  # pid → context id

    def serve(self, wake: int) -> None:
        self._socket.setblocking(True)
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(wake, select.POLLIN)
        quiet_ms = round(pages.QUIET_S * 1000)
        patience: int | None = quiet_ms
        while True:
            ready = {fd for fd, _events in poll.poll(patience)}
            patience = quiet_ms if ready else None
            if not ready:
                pages.give_back()
            if wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
                self._reap()
            if self._socket.fileno() in ready and not self._handle():
                return

    def _handle(self) -> bool:
        """One packet; False when the channel is closed."""
        try:
            packet = receive(self._socket)
        except ConnectionError:
            return False
        if not packet.data:
            return False
        try:
            answer = self._answer(packet)
        finally:
            for fd in packet.descriptors:
                os.close(fd)
        self._tell(answer)
        return True

    def _answer(self, packet: Packet) -> dict[str, Any]:
        name = ""
        try:
            request = _parse(packet)
            name = request["id"]
            return {"op": "forked", "id": name, "pid": self._fork(name, request, packet.descriptors)}
        except (BadRequest, OSError) as error:
            return {"op": "failed", "id": name, "message": str(error)}

    def _fork(self, name: str, request: dict[str, Any], descriptors: list[int]) -> int:
        identity, kernel = _identity(request, descriptors), _kernel(request.get("kernel"))
        stream, output, error = descriptors[:3]
        pid = os.fork()
        if pid == 0:
            try:
                _reset_signals()
                pages.forget()
                context.run(identity, stream, output, error, kernel, request.get("ahead") is True)
            finally:
                os._exit(1)
        self._contexts[pid] = name
        return pid

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            name = self._contexts.pop(pid, None)
            if name is not None:
                self._tell({"op": "exited", "id": name, "pid": pid, "status": status})

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # a closed channel is noticed by the next poll
            self._socket.send(json.dumps(message).encode())

    def end_all(self) -> None:
        for pid in self._contexts:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in self._contexts:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self._contexts.clear()


def receive(sock: socket.socket) -> Packet:
    """As socket.recv_fds, which drops its flags: every descriptor must be born close-on-exec."""
    size = socket.CMSG_SPACE(MAX_DESCRIPTORS * array("i").itemsize)
    data, ancillary, flags, _ = sock.recvmsg(MAX_PACKET, size, socket.MSG_CMSG_CLOEXEC)
    descriptors = array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return Packet(data, list(descriptors), bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)))


def _parse(packet: Packet) -> dict[str, Any]:
    if packet.truncated:
        raise BadRequest("the packet is too large")
    try:
        request = json.loads(packet.data)
    except ValueError:
        raise BadRequest("the packet is not JSON") from None
    if not isinstance(request, dict) or request.get("op") != "fork" or not isinstance(request.get("id"), str):
        raise BadRequest("not a fork request")
    return request


def _identity(request: dict[str, Any], descriptors: list[int]) -> context.Identity:
    if len(descriptors) not in (3, 4):
        raise BadRequest(f"three or four descriptors are needed, not {len(descriptors)}")
    env = request.get("env") if len(descriptors) == 3 else _read_env(descriptors[3])
    try:
        return context.Identity(
            uid=_id(request["uid"]),
            gid=_id(request["gid"]),
            home=str(request.get("home") or "/"),
            cwd=str(request.get("cwd") or "/"),
            env={str(name): str(value) for name, value in (env or {}).items()},
        )
    except (KeyError, AttributeError) as error:
        raise BadRequest(f"malformed fork request: {error}") from error


def _kernel(value: Any) -> context.Kernel | None:
    if value is None:
        return None
    try:
        return context.Kernel(str(value["language"]), str(value["directory"]))
    except (TypeError, KeyError):
        raise BadRequest("malformed kernel") from None


def _id(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**32 - 1:
        raise BadRequest("not a user or group id")
    return value


def _read_env(fd: int) -> Any:
    try:
        return json.loads(os.pread(fd, MAX_ENV, 0))
    except ValueError:
        raise BadRequest("the environment is not JSON") from None
