"""A matplotlib figure as data: one chart for an axes, a superchart for several.

The kind of an axes is the first of KINDS that finds elements in it. Decorations do not count: text, grids,
legends, lines across the axes, filled areas, error bars, colour bars. Nothing here imports matplotlib; it
reads a figure that was drawn just now, so its ticks are those of the image.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from . import charts_marks as marks
from .charts_axes import Reading, class_of
from .jsonable import Budget

UNIT = re.compile(r"(?:^|\s)\(([^)]*)\)|\[([^\]]*)\]")
MAX_LABEL_WITH_UNIT = 1000  # characters; the search for a bracket that is never closed is quadratic

Chart = dict[str, Any]


class Plot(NamedTuple):
    """An axes under reading."""

    axes: Any
    x: Reading
    y: Reading
    budget: Budget


class Kind(NamedTuple):
    name: str
    find: Callable[[Plot], marks.Found]
    frame: Callable[[Plot, bool], Chart]


def of(figure: Any) -> Chart | None:
    """None when nothing is plotted. Raises whatever the figure's artists raise, and NotDescribed."""
    budget = Budget()
    charts = [chart for chart in (_of_axes(axes, budget) for axes in figure.axes) if chart is not None]
    if not charts:
        return None
    suptitle = getattr(figure, "_suptitle", None)  # matplotlib before 3.8 has no get_suptitle
    title = None if suptitle is None else _text(suptitle.get_text(), budget)
    if len(charts) > 1:
        return {"type": "superchart", "title": title, "elements": charts}
    return {**charts[0], "title": charts[0]["title"] or title}


def _of_axes(axes: Any, budget: Budget) -> Chart | None:
    if not axes.get_visible() or hasattr(axes, "_colorbar") or not _has_marks(axes):
        return None
    title = next(
        filter(None, (_text(axes.get_title(loc=place), budget) for place in ("center", "left", "right"))), None
    )
    chart: Chart = {"type": "unknown", "title": title}
    if getattr(axes, "name", "") == "3d":
        return {**chart, "elements": []}  # what its artists hold are projections
    plot = Plot(axes, Reading(axes.xaxis, budget), Reading(axes.yaxis, budget), budget)
    for kind in KINDS:
        found = kind.find(plot)
        if found.elements:
            return {**chart, "type": kind.name, **kind.frame(plot, found.horizontal), "elements": found.elements}
    return {**chart, "elements": []}


def _has_marks(axes: Any) -> bool:
    text = class_of("matplotlib.text", "Text")
    return any(not isinstance(child, text) for child in marks.children(axes))


def _text(value: Any, budget: Budget) -> str | None:
    return budget.text(value) or None


def unit_of(label: str | None) -> str | None:
    """`Speed (km/h)` and `Speed [km/h]` are in km/h; `f(x)` has no unit."""
    found = UNIT.search(label[:MAX_LABEL_WITH_UNIT]) if label else None
    return (found.group(1) or found.group(2) or None) if found else None


def _no_frame(_plot: Plot, _horizontal: bool) -> Chart:
    return {}


def _labels(plot: Plot, horizontal: bool = False) -> Chart:
    """`x` is the axis of the categories: a horizontal chart has it where others have `y`."""
    x = _text(plot.axes.get_xlabel(), plot.budget)
    y = _text(plot.axes.get_ylabel(), plot.budget)
    if horizontal:
        x, y = y, x
    return {"x_label": x, "y_label": y, "x_unit": unit_of(x), "y_unit": unit_of(y)}


def _labels_and_ticks(plot: Plot, _horizontal: bool) -> Chart:
    frame = _labels(plot)
    for name, reading in (("x", plot.x), ("y", plot.y)):
        frame[f"{name}_ticks"] = reading.ticks
        frame[f"{name}_tick_labels"] = reading.tick_labels
        frame[f"{name}_scale"] = reading.scale
    return frame


KINDS = (
    Kind("pie", marks.wedges, _no_frame),
    Kind("box_and_whisker", marks.boxes, _labels),
    Kind("bar", marks.bars, _labels),
    Kind("scatter", marks.points, _labels_and_ticks),
    Kind("line", marks.lines, _labels_and_ticks),
)
