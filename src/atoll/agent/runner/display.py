"""Values as mime bundles, and `display()`: Jupyter's display protocol without a running IPython.

A bundle is {mime: value}: text as it is, binary as base64, JSON as JSON. Methods are looked up on the
type, so neither a class nor an object whose `__getattr__` answers everything pretends to be rich.
"""

from __future__ import annotations

import builtins
import pprint
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from uuid import uuid4

from . import described, figures, imports, tracebacks
from .channel import MAX_TEXT, shorten

METHODS = {
    "text/html": "_repr_html_",
    "text/markdown": "_repr_markdown_",
    "text/latex": "_repr_latex_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "image/jpeg": "_repr_jpeg_",
    "application/pdf": "_repr_pdf_",
    "application/json": "_repr_json_",
    "application/javascript": "_repr_javascript_",
}
SCALARS = frozenset((int, float, complex, bool, str, bytes, type(None)))
CONTAINERS = frozenset((dict, list, tuple, set, frozenset))
PLAIN = SCALARS | CONTAINERS
WIDTH = 80

Bundle = tuple[dict[str, Any], dict[str, Any]]  # data, metadata
Publish = Callable[[str, Mapping[str, Any], Mapping[str, Any]], bool]

_publish: Publish | None = None
_divert: Callable[[Mapping[str, Any], Mapping[str, Any]], bool] | None = None
_describe = False


def connect(publish: Publish | None) -> None:
    """Everything displayed in this process goes to `publish` from now on."""
    global _publish
    _publish = publish


def describe(wanted: bool) -> None:
    """Whether the cell that begins now gets descriptions with its rich results."""
    global _describe
    _describe = wanted


def describing() -> bool:
    return _describe


def divert(taken: Callable[[Mapping[str, Any], Mapping[str, Any]], bool]) -> None:
    """Ask `taken` first: IPython's %%capture collects what is displayed."""
    global _divert
    _divert = taken


