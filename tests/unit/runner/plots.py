"""Figures whose values are known: each is the code of a cell and the chart it must give.

Values are written here as they are plotted, never as they were once extracted. A chart is compared key by
key with what is named; `elements` are compared whole.
"""

from __future__ import annotations

from typing import Any, NamedTuple

PREPARE = """
import datetime
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
mpl.rcParams['figure.dpi'] = 20
"""


class Plot(NamedTuple):
    code: str
    chart: dict[str, Any] | None


def series(label: str, *points: tuple[Any, Any]) -> dict[str, Any]:
    return {"label": label, "points": [list(point) for point in points]}


def bars(group: str, **values: float) -> list[dict[str, Any]]:
    return [{"label": label, "group": group, "value": value} for label, value in values.items()]


def numbered(group: str, values: dict[str, float]) -> list[dict[str, Any]]:
    return [{"label": label, "group": group, "value": value} for label, value in values.items()]


def wedge(label: str, angle: float, radius: float = 1) -> dict[str, Any]:
    return {"label": label, "angle": angle, "radius": radius}


def box(label: str, *values: float | None, outliers: tuple[float, ...] = ()) -> dict[str, Any]:
    names = ("min", "first_quartile", "median", "third_quartile", "max")
    return {"label": label, **dict(zip(names, values, strict=True)), "outliers": list(outliers)}


def chart(kind: str, *elements: Any, **more: Any) -> dict[str, Any]:
    return {"type": kind, "elements": list(elements), **more}


CLASSES = "{'A': [85, 90, 78, 92, 88], 'B': [95, 89, 76, 91, 84, 87], 'C': [75, 82, 88, 79, 86]}"
BOXES = (box("A", 78, 85, 88, 90, 92), box("B", 84, 84.75, 88, 90.5, 95, outliers=(76,)), box("C", 75, 79, 82, 86, 88))
UNKNOWN = chart("unknown")
FRAME = "pd.DataFrame({'a': [1, 2], 'b': [3.5, 5]}, index=['u', 'v'])"

