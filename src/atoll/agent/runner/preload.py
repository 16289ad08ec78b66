"""In the interpreter zygote, once: import and warm whatever a first cell would wait for, then freeze.

What is paid here is shared by every sandbox of the template; what is left for a context is paid by each
(a page copied at its first write, a module compiled again). `gc.freeze` keeps the collector of a context
from touching the shared objects: without it one collection copied 23 MB.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import importlib.util
import io
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any, NamedTuple

from atoll.wire import frames

from . import context, display, figures, interrupts, pictures, stdio, tracebacks
from .cells import Cells
from .channel import Channel

FONT_CACHES = (
    ("matplotlib.font_manager", "_get_font"),
    ("matplotlib.mathtext", "MathTextParser._parse_cached"),
)
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS")


class Preloaded(NamedTuple):
    failed: tuple[str, ...]
    """One line for each module or warm-up that did not work."""
    threads: int
    """Threads alive in this process. More than one is a library that starts threads on import."""


def preload(modules: Iterable[str], threads: int = 2) -> Preloaded:
    """`threads` is how many the numeric libraries may use in a sandbox; they read it once, while imported."""
    failed: list[str] = []
    with _thread_limit(threads):
        for name in modules:
            _try(failed, f"import {name}", lambda name=name: importlib.import_module(name))  # type: ignore[misc]
        display.install()
        figures.install()
        pictures.install()
        for name, warm in WARM_UPS.items():
            if importlib.util.find_spec(name) is not None:
                _try(failed, f"warm-up of {name}", warm)
    _try(failed, "rehearsal of cells", _rehearse)
    stdio.line_buffer_c()
    _drop_fonts()
    _stop_threads()
    gc.collect()
    gc.freeze()
    return Preloaded(tuple(failed), _thread_count())


def _try(failed: list[str], what: str, function: Callable[[], object]) -> None:
    try:
        function()
    except Exception as error:
        failed.append(f"{what}: {type(error).__name__}: {error}")


@contextlib.contextmanager
def _thread_limit(threads: int) -> Iterator[None]:
    """A pool is sized by the host's cores when nobody says otherwise: far above what a sandbox may use."""
    added = [name for name in THREAD_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(added, str(threads)))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _warm_matplotlib() -> None:
    pyplot = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots()
    try:
        axes.plot([1, 2, 3], label="x")
        axes.bar([1, 2], [1, 2])
        axes.set_title("$x^2$")
        axes.legend()
        figures.png(figure)
    finally:
        pyplot.close(figure)


def _drop_fonts() -> None:
    """A font keeps its file open, and a fork closes all files: whatever came to be at that descriptor, the
    context's own stream say, would be read or closed in the font's place. matplotlib empties one of the caches
    itself in every forked child, which frees, and so copies, 0.5 MB.
    """
    for name, path in FONT_CACHES:
        with contextlib.suppress(AttributeError, KeyError):
            attrgetter(path)(sys.modules[name]).cache_clear()


def _warm_pandas() -> None:
    pandas = importlib.import_module("pandas")
    for _ in range(ROUNDS):
        _use_frames(pandas)
    if importlib.util.find_spec("matplotlib") is not None:
        importlib.import_module("pandas.plotting._matplotlib")


def _use_frames(pandas: Any) -> None:
    frame = pandas.DataFrame({"a": [1, 2, 1], "b": [1.5, 2.5, 3.5], "c": ["x", "y", "z"]})
    display.bundle_of(frame)
    display.bundle_of(frame.groupby("a")["b"].mean())
    str(frame.groupby("a").sum())
    frame.describe()
    frame.merge(frame, on="a")
    pandas.read_csv(io.StringIO("a,b\n1,2\n"))
    pandas.to_datetime(["2024-01-01"])


def _warm_ipython() -> None:
    importlib.import_module("IPython.display")
    importlib.import_module(f"{__package__}.ipython")


WARM_UPS: dict[str, Callable[[], None]] = {
    "matplotlib": _warm_matplotlib,
    "pandas": _warm_pandas,
    "IPython": _warm_ipython,
}

CELLS = (
    "import os\n1+1",
    "x = [0] * 50\nx",
    "{'a': object()}",
    "def f():\n    return 1 / 0\nf()",
    "undefined_name",
    "1 +",
    "display('x')",
)
ROUNDS = 20  # an interpreter rewrites a function while it warms up, and each rewritten page is copied in each fork


def _rehearse() -> None:
    """The life of a context, with an agent that has sent everything at once and hears nothing."""
    path, handler = list(sys.path), signal.getsignal(signal.SIGINT)
    identity = context.Identity(os.getuid(), os.getgid(), "/", "/", dict(os.environ))
    try:
        for _ in range(ROUNDS):
            context.groups_of(identity.uid, identity.gid)
            context.adopt(identity)
            _rehearse_cells()
    finally:
        sys.path[:] = path
        signal.signal(signal.SIGINT, handler)
        display.connect(None)
        tracebacks.forget_sources()


def _rehearse_cells() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for code in CELLS:
            theirs.sendall(frames.encode_json({"op": "execute", "code": code, "env": {"A": "B"}, "cwd": None}))
        theirs.shutdown(socket.SHUT_WR)
        gate = interrupts.Interrupts()
        cells = Cells()
        context.run_cells(Channel(ours, gate), cells, gate, "/")
        cells.loop.run(asyncio.sleep(0))
        cells.loop.close()


def _stop_threads() -> None:
    """OpenBLAS ends its pool before a fork and starts it again when it is needed: so a fork ends it."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _thread_count() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:  # a zygote may have no /proc
        return threading.active_count()
