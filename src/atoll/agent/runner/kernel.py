"""The bridge: a context process that runs no code itself but starts a Jupyter kernel and passes cells on.

    agent ── context stream, pipes ── bridge ── ZeroMQ ── kernel

It is forked from the seed and has the user's rights, as a Python context. To the agent it speaks the same frames,
after one of its own: `ready` when the kernel takes cells, or `refused`. It has one thread and one place where it
waits; whatever arrives there (a request, a signal, a message of the kernel, its death) is handled there.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from atoll.wire import frames

from . import kernel_env, kernel_quirks, kernel_specs
from .channel import Channel
from .interrupts import Interrupts
from .kernel_link import Link, Message, new_connection
from .kernel_process import KernelProcess, end_like

NUDGE_MS = 20
MAX_NUDGES = 250
"""Subscribing takes effect when the kernel has heard of it, which nothing tells: it is asked again until its status
is heard. One that never publishes a status is taken for ready then."""
INTERRUPT_WAIT_S = 0.1  # for the kernel's word that it has begun the cell: before, it ignores an interrupt
SETTLE_S = 0.05  # after that word: a shell has started the cell's first program by then, which is what is to hear it
MARK_MS = 1000
"""Of silence, too."""
SINGLE_PIECES = 100
IDLE_MS = 500
"""Of silence after the reply, which comes for certain. A kernel that publishes faster than can be sent drops messages,
and its last one, that it is idle, may be among them."""
LAST_WORDS_MS = 20  # from one message to the next, after the kernel's death
TRANSLATED = {"execute_result": "result", "display_data": "display", "update_display_data": "display"}


class AgentGone(Exception):
    pass


class KernelDied(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass
class Execution:
    """One execute_request on its way."""

    id: str
    hidden: bool
    """Ours, not the user's: nobody is to see of it."""
    begun_at: float | None = None
    idle: bool = False
    reply: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None

    @property
    def ok(self) -> bool:
        return self.error is None and self.reply is not None and self.reply.get("status") == "ok"


def serve(stream: socket.socket, language: str, directory: str) -> NoReturn:
    """Until the agent closes the stream or the kernel ends."""
    wake = _hear_signals()
    try:
        spec = kernel_specs.find(language)
        bridge = start(spec, stream, directory, wake)
    except kernel_specs.NoKernel as error:
        _tell(stream, {"type": "refused", "kind": "unsupported", "message": str(error)})
        os._exit(0)
    except OSError as error:
        _tell(stream, {"type": "refused", "kind": "internal", "message": f"the kernel cannot be started: {error}"})
        os._exit(0)
    try:
        bridge.await_ready()
        _tell(stream, {"type": "ready", "env": bridge.takes_env})
        bridge.run()
    except KernelDied as death:
        bridge.hear_last_words()
        end_like(death.status)
    except AgentGone:
        os._exit(0)


def _hear_signals() -> int:
    """A descriptor that has a byte for each signal. The kernel is born with the defaults."""
    wake, notify = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    for number in (signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda _signum, _frame: None)
    signal.set_wakeup_fd(notify, warn_on_full_buffer=False)
    return wake


def _tell(stream: socket.socket, message: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):
        stream.sendall(frames.encode_json(message))


def start(spec: kernel_specs.Spec, stream: socket.socket, directory: str, wake: int) -> Bridge:
    connection = new_connection()
    file = os.path.join(directory, "connection.json")
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as writer:
        json.dump(connection.content(spec.name), writer)
    env = spec.environment(os.environ)
    if spec.language in kernel_quirks.TEMPORARY:
        env[kernel_quirks.TEMPORARY[spec.language]] = directory
    sys.path[:] = [path for path in sys.path if path]  # a program's own zmq.py is not ours
    process = KernelProcess(spec.command(file), env)
    return Bridge(spec, stream, directory, wake, process, Link(connection))


