"""Exceptions as text, in Python's own format, without the frames that are ours."""

from __future__ import annotations

import linecache
import os
import traceback
from collections import OrderedDict
from io import StringIO
from types import TracebackType

CELL = "<cell "
MAX_SOURCES = 1000  # cells whose source lines stay available; older ones show no lines, as if from a file gone

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_sources: OrderedDict[str, None] = OrderedDict()


def cell_name(number: int) -> str:
    return f"{CELL}{number}>"


def remember_source(filename: str, source: str) -> None:
    lines = StringIO(source + "\n", newline=None).readlines()
    # no modification time: checkcache leaves such an entry alone
    linecache.cache[filename] = (len(source), None, lines, filename)
    _sources[filename] = None
    if len(_sources) > MAX_SOURCES:
        linecache.cache.pop(_sources.popitem(last=False)[0], None)


def forget_sources() -> None:
    for filename in _sources:
        linecache.cache.pop(filename, None)
    _sources.clear()


def text_of(error: BaseException) -> str:
    try:
        report = traceback.TracebackException(type(error), error, _from_cell(error.__traceback__))
        _without_ours(report)
        return "".join(report.format())
    except Exception as broken:  # an exception class may override anything that the formatter touches
        return f"{name_of(error)}: <no traceback: {type(broken).__name__} while formatting it>\n"


def _from_cell(entry: TracebackType | None) -> TracebackType | None:
    """An await puts the event loop between us and the cell."""
    start = entry
    while start is not None and not start.tb_frame.f_code.co_filename.startswith(CELL):
        start = start.tb_next
    return start or entry


def _without_ours(report: traceback.TracebackException) -> None:
    reports = [report]
    while reports:
        current = reports.pop()
        current.stack[:] = [frame for frame in current.stack if not frame.filename.startswith(_OURS)]
        chained = [current.__cause__, current.__context__, *(getattr(current, "exceptions", None) or ())]
        reports.extend(one for one in chained if one is not None)


def name_of(error: BaseException) -> str:
    return str(type.__getattribute__(type(error), "__name__"))


def value_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<exception str() failed>"
