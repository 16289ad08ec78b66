"""Standard streams of a context: text that leaves at once, whatever wrote it.

`sys.stdout` is a TextIOWrapper straight on the pipe (as `python -u`); C's stdout is made line-buffered
while still in the zygote, so a `printf` of an extension module does not wait for the exit either.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import io
import select
import sys
from typing import Any

IOLBF = 1  # <stdio.h>, the same in glibc and musl


class PipeWriter(io.FileIO):
    """Writes are whole: a signal, or a child that left the shared pipe non-blocking, loses nothing."""

    def write(self, data: Any) -> int:  # Any: every bytes-like object, as FileIO takes them
        written = super().write(data)
        if written == len(data):
            return written
        return self._write_rest(memoryview(data).cast("B"), written or 0)

    def _write_rest(self, view: memoryview, done: int) -> int:
        while done < len(view):
            written = super().write(view[done:])
            if written is None:
                poll = select.poll()
                poll.register(self.fileno(), select.POLLOUT)
                poll.poll()
            done += written or 0
        return done


def text_writer(fd: int) -> io.TextIOWrapper:
    raw = PipeWriter(fd, "w", closefd=False)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def install() -> None:
    """Fresh objects on descriptors 0, 1 and 2; the zygote's own may hold buffered text or be closed."""
    nothing = io.FileIO(0, closefd=False)
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.BufferedReader(nothing), "utf-8", "replace")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = text_writer(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = text_writer(2)  # type: ignore[misc]
    builtins.input = _no_input


def _no_input(_prompt: object = "") -> str:
    raise EOFError("input() has no one to ask: a cell has no standard input")


def settle() -> None:
    """After a cell: flush what user code put in our place, and replace a stream that it closed."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name, None)
        if getattr(stream, "closed", False):
            setattr(sys, name, text_writer(fd))
            continue
        with contextlib.suppress(Exception):
            stream.flush()  # type: ignore[union-attr]  # None has no flush; suppressed like any other failure
    flush_c()


_libc: Any = None


def line_buffer_c() -> None:
    """In the zygote: C's stdout is a pipe in every fork, which C would buffer in full."""
    global _libc
    with contextlib.suppress(OSError, AttributeError, ValueError):
        library = ctypes.CDLL(None)
        stdout = ctypes.c_void_p.in_dll(library, "stdout")
        library.setvbuf(stdout, None, IOLBF, ctypes.c_size_t(0))
        library.fflush(None)
        _libc = library


def flush_c() -> None:
    if _libc is not None:
        _libc.fflush(None)
