"""A sandbox's cache."""

from __future__ import annotations

from typing import Any

from atoll.sdk._core import agent

from .client import AsyncAgent


class AsyncCache:
    """`sandbox.cache`.

    >>> "hits" in await sandbox.cache.stats()
    True
    """

    def __init__(self, agent: AsyncAgent) -> None:
        self._agent = agent

    async def stats(self, *, timeout: float | None = None) -> dict[str, Any]:  # Any: JSON values
        """Hits, misses, size in bytes.

        >>> stats = await sandbox.cache.stats()
        >>> stats["misses"] >= 0
        True
        """
        return await self._agent.call(agent.get("/cache/stats", timeout))

    async def clear(self, *, timeout: float | None = None) -> dict[str, Any]:  # Any: JSON values
        """Empties it.

        >>> (await sandbox.cache.clear())["entries_removed"] >= 0
        True
        """
        return await self._agent.call(agent.post("/cache/clear", timeout))
