"""Pages as the tests read them: fenced blocks, headings, links. Pure.

A block is run unless a comment right before its fence says why not:

    <!-- not run: needs a machine of its own -->

What a Python or JavaScript block prints may stand behind it, in a `text` block after the comment `<!-- prints -->`; a
`console` block has its commands (`$ …`) and all that they print. `…` in either stands for anything. A block with
`title="NAME"` is a file that later blocks use.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = ("python", "bash", "console", "js")
"""Languages that are run."""

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`]*)$")
_NOT_RUN = re.compile(r"^<!-- not run:(?P<reason>.*)-->$")
_PRINTS = "<!-- prints -->"
_TITLE = re.compile(r'\btitle="(?P<name>[^"]+)"')
_HEADING = re.compile(r"^(?P<level>#{1,6}) +(?P<text>.*?) *#*$")
_LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<target>[^()\s]+(?:\([^()]*\))?)(?: +\"[^\"]*\")?\)")
_IMAGE = re.compile(r"!\[[^\]]*\]\((?P<target>[^()\s]+)\)")
_HTML_SOURCE = re.compile(r"<(?:img|a|source)\b[^>]*?\b(?:src|srcset|href)=\"(?P<target>[^\"]+)\"")
_CODE = re.compile(r"(`+)(?:(?!\1).)*?\1")


@dataclass(frozen=True)
class Block:
    page: str
    """Its path below the checkout."""
    line: int
    """Of the fence that opens it, from 1."""
    language: str
    text: str
    title: str | None = None
    not_run: str | None = None
    """The reason."""
    prints: str | None = None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        return self.language in RUN and self.not_run is None and self.title is None


def pages() -> list[Path]:
    """What a user reads: the front page and the documents."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: str, text: str) -> list[Block]:
    found: list[Block] = []
    before = ""
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            before = line.strip() or before
            continue
        block = _block(page, number, fence, lines)
        if before == _PRINTS and found:
            found[-1] = replace(found[-1], prints=block.text)
        elif marker := _NOT_RUN.match(before):
            found.append(replace(block, not_run=marker["reason"].strip()))
        else:
            found.append(block)
        before = ""
    return found


def _block(page: str, number: int, fence: re.Match[str], lines: Iterator[tuple[int, str]]) -> Block:
    indent, ticks, info = fence["indent"], fence["ticks"], fence["info"].strip()
    inside: list[str] = []
    for _, line in lines:
        if line.strip().startswith(ticks) and not line.strip().strip("`"):
            language, _, rest = info.partition(" ")
            title = _TITLE.search(rest)
            return Block(page, number, language, "\n".join(inside) + "\n", title["name"] if title else None)
        inside.append(line.removeprefix(indent))
    raise ValueError(f"{page}:{number}: a block that does not end")


def prose(text: str) -> str:
    """The page without its blocks, line by line: an empty line stands for each of theirs."""
    kept: list[str] = []
    ticks = ""
    for line in text.splitlines():
        fence = _FENCE.match(line)
        if ticks:
            if fence and line.strip() == ticks:
                ticks = ""
            kept.append("")
        elif fence:
            ticks = fence["ticks"]
            kept.append("")
        else:
            kept.append(line)
    return "\n".join(kept)


def anchors(text: str) -> set[str]:
    """What a code host makes of the headings, which is what the site is told to make of them too."""
    seen: dict[str, int] = {}
    made: set[str] = set()
    for line in prose(text).splitlines():
        if heading := _HEADING.match(line):
            slug = slugify(heading["text"])
            count = seen.get(slug, 0)
            seen[slug] = count + 1
            made.add(slug if not count else f"{slug}-{count}")
    return made


def slugify(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    plain = unicodedata.normalize("NFC", plain.replace("`", "").replace("*", "")).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def links(text: str) -> list[tuple[int, str]]:
    """Line and target of each link and picture."""
    found = []
    for number, line in enumerate(prose(text).splitlines(), 1):
        plain = _CODE.sub(lambda code: "x" * len(code[0]), line)
        for pattern in (_LINK, _IMAGE, _HTML_SOURCE):
            found += [(number, match["target"]) for match in pattern.finditer(plain)]
    return found
