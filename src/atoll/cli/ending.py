"""Being told to end is no reason to leave things behind: what stands in `finally` is done first."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def orderly_end() -> Iterator[None]:
    """While it lasts, SIGTERM and SIGHUP are a SystemExit with the code that a shell would show."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's alone
        yield
        return
    before = {number: signal.signal(number, _end) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)