PLOTS: dict[str, Plot] = {
    # Lines
    "line": Plot(
        "plt.plot([1, 2, 3], [10.5, -2, 0.1], label='x'); plt.title('T'); plt.xlabel('a'); plt.ylabel('b')",
        chart(
            "line",
            series("x", (1, 10.5), (2, -2), (3, 0.1)),
            title="T",
            x_label="a",
            y_label="b",
            x_unit=None,
            y_unit=None,
            x_scale="linear",
            y_scale="linear",
        ),
    ),
    "line without labels": Plot(
        "plt.plot([4, 5])",
        chart("line", series("Line 0", (0, 4), (1, 5)), title=None, x_label=None, y_label=None),
    ),
    "lines named by their legend alone": Plot(
        "plt.plot([1], [2], 'o'); plt.plot([3], [4], 'x'); plt.legend(['first', 'second'])",
        chart("line", series("first", (1, 2)), series("second", (3, 4))),
    ),
    "units in round brackets": Plot(
        "plt.plot([1]); plt.xlabel('Speed (km/h)'); plt.ylabel('f(x)')",
        chart("line", series("Line 0", (0, 1)), x_label="Speed (km/h)", x_unit="km/h", y_label="f(x)", y_unit=None),
    ),
    "units in square brackets": Plot(
        "plt.plot([1]); plt.xlabel('Speed [km/h]'); plt.ylabel('f(t) (m)')",
        chart("line", series("Line 0", (0, 1)), x_unit="km/h", y_unit="m"),
    ),
    "texts beyond ASCII": Plot(
        "plt.plot([1], label='температура'); plt.title('高さ 📈'); plt.xlabel('Größe (µm)')",
        chart("line", series("температура", (0, 1)), title="高さ 📈", x_unit="µm"),
    ),
    "texts of LaTeX": Plot(
        "plt.plot([1], label=r'$\\alpha_1$'); plt.title(r'$\\frac{a}{b}$'); plt.ylabel(r'$\\rho$ [$\\frac{kg}{m^3}$]')",
        chart("line", series(r"$\alpha_1$", (0, 1)), title=r"$\frac{a}{b}$", y_unit=r"$\frac{kg}{m^3}$"),
    ),
    "title on the left": Plot(
        "plt.plot([1]); plt.title('L', loc='left')", chart("line", series("Line 0", (0, 1)), title="L")
    ),
    "title of the figure": Plot("plt.plot([1]); plt.suptitle('S')", chart("line", series("Line 0", (0, 1)), title="S")),
    "gap in a line": Plot(
        "plt.plot([1, 2, 3, 4], [1, np.nan, np.inf, 4])",
        chart("line", series("Line 0", (1, 1), (2, None), (3, None), (4, 4))),
    ),
    "masked line": Plot(
        "plt.plot([1, 2, 3], np.ma.masked_equal([7, 0, 9], 0))",
        chart("line", series("Line 0", (1, 7), (2, None), (3, 9))),
    ),
    "step": Plot(
        "plt.step([1, 2, 3], [5, 6, 4], where='mid', label='s')", chart("line", series("s", (1, 5), (2, 6), (3, 4)))
    ),
    "stem": Plot("plt.stem([1, 2], [3, 4], label='s'); plt.legend()", chart("line", series("s", (1, 3), (2, 4)))),
    "error bars": Plot(
        "plt.errorbar([1, 2], [3, 4], yerr=[.1, .2], xerr=.1, capsize=3, label='e')",
        chart("line", series("e", (1, 3), (2, 4))),
    ),
    "filled line": Plot(
        "plt.plot([1, 2], [3, 4], label='m'); plt.fill_between([1, 2], [2, 3], [4, 5], alpha=.3, label='band')",
        chart("line", series("m", (1, 3), (2, 4))),
    ),
    "line with guides": Plot(
        "plt.plot([1, 2], [3, 4]); plt.axhline(3.5); plt.axvline(1); plt.axline((1, 3), slope=1); plt.axvspan(1, 1.5)\n"
        "plt.grid(True); plt.annotate('here', (1, 3)); plt.text(1, 3, 't')",
        chart("line", series("Line 0", (1, 3), (2, 4))),
    ),
    "invisible line": Plot(
        "plt.plot([1, 2])[0].set_visible(False); plt.plot([3], [4])", chart("line", series("Line 1", (3, 4)))
    ),
    "numbers of every type": Plot(
        "from fractions import Fraction; from decimal import Decimal\n"
        "plt.plot(np.array([1, 2], dtype='int8'), np.array([1, 2], dtype='float16'))\n"
        "plt.plot([True, 3], [Decimal('0.5'), 1], label='d')",
        chart("line", series("Line 0", (1, 1), (2, 2)), series("d", (1, 0.5), (3, 1))),
    ),
    # Scales
    "log": Plot(
        "plt.plot([1, 10, 100], [1e-3, 1, 1e3]); plt.xscale('log'); plt.yscale('log')",
        chart("line", series("Line 0", (1, 1e-3), (10, 1), (100, 1e3)), x_scale="log", y_scale="log"),
    ),
    "symlog": Plot(
        "plt.plot([-100, 0, 100]); plt.yscale('symlog')",
        chart("line", series("Line 0", (0, -100), (1, 0), (2, 100)), y_scale="symlog"),
    ),
    "logit": Plot(
        "plt.plot([.1, .5, .9]); plt.yscale('logit')",
        chart("line", series("Line 0", (0, 0.1), (1, 0.5), (2, 0.9)), y_scale="logit"),
    ),
    "asinh": Plot(
        "plt.plot([-5, 5]); plt.yscale('asinh')", chart("line", series("Line 0", (0, -5), (1, 5)), y_scale="asinh")
    ),
    "function": Plot(
        "plt.plot([1, 4]); plt.yscale('function', functions=(np.sqrt, np.square))",
        chart("line", series("Line 0", (0, 1), (1, 4)), y_scale="function"),
    ),
    "functionlog": Plot(
        "plt.plot([1, 4]); plt.yscale('functionlog', functions=(lambda x: x + 1, lambda x: x - 1))",
        chart("line", series("Line 0", (0, 1), (1, 4)), y_scale="functionlog"),
    ),
    "categories": Plot(
        "plt.plot([1, 2, 3], ['A', 'B', 'A'])",
        chart(
            "line",
            series("Line 0", (1, "A"), (2, "B"), (3, "A")),
            x_scale="linear",
            y_scale="categorical",
            y_ticks=[0, 1],
            y_tick_labels=["A", "B"],
        ),
    ),
    "named ticks": Plot(
        "plt.plot([0, 1, 2], [5, 6, 7]); plt.xticks([0, 1, 2], ['Jan', 'Feb', 'Mar'])",
        chart(
            "line",
            series("Line 0", (0, 5), (1, 6), (2, 7)),
            x_scale="categorical",
            x_ticks=[0, 1, 2],
            x_tick_labels=["Jan", "Feb", "Mar"],
        ),
    ),
    "ticks of the program": Plot(
        "plt.plot([0, 50]); plt.yticks([0, 25, 50], ['0 %', '25 %', '50 %']); plt.xticks([])",
        chart(
            "line",
            series("Line 0", (0, 0), (1, 50)),
            y_ticks=[0, 25, 50],
            y_tick_labels=["0 %", "25 %", "50 %"],
            x_ticks=[],
            x_tick_labels=[],
            y_scale="linear",
        ),
    ),
    "dates": Plot(
        "plt.plot([datetime.date(2024, 2, 28), datetime.date(2024, 3, 1)], [1, 2])\n"
        "plt.xticks([datetime.date(2024, 2, 29)])",
        chart(
            "line",
            series("Line 0", ("2024-02-28", 1), ("2024-03-01", 2)),
            x_scale="datetime",
            y_scale="linear",
            x_ticks=["2024-02-29T00:00:00"],
        ),
    ),
    "moments": Plot(
        "plt.plot([datetime.datetime(2024, 1, 1, 12, 30), datetime.datetime(2024, 1, 1, 12, 30, 0, 250)], [1, 2])",
        chart(
            "line", series("Line 0", ("2024-01-01T12:30:00", 1), ("2024-01-01T12:30:00.000250", 2)), x_scale="datetime"
        ),
    ),
    "moments with a zone": Plot(
        "zone = datetime.timezone(datetime.timedelta(hours=9))\n"
        "plt.plot([datetime.datetime(2024, 1, 1, 8, tzinfo=zone)], [1], 'o')\n"
        "plt.xticks([datetime.datetime(2024, 1, 1, 9, tzinfo=zone)])",
        chart("line", series("Line 0", ("2024-01-01T08:00:00+09:00", 1)), x_ticks=["2024-01-01T09:00:00+09:00"]),
    ),
    "moments of numpy": Plot(
        "plt.plot(np.array(['2024-01-01T06', 'NaT', '2024-01-03'], dtype='datetime64[ns]'), [1, 2, 3])",
        chart(
            "line",
            series("Line 0", ("2024-01-01T06:00:00", 1), (None, 2), ("2024-01-03T00:00:00", 3)),
            x_scale="datetime",
        ),
    ),
    "dates up the side": Plot(
        "plt.plot([1, 2], [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)])",
        chart("line", series("Line 0", (1, "2024-01-01"), (2, "2024-01-02")), y_scale="datetime", x_scale="linear"),
    ),
    # Points
    "scatter": Plot(
        "plt.scatter([.1, .2], [.3, .4], s=[10, 200], c=['r', 'b'], label='one'); plt.scatter([1], [2], label='two')\n"
        "plt.xlabel('A'); plt.legend()",
        chart("scatter", series("one", (0.1, 0.3), (0.2, 0.4)), series("two", (1, 2)), x_label="A", x_scale="linear"),
    ),
    "masked scatter": Plot(
        "plt.scatter([1, 2, 3, 4], np.ma.masked_equal([7, 0, 9, 5], 0), s=[1, 2, 3, np.nan])",
        chart("scatter", series("Scatter 0", (1, 7), (3, 9))),
    ),
    "scatter of categories": Plot(
        "plt.scatter(['x', 'y', 'x'], [1, 2, 3])",
        chart("scatter", series("Scatter 0", ("x", 1), ("y", 2), ("x", 3)), x_scale="categorical"),
    ),
    "scatter of moments": Plot(
        "plt.scatter([datetime.datetime(2024, 5, 6, 7, 8, 9)], [1])",
        chart("scatter", series("Scatter 0", ("2024-05-06T07:08:09", 1)), x_scale="datetime"),
    ),
    "scatter of moments with a zone": Plot(
        "zone = datetime.timezone(datetime.timedelta(hours=-5))\n"
        "plt.scatter([datetime.datetime(1901, 5, 6, 7, 8, 9, tzinfo=zone)], [1])\n"
        "plt.gca().xaxis.set_major_formatter('{x:g}'); plt.xticks([0, 4e6])",
        chart(
            "scatter",
            series("Scatter 0", ("1901-05-06T07:08:09-05:00", 1)),
            x_scale="datetime",
            x_ticks=["1969-12-31T19:00:00-05:00", None],
        ),
    ),
    "scatter with a line": Plot(
        "plt.scatter([1, 2], [3, 5], label='seen'); plt.plot([1, 2], [3, 4], label='fit'); plt.legend()",
        chart("scatter", series("seen", (1, 3), (2, 5)), series("fit", (1, 3), (2, 4))),
    ),
    "scatter with a colour bar": Plot(
        "plt.scatter([1, 2], [3, 4], c=[.1, .9]); plt.colorbar(label='heat')",
        chart("scatter", series("Scatter 0", (1, 3), (2, 4))),
    ),
    # Bars
    "bar": Plot(
        "plt.bar(['A', 'B'], [100, -2.5], label='Sold', yerr=1); plt.xlabel('Author'); plt.ylabel('Money (€)')",
        chart("bar", *bars("Sold", A=100, B=-2.5), x_label="Author", y_label="Money (€)", x_unit=None, y_unit="€"),
    ),
    "equal bars": Plot("plt.bar(['A', 'B'], [3, 3])", chart("bar", *bars("Group 0", A=3, B=3))),
    "bars at numbers": Plot(
        "plt.bar([2019, 2020.5], [1, 2], width=.5)", chart("bar", *numbered("Group 0", {"2019": 1, "2020.5": 2}))
    ),
    "bars at dates": Plot(
        "plt.bar([datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)], [1, 2])",
        chart("bar", *numbered("Group 0", {"2024-01-01T00:00:00": 1, "2024-01-02T00:00:00": 2})),
    ),
    "horizontal bars": Plot(
        "plt.barh(['A', 'B'], [1, 2], label='g'); plt.xlabel('How many (1)'); plt.ylabel('Who')",
        chart("bar", *bars("g", A=1, B=2), x_label="Who", y_label="How many (1)", x_unit=None, y_unit="1"),
    ),
    "stacked bars": Plot(
        "plt.bar(['A', 'B'], [1, 2], label='low'); plt.bar(['A', 'B'], [3, 4], bottom=[1, 2], label='high')",
        chart("bar", *bars("low", A=1, B=2), *bars("high", A=3, B=4)),
    ),
    "grouped bars": Plot(
        "x = np.arange(3)\nplt.bar(x - .25, [1, 2, 3], .25, label='a'); plt.bar(x, [4, 5, 6], .25, label='b')\n"
        "plt.bar(x + .25, [7, 8, 9], .25, label='c'); plt.xticks(x, ['X', 'Y', 'Z']); plt.axhline(4)",
        chart("bar", *bars("a", X=1, Y=2, Z=3), *bars("b", X=4, Y=5, Z=6), *bars("c", X=7, Y=8, Z=9)),
    ),
    "bars with a label each": Plot(
        "plt.bar(['A', 'B'], [1, 2], label=['first', 'second'])",
        chart("bar", *bars("first", A=1), *bars("second", B=2)),
    ),
    "histogram": Plot(
        "plt.hist([0, 1, 1, 3.5], bins=[0, 1, 2, 4], label='n')",
        chart("bar", *numbered("n", {"0.5": 1, "1.5": 2, "3": 1})),
    ),
    # Boxes
    "boxes": Plot(
        f"d = {CLASSES}\nplt.boxplot(d.values(), tick_labels=d.keys()); plt.title('Scores'); plt.ylabel('Points [1]')",
        chart("box_and_whisker", *BOXES, title="Scores", x_label=None, y_label="Points [1]", y_unit="1"),
    ),
    "patched, notched boxes with means": Plot(
        f"d = {CLASSES}\nplt.boxplot(d.values(), tick_labels=d.keys(), patch_artist=True, notch=True, showmeans=True)",
        chart("box_and_whisker", *BOXES),
    ),
    "horizontal boxes": Plot(
        f"d = {CLASSES}\nplt.boxplot(d.values(), tick_labels=d.keys(), orientation='horizontal', showmeans=True,\n"
        "meanline=True, showcaps=False); plt.xlabel('v'); plt.ylabel('who')",
        chart("box_and_whisker", *BOXES, x_label="who", y_label="v"),
    ),
    "flat boxes": Plot(
        "plt.boxplot([[5, 5, 5], [1, 1, 1, 9]], positions=[1, 4])",
        chart("box_and_whisker", box("1", 5, 5, 5, 5, 5), box("4", 1, 1, 1, 3, 3, outliers=(9,))),
    ),
    "box of nothing": Plot(
        "plt.boxplot([[], [1, 2, 3]], orientation='horizontal')",
        chart("box_and_whisker", box("1", *[None] * 5), box("2", 1, 1.5, 2, 2.5, 3)),
    ),
    "shape like a box": Plot(
        "plt.plot([0, 1, 1, 0, 0], [0, 0, 1, 1, 0]); plt.plot([5, 5], [0, 1]); plt.plot([6, 6], [1, 2]); plt.plot([1])",
        chart(
            "line",
            series("Line 0", (0, 0), (1, 0), (1, 1), (0, 1), (0, 0)),
            series("Line 1", (5, 0), (5, 1)),
            series("Line 2", (6, 1), (6, 2)),
            series("Line 3", (0, 1)),
        ),
    ),
    # Wedges
    "pie": Plot(
        "plt.pie([90, 10], labels=['No', 'No, in blue'], autopct='%1.1f%%', startangle=90); plt.title('Early?')",
        chart("pie", wedge("No", 324), wedge("No, in blue", 36), title="Early?"),
    ),
    "exploded, shadowed pie": Plot(
        "plt.pie([1, 2, 5], labels=['a', 'b', 'c'], explode=[0, .2, 0], shadow=True, counterclock=False)",
        chart("pie", wedge("a", 45), wedge("b", 90), wedge("c", 225)),
    ),
    "pie named by its legend alone": Plot(
        "plt.pie([1, 3]); plt.legend(['a', 'b'])", chart("pie", wedge("a", 90), wedge("b", 270))
    ),
    "ring in a ring": Plot(
        "plt.pie([1, 1], labels=['a', 'b'], radius=1, wedgeprops={'width': .3}); plt.pie([1], radius=.5, labels=['c'])",
        chart("pie", wedge("a", 180), wedge("b", 180), wedge("c", 360, 0.5)),
    ),
    # Several axes
    "two axes": Plot(
        "figure, (left, right) = plt.subplots(1, 2); figure.suptitle('Both')\n"
        "left.plot([1, 2]); left.set_title('L'); right.scatter([1], [2], label='s'); right.set_xlabel('X')",
        chart(
            "superchart",
            chart("line", series("Line 0", (0, 1), (1, 2)), title="L", x_label=None),
            chart("scatter", series("s", (1, 2)), title=None, x_label="X"),
            title="Both",
        ),
    ),
    "every kind at once": Plot(
        "figure, axes = plt.subplots(2, 3); a, b, c, d, e, f = axes.flat\n"
        "a.plot([1]); b.bar(['x'], [2]); c.pie([1], labels=['w']); d.boxplot([[1, 2, 3]]); e.imshow([[1]])",
        chart(
            "superchart",
            chart("line", series("Line 0", (0, 1))),
            chart("bar", *bars("Group 0", x=2)),
            chart("pie", wedge("w", 360)),
            chart("box_and_whisker", box("1", 1, 1.5, 2, 2.5, 3)),
            UNKNOWN,
            title=None,
        ),
    ),
    "shared axes": Plot(
        "figure, (top, bottom) = plt.subplots(2, 1, sharex=True); top.plot([1, 2]); bottom.plot([3, 4])\n"
        "bottom.set_xticks([0, 1])",
        chart(
            "superchart",
            chart("line", series("Line 0", (0, 1), (1, 2)), x_ticks=[0, 1], x_tick_labels=["0", "1"]),
            chart("line", series("Line 0", (0, 3), (1, 4)), x_ticks=[0, 1], x_tick_labels=["0", "1"]),
            title=None,
        ),
    ),
    "twin axes": Plot(
        "axes = plt.gca(); axes.bar(['A'], [1], label='b'); twin = axes.twinx(); twin.plot(['A'], [9], label='l')\n"
        "twin.set_ylabel('right (s)')",
        chart(
            "superchart",
            chart("bar", *bars("b", A=1)),
            chart("line", series("l", ("A", 9)), y_label="right (s)", y_unit="s"),
            title=None,
        ),
    ),
    "polar line": Plot(
        "plt.polar([0, 1], [2, 3], label='p')",
        chart("line", series("p", (0, 2), (1, 3)), x_tick_labels=[f"{angle}°" for angle in range(0, 360, 45)]),
    ),
    # No kind of ours, or nothing
    "circles": Plot(
        "plt.gca().add_artist(plt.Circle((0, 0), 1)); plt.title('Circles')", {**UNKNOWN, "title": "Circles"}
    ),
    "image": Plot("plt.imshow([[1, 2], [3, 4]]); plt.colorbar()", UNKNOWN),
    "contours": Plot("plt.contour([[1, 2], [3, 4]])", UNKNOWN),
    "filled contours": Plot("plt.contourf([[1, 2], [3, 4]])", UNKNOWN),
    "violins": Plot("plt.violinplot([[1, 2, 3]])", UNKNOWN),
    "three dimensions": Plot("plt.figure().add_subplot(projection='3d').plot([1, 2], [3, 4], [5, 6])", UNKNOWN),
    "only a text": Plot("plt.text(.5, .5, 'nothing plotted')", None),
    "empty axes": Plot("plt.subplots(2, 2)", None),
    # pandas
    "pandas line": Plot(
        "pd.DataFrame({'a': [1, 2], 'b': [3.5, None]}, index=[10, 20]).plot(xlabel='i', title='F')",
        chart("line", series("a", (10, 1), (20, 2)), series("b", (10, 3.5), (20, None)), x_label="i", title="F"),
    ),
    "pandas series of days": Plot(
        "pd.Series([1, 2], index=pd.date_range('2024-01-31', periods=2), name='s').plot(legend=True)",
        chart("line", series("s", ("2024-01-31T00:00:00", 1), ("2024-02-01T00:00:00", 2)), x_scale="datetime"),
    ),
    "pandas series of moments": Plot(
        "pd.Series([1, 2], index=pd.to_datetime(['2024-01-01 10:00', '2024-03-05 11:30'])).plot(label='s')",
        chart("line", series("s", ("2024-01-01T10:00:00", 1), ("2024-03-05T11:30:00", 2)), x_scale="datetime"),
    ),
    "pandas bar": Plot(f"{FRAME}.plot.bar()", chart("bar", *bars("a", u=1, v=2), *bars("b", u=3.5, v=5))),
    "pandas barh, stacked": Plot(
        f"{FRAME}.plot.barh(stacked=True, xlabel='n')",
        chart("bar", *bars("a", u=1, v=2), *bars("b", u=3.5, v=5), y_label="n"),
    ),
    "pandas hist": Plot(
        "pd.Series([1, 1, 2], name='h').plot.hist(bins=2)", chart("bar", *numbered("h", {"1.25": 2, "1.75": 1}))
    ),
    "pandas box": Plot(
        "pd.DataFrame({'p': [1, 2, 3], 'q': [2, 4, 60]}).plot.box()",
        chart("box_and_whisker", box("p", 1, 1.5, 2, 2.5, 3), box("q", 2, 3, 4, 32, 60)),
    ),
    "pandas boxes by group": Plot(
        "pd.DataFrame({'v': [1, 2, 3, 9], 'g': ['m', 'm', 'n', 'n']}).boxplot('v', by='g')",
        chart("box_and_whisker", box("m", 1, 1.25, 1.5, 1.75, 2), box("n", 3, 4.5, 6, 7.5, 9)),
    ),
    "pandas area": Plot(
        f"{FRAME}.plot.area(stacked=False)",
        chart("line", series("a", (0, 1), (1, 2)), series("b", (0, 3.5), (1, 5))),
    ),
    "pandas scatter": Plot(
        f"{FRAME}.plot.scatter('a', 'b', c='b', colormap='viridis')",
        chart("scatter", series("Scatter 0", (1, 3.5), (2, 5)), x_label="a", y_label="b"),
    ),
    "pandas pie": Plot("pd.Series([1, 3], index=['u', 'v']).plot.pie()", chart("pie", wedge("u", 90), wedge("v", 270))),
    "pandas hexbin": Plot(f"{FRAME}.plot.hexbin('a', 'b', gridsize=3)", UNKNOWN),
    "pandas subplots": Plot(
        f"{FRAME}.plot(subplots=True)",
        chart(
            "superchart",
            chart("line", series("a", (0, 1), (1, 2))),
            chart("line", series("b", (0, 3.5), (1, 5))),
            title=None,
        ),
    ),
}
