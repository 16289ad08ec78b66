"""The event loop of a context: made at the first `await`, alive until the context ends."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import Any


class Loop:
    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def is_open(self) -> bool:
        return self._loop is not None and not self._loop.is_closed()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        loop = self._opened()
        task = loop.create_task(coroutine)
        try:
            return loop.run_until_complete(task)
        except (KeyboardInterrupt, SystemExit) as error:
            if not task.done():
                _cancel(loop, task, error)
            elif not task.cancelled():
                task.exception()  # seen; else asyncio logs it as never retrieved
            raise

    def call(self, function: Callable[[], Any]) -> Any:
        """Run plain code inside the loop, so that it may create tasks."""
        return self.run(_as_coroutine(function))

    def wait_readable(self, fd: int) -> None:
        """Between cells: left-over tasks and servers go on until the next request arrives."""
        loop = self._opened()
        ready = loop.create_future()
        loop.add_reader(fd, lambda: None if ready.done() else ready.set_result(None))
        try:
            while not ready.done():
                _go_on(loop, ready)
        finally:
            loop.remove_reader(fd)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()
            asyncio.set_event_loop(None)

    def _opened(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop


def _go_on(loop: asyncio.AbstractEventLoop, ready: asyncio.Future[None]) -> None:
    try:
        loop.run_until_complete(ready)
    except BaseException:  # a task's SystemExit ends the task, not the context
        traceback.print_exc()


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any], error: BaseException) -> None:
    """Let the interrupted cell run its `finally`s, and show where it waited."""
    task.cancel()
    try:
        loop.run_until_complete(task)
    except asyncio.CancelledError as cancelled:
        error.__traceback__ = cancelled.__traceback__


async def _as_coroutine(function: Callable[[], Any]) -> Any:
    return function()
