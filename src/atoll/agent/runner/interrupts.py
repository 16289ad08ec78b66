"""SIGINT reaches user code, and nothing else.

A handler that raises wherever it happens to run would tear a frame in half on the context stream, or
escape between two lines of our own clean-up. So the handler looks at the Python frame that it stopped:

    idle                          → ignored: there is no cell to interrupt
    preparing, or in our own code → remembered; raised at the next step into user code
    user code, or what it called  → KeyboardInterrupt, as often as it is sent

Signal handlers run between two byte codes of the main thread, so the frame tells the exact place.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

T = TypeVar("T")

IDLE, PREPARING, RUNNING = range(3)


class Interrupts:
    def __init__(self) -> None:
        self._phase = IDLE
        self._pending = False
        self._whole: set[CodeType] = set()
        self._handler = self._on_sigint
        self.fired = False

    def keep_whole(self, function: Callable[..., Any]) -> None:
        """`function` is never left half-way by an interrupt; its caller calls `raise_pending` afterwards."""
        self._whole.add(function.__code__)

    def begin(self) -> None:
        """A cell has arrived. A handler that an earlier cell installed must not keep this one from ending."""
        self._pending = self.fired = False
        self._phase = PREPARING
        if signal.getsignal(signal.SIGINT) is not self._handler:
            self.install()

    def install(self) -> None:
        signal.signal(signal.SIGINT, self._handler)

    def end(self) -> None:
        self._phase = IDLE

    def call(self, function: Callable[[], T]) -> T:
        """Call `function`, which may be interrupted. This frame itself may not."""
        try:
            self._phase = RUNNING
            return self._enter(function)
        finally:
            self._phase = PREPARING

    def _enter(self, function: Callable[[], T]) -> T:
        self.raise_pending()
        return function()

    def raise_pending(self) -> None:
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _on_sigint(self, _signum: int, frame: FrameType | None) -> None:
        if self._phase == IDLE:
            return
        self.fired = True
        if self._phase == PREPARING or self._is_whole(frame):
            self._pending = True
        else:
            raise KeyboardInterrupt

    def _is_whole(self, frame: FrameType | None) -> bool:
        if frame is not None and frame.f_code is Interrupts.call.__code__:
            return True
        while frame is not None:
            if frame.f_code in self._whole:
                return True
            frame = frame.f_back
        return False
