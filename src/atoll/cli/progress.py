"""The progress of long preparations: bars on a terminal, one line a step elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


class Report(Protocol):
    def __call__(self, step: str, fraction: float) -> None: ...


@contextlib.contextmanager
def reporting(console: Console) -> Iterator[Report]:
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as display:
        yield _Bars(display)


class _Bars:
    def __init__(self, display: Progress) -> None:
        self._display = display
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, fraction: float) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._display.add_task(step, total=1.0)
        self._display.update(self._tasks[step], completed=fraction)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun: set[str] = set()
        self._done: set[str] = set()

    def __call__(self, step: str, fraction: float) -> None:
        if step not in self._begun:
            self._begun.add(step)
            self._console.print(f"{step} …", markup=False)
        if fraction >= 1 and step not in self._done:
            self._done.add(step)
            self._console.print(f"{step}: done", markup=False)


@contextlib.contextmanager
def transfer(total: int | None, quiet: bool) -> Iterator[Callable[[int], object]]:
    """A bar that is told of bytes as they go, on terminals only."""
    if quiet or not sys.stderr.isatty():
        yield lambda count: None
        return
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task("", total=total)
        yield lambda count: display.advance(task, count)
