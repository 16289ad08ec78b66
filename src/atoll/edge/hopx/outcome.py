"""From a run's frames to what HopX clients read. Pure.

`Outcome` collects a whole run for one answer; `Messages` turns frames into WebSocket messages as they come.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from atoll.edge.frames_in import Frame, mapping, number, text, whole

MAX_OUTPUT = 8 * 1024 * 1024  # of stdout and of stderr each, in one JSON answer
MAX_RICH = 64 * 1024 * 1024
# A client takes WebSocket messages up to 1 MiB; JSON makes six bytes of a control character.
MAX_CHUNK = 128 * 1024
MAX_RICH_MESSAGE = 960 * 1024

EXIT_TIMED_OUT = 124
EXIT_INTERRUPTED = 130
EXIT_KILLED = 137
CELL_EXIT = {"ok": 0, "error": 1, "timed_out": EXIT_TIMED_OUT, "interrupted": EXIT_INTERRUPTED, "died": EXIT_KILLED}

FIELD_BY_MIME = {
    "image/png": "png",
    "text/html": "html",
    "image/svg+xml": "svg",
    "text/markdown": "markdown",
    "application/json": "json",
    "application/vnd.plotly.v1+json": "json",
    "application/vnd.dataframe+json": "dataframe",
}
TEXT_MIMES = frozenset(("image/png", "text/html", "image/svg+xml", "text/markdown"))


class Capture:
    """One output stream, kept up to a limit and counted beyond it."""

    def __init__(self, limit: int = MAX_OUTPUT) -> None:
        self._kept = bytearray()
        self._limit = limit
        self._dropped = 0

    def feed(self, data: bytes) -> None:
        room = self._limit - len(self._kept)
        self._kept += data[:room] if room < len(data) else data
        self._dropped += max(0, len(data) - room)

    def text(self) -> str:
        # A character cut in two by the limit is left away, not replaced.
        whole = not self._dropped
        shown = codecs.getincrementaldecoder("utf-8")("replace").decode(bytes(self._kept), whole)
        return shown if whole else f"{shown}\n[output truncated: {self._dropped} more bytes]\n"


@dataclass
class Ending:
    exit_code: int
    duration_s: float
    message: str = ""
    """For standard error: why the run has ended in a way the program did not say itself."""

    @property
    def success(self) -> bool:
        return self.exit_code == 0


def ending_of(frame: Frame, timeout_s: float) -> Ending:
    """Of a cell's or of a process's `end`."""
    value = frame.value
    duration = number(value.get("duration_s"))
    process = value.get("process")
    if isinstance(process, dict):
        return process_ending(process, duration, timeout_s)
    status = text(value.get("status"))
    if status == "timed_out":
        return timed_out(timeout_s, duration)
    if status == "error":
        return Ending(whole(value.get("exit_code")) or CELL_EXIT[status], duration)
    return Ending(CELL_EXIT.get(status, 1), duration, "Execution interrupted\n" if status == "interrupted" else "")


def process_ending(process: dict[str, Any], duration: float, timeout_s: float) -> Ending:
    if process.get("status") == "timed_out":
        return timed_out(timeout_s, duration)
    code = process.get("exit_code")
    return Ending(whole(code) if isinstance(code, int) else EXIT_KILLED, duration)


def timed_out(timeout_s: float, duration_s: float) -> Ending:
    return Ending(EXIT_TIMED_OUT, duration_s, f"Execution timed out after {timeout_s:g} seconds\n")


@dataclass
class Outcome:
    stdout: Capture = field(default_factory=Capture)
    stderr: Capture = field(default_factory=Capture)
    fields: dict[str, Any] = field(default_factory=dict)
    rich: list[dict[str, Any]] = field(default_factory=list)
    pid: int | None = None
    context: str = ""
    """Where a cell runs: the context's id, or `fresh` for an interpreter that was made for it alone."""
    _rich_size: int = 0

    def feed(self, frame: Frame) -> None:
        match frame.type:
            case "O":
                self.stdout.feed(frame.payload)
            case "E":
                self.stderr.feed(frame.payload)
            case "result" | "display":
                self._show(frame)
            case "error":
                self.stderr.feed(error_text(frame.value).encode("utf-8", "replace"))
            case "start":
                pid = mapping(frame.value.get("process")).get("pid")
                self.pid = pid if isinstance(pid, int) else None
                self.context = "fresh" if frame.value.get("spare") is True else text(frame.value.get("context"))[:64]

    def _show(self, frame: Frame) -> None:
        data = mapping(frame.value.get("data"))
        if is_plain(data) and frame.type == "display":
            self.stdout.feed((text(data["text/plain"]) + "\n").encode("utf-8", "replace"))
            return
        if frame.type == "result" and isinstance(data.get("text/plain"), str):
            self.fields["result"] = data["text/plain"]
        for mime, value in data.items():
            self._keep(mime, value)

    def _keep(self, mime: str, value: Any) -> None:
        if mime == "text/plain" or (mime in TEXT_MIMES and not isinstance(value, str)):
            return
        self._rich_size += len(value) if isinstance(value, str) else len(json.dumps(value))
        if self._rich_size > MAX_RICH:
            self.stderr.feed(f"[a result of type {mime[:64]} was left out: too much for one answer]\n".encode())
            return
        name = FIELD_BY_MIME.get(mime)
        self.rich.append({"type": mime, "data": {mime: value}})
        if name is not None:
            self.fields[name] = value

    def render(self, ending: Ending) -> dict[str, Any]:
        """Flat fields, which new clients read, hold the last value of a kind; `rich_outputs`, for old ones, has all."""
        if ending.message:
            self.stderr.feed(ending.message.encode())
        answer: dict[str, Any] = {
            "success": ending.success,
            "stdout": self.stdout.text(),
            "stderr": self.stderr.text(),
            "exit_code": ending.exit_code,
            "execution_time": ending.duration_s,
            **self.fields,
        }
        if self.rich:
            answer["rich_outputs"] = self.rich
        return answer


