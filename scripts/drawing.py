"""Boxes and arrows as SVG: plain text, the same bytes each time, readable on light and on dark. Pure.

Places are given by hand; what is drawn comes from the code. Colours follow the reader's scheme, on a card of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import hypot

LETTER = 7.0
"""Width of one, at the size of the labels; nobody measures the reader's font."""
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: var(--ink) }
  .small { font-size: 11.5px; fill: var(--soft) }
  .title { font-size: 15px; font-weight: 600 }
  .code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 12px }
  .card { fill: var(--back) }
  .box { fill: var(--fill); stroke: var(--line); stroke-width: 1.2 }
  .key { fill: var(--key); stroke: var(--key-line) }
  .good { fill: var(--good); stroke: var(--good-line) }
  .bad { fill: var(--bad); stroke: var(--bad-line) }
  .soft { fill: none; stroke: var(--line); stroke-dasharray: 4 4 }
  .arrow { fill: none; stroke: var(--edge); stroke-width: 1.3 }
  .head { fill: var(--edge) }
  .halo { paint-order: stroke; stroke: var(--back); stroke-width: 9px; stroke-linejoin: round }
  .dot { fill: var(--edge) }
  .rule { stroke: var(--line); stroke-width: 1 }
  svg { --ink: #1c2430; --soft: #5d6878; --back: #ffffff; --fill: #f4f6f9; --line: #cfd7e2; --edge: #5d6878;
    --key: #e3eefe; --key-line: #7aa7e8; --good: #e2f5ea; --good-line: #76bd93; --bad: #fdeae8; --bad-line: #e09a93 }
  @media (prefers-color-scheme: dark) { svg { --ink: #e4e8ee; --soft: #9aa5b4; --back: #161a20; --fill: #20262e;
    --line: #39424e; --edge: #93a0b0; --key: #1d3350; --key-line: #4d7fc4; --good: #17382a; --good-line: #3f8a63;
    --bad: #432422; --bad-line: #a55a52 } }
"""


@dataclass(frozen=True)
class Box:
    """Around a middle."""

    x: float
    y: float
    lines: tuple[str, ...]
    """The first is the name; the others are smaller."""
    kind: str = ""
    width: float = 0.0

    @property
    def w(self) -> float:
        return self.width or max(90.0, 26 + LETTER * max(map(len, self.lines)))

    @property
    def h(self) -> float:
        return 22.0 + 16 * len(self.lines)


@dataclass(frozen=True)
class Arrow:
    start: str
    end: str
    lines: tuple[str, ...] = ()
    bend: float = 0.0
    """How far its middle is from the straight line: positive to the right of its direction."""
    at: float = 0.5
    """Where on the way its words stand."""


def graph(boxes: Mapping[str, Box], arrows: Iterable[Arrow]) -> Iterator[str]:
    """Words lie over lines, and boxes over both."""
    ways = [(_way(boxes[arrow.start], boxes[arrow.end], arrow.bend), arrow) for arrow in arrows]
    for (start, middle, end), _ in ways:
        yield _curve(start, middle, end)
    for (start, middle, end), arrow in ways:
        x, y = _point(start, middle, end, arrow.at)
        for number, line in enumerate(arrow.lines):
            yield text(x, y + 4 + 14 * (number - (len(arrow.lines) - 1) / 2), line, "small halo", "middle")
    for each in boxes.values():
        yield from box(each)


def box(each: Box) -> Iterator[str]:
    left, top = each.x - each.w / 2, each.y - each.h / 2
    kind = f"box {each.kind}".strip()
    yield f'<rect class="{kind}" x="{n(left)}" y="{n(top)}" width="{n(each.w)}" height="{n(each.h)}" rx="9"/>'
    for number, line in enumerate(each.lines):
        yield text(each.x, top + 24 + 16 * number, line, "" if number == 0 else "small", "middle")


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start", turn: float = 0.0) -> str:
    look = f' class="{kind}"' if kind else ""
    turned = f' transform="rotate({n(turn)} {n(x)} {n(y)})"' if turn else ""
    return f'<text{look} x="{n(x)}" y="{n(y)}" text-anchor="{anchor}"{turned}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "rule") -> str:
    return f'<line class="{kind}" x1="{n(x1)}" y1="{n(y1)}" x2="{n(x2)}" y2="{n(y2)}"/>'


def picture(width: float, height: float, title: str, about: str, parts: Iterable[str]) -> str:
    """`about` is for who does not see it."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {n(width)} {n(height)}" width="{n(width)}" '
        f'height="{n(height)}" role="img" aria-labelledby="t d">'
    )
    lines = [
        head,
        f'<title id="t">{escape(title)}</title>',
        f'<desc id="d">{escape(about)}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="card" width="{n(width)}" height="{n(height)}" rx="12"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def n(value: float) -> str:
    """As short as it is exact enough."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


Point = tuple[float, float]


def _way(start: Box, end: Box, bend: float) -> tuple[Point, Point, Point]:
    (x1, y1), (x2, y2) = (start.x, start.y), (end.x, end.y)
    length = hypot(x2 - x1, y2 - y1) or 1.0
    middle = ((x1 + x2) / 2 - bend * (y2 - y1) / length, (y1 + y2) / 2 + bend * (x2 - x1) / length)
    return _border(start, middle, 0), middle, _border(end, middle, 7)


def _border(each: Box, towards: Point, gap: float) -> Point:
    """Where the line from its middle leaves it, `gap` further on."""
    dx, dy = towards[0] - each.x, towards[1] - each.y
    scale = min(each.w / 2 / abs(dx) if dx else 9e9, each.h / 2 / abs(dy) if dy else 9e9)
    scale += gap / (hypot(dx, dy) or 1.0)
    return each.x + dx * scale, each.y + dy * scale


def _curve(start: Point, middle: Point, end: Point) -> str:
    dx, dy = end[0] - middle[0], end[1] - middle[1]
    length = hypot(dx, dy) or 1.0
    ux, uy = dx / length, dy / length
    tip, left, right = _head(end, ux, uy)
    way = f"M{n(start[0])} {n(start[1])}Q{n(middle[0])} {n(middle[1])} {n(end[0])} {n(end[1])}"
    return f'<path class="arrow" d="{way}"/><path class="head" d="M{tip}L{left}L{right}Z"/>'


def _head(at: Point, ux: float, uy: float) -> Sequence[str]:
    corners = ((6, 0), (-3, 4), (-3, -4))
    return [f"{n(at[0] + a * ux - b * uy)} {n(at[1] + a * uy + b * ux)}" for a, b in corners]


def _point(start: Point, middle: Point, end: Point, t: float) -> Point:
    a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t**2
    return a * start[0] + b * middle[0] + c * end[0], a * start[1] + b * middle[1] + c * end[1]
