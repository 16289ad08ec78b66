"""From a cell's frames to the lines that clients read: one JSON object each. Pure.

The lines are ASCII: JavaScript's client decodes what comes piece by piece, so no character may lie across two pieces,
and Python's takes U+2028 and its like for ends of lines.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from atoll.edge.frames_in import Frame, mapping, text, whole

MAX_PIECE = 256 * 1024
"""Bytes of output in one line."""
MAX_HELD = 4 * 1024
MAX_MIME = 128
PYTHON = "python"
"""Its `print` writes the end of a line by itself, so half a line is followed by the other at once."""

KEEPALIVE = b'{"type":"keepalive"}\n'
END = b'{"type":"end_of_execution"}\n'

TEXTS = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/javascript": "javascript",
}
OBJECTS = {"e2b/data": "data", "e2b/chart": "chart"}
JSON = "application/json"
OUTPUT = {"O": "stdout", "E": "stderr"}

DIED = "ContextDied"
"""The agent's word for a kernel that has ended in the middle of a cell."""
ENDED = "UnexpectedEndOfExecution"
RED, PLAIN = "\x1b[0;31m", "\x1b[0m"
_HEADER = r"Traceback \(most recent call last\):"

Object = dict[str, Any]  # Any: JSON


class Events:
    """Of one execution. `now` is the caller's, as this is pure.

    Half a line of Python's is held back for its other half, until anything else comes or the caller lets go of it."""

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {"stdout": decoder("replace"), "stderr": decoder("replace")}
        self._holds = False
        self._held: tuple[str, str] | None = None

    @property
    def held(self) -> bool:
        return self._held is not None

    def of(self, frame: Frame, now: str) -> Iterator[bytes]:
        if frame.type in OUTPUT:
            yield from self._output(OUTPUT[frame.type], frame.payload, now)
        else:
            yield from self.let_go(now)
            yield from self._event(frame, now)

    def let_go(self, now: str) -> Iterator[bytes]:
        if self._held is not None:
            (name, said), self._held = self._held, None
            yield line({"type": name, "text": said, "timestamp": now})

    def _event(self, frame: Frame, now: str) -> Iterator[bytes]:
        match frame.type:
            case "start":
                self._holds = frame.value.get("language", PYTHON) == PYTHON
                yield line({"type": "number_of_executions", "execution_count": max(0, _count(frame.value))})
            case "result" | "display":
                shown = bundle(mapping(frame.value.get("data")))
                yield line({"type": "result", **shown, "is_main_result": frame.type == "result"})
            case "error":
                yield line(failure(frame.value))
            case "end":
                for name, decoder in self._decoders.items():
                    if rest := decoder.decode(b"", True):
                        yield line({"type": name, "text": rest, "timestamp": now})
                yield END

    def _output(self, name: str, data: bytes, now: str) -> Iterator[bytes]:
        for at in range(0, len(data), MAX_PIECE):
            said = self._decoders[name].decode(data[at : at + MAX_PIECE])
            if self._held is not None and self._held[0] == name:
                said, self._held = self._held[1] + said, None
            yield from self.let_go(now)
            if not said:
                continue
            self._held = (name, said)
            if not self._holds or said.endswith("\n") or len(said) >= MAX_HELD:
                yield from self.let_go(now)


def bundle(data: Object) -> Object:
    """A MIME bundle by E2B's names. What has another type than its name promises is left out."""
    shown: Object = {"extra": {}}
    for mime, value in data.items():
        if mime in TEXTS:
            if isinstance(value, str):
                shown[TEXTS[mime]] = unquoted(value) if mime == "text/plain" else value
        elif mime in OBJECTS:
            if isinstance(value, dict):
                shown[OBJECTS[mime]] = value
        elif mime == JSON:
            shown["json"] = value
        elif value is not None and len(mime) <= MAX_MIME:
            shown["extra"][mime] = value
    return shown


def unquoted(said: str) -> str:
    """A string as it is, not as Python writes it.

    >>> unquoted("'it'"), unquoted('"it\\'s"'), unquoted("'"), unquoted("it")
    ('it', "it's", "'", 'it')
    """
    quoted = len(said) > 1 and said[0] == said[-1] and said[0] in "'\""
    return said[1:-1] if quoted else said


def failure(error: Object) -> Object:
    name, value, trace = (text(error.get(key)) for key in ("name", "value", "traceback"))
    if name == DIED:
        name, trace = ENDED, f"{ENDED}: {value}\n"
    return {"type": "error", "name": name or "Error", "value": value, "traceback": coloured(trace, name)}


def coloured(trace: str, name: str) -> str:
    """As a terminal is to show it, like IPython's; what has colours already keeps them.

    >>> coloured("KeyError: 'a'\\n", "KeyError")
    "\\x1b[0;31mKeyError\\x1b[0m: 'a'\\n"
    """
    if "\x1b" in trace or not name:
        return trace
    return re.sub(rf"^(?:{_HEADER}|{re.escape(name)}(?=:|$))", f"{RED}\\g<0>{PLAIN}", trace, flags=re.MULTILINE)


def refusal(message: str) -> bytes:
    """An execution that could not begin, told when its answer had begun."""
    return line({"type": "error", "name": ENDED, "value": message, "traceback": ""})


def _count(value: Object) -> int:
    return whole(value.get("execution_count"))


def line(value: Object) -> bytes:
    """ValueError when it nests too deep."""
    try:
        written = _written(value)
        return _written(_sound(value)) if b"\\ud" in written else written
    except ValueError:
        pass
    try:
        return _written(_sound(value))
    except RecursionError:
        raise ValueError("it nests too deep") from None


def _written(value: Object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def _sound(value: Any) -> Any:
    """Without what JSON, or half of the world's programs, cannot have: NaN, the infinities, halves of characters."""
    match value:
        case str():
            return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {_sound(key): _sound(item) for key, item in value.items()}
        case list():
            return [_sound(item) for item in value]
        case _:
            return value
