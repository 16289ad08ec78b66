"""Figures appear as in Jupyter: at `plt.show()` and at the end of the cell, as PNG, and are closed then.

The backend stays Agg and `show` is replaced, so it works the same when a program says
`matplotlib.use("Agg")` itself, as programs written for servers do.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import weakref
from typing import Any

from . import imports

_shown: weakref.WeakSet[Any] = weakref.WeakSet()


def is_figure(value: Any) -> bool:
    module = sys.modules.get("matplotlib.figure")
    return module is not None and isinstance(value, module.Figure)


def png(figure: Any) -> bytes | None:
    if not figure.axes and not getattr(figure, "lines", None) and not getattr(figure, "texts", None):
        return None  # as Jupyter: an empty figure has nothing to show
    buffer = io.BytesIO()
    canvas = figure.canvas
    canvas.print_figure(
        buffer,
        format="png",
        dpi=figure.dpi,
        facecolor=figure.get_facecolor(),
        edgecolor=figure.get_edgecolor(),
        bbox_inches="tight",
    )
    return buffer.getvalue()


def mark_shown(value: Any) -> None:
    """Not shown again at the end of the cell, unless it changes: matplotlib sets `stale` then."""
    if is_figure(value):
        with contextlib.suppress(Exception):
            value.stale = False
            _shown.add(value)


def show(*_args: Any, **_kwargs: Any) -> None:
    """`plt.show()`, and the end of a cell."""
    from . import display

    helpers: Any = sys.modules.get("matplotlib._pylab_helpers")
    if helpers is None or not helpers.Gcf.figs:
        return
    numbers = sorted(manager.num for manager in helpers.Gcf.get_all_fig_managers())
    try:
        for number in numbers:
            figure = helpers.Gcf.figs[number].canvas.figure
            if figure not in _shown or figure.stale:
                data, metadata = display.bundle_of(figure)
                if "image/png" in data:
                    display.emit_display(data, metadata)
    finally:
        for number in numbers:
            helpers.Gcf.destroy(number)
        _shown.clear()


def _show_one(figure: Any, *_args: Any, **_kwargs: Any) -> None:
    from . import display

    display.publish("display", figure)


def _adjust_pyplot(pyplot: Any) -> None:
    pyplot.show = show


def _adjust_figure(module: Any) -> None:
    module.Figure.show = _show_one


def _adjust_matplotlib(matplotlib: Any) -> None:
    matplotlib.use("Agg")


def _show_plotly(figure: Any, *_args: Any, **_kwargs: Any) -> None:
    from . import display

    if not hasattr(figure, "to_json"):
        figure = sys.modules["plotly.graph_objects"].Figure(figure)
    display.emit_display(plotly_bundle(figure))


def plotly_bundle(figure: Any, **_options: Any) -> dict[str, Any]:
    content = json.loads(figure.to_json())
    return {
        "application/vnd.plotly.v1+json": content,
        "application/json": content,
        "text/html": figure.to_html(include_plotlyjs="cdn", full_html=False),
        "text/plain": f"<plotly figure with {len(content.get('data', ()))} traces>",
    }


def _adjust_plotly(plotly_io: Any) -> None:
    """plotly's own mime renderers want nbformat and a running IPython; its last resort is a browser."""
    plotly_io.show = _show_plotly


def _adjust_plotly_figure(module: Any) -> None:
    module.BaseFigure.show = _show_plotly
    module.BaseFigure._ipython_display_ = None
    module.BaseFigure._repr_mimebundle_ = plotly_bundle


def install() -> None:
    imports.after("matplotlib", _adjust_matplotlib)
    imports.after("matplotlib.pyplot", _adjust_pyplot)
    imports.after("matplotlib.figure", _adjust_figure)
    imports.after("plotly.io", _adjust_plotly)
    imports.after("plotly.basedatatypes", _adjust_plotly_figure)