def is_plain(data: dict[str, Any]) -> bool:
    return data.keys() == {"text/plain"}


def error_text(value: dict[str, Any]) -> str:
    name, message, trace = text(value.get("name")), text(value.get("value")), text(value.get("traceback"))
    said = f"{name}: {message}" if message else name
    if not trace:
        return said + "\n"
    lines = trace if trace.endswith("\n") else trace + "\n"
    return lines if name in trace else f"{lines}{said}\n"


class Chunks:
    """Bytes as they come → text in pieces that fit a message; a character split between pieces waits for its rest."""

    def __init__(self, limit: int = MAX_CHUNK) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._limit = limit

    def feed(self, data: bytes, final: bool = False) -> Iterator[str]:
        for at in range(0, len(data), self._limit):
            piece = self._decoder.decode(data[at : at + self._limit])
            if piece:
                yield piece
        if final and (rest := self._decoder.decode(b"", True)):
            yield rest


class Messages:
    """Frames → `/execute/stream` messages. `timestamp` is the caller's, as this is pure."""

    def __init__(self) -> None:
        self._chunks = {"stdout": Chunks(), "stderr": Chunks()}

    def of(self, frame: Frame, timestamp: str) -> Iterator[dict[str, Any]]:
        match frame.type:
            case "O":
                yield from self._output("stdout", frame.payload, timestamp)
            case "E":
                yield from self._output("stderr", frame.payload, timestamp)
            case "result" | "display":
                yield from self._show(frame, timestamp)
            case "error":
                yield from self._output("stderr", error_text(frame.value).encode("utf-8", "replace"), timestamp)

    def closing(self, ending: Ending, timestamp: str) -> Iterator[dict[str, Any]]:
        yield from self._output("stdout", b"", timestamp, final=True)
        yield from self._output("stderr", ending.message.encode(), timestamp, final=True)
        yield {"type": "result", "exit_code": ending.exit_code, "execution_time": ending.duration_s}
        yield {"type": "complete", "success": ending.success}

    def _output(self, name: str, data: bytes, timestamp: str, final: bool = False) -> Iterator[dict[str, Any]]:
        for piece in self._chunks[name].feed(data, final):
            yield {"type": name, "data": piece, "timestamp": timestamp}

    def _show(self, frame: Frame, timestamp: str) -> Iterator[dict[str, Any]]:
        data = mapping(frame.value.get("data"))
        if is_plain(data) and frame.type == "display":
            yield from self._output("stdout", (text(data["text/plain"]) + "\n").encode("utf-8", "replace"), timestamp)
            return
        for mime, value in data.items():
            message = {"type": frame.type, "mime": mime[:128], "data": value, "timestamp": timestamp}
            if frame.type == "result":
                message["type"] = "display"  # `result` is the exit code's message here
            if len(json.dumps(message)) <= MAX_RICH_MESSAGE:
                yield message
            else:
                note = f"[a result of type {mime[:64]} is too large for this stream; use /execute]\n"
                yield from self._output("stderr", note.encode(), timestamp)