class Bridge:
    def __init__(
        self,
        spec: kernel_specs.Spec,
        stream: socket.socket,
        directory: str,
        wake: int,
        process: KernelProcess,
        link: Link,
    ) -> None:
        self._spec = spec
        self._stream = stream
        self._directory = directory
        self._wake = wake
        self._process = process
        self._link = link
        self._channel = Channel(stream, Interrupts())
        self._row = kernel_env.ROWS.get(spec.language)
        self._execution: Execution | None = None
        self._in_cell = False
        self._interrupted = False
        self._interrupt_due: float | None = None
        self._informed = False
        self._published = False
        self._mark = f"\0{secrets.token_hex(16)}\0"
        self._marking = kernel_quirks.marking(spec.language, self._mark)
        self._marked = False
        self._hidden: deque[str] = deque(maxlen=4)
        self._cells = 0
        self._pieces = 0
        self._unwritten: list[tuple[int, str]] = []
        link.watch(stream.fileno())
        link.watch(wake)

    @property
    def takes_env(self) -> bool:
        return self._row is not None

    def await_ready(self) -> None:
        self._ask_who()
        self._wait_until(lambda: self._informed)
        for _ in range(MAX_NUDGES):
            self._wait(NUDGE_MS)
            if self._published:
                return
            self._ask_who()

    def _ask_who(self) -> None:
        self._link.request(self._link.shell, "kernel_info_request", {})

    def run(self) -> NoReturn:
        while True:
            self._wait_until(self._channel.has_request)
            request = self._channel.receive()
            if request is not None:
                self._cell(request)

    def _cell(self, request: Mapping[str, Any]) -> None:
        """Exactly one `end`, unless the kernel dies."""
        self._channel.begin(ordered=request.get("ordered") is True)
        self._cells += 1
        self._in_cell, self._interrupted, self._pieces = True, False, 0
        change = request.get("env") or {}
        before = self._change_env(change)
        code = str(request.get("code", ""))
        done = before if before is not None and not before.ok else self._execute(code)
        self._await_output()
        if before is not None:
            assert self._row is not None
            self._execute(self._sourced(self._row.reset(change)), hidden=True)
        self._in_cell, self._interrupt_due = False, None
        status = self._report(done, code)
        self._channel.end(status, self._cells)

    def _await_output(self) -> None:
        """All that the cell has printed, where the kernel's word of the end does not mean it. A kernel that does not
        know how to mark it is not asked again."""
        if not self._marking:
            return
        self._marked = False
        if not self._execute(self._marking, hidden=True).ok:
            self._marking = ""
            return
        while not self._marked and self._wait(MARK_MS):
            pass

    def _change_env(self, change: Mapping[str, str | None]) -> Execution | None:
        if not change or self._row is None:
            return None
        return self._execute(self._sourced(self._row.set(change)), hidden=True)

    def _sourced(self, code: str) -> str:
        if self._row is None or not self._row.source:
            return code
        path = os.path.join(self._directory, "env")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(code.encode("utf-8", "surrogateescape"))
        return self._row.source.format(path)

    def _execute(self, code: str, hidden: bool = False) -> Execution:
        content = {
            "code": code,
            "silent": hidden,
            "store_history": not hidden,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        execution = Execution(self._link.request(self._link.shell, "execute_request", content), hidden)
        self._execution = execution
        if hidden:
            self._hidden.append(execution.id)
        elif self._interrupt_due is not None:
            self._interrupt_due = time.monotonic() + INTERRUPT_WAIT_S
        self._wait_until(lambda: execution.reply is not None)
        while not execution.idle and self._wait(IDLE_MS):
            pass
        self._execution = None
        return execution

    def _report(self, done: Execution, code: str) -> str:
        """Tells the error, if there is one; returns how the cell ended."""
        if done.ok:
            return "ok"
        error = done.error or done.reply or {}
        if done.error is None and self._interrupted:
            error = {"ename": "KeyboardInterrupt", "evalue": ""}
        error = kernel_quirks.explained(error, self._spec.argv, self._spec.environment(os.environ), code)
        traceback = error.get("traceback")
        lines = [str(line) for line in traceback] if isinstance(traceback, list) else []
        self._channel.error(str(error.get("ename", "")), str(error.get("evalue", "")), "\n".join(lines))
        return "interrupted" if self._interrupted else "error"

    def _wait_until(self, happened: Callable[[], bool]) -> None:
        while not happened():
            self._wait(None)

    def _wait(self, timeout_ms: int | None) -> bool:
        """One turn: whatever has arrived is handled, the kernel's messages before its death. False: nothing has."""
        ready = self._link.wait(self._pass_interrupt(timeout_ms))
        for sock in (self._link.iopub, self._link.shell, self._link.stdin, self._link.control):
            if sock in ready:
                self._handle(sock)
        if self._stream.fileno() in ready and not self._channel.hear():
            raise AgentGone
        if self._wake in ready:
            self._signalled(os.read(self._wake, 4096))
        return bool(ready)

    def _signalled(self, signals: bytes) -> None:
        if signal.SIGINT in signals and self._in_cell:
            self._interrupted = True
            begun_at = None if self._execution is None else self._execution.begun_at
            self._interrupt_due = time.monotonic() + INTERRUPT_WAIT_S if begun_at is None else begun_at + SETTLE_S
        status = self._process.status()
        if status is not None:
            raise KernelDied(status)

    def _pass_interrupt(self, timeout_ms: int | None) -> int | None:
        """When it is due; returns how long may be waited meanwhile. Never into code of ours: that would leave the
        variables half changed."""
        if self._interrupt_due is None or self._execution is None or self._execution.hidden:
            return timeout_ms
        left_ms = max(0, int(1000 * (self._interrupt_due - time.monotonic())) + 1)
        if time.monotonic() < self._interrupt_due:
            return left_ms if timeout_ms is None else min(left_ms, timeout_ms)
        self._interrupt_due = None
        self._interrupt()
        return timeout_ms

    def _interrupt(self) -> None:
        if self._spec.interrupt_by_message or os.path.basename(self._spec.argv[0]) in kernel_quirks.BY_MESSAGE:
            self._link.request(self._link.control, "interrupt_request", {})
        else:
            self._process.interrupt()

    def _handle(self, sock: Any) -> None:
        for message in self._link.received(sock):
            if sock is self._link.iopub:
                self._published = True
                self._publication(message)
            elif message.kind == "input_request":  # by a kernel that does not care that nobody can be asked
                self._link.request(self._link.stdin, "input_reply", {"status": "ok", "value": ""})
            elif message.kind == "kernel_info_reply":
                self._informed = True
            elif self._execution is not None and message.parent == self._execution.id:
                self._execution.reply = message.content
        self._flush()

    def _publication(self, message: Message) -> None:
        current = self._execution
        if current is not None and message.parent == current.id:
            self._progress(current, message)
        if self._in_cell and (message.kind == "stream" or message.parent not in self._hidden):
            self._output(message)

    def _progress(self, execution: Execution, message: Message) -> None:
        if message.kind == "status":
            execution.idle = message.content.get("execution_state") == "idle"
        elif message.kind == "error":
            execution.error = message.content
        elif message.kind != "execute_input":
            return
        if execution.begun_at is None and message.kind != "status":
            execution.begun_at = time.monotonic()
            if self._interrupt_due is not None:
                self._interrupt_due = execution.begun_at + SETTLE_S

    def _output(self, message: Message) -> None:
        content = message.content
        if message.kind == "stream":
            before, mark, after = str(content.get("text")).partition(self._mark)
            self._marked = self._marked or bool(mark)
            self._print(2 if content.get("name") == "stderr" else 1, before + after)
        elif message.kind in TRANSLATED:
            data, metadata = content.get("data"), content.get("metadata")
            if isinstance(data, dict):
                self._flush()
                self._channel.publish(TRANSLATED[message.kind], data, metadata if isinstance(metadata, dict) else {})

    def _print(self, fd: int, text: str) -> None:
        """Piece by piece as it comes; of a cell that prints much, what comes together is written together."""
        self._pieces += 1
        if self._pieces <= SINGLE_PIECES:
            _write(fd, text)
            return
        if self._unwritten and self._unwritten[0][0] != fd:
            self._flush()
        self._unwritten.append((fd, text))

    def _flush(self) -> None:
        if self._unwritten:
            unwritten, self._unwritten = self._unwritten, []
            _write(unwritten[0][0], "".join(text for _, text in unwritten))

    def hear_last_words(self) -> None:
        while self._link.iopub in self._link.wait(LAST_WORDS_MS):
            self._handle(self._link.iopub)


def _write(fd: int, text: str) -> None:
    view = memoryview(text.encode("utf-8", "backslashreplace"))
    while view:
        view = view[os.write(fd, view) :]
