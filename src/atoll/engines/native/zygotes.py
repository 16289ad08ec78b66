"""One generation of a template's helpers: its user namespace U_T and the three processes in it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from atoll.core.errors import InternalError, Unavailable

from . import spawn, tree
from . import syscalls as sc
from .ids import Slice, Slices

log = logging.getLogger("atoll.launcher")

READY_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_S = 20.0

INTERPRETER_MAIN = (
    "import sys; sys.path.insert(1, '/.atoll/code'); "
    "from atoll.engines.native.interpreter_zygote import main; sys.path.remove('/.atoll/code'); main()"
)


@dataclass(frozen=True)
class TemplateSpec:
    name: str
    digest: str
    layers: tuple[str, ...]
    preload: tuple[str, ...]
    python: str | None
    runtime: str
    runtime_argv: tuple[str, ...]


async def readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Peer:
    """A helper's control socket: one request at a time, an answer for each."""

    def __init__(self, name: str, pid: int, control: socket.socket) -> None:
        self.name = name
        self.pid = pid
        self.control = control
        self._lock = asyncio.Lock()

    async def receive(self, timeout_s: float) -> tuple[dict[str, Any], list[int]]:
        try:
            async with asyncio.timeout(timeout_s):
                await readable(self.control.fileno())
            message, fds = sc.receive_message(self.control)
        except (TimeoutError, OSError) as error:
            raise Unavailable(f"the {self.name} does not answer") from error
        if message is None:
            raise Unavailable(f"the {self.name} has ended")
        return message, fds

    async def request(self, message: dict[str, Any], fds: Sequence[int] = ()) -> tuple[dict[str, Any], list[int]]:
        async with self._lock:
            try:
                sc.send_message(self.control, message, fds)
            except OSError as error:
                raise Unavailable(f"the {self.name} has ended") from error
            answer, received = await self.receive(REQUEST_TIMEOUT_S)
        if "error" in answer:
            raise InternalError(f"{self.name}: {answer['error']}")
        return answer, received

    def close(self) -> None:
        self.control.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Generation:
    def __init__(self, spec: TemplateSpec, number: int, stage: tree.Stage) -> None:
        self.spec = spec
        self.slices = Slices(number)
        self.live = 0
        self.broken = False
        """A helper has ended: no more births here."""
        self.userns_fd = spawn.new_user_namespace(number)
        self.peers: list[Peer] = []
        try:
            self.helper = self._start_on_runtime("slot_helper", stage)
            self.agent = self._start_on_runtime("agent_zygote", stage)
            self.interpreter = self._start_interpreter(stage) if spec.python else None
        except BaseException:
            self.close()
            raise

    def _start_on_runtime(self, module: str, stage: tree.Stage) -> Peer:
        root = tree.zygote_root(stage, f"{module}-{self.slices.generation}", self.spec.runtime)
        return self._start(module, [*self.spec.runtime_argv, "-m", f"atoll.engines.native.{module}"], root)

    def _start_interpreter(self, stage: tree.Stage) -> Peer:
        name = f"interpreter-{self.slices.generation}"
        root = tree.interpreter_root(stage, name, self.spec.layers, self.spec.runtime)
        assert self.spec.python
        return self._start("interpreter_zygote", [self.spec.python, "-c", INTERPRETER_MAIN], root)

    def _start(self, name: str, argv: Sequence[str], root_fd: int) -> Peer:
        try:
            pid, control = spawn.start(argv, userns_fd=self.userns_fd, root_fd=root_fd)
        finally:
            os.close(root_fd)
        peer = Peer(name, pid, control)
        self.peers.append(peer)
        return peer

    async def until_ready(self, bpf: bytes) -> None:
        sc.send_message(self.agent.control, {"bpf": bpf.hex()})
        if self.interpreter:
            sc.send_message(self.interpreter.control, {"bpf": bpf.hex(), "preload": self.spec.preload})
        for peer in self.peers:
            ready, _ = await peer.receive(READY_TIMEOUT_S)
            for failure in ready.get("failed", ()):
                log.warning("template %s, %s: %s", self.spec.name, peer.name, failure)

    def take_slice(self) -> Slice:
        taken = self.slices.take()
        if taken is None:
            raise Unavailable("no free range of user ids in this generation")
        self.live += 1
        return taken

    def give_back(self, taken: Slice) -> None:
        self.live -= 1
        self.slices.give_back(taken)

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        os.close(self.userns_fd)