def emit(kind: str, data: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> None:
    if _divert is not None and _divert(data, metadata or {}):
        return
    if _publish is None or not _publish(kind, data, metadata or {}):
        print(data.get("text/plain", f"<{', '.join(map(str, data))}>"))


def publish(kind: str, value: Any) -> None:
    if type(value) in PLAIN:
        data = {"text/plain": plain_text(value)}
        emit(kind, {**data, **described.entries(value, data)} if _describe else data)
        return
    show_itself = getattr(type(value), "_ipython_display_", None)
    if show_itself is not None and _attempt(show_itself, value) is not _FAILED:
        return
    data, metadata = bundle_of(value)
    emit(kind, data, metadata)
    figures.mark_shown(value)


def bundle_of(value: Any, include: Any = None, exclude: Any = None) -> Bundle:
    data: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for mime, found in _rich_values(value, include, exclude):
        content, extra = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        if content is None:
            continue
        data[mime] = _ascii(content) if isinstance(content, (bytes, bytearray, memoryview)) else content
        if extra:
            metadata[mime] = extra
    data.setdefault("text/plain", plain_text(value))
    if _describe:
        data.update(described.entries(value, data))
    return {mime: data[mime] for mime in data if _wanted(mime, include, exclude)}, metadata


def _rich_values(value: Any, include: Any, exclude: Any) -> Any:
    kind = type(value)
    bundle = getattr(kind, "_repr_mimebundle_", None)
    found = _attempt(bundle, value, include=include, exclude=exclude) if bundle else None
    data, metadata = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
    known = dict(data) if isinstance(data, Mapping) else {}
    for mime, content in known.items():
        yield mime, (content, metadata.get(mime)) if isinstance(metadata, Mapping) else content
    for mime, name in METHODS.items():
        method = getattr(kind, name, None)
        if method is not None and mime not in known and _wanted(mime, include, exclude):
            found = _attempt(method, value)
            yield mime, None if found is _FAILED else found
    if figures.is_figure(value) and "image/png" not in known:
        found = _attempt(figures.png, value)
        yield "image/png", None if found is _FAILED else found


def _wanted(mime: str, include: Any, exclude: Any) -> bool:
    return not (include and mime not in include) and not (exclude and mime in exclude)


def _ascii(content: Any) -> str:
    return b64encode(content).decode("ascii")


_FAILED = object()


def _attempt(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A rich form that fails is told on standard error and left out; the other forms remain."""
    try:
        return method(*args, **kwargs)
    except NotImplementedError:
        return _FAILED
    except Exception as error:
        print(tracebacks.text_of(error), file=sys.stderr, end="")
        return _FAILED


def plain_text(value: Any) -> str:
    try:
        return shorten(_represent(value), MAX_TEXT)
    except Exception as error:
        name = type.__getattribute__(type(value), "__name__")
        return shorten(f"<{name} object: its repr failed>\n{tracebacks.text_of(error)}", MAX_TEXT)


def _represent(value: Any) -> str:
    if type(value) in SCALARS:
        return repr(value)
    pretty = sys.modules.get("IPython.lib.pretty")
    if pretty is not None:
        return str(pretty.pretty(value))
    if type(value) in CONTAINERS:
        return _wrapped(value)
    return repr(value)


def _wrapped(value: Any) -> str:
    text = repr(value)
    if len(text) < WIDTH or len(text) > MAX_TEXT:
        return text
    return _Wrapper(width=WIDTH, sort_dicts=False).pformat(value)


class _Wrapper(pprint.PrettyPrinter):
    """pprint, but a long string stays one literal."""

    _dispatch: ClassVar = {
        key: value
        for key, value in pprint.PrettyPrinter._dispatch.items()  # type: ignore[attr-defined]  # not in the stubs
        if key not in (str.__repr__, bytes.__repr__)
    }


class DisplayHandle:
    """What `display(…, display_id=…)` returns. An update is shown anew: a transcript has no place to go back to."""

    def __init__(self, display_id: str | None = None) -> None:
        self.display_id = display_id or uuid4().hex

    def display(self, value: Any, **options: Any) -> None:
        display(value, **options)

    def update(self, value: Any, **options: Any) -> None:
        display(value, **options)


def display(
    *values: Any,
    include: Any = None,
    exclude: Any = None,
    metadata: Mapping[str, Any] | None = None,
    transient: Any = None,
    display_id: Any = None,
    raw: bool = False,
    clear: bool = False,
    **_options: Any,
) -> DisplayHandle | None:
    """Show values as rich as they can be. Takes what IPython.display.display takes."""
    for value in values:
        if raw:
            emit_display(dict(value), metadata)
        elif include or exclude or metadata:
            data, found = bundle_of(value, include, exclude)
            emit_display(data, {**found, **(metadata or {})})
            figures.mark_shown(value)
        else:
            publish("display", value)
    return DisplayHandle(display_id if isinstance(display_id, str) else None) if display_id else None


def publish_display_data(data: Mapping[str, Any], metadata: Mapping[str, Any] | None = None, **_options: Any) -> None:
    encoded = {
        mime: _ascii(value) if isinstance(value, (bytes, bytearray, memoryview)) else value
        for mime, value in data.items()
    }
    emit_display(encoded, metadata)


def emit_display(data: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> None:
    emit("display", data, metadata)


def update_display(value: Any, *, display_id: Any = None, **options: Any) -> None:
    display(value, **options)


def clear_output(wait: bool = False) -> None:
    """Output that has left cannot be taken back."""


REPLACED = {
    "display": display,
    "publish_display_data": publish_display_data,
    "update_display": update_display,
    "clear_output": clear_output,
    "DisplayHandle": DisplayHandle,
}


def _replace(module: Any) -> None:
    for name, replacement in REPLACED.items():
        if hasattr(module, name):
            setattr(module, name, replacement)


def install() -> None:
    builtins.display = display  # type: ignore[attr-defined]
    for name in ("IPython.core.display_functions", "IPython.core.display", "IPython.display"):
        imports.after(name, _replace)
