"""From the door of one of E2B's surfaces to the sandbox behind it: for whoever is let in, and what is said of one that
is not there.

A sandbox that is paused is resumed for its holder where it was made to be, and for nobody else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext

from aiohttp import web

from atoll.core.errors import Conflict
from atoll.edge.activity import Activity
from atoll.edge.agent_link import AgentGone, AgentLink
from atoll.edge.auth import Authenticator, Unauthorized
from atoll.edge.exchange import Exchange
from atoll.edge.finder import Finder
from atoll.edge.links import Links
from atoll.edge.pages import Failure, PortError
from atoll.edge.rate import CallRates
from atoll.edge.routes import Route

from .errors import UNAUTHORIZED

Serve = Callable[[Route, AgentLink], Awaitable[web.StreamResponse]]


class Entrance:
    def __init__(self, finder: Finder, links: Links, activity: Activity, rates: CallRates) -> None:
        self.finder = finder
        self._links = links
        self._activity = activity
        self._rates = rates

    async def enter(self, exchange: Exchange, sandbox_id: str, holder: bool, serve: Serve) -> web.StreamResponse:
        """`holder`: the call is more than a probe that anybody can send; such a probe keeps no sandbox alive."""
        with self._activity.call(sandbox_id) if holder else nullcontext():
            route = await self._running(sandbox_id, holder)
            if holder:
                self._rates.admit(route, exchange.marks)
            try:
                return await serve(route, self._links.to(route))
            except AgentGone as error:
                if exchange.begun:
                    raise
                raise await self.finder.explain(error, sandbox_id) from error

    async def _running(self, sandbox_id: str, resume: bool) -> Route:
        try:
            return await self.finder.running(sandbox_id, resume=resume)
        except Conflict as error:
            raise PortError(Failure.TRANSITION, "The sandbox is being paused or resumed; try again") from error


def holder_of(auth: Authenticator, tokens: tuple[str, ...]) -> str:
    """The sandbox that an X-Access-Token alone names. Raises Unauthorized in E2B's words."""
    try:
        return auth.holder_of(tokens[0] if tokens else "")
    except Unauthorized as error:
        raise Unauthorized(UNAUTHORIZED, expired=error.expired) from error
