"""A request to start a program, checked. Pure."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from . import golang
from .env import checked
from .errors import AgentError, Kind, invalid

MAX_ARGUMENTS = 65536
MAX_TAG = 1024


@dataclass(frozen=True)
class Size:
    cols: int
    rows: int

    @classmethod
    def of(cls, data: object) -> Size:
        if not isinstance(data, dict):
            raise invalid("a terminal's size is an object with cols and rows")
        return cls(_side(data.get("cols", 80)), _side(data.get("rows", 24)))


class Keep(StrEnum):
    """What is kept of a program beyond its attachments."""

    FULL = "full"
    """Its record and its last output, for minutes after its end."""
    BRIEF = "brief"
    """Its record, for seconds after its end."""
    NOTHING = "nothing"


@dataclass(frozen=True)
class Spec:
    argv: list[str]
    env: dict[str, str]
    cwd: str
    user: str
    timeout_s: float | None
    stdin: bool
    pty: Size | None
    name: str | None
    files: dict[str, str] | None
    compile: str | None
    attach: bool
    kill_on_disconnect: bool
    keep: Keep
    tag: str | None
    make_cwd: bool
    drain: bool
    """Its end waits for everybody who holds its output open."""

    @classmethod
    def of(cls, body: Mapping[str, Any], workdir: str) -> Spec:
        return cls(
            argv=_argv(body.get("argv")),
            env=checked(body.get("env")),
            cwd=_directory(body.get("cwd"), workdir),
            user=_text(body, "user", "user"),
            timeout_s=timeout(body.get("timeout_s")),
            stdin=_flag(body, "stdin", False),
            pty=None if body.get("pty") is None else Size.of(body["pty"]),
            name=None if body.get("name") is None else _text(body, "name", ""),
            files=_files(body.get("files")),
            compile=_compile(body.get("compile"), body.get("files")),
            attach=_flag(body, "attach", True),
            kill_on_disconnect=_flag(body, "kill_on_disconnect", False),
            keep=_keep(body.get("record", True)),
            tag=_tag(body.get("tag")),
            make_cwd=_flag(body, "make_cwd", True),
            drain=_flag(body, "drain", False),
        )


def timeout(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**9:
        raise invalid("timeout_s is a positive number")
    return float(value)


def _argv(value: object) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise invalid("argv is a list of strings, the program first")
    if len(value) > MAX_ARGUMENTS:
        raise AgentError(Kind.TOO_LARGE, os.strerror(errno.E2BIG))
    if not value[0] or any("\0" in item for item in value):
        raise invalid("argv holds an empty program or a NUL")
    return value


def _directory(value: object, workdir: str) -> str:
    if value is None:
        return workdir
    if not isinstance(value, str) or "\0" in value or not (value == "~" or value.startswith(("/", "~/"))):
        raise invalid("cwd is an absolute path, or one that begins at home (~)")
    return value


def _files(value: object) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise invalid("files is an object of texts")
    for name in value:
        if name.startswith("/") or "\0" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise invalid(f"not a plain relative file name: {name!r}")
    return value


def _compile(value: object, files: object) -> str | None:
    if value is None:
        return None
    if value != "go" or not isinstance(files, dict) or golang.SOURCE not in files:
        raise invalid(f"compile is 'go', with {golang.SOURCE} among files")
    return value


def _keep(value: object) -> Keep:
    match value:
        case True:
            return Keep.FULL
        case False:
            return Keep.NOTHING
        case "brief":
            return Keep.BRIEF
    raise invalid("record is true, false or 'brief'")


def _tag(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or len(value) > MAX_TAG):
        raise invalid(f"tag is a text of at most {MAX_TAG} characters")
    return value


def _text(body: Mapping[str, Any], name: str, default: str) -> str:
    value = body.get(name, default)
    if not isinstance(value, str):
        raise invalid(f"{name} is a text")
    return value


def _flag(body: Mapping[str, Any], name: str, default: bool) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise invalid(f"{name} is true or false")
    return value


def _side(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10_000:
        raise invalid("cols and rows are numbers from 1 to 10000")
    return value
