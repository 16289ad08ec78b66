"""What a cell that asks for descriptions gets with its rich results: the data beside the picture.

- A matplotlib figure that has an image: `e2b/chart` (see charts).
- A pandas DataFrame: `e2b/data`, {column: [values]}; the index is not in it.
- A dict or list: `application/json`, when all of it is JSON.

A description that fails or would be too large is left out without a word: it comes besides the result.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from . import charts, figures
from .jsonable import Budget, cell, is_missing, jsonable, numbers

CHART = "e2b/chart"
DATA = "e2b/data"
JSON = "application/json"
PICTURE = "image/png"
COLUMN_COST = 20  # values; reading a column takes as long


def entries(value: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    """More entries for the bundle `known` of `value`."""
    try:
        found = _entries(value, known)
    except Exception:
        return {}
    return {mime: content for mime, content in found.items() if content is not None and mime not in known}


def _entries(value: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(value, (dict, list)):
        return {JSON: jsonable(value, Budget())}
    if figures.is_figure(value):
        return {CHART: _quietly(charts.of, value)} if PICTURE in known else {}
    return {DATA: _quietly(columns, value)} if is_frame(value) else {}


def _quietly(function: Callable[[Any], Any], value: Any) -> Any:
    """The libraries have warned already while they drew or printed it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(value)


def is_frame(value: Any) -> bool:
    frame = getattr(sys.modules.get("pandas"), "DataFrame", None)
    return frame is not None and isinstance(value, frame)


def columns(frame: Any) -> dict[str, list[Any]]:
    """Of two columns of one name the last counts, as in pandas itself."""
    budget = Budget()
    rows, width = frame.shape
    budget.take(width * (rows + COLUMN_COST))
    return {budget.text(name): _column(frame.iloc[:, place], budget) for place, name in enumerate(frame.columns)}


def _column(series: Any, budget: Budget) -> list[Any]:
    kind = getattr(series.dtype, "kind", "O")
    if kind in "iub" and not series.hasnans:
        whole: list[Any] = series.tolist()
        return whole
    if kind == "f" and isinstance(series.dtype, sys.modules["numpy"].dtype):
        return numbers(series.to_numpy())
    if kind == "m":
        return [None if item != item else budget.text(item.isoformat()) for item in series]
    return [None if is_missing(item) else cell(item, budget) for item in series]
