"""A sandbox's figures as its agent counts them, and how busy its processors are."""

from __future__ import annotations

import asyncio
import time

from .agent_link import AgentLink, Object
from .cpu_usage import WAIT_S
from .frames_in import number


async def read(agent: AgentLink) -> tuple[Object, float]:
    """The agent's `/stats`, and the share of one processor that was used in the last moments."""
    stats, share = await _read_once(agent)
    if share is None:
        await asyncio.sleep(WAIT_S)
        stats, share = await _read_once(agent)
    return stats, share or 0.0


async def _read_once(agent: AgentLink) -> tuple[Object, float | None]:
    stats = await agent.call("GET", "/stats")
    return stats, agent.cpu_usage.add(time.monotonic(), number(stats.get("cpu_seconds")))
