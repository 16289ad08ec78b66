"""Each call counted and timed, for the figures of its sandbox."""

from __future__ import annotations

import time
from collections.abc import Awaitable

from aiohttp import web

from atoll.edge.agent_link import AgentLink


async def measured(agent: AgentLink, name: str, work: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    """`name`: of the route, never of what a client chose."""
    begun = time.monotonic()
    agent.calls[name] += 1
    try:
        response = await work
        agent.errors += response.status >= 500
        return response
    except Exception:
        agent.errors += 1
        raise
    finally:
        took = time.monotonic() - begun
        agent.seconds[name] += took
        agent.latest.append(took)
