"""Figures and other rich results: drawn on terminals that can, written to files, or at least named. Mostly pure.

What a program shows is hostile: only what is a PNG by its first bytes is drawn, and only as base64 of our own making.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

PNG = b"\x89PNG\r\n\x1a\n"
KITTY_PIECE = 4096
SUFFIXES = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/svg+xml": ".svg",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/latex": ".tex",
    "application/json": ".json",
    "application/pdf": ".pdf",
}
BINARY = frozenset(("image/png", "image/jpeg", "application/pdf"))


class Drawing(StrEnum):
    NONE = "none"
    KITTY = "kitty"
    ITERM = "iterm"


def drawing_of(environ: Mapping[str, str], is_terminal: bool) -> Drawing:
    """How this terminal is given pictures.

    >>> drawing_of({"TERM": "xterm-kitty"}, True)
    <Drawing.KITTY: 'kitty'>
    """
    if not is_terminal or "TMUX" in environ or environ.get("TERM", "").startswith("screen"):
        return Drawing.NONE  # those take the sequences away, or show them as text
    program, term = environ.get("TERM_PROGRAM", ""), environ.get("TERM", "")
    if "KITTY_WINDOW_ID" in environ or term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return Drawing.KITTY
    if program in ("iTerm.app", "WezTerm") or environ.get("LC_TERMINAL") == "iTerm2":
        return Drawing.ITERM
    return Drawing.NONE


def draw(png: bytes, how: Drawing) -> str:
    """The sequence that shows `png`; empty where there is none."""
    text = base64.b64encode(png).decode()
    match how:
        case Drawing.KITTY:
            return "".join(_kitty(text)) + "\n"
        case Drawing.ITERM:
            return f"\x1b]1337;File=inline=1;size={len(png)}:{text}\a\n"
        case Drawing.NONE:
            return ""


def _kitty(text: str) -> Iterator[str]:
    for at in range(0, len(text), KITTY_PIECE):
        control = "a=T,f=100," if at == 0 else ""
        more = int(at + KITTY_PIECE < len(text))
        yield f"\x1b_G{control}m={more};{text[at : at + KITTY_PIECE]}\x1b\\"


def contents(mime: str, data: Any) -> bytes | None:  # Any: JSON values
    """The bytes of a result; None when it is not what it is said to be."""
    if mime in BINARY:
        return _decoded(data)
    if isinstance(data, str):
        return data.encode("utf-8", "replace")
    return json.dumps(data, indent=2).encode()


def _decoded(data: Any) -> bytes | None:
    if not isinstance(data, str):
        return None
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def is_png(data: bytes) -> bool:
    return data.startswith(PNG)


def suffix_of(mime: str) -> str:
    return SUFFIXES.get(mime, ".json" if mime.endswith("+json") else ".txt")


def save(directory: Path, mime: str, data: bytes) -> Path:
    """Under the next free name `result-N`; never over a file that is there."""
    directory.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = directory / f"result-{number}{suffix_of(mime)}"
        try:
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            number += 1
        else:
            return path
