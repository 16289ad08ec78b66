"""The agent's end of the seed channel: asks the pristine interpreter for forks and hears of their ends."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from .env import Env
from .errors import AgentError, Kind
from .users import User

FORK_TIMEOUT_S = 30.0  # a seed that is still importing answers late; one that is gone closes the channel
MAX_PACKET = 64 * 1024
MAX_INLINE_ENV = 32 * 1024  # a packet must fit the socket's buffer; a larger environment travels as a file

OnExit = Callable[[int | None], None]


class Kernel(NamedTuple):
    """The fork is to be the bridge to a Jupyter kernel."""

    language: str
    directory: str


class SeedLink:
    """`fork_id` names one fork, not one context: a late `exited` must not hit a context that was made anew."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._forks: dict[str, asyncio.Future[int]] = {}
        self._exits: dict[str, OnExit] = {}
        self.open = True
        self._loop.add_reader(sock.fileno(), self._readable)

    async def fork(
        self,
        fork_id: str,
        user: User,
        cwd: str,
        env: Env,
        fds: list[int],
        on_exit: OnExit,
        kernel: Kernel | None = None,
        ahead: bool = False,
    ) -> int:
        """`ahead`: the fork waits for its variables. `on_exit` gets the raw wait status, or None when the seed is gone
        and nobody knows it."""
        if not self.open:
            raise AgentError(Kind.INTERNAL, "the sandbox's Python has ended")
        answer: asyncio.Future[int] = self._loop.create_future()
        self._forks[fork_id] = answer
        self._exits[fork_id] = on_exit
        try:
            request: dict[str, Any] = {
                "op": "fork",
                "id": fork_id,
                "uid": user.uid,
                "gid": user.gid,
                "home": user.home,
                "cwd": cwd,
            }
            if kernel is not None:
                request["kernel"] = kernel._asdict()
            self._send({**request, "ahead": ahead}, env, fds)
            async with asyncio.timeout(FORK_TIMEOUT_S):
                return await answer
        except TimeoutError as error:
            self._exits.pop(fork_id, None)
            raise AgentError(Kind.INTERNAL, "the sandbox's Python does not answer") from error
        except BaseException:
            self._exits.pop(fork_id, None)
            raise
        finally:
            self._forks.pop(fork_id, None)

    def _send(self, request: dict[str, Any], env: Env, fds: list[int]) -> None:
        encoded = json.dumps(env).encode()
        if len(encoded) <= MAX_INLINE_ENV:
            socket.send_fds(self._socket, [json.dumps({**request, "env": env}).encode()], fds)
            return
        file = os.memfd_create("env", os.MFD_CLOEXEC)
        try:
            os.write(file, encoded)
            socket.send_fds(self._socket, [json.dumps(request).encode()], [*fds, file])
        finally:
            os.close(file)

    def _readable(self) -> None:
        while self.open:
            try:
                packet = self._socket.recv(MAX_PACKET)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._close()
                return
            with suppress(ValueError, KeyError, TypeError):
                self._handle(json.loads(packet))

    def _handle(self, message: dict[str, Any]) -> None:
        answer = self._forks.get(message["id"])
        match message["op"]:
            case "forked" if answer is not None and not answer.done():
                answer.set_result(int(message["pid"]))
            case "failed" if answer is not None and not answer.done():
                answer.set_exception(AgentError(Kind.TOO_MANY, f"the context was not made: {message['message']}"))
            case "exited":
                on_exit = self._exits.pop(message["id"], None)
                if on_exit is not None:
                    on_exit(int(message["status"]))

    def _close(self) -> None:
        self.open = False
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for answer in self._forks.values():
            if not answer.done():
                answer.set_exception(AgentError(Kind.INTERNAL, "the sandbox's Python has ended"))
        exits, self._exits = self._exits, {}
        for on_exit in exits.values():
            on_exit(None)
