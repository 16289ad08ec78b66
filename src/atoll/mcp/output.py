"""What came out of a sandbox, as a model gets it: pure.

It was written by programs that nobody trusts. So it is bounded, in characters and in pictures; it holds no control
characters, with which a text could act on a terminal that shows it; and nothing in it is an instruction of ours.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mcp_types import ContentBlock, ImageContent, TextContent

MAX_TEXT = 30_000
"""Characters of one part: about 10,000 tokens, a few pages."""
MAX_FIGURES = 8
MAX_FIGURE = 3_500_000
"""Bytes of one picture: hosts take about 5 MB of base64."""

LEFT_OUT = "\n[… {count:,} characters left out here. Write long output to a file and read the parts you need.]\n"

# Colours, cursor movements, titles: sequences that a terminal would obey.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[@-Z\\-_])")
# The other control characters (but tab and line feed), halves of characters, and what turns the reading direction.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")

_SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
}


def clean(text: str) -> str:
    r"""`text` without what a terminal would obey; each state of a progress bar is a line.

    >>> clean("\x1b[31mred\x1b[0m\r\n\x07done")
    'red\n�done'
    """
    return _CONTROLS.sub("\ufffd", _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def clip(text: str, limit: int = MAX_TEXT) -> str:
    """The beginning and the end of a long text, and between them how much is missing."""
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    tail = limit - head
    return text[:head] + LEFT_OUT.format(count=len(text) - limit) + text[-tail:]


def shown(text: str, limit: int = MAX_TEXT) -> str:
    return clip(clean(_sane(text, limit)), limit)


def _sane(text: str, limit: int) -> str:
    """A very long text is cut before it is cleaned: what is cut away need not be looked at."""
    return text if len(text) <= 4 * limit else clip(text, 4 * limit)


def image(data: bytes) -> ImageContent | None:
    """A picture that is one by its first bytes, whatever it is said to be."""
    for mime, signatures in _SIGNATURES.items():
        if data.startswith(signatures) and (mime != "image/webp" or data[8:12] == b"WEBP"):
            return ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type=mime)
    return None


def text_block(text: str) -> TextContent:
    return TextContent(type="text", text=text)


def sections(parts: Mapping[str, str], ending: str) -> str:
    """Those of the parts that say something, under their names, and how it ended."""
    blocks = [f"{name}:\n{body.rstrip()}" for name, part in parts.items() if (body := shown(part)).strip()]
    return "\n\n".join([*blocks, ending])


def outcome(exit_code: int | None, seconds: float | None) -> str:
    took = "" if seconds is None else f" after {seconds:.2f} s"
    return f"exit code {exit_code}{took}"


def rich(outputs: Iterable[Mapping[str, Any]], result: str | None) -> list[ContentBlock]:
    """Figures as pictures; markdown, JSON and SVG as text; HTML only where nothing plainer says the same.

    `outputs`: each a mapping from media type to value, as the sandbox sent them.
    """
    blocks: list[ContentBlock] = []
    figures = 0
    for bundle in outputs:
        for mime, value in bundle.items():
            if mime in ("image/png", "image/jpeg"):
                figures += 1
                if figures <= MAX_FIGURES:
                    blocks.append(_figure(mime, value))
            elif (text := _text(mime, value, result)) is not None:
                blocks.append(text_block(f"{mime}:\n{shown(text)}"))
    if figures > MAX_FIGURES:
        blocks.append(text_block(f"[{figures - MAX_FIGURES} more figures left out; show fewer in one call]"))
    return blocks


def _figure(mime: str, value: object) -> ContentBlock:
    if not isinstance(value, str):
        return text_block(f"[a figure that is no {mime} was left out]")
    if len(value) > MAX_FIGURE * 4 // 3 + 4:
        size = len(value) * 3 // 4
        return text_block(
            f"[a figure of {size:,} bytes was left out: make it smaller (dpi, figsize) or save it to a file]"
        )
    try:
        found = image(base64.b64decode(value, validate=False))
    except (binascii.Error, ValueError):
        found = None
    return found if found is not None else text_block(f"[a figure that is no {mime} was left out]")


def _text(mime: str, value: object, result: str | None) -> str | None:
    if mime == "text/html" and result:
        return None
    if isinstance(value, str) and mime in ("text/html", "text/markdown", "image/svg+xml", "text/latex"):
        return value
    if mime.startswith("application/") and mime.endswith("json"):
        try:
            return json.dumps(value, ensure_ascii=False, default=str)
        except RecursionError:
            return "[nested too deeply to be shown]"
    return None
