"""A flame graph as SVG: what is wide took long, what stands on something was called by it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

Stack = tuple[tuple[str, ...], float]
"""Frames, outermost first, and milliseconds."""
WIDTH, ROW, FONT, LETTER = 1200, 18, 11, 6.2
LEAST = 1.2
"""Narrower frames are not drawn, nor what stands on them."""
MARGIN = 10
HUES = (150, 28, 205, 350, 55, 265, 180, 320)


@dataclass
class Frame:
    ms: float = 0.0
    above: dict[str, Frame] = field(default_factory=dict)

    def depth(self) -> int:
        return 1 + max((each.depth() for each in self.above.values()), default=0)


def flame_graph(stacks: list[Stack], title: str) -> str:
    root = Frame()
    for frames, ms in stacks:
        at = root
        at.ms += ms
        for frame in frames:
            at = at.above.setdefault(frame, Frame())
            at.ms += ms
    scale = (WIDTH - 2 * MARGIN) / root.ms
    _prune(root, LEAST / scale)
    height = (root.depth() + 1) * ROW + 2 * MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    lines = [
        f'{head} font-family="sans-serif" font-size="{FONT}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        *_drawn(root, title, MARGIN, height - MARGIN - ROW, scale, "#d9d9d9", None),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _prune(frame: Frame, least_ms: float) -> None:
    frame.above = {name: each for name, each in frame.above.items() if each.ms >= least_ms}
    for each in frame.above.values():
        _prune(each, least_ms)


def _drawn(frame: Frame, name: str, x: float, y: float, scale: float, colour: str, hue: int | None) -> list[str]:
    width = frame.ms * scale
    lines = [
        f"<g><title>{escape(name)}: {frame.ms:.2f} ms</title>",
        f'<rect x="{x:.1f}" y="{y:.0f}" width="{width - 0.5:.1f}" height="{ROW - 1}" fill={quoteattr(colour)}/>',
    ]
    if text := _fitting(name, width):
        lines.append(f'<text x="{x + 3:.1f}" y="{y + ROW - 6:.0f}">{escape(text)}</text>')
    lines.append("</g>")
    for number, (above, each) in enumerate(sorted(frame.above.items(), key=lambda pair: -pair[1].ms)):
        of = HUES[number % len(HUES)] if hue is None else hue
        light = 66 + zlib.crc32(above.encode()) % 16
        lines += _drawn(each, above, x, y - ROW, scale, f"hsl({of},45%,{light}%)", of)
        x += each.ms * scale
    return lines


def _fitting(name: str, width: float) -> str:
    letters = int((width - 6) / LETTER)
    if letters < 3:
        return ""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"
