"""What is said with a program in a sandbox, over the WebSocket that has its streams; see `edge/hopx/attach.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .errors import ValidationError
from .models import ProgramOutput
from .read import Json, text, whole

PATH = "/processes/connect"
WINDOW = 1024 * 1024
"""Of input that the program has not read: at most so much is on its way, and a copy of any size needs no memory."""
PIECE = 128 * 1024
FAILED = 1
STDERR = b"E"
MAX_ID = 64
MAX_WORDS = 4096


def order(
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    working_dir: str | None,
    user: str | None,
    timeout: float | None,
    stdin: bool,
    terminal: tuple[int, int] | None,
    keep: bool,
    name: str | None,
) -> Json:
    if isinstance(argv, str):
        raise ValidationError("argv is a list of words; `commands.run` takes a line of shell", field="argv")
    said: Json = {"argv": list(argv), "stdin": stdin, "keep": keep}
    said |= {"env": dict(env or {}), "workdir": working_dir or "", "user": user or "", "name": name or ""}
    return said | {"timeout": timeout, "pty": None if terminal is None else size(*terminal)}


def size(cols: int, rows: int) -> Json:
    return {"cols": cols, "rows": rows}


def output(raw: bytes) -> ProgramOutput:
    return ProgramOutput(raw[1:], is_stderr=raw[:1] == STDERR)


def started_id(message: Json) -> str:
    return text(message.get("id"))[:MAX_ID]


def taken(message: Json) -> int:
    return max(0, whole(message.get("bytes")))


def ending(message: Json) -> tuple[int, str]:
    """The exit code, and words beside it."""
    return whole(message.get("code"), FAILED), text(message.get("message"))[:MAX_WORDS]
