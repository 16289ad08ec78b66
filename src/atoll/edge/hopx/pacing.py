"""Messages for a client that hears one at a time. Pure.

HopX's JavaScript client listens anew for each message, and Node's `ws` hands out every frame of one read at once: of
two that arrive together it loses the second, and without the last one it waits for ever. So the next message goes when
a ping that was sent behind the one before is answered; output that comes meanwhile is joined.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from .outcome import MAX_CHUNK

MARK = b"taken?"  # of our pings; the heartbeat's are answered too
ANSWER_S = 5.0  # then the next message goes unasked: some clients may not answer
MAX_WAITING = 16
JOINED = frozenset(("stdout", "stderr", "output"))


def hears_one_at_a_time(headers: Mapping[str, str]) -> bool:
    """Node's `ws` is the client that does not say who it is."""
    return "User-Agent" not in headers


class Outbox:
    def __init__(self) -> None:
        self._waiting: deque[dict[str, Any]] = deque()
        self._sent_at: float | None = None

    @property
    def empty(self) -> bool:
        return not self._waiting

    @property
    def full(self) -> bool:
        return len(self._waiting) >= MAX_WAITING

    def put(self, message: dict[str, Any]) -> None:
        last = self._waiting[-1] if self._waiting else None
        if last is not None and _can_join(last, message):
            last["data"] += message["data"]
        else:
            self._waiting.append(dict(message))

    def answered(self) -> None:
        self._sent_at = None

    def take(self, now: float) -> dict[str, Any] | None:
        """The message to send now, if there is one and it is its turn."""
        if not self._waiting or (self._sent_at is not None and now - self._sent_at < ANSWER_S):
            return None
        self._sent_at = now
        return self._waiting.popleft()


def _can_join(last: dict[str, Any], message: dict[str, Any]) -> bool:
    kind = message.get("type")
    return kind in JOINED and last.get("type") == kind and len(last["data"]) + len(message["data"]) <= MAX_CHUNK
