"""The marks of an axes: lines, points, bars, wedges and boxes, as the elements of a chart.

Values are read from the artists, so a program that changes a bar after drawing it gets the changed value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from .charts_axes import class_of
from .jsonable import number, numbers

if TYPE_CHECKING:
    from .charts import Plot

NUMBERED = re.compile(r"_(?:child|container)(\d+)")
MAX_PARTS = 7  # of a box plot, beside its box: two whiskers, two caps, the median, the mean, what lies outside
ANGLE_DIGITS = 4  # older matplotlib computes a pie in single precision

Element = dict[str, Any]


class Found(NamedTuple):
    elements: list[Element]
    horizontal: bool = False


def children(axes: Any) -> list[Any]:
    """What was plotted, in order; frame, axis and legend are not in it."""
    return [child for child in axes._children if child.get_visible()]


def label_of(artist: Any, kind: str, place: int) -> str:
    """matplotlib calls what has no label `_child3`; such names are nothing to show."""
    label = str(artist.get_label())
    if not label.startswith("_"):
        return label
    numbered = NUMBERED.fullmatch(label)
    return f"{kind} {numbered.group(1) if numbered else place}"


def _in_data(transform: Any, axes: Any) -> bool:
    """Not so for lines across the axes (axhline) and for marks at a place of the figure."""
    return all(transform.contains_branch_seperately(axes.transData))


def _named_by_legend(elements: list[Element], artists: list[Any], plot: Plot) -> list[Element]:
    """`legend(["a", "b"])` names marks in order and leaves their own labels as they are."""
    legend = plot.axes.get_legend()
    texts = legend.get_texts() if legend is not None else []
    if len(texts) != len(elements) or any(not str(artist.get_label()).startswith("_") for artist in artists):
        return elements
    return [{**element, "label": plot.budget.text(text.get_text())} for element, text in zip(elements, texts)]


# Lines and points


def lines(plot: Plot) -> Found:
    containers = [container for container in plot.axes.containers if isinstance(container, _compounds())]
    owners = {id(container[0]): container for container in containers if container[0] is not None}
    decorations = {id(line) for container in containers for line in _decorations(container)}
    elements, artists = [], []
    for place, line in enumerate(children(plot.axes)):
        if id(line) in decorations or not _is_plotted(line, plot.axes):
            continue
        named = owners.get(id(line), line)
        label = plot.budget.text(label_of(named, "Line", place))
        elements.append({"label": label, "points": _points_of(line, plot)})
        artists.append(named)
    return Found(_named_by_legend(elements, artists, plot))


def _is_plotted(line: Any, axes: Any) -> bool:
    if not isinstance(line, class_of("matplotlib.lines", "Line2D")):
        return False
    if isinstance(line, (class_of("matplotlib.lines", "_AxLine"), class_of("matplotlib.lines", "AxLine"))):
        return False
    return _in_data(line.get_transform(), axes)


def _compounds() -> tuple[Any, ...]:
    """Containers that have the label of the line that is first in them."""
    return tuple(class_of("matplotlib.container", f"{name}Container") for name in ("Errorbar", "Stem"))


def _decorations(container: Any) -> Iterator[Any]:
    _, second, third = container
    if isinstance(second, tuple):
        yield from second  # caps of error bars
    else:
        yield third  # the base line of stems


def _points_of(line: Any, plot: Plot) -> list[list[Any]]:
    xs, ys = line.get_xdata(orig=False), line.get_ydata(orig=False)
    plot.budget.take(len(xs) + len(ys))
    found = zip(plot.x.of_data(line.get_xdata(), xs), plot.y.of_data(line.get_ydata(), ys))
    return [[x, y] for x, y in found]


def points(plot: Plot) -> Found:
    """Points that are masked or not finite are not in the image, and not here. Lines beside them are series too."""
    elements, artists = [], []
    for place, cloud in enumerate(children(plot.axes)):
        if not isinstance(cloud, class_of("matplotlib.collections", "PathCollection")):
            continue
        if not _in_data(cloud.get_offset_transform(), plot.axes):
            continue
        label = plot.budget.text(label_of(cloud, "Scatter", place))
        elements.append({"label": label, "points": _points_in(cloud, plot)})
        artists.append(cloud)
    if not elements:
        return Found([])
    return Found(_named_by_legend(elements, artists, plot) + lines(plot).elements)


def _points_in(cloud: Any, plot: Plot) -> list[list[Any]]:
    offsets = cloud.get_offsets()
    plot.budget.take(2 * len(offsets))
    drawn = [(x, y) for x, y in zip(numbers(offsets[:, 0]), numbers(offsets[:, 1])) if x is not None and y is not None]
    xs, ys = ([pair[side] for pair in drawn] for side in (0, 1))
    return [[x, y] for x, y in zip(plot.x.of_numbers(xs), plot.y.of_numbers(ys))]


# Bars


def bars(plot: Plot) -> Found:
    kind = class_of("matplotlib.container", "BarContainer")
    groups = [group for group in plot.axes.containers if isinstance(group, kind) and len(group)]
    elements = []
    for group, names in zip(groups, _group_names(groups, plot)):
        plot.budget.take(3 * len(group))
        for bar, name in zip(group, names):
            if bar.axes is not None and bar.get_visible():
                label, value = _bar(bar, plot, _is_horizontal(group))
                elements.append({"label": label, "group": plot.budget.text(name), "value": value})
    return Found(elements, bool(groups) and _is_horizontal(groups[0]))


def _is_horizontal(group: Any) -> bool:
    return getattr(group, "orientation", None) == "horizontal"


def _group_names(groups: list[Any], plot: Plot) -> list[list[str]]:
    """For each bar of each group. `hist` labels its first bar for all of them, `bar(label=[…])` each bar."""
    defaults = [{"label": label_of(group, "Group", place)} for place, group in enumerate(groups)]
    named = _named_by_legend(defaults, groups, plot)
    names = []
    for group, default in zip(groups, named):
        own = [str(bar.get_label()) for bar in group]
        given = [label for label in own if not label.startswith("_")]
        if str(group.get_label()).startswith("_") and given:
            names.append([given[0]] * len(own) if len(given) == 1 else own)
        else:
            names.append([default["label"]] * len(own))
    return names


def _bar(bar: Any, plot: Plot, horizontal: bool) -> tuple[str, float | None]:
    if horizontal:
        reading, start, breadth, value = plot.y, bar.get_y(), bar.get_height(), bar.get_width()
    else:
        reading, start, breadth, value = plot.x, bar.get_x(), bar.get_width(), bar.get_height()
    return reading.label_at(number(start + breadth / 2)), number(value)


# Wedges


def wedges(plot: Plot) -> Found:
    kind = class_of("matplotlib.patches", "Wedge")
    slices = [child for child in children(plot.axes) if isinstance(child, kind)]
    plot.budget.take(3 * len(slices))
    elements = []
    for wedge in slices:
        label = str(wedge.get_label())
        shown = plot.budget.text("" if label.startswith("_") else label)
        angle = round(abs(float(wedge.theta2) - float(wedge.theta1)), ANGLE_DIGITS)
        elements.append({"label": shown, "angle": number(angle), "radius": number(wedge.r)})
    if any(element["label"] for element in elements):
        return Found(elements)
    return Found(_named_by_legend(elements, [], plot))


# Boxes


def boxes(plot: Plot) -> Found:
    """A box plot is nothing but lines to matplotlib: a box, two whiskers, caps, the median, then what lies outside."""
    found = [box for box in (_read_box(group, plot) for group in _box_groups(plot.axes)) if box is not None]
    if not found:
        return Found([])
    horizontal = found[0].horizontal
    elements = []
    for box in found:
        label = (plot.y if box.horizontal else plot.x).label_at(box.place)
        elements.append({"label": label, **box.values, "outliers": box.outliers})
    return Found(elements, horizontal)


class Box(NamedTuple):
    horizontal: bool
    place: float | None
    values: dict[str, float | None]
    outliers: list[float]


class Stroke(NamedTuple):
    """A line in the terms of its box."""

    places: list[float | None]
    values: list[float | None]


def _box_groups(axes: Any) -> Iterator[list[Any]]:
    """Each box shape with the lines that follow it."""
    line, patch = class_of("matplotlib.lines", "Line2D"), class_of("matplotlib.patches", "PathPatch")
    group: list[Any] = []
    for child in children(axes):
        if isinstance(child, patch) or (isinstance(child, line) and _is_box(child)):
            if group:
                yield group
            group = [child]
        elif group and isinstance(child, line):
            group.append(child)
    if group:
        yield group


def _is_box(line: Any) -> bool:
    xs, ys = line.get_xdata(orig=False), line.get_ydata(orig=False)
    return len(xs) in (5, 11) and _same(xs[0], xs[-1]) and _same(ys[0], ys[-1])


def _same(one: float, other: float) -> bool:
    return bool(one == other or (one != one and other != other))


def _read_box(group: list[Any], plot: Plot) -> Box | None:
    """None for a shape that only looks like a box."""
    parts = group[1 : 1 + MAX_PARTS]
    if len(parts) < 3 or any(len(part.get_xdata(orig=False)) != 2 for part in parts[:2]):
        return None
    plot.budget.take(sum(2 * len(part.get_xdata(orig=False)) for part in parts))
    horizontal = _lies(parts)
    strokes = [_stroke(part, horizontal) for part in parts]
    low, high, *rest = strokes
    levels = [stroke.values[0] for stroke in rest if len(stroke.values) == 2 and stroke.values[0] == stroke.values[1]]
    if len({*low.places, *high.places}) > 1 or not levels:
        return None
    place, (first, least), (third, most) = low.places[0], low.values, high.values
    has_caps = len(levels) > 2 and levels[:2] == [least, most]
    values = {
        "min": least,
        "first_quartile": first,
        "median": levels[2 if has_caps else 0],
        "third_quartile": third,
        "max": most,
    }
    return Box(horizontal, place, values, list(_outside(rest, place, least, most)))


def _stroke(line: Any, horizontal: bool) -> Stroke:
    xs, ys = numbers(line.get_xdata(orig=False)), numbers(line.get_ydata(orig=False))
    return Stroke(ys, xs) if horizontal else Stroke(xs, ys)


def _lies(parts: list[Any]) -> bool:
    """The whiskers tell the direction, or the levels across them when the whiskers have no length."""
    for place, part in enumerate(parts):
        xs, ys = part.get_xdata(orig=False), part.get_ydata(orig=False)
        if len(xs) == 2 and (xs[0] == xs[1]) != (ys[0] == ys[1]):
            return bool(ys[0] == ys[1]) == (place < 2)
    return False


def _outside(strokes: list[Stroke], place: float | None, least: float | None, most: float | None) -> Iterator[float]:
    if least is None or most is None:
        return
    for stroke in strokes:
        if all(found == place for found in stroke.places):
            yield from (value for value in stroke.values if value is not None and not least <= value <= most)
