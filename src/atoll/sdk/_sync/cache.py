"""A sandbox's cache."""

from __future__ import annotations

from typing import Any

from atoll.sdk._core import agent

from .client import Agent


class Cache:
    """`sandbox.cache`.

    >>> "hits" in sandbox.cache.stats()
    True
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def stats(self, *, timeout: float | None = None) -> dict[str, Any]:  # Any: JSON values
        """Hits, misses, size in bytes.

        >>> stats = sandbox.cache.stats()
        >>> stats["misses"] >= 0
        True
        """
        return self._agent.call(agent.get("/cache/stats", timeout))

    def clear(self, *, timeout: float | None = None) -> dict[str, Any]:  # Any: JSON values
        """Empties it.

        >>> sandbox.cache.clear()["entries_removed"] >= 0
        True
        """
        return self._agent.call(agent.post("/cache/clear", timeout))
