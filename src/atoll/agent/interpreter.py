"""A living context process: cells go in, output and rich values come out, and its end is noticed."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from atoll.wire import frames

from .env import Env
from .http_server import JsonObject, Stream
from .kernels import Launch
from .pipes import PipeReader, PipeWriter
from .signals import signal_name

EXIT_STATUS_WAIT_S = 0.5  # between the end of the stream and the seed's word how the process ended
_PARSED_BELOW = 1024 * 1024  # a larger frame is a figure or a table and is passed on unread
_FORWARDED = frozenset(("result", "display", "error"))
_LARGE_PREFIXES = (b'{"type":"result"', b'{"type":"display"', b'{"type":"error"')
_DISPLAY = b'{"type":"display"'
_TAKEN = frames.encode_json({"op": "taken"})
_ENDS = frozenset(("ok", "error", "interrupted"))


@dataclass(frozen=True)
class Ending:
    """Why a context ends, told to the cell that runs in it."""

    name: str
    value: str

    def to_wire(self) -> JsonObject:
        text = f"{self.name}: {self.value}\n"
        return {"type": "error", "name": self.name, "value": self.value, "traceback": text}


RESTARTED: Final = Ending("ContextRestarting", "Context was restarted")
REMOVED: Final = Ending("ContextDied", "the context was removed")


class Owner(Protocol):
    """What an interpreter tells the context it belongs to."""

    def cell_over(self) -> None: ...

    def interpreter_gone(self, interpreter: Interpreter) -> None: ...

    def kill(self) -> None: ...


class Cell:
    """One execution. `stream` is None once its client is gone."""

    def __init__(self, stream: Stream | None, execution_count: int) -> None:
        self.stream = stream
        self.execution_count = execution_count
        self.timed_out = False
        self.status = ""
        self.timers: list[asyncio.TimerHandle] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._started = asyncio.get_running_loop().time()

    def output(self, kind: bytes, data: bytes) -> None:
        if self.stream is not None:
            self.stream.send(kind, data)

    def forward(self, value: JsonObject) -> None:
        if self.stream is not None:
            self.stream.send_json(value)

    def finish(self, status: str, exit_code: object = None) -> None:
        if self.done.done():
            return
        for timer in self.timers:
            timer.cancel()
        self.status = "timed_out" if self.timed_out else status
        duration_s = asyncio.get_running_loop().time() - self._started
        end = {"type": "end", "status": self.status, "duration_s": duration_s, "execution_count": self.execution_count}
        if self.status == "error":
            end["exit_code"] = exit_code if exit_code in range(1, 256) else 1
        self.forward(end)
        if self.stream is not None:
            self.stream.on_writable = None
        self.done.set_result(None)


class Interpreter:
    """A living context process: its stream, its two pipes, its end (told once to its owner)."""

    def __init__(
        self, stream_fd: int, stdout_fd: int, stderr_fd: int, owner: Owner, env: Env, launch: Launch | None = None
    ) -> None:
        self.pid = 0
        self.env = env
        self.marks: Env = {}
        """What it and its children carry besides."""
        self.ahead = False
        """It waits for its variables: the sandbox's were not known yet."""
        self.launch = launch
        """Of a kernel: Python itself takes cells from its birth on."""
        self.ending: Ending | None = None
        self.tidied: asyncio.Task[None] | None = None
        """What it leaves on the disk is removed."""
        self.cell: Cell | None = None
        self.gone = asyncio.Event()
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._decoder = frames.FrameDecoder()
        self._exit_known = False
        self._unexplained: asyncio.TimerHandle | None = None
        self._writer = PipeWriter(os.dup(stream_fd))
        self._stream = PipeReader(stream_fd, self._received, self._stream_ended)
        self._pipes = [
            PipeReader(stdout_fd, lambda data: self._output(frames.STDOUT, data), _nothing),
            PipeReader(stderr_fd, lambda data: self._output(frames.STDERR, data), _nothing),
        ]

    def born(self, env: Env) -> bytes:
        """What has to precede the first request to one that was made ahead."""
        self.ahead = False
        self.env = env
        return frames.encode_json({"op": "born", "env": {**env, **self.marks}})

    async def execute(self, cell: Cell, request: JsonObject, before: bytes = b"") -> None:
        self.cell = cell
        if cell.stream is not None:
            cell.stream.on_writable = self._regulate
        try:
            await self._writer.write(before + frames.encode_json(request))
        except OSError:
            await self.gone.wait()
            if self.cell is cell:  # else its end was told as the cell's
                cell.forward(self._last_word(None))
                self._cell_over("died")
        except asyncio.CancelledError:
            self.abandon()  # half a request is in the stream
            raise

    def exited(self, wait_status: int | None) -> None:
        """From the seed. What the process wrote before its end still counts."""
        self._exit_known = True
        self._stream.take_available()
        self._die(wait_status)

    def interrupt(self) -> None:
        if not self.gone.is_set():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """It alone: what its cells started goes on."""
        if not self.gone.is_set():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def abandon(self) -> None:
        """Without its stream the process ends by itself; the caller also kills it."""
        self._writer.close()
        self._stream.close()
        self._die(None)

    def _output(self, kind: bytes, data: bytes) -> None:
        """Between cells, output of threads that a cell left behind is read and dropped, so that they go on."""
        if self.cell is not None:
            self.cell.output(kind, data)
            self._regulate()
        elif self.launch is not None and self.launch.pending:
            self.launch.printed(data)

    def close_pipes(self) -> None:
        """For an interpreter whose children are to be gone too."""
        for pipe in self._pipes:
            pipe.close()

    def _regulate(self) -> None:
        slow = self.cell is not None and self.cell.stream is not None and not self.cell.stream.writable
        for reader in (*self._pipes, self._stream):
            reader.pause() if slow else reader.resume()

    def _received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._frame(frame)
        except frames.FrameError:
            self._owner.kill()

    def _frame(self, frame: frames.Frame) -> None:
        cell = self.cell
        if frame.type != frames.JSON:
            return
        if cell is None:
            if self.launch is not None and self.launch.pending and len(frame.payload) < _PARSED_BELOW:
                self.launch.heard(frame.json())
            return
        for pipe in self._pipes:
            pipe.take_available()
        if len(frame.payload) >= _PARSED_BELOW:
            if frame.payload.startswith(_LARGE_PREFIXES) and cell.stream is not None:
                cell.stream.send(frames.JSON, frame.payload)
            if frame.payload.startswith(_DISPLAY):
                self._acknowledge()
            return
        message = frame.json()
        kind = message.get("type") if isinstance(message, dict) else None
        if kind in _FORWARDED:
            cell.forward(message)
            if kind == "display":
                self._acknowledge()
        elif kind == "end":
            status = message.get("status")
            self._cell_over(status if status in _ENDS else "error", message.get("exit_code"))
        self._regulate()

    def _acknowledge(self) -> None:
        """What the program prints from now on comes after what it displayed. One who never reads is not waited for."""
        if not self._writer.write_now(_TAKEN):
            self._owner.kill()

    def _cell_over(self, status: str, exit_code: object = None) -> None:
        cell, self.cell = self.cell, None
        self._regulate()
        if cell is not None:
            cell.finish(status, exit_code)
            self._owner.cell_over()

    def _stream_ended(self) -> None:
        if not self._exit_known:
            self._unexplained = self._loop.call_later(EXIT_STATUS_WAIT_S, self._die, None)

    def _die(self, wait_status: int | None) -> None:
        if self.gone.is_set():
            return
        self.gone.set()
        if self._unexplained is not None:
            self._unexplained.cancel()
        for pipe in self._pipes:  # they stay open while something that a cell started still writes to them
            pipe.take_available()
        self._stream.close()
        self._writer.close()
        if self.launch is not None and self.launch.pending:
            self.launch.died(self._last_word(wait_status))
        if self.cell is not None and not self.cell.timed_out:
            self.cell.forward(self._last_word(wait_status))
        self._owner.interpreter_gone(self)
        self._cell_over("died")

    def _last_word(self, wait_status: int | None) -> JsonObject:
        return death(wait_status) if self.ending is None else self.ending.to_wire()


def death(wait_status: int | None) -> JsonObject:
    code = None if wait_status is None else os.waitstatus_to_exitcode(wait_status)
    if code is None:
        value = "the interpreter has ended"
    elif code == -signal.SIGKILL:
        value = "the interpreter was killed (SIGKILL); the sandbox may have run out of memory"
    elif code < 0:
        value = f"the interpreter was ended by {signal_name(-code)}"
    else:
        value = f"the interpreter exited with code {code}"
    return Ending("ContextDied", value).to_wire()


def _nothing() -> None:
    """A pipe without writers: the interpreter's end is told by its stream and the seed."""
