"""Where a sandbox is: the route of one that runs, or why there is none."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from atoll.core.errors import AtollError

from .agent_link import AgentError, AgentGone
from .hopx.errors import Kind, SurfaceError, from_agent, sandbox_not_found
from .routes import Route, Routes, RouteState

log = logging.getLogger("atoll.edge")

NOT_RUNNING = {
    RouteState.PAUSED: (Kind.SANDBOX_PAUSED, "Sandbox {id} is paused; resume it first"),
    RouteState.STOPPED: (Kind.SANDBOX_STOPPED, "Sandbox {id} is stopped; start it first"),
}


class Finder:
    def __init__(self, routes: Routes, resume: Callable[[str], Awaitable[object]]) -> None:
        """`resume`: asks the server to; raises AtollError when it does not."""
        self.routes = routes
        self._resume = resume

    async def known(self, sandbox_id: str) -> Route:
        """In whatever state."""
        route = await self.routes.find(sandbox_id)
        if route is None:
            raise sandbox_not_found(sandbox_id)
        return route

    async def running(self, sandbox_id: str, resume: bool = False) -> Route:
        """A table that says no may be behind, so the server is asked. One that says yes a dead socket corrects.

        `resume`: one that is paused, and was made to be resumed by traffic, is."""
        route = await self.routes.find(sandbox_id)
        if route is not None and route.state is not RouteState.RUNNING:
            await self.routes.refresh(sandbox_id)
            route = self.routes.table.get(sandbox_id)
            if resume and route is not None and route.state is RouteState.PAUSED and route.auto_resume:
                await self._resume(sandbox_id)
                await self.routes.refresh(sandbox_id)
                route = self.routes.table.get(sandbox_id)
        return running(route, sandbox_id)

    async def explain(self, error: AgentError, sandbox_id: str) -> SurfaceError:
        """A dead socket: paused or stopped meanwhile, or over. The server knows."""
        if isinstance(error, AgentGone):
            log.info("sandbox %s: %s", sandbox_id, error)
            try:
                running(await self.routes.ask(sandbox_id), sandbox_id)
            except SurfaceError as known:
                return known
            except AtollError as unknown:
                log.info("sandbox %s: %s", sandbox_id, unknown.message)
        return from_agent(error, sandbox_id)


def running(route: Route | None, sandbox_id: str) -> Route:
    if route is None:
        raise sandbox_not_found(sandbox_id)
    if route.state is not RouteState.RUNNING:
        kind, message = NOT_RUNNING[route.state]
        raise SurfaceError(kind, message.format(id=sandbox_id), sandbox_id=sandbox_id)
    return route
