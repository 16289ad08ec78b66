"""The context's end of its stream: requests in, rich output and ends out. One thread reads, all may write."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from atoll.wire import frames, json_in

from .interrupts import Interrupts

MAX_VALUE = 32 * 1024 * 1024  # one rich value, as JSON text
MAX_BUNDLE = 60 * 1024 * 1024  # all of one object; leaves room below frames.MAX_PAYLOAD
MAX_VALUES = 400_000  # numbers, texts and the like in JSON of one object; the edge reads 500,000 and no more
MAX_METADATA = 64 * 1024
MAX_ERROR_VALUE = 64 * 1024
MAX_TEXT = 1024 * 1024
RECEIVE = 64 * 1024
TAKEN = {"op": "taken"}

Message = dict[str, Any]


class Channel:
    def __init__(self, sock: socket.socket, interrupts: Interrupts) -> None:
        self._socket = sock
        self._interrupts = interrupts
        self._decoder = frames.FrameDecoder()
        self._requests: deque[Message] = deque()
        self._lock = threading.Lock()
        self._in_cell = False
        self._ordered = False
        self._untaken = 0
        self._pid = os.getpid()
        interrupts.keep_whole(Channel._send_whole)
        interrupts.keep_whole(Channel._hear_whole)

    def fileno(self) -> int:
        return self._socket.fileno()

    def has_request(self) -> bool:
        return bool(self._requests)

    def hear(self) -> bool:
        """Take what has arrived; False at the end of the stream."""
        return self._hear_whole()

    def receive(self) -> Message | None:
        """The next request; None when the agent is gone or does not speak frames."""
        while not self._requests:
            try:
                if not self._hear():
                    return None
            except (OSError, frames.FrameError):
                return None
        return self._requests.popleft()

    def _hear(self, flags: int = 0) -> bool:
        """False at the end of the stream."""
        data = self._socket.recv(RECEIVE, flags)
        for frame in self._decoder.feed(data):
            message = frame.json()
            if message == TAKEN:
                self._untaken -= 1
            else:
                self._requests.append(message)
        return bool(data)

    def begin(self, ordered: bool = False) -> None:
        """`ordered`: the agent says when it has taken a `display`, and what is printed after it waits for that."""
        self._in_cell = True
        self._ordered = ordered

    def publish(self, kind: str, data: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> bool:
        """False when nobody listens: between cells, or in a process that a cell forked."""
        if not self._in_cell or os.getpid() != self._pid:
            return False
        counted = self._ordered and kind == "display"
        sent = self._send(encode_bundle(kind, data, metadata or {}), counted=counted)
        if sent and counted and threading.current_thread() is threading.main_thread():
            self._wait_taken()
        return sent

    def _wait_taken(self) -> None:
        """Output goes another way (the pipes) than what is displayed; without this it could overtake."""
        while self._untaken > 0:
            select.select([self._socket], (), ())  # here an interrupt may end the cell
            if not self._hear_whole():
                os._exit(0)
            self._interrupts.raise_pending()

    def _hear_whole(self) -> bool:
        try:
            return self._hear(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except (OSError, frames.FrameError):
            return False

    def error(self, name: str, value: str, traceback: str) -> None:
        message = {
            "type": "error",
            "name": clean(name[:200]),
            "value": shorten(clean(value), MAX_ERROR_VALUE),
            "traceback": shorten(clean(traceback), MAX_TEXT),
        }
        self._send(_encode(message))

    def end(self, status: str, execution_count: int, exit_code: int | None = None) -> None:
        more = {} if exit_code is None else {"exit_code": exit_code}
        self._send(_encode({"type": "end", "status": status, "execution_count": execution_count, **more}), last=True)

    def _send(self, payload: str, last: bool = False, counted: bool = False) -> bool:
        sent = self._send_whole(frames.encode(frames.JSON, payload.encode()), last, counted)
        self._interrupts.raise_pending()
        return sent

    def _send_whole(self, frame: bytes, last: bool, counted: bool) -> bool:
        with self._lock:
            if not self._in_cell:  # a left-over thread comes before the end or not at all
                return False
            self._in_cell = not last
            self._untaken += counted
            try:
                self._socket.sendall(frame)
            except OSError:
                os._exit(0)  # the agent is gone, and with it everybody who could hear of anything else
        return True


def _encode(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def clean(text: str) -> str:
    """Lone surrogates are legal in a str and in escaped JSON, but break the next reader that wants UTF-8."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def shorten(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n… [cut: {len(text):,} characters in all]"


def encode_bundle(kind: str, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """A `result` or `display` object, every bound kept: what is too large becomes a note in `text/plain`."""
    encoded, refused = _encode_values(data)
    if refused:
        notes = [f"[{mime} left out: {size:,} bytes, above the limit]" for mime, size in refused.items()]
        plain = data.get("text/plain")
        text = [plain] if isinstance(plain, str) and "text/plain" in encoded else []
        encoded["text/plain"] = _encode("\n".join(text + notes))
    fields = ",".join(f"{_encode(mime)}:{value}" for mime, value in encoded.items())
    return f'{{"type":{_encode(kind)},"data":{{{fields}}},"metadata":{_encode_metadata(metadata)}}}'


def _encode_values(data: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, int]]:
    encoded: dict[str, str] = {}
    refused: dict[str, int] = {}
    total, structures = 0, b""
    for mime, value in data.items():
        if not isinstance(mime, str) or len(mime) > 200:
            continue
        text = encode_value(value)
        if len(text) > MAX_VALUE or total + len(text) > MAX_BUNDLE:
            refused[mime] = len(text)
            continue
        if not isinstance(value, str):
            grown = b"%s,%s" % (structures, text.encode())
            if json_in.has_more(grown, MAX_VALUES):
                refused[mime] = len(text)
                continue
            structures = grown
        encoded[mime] = text
        total += len(text)
    return encoded, refused


def encode_value(value: Any) -> str:
    """JSON text that a strict reader takes: no NaN, no lone surrogate in a plain text, no foreign object."""
    if isinstance(value, str):
        return _encode(clean(value))
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        with contextlib.suppress(Exception):
            return _encode(_plain(value, depth=50))
        return _encode("[a value that is not JSON]")


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None  # NaN and the infinities
    if isinstance(value, Mapping) and depth:
        return {str(key): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and depth:
        return [_plain(item, depth - 1) for item in value]
    return clean(str(value))


def _encode_metadata(metadata: Mapping[str, Any]) -> str:
    text = encode_value(metadata) if isinstance(metadata, dict) and metadata else "{}"
    return text if len(text) <= MAX_METADATA else "{}"
