"""The way to the code interpreter: which sandbox is meant, and whether the caller may.

Code is run for the holder of the sandbox's access token alone. E2B's clients show that token nowhere else, so whoever
may enter the sandbox's ports may see and end its contexts, and `/health` is open. Where ports ask for the traffic
token, so does all of this: it is a port like any other then.
"""

from __future__ import annotations

from aiohttp import web

from atoll.edge.auth import Authenticator, Credentials, Place, Unauthorized
from atoll.edge.e2b import cors
from atoll.edge.e2b.entrance import Entrance, holder_of
from atoll.edge.e2b.errors import UNAUTHORIZED
from atoll.edge.exchange import Exchange
from atoll.edge.routes import Route
from atoll.edge.routing import CODE_PORT, CodeSurface, TokenCode

from . import surface
from .call import Call
from .turns import Turns

Target = CodeSurface | TokenCode


class CodeFront:
    def __init__(self, entrance: Entrance, auth: Authenticator) -> None:
        self._entrance = entrance
        self._auth = auth
        self._turns = Turns()

    async def serve(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        exchange.marks.update(cors.CORS)
        if exchange.request.method == "OPTIONS":
            return cors.preflight()
        found = surface.find(target.path)
        if found is None:
            return surface.unknown()
        row, context_id = found
        tokens = tuple(exchange.request.headers.getall("X-Access-Token", ()))
        sandbox_id = exchange.sandbox_id = self._whose(target, tokens)
        known = await self._entrance.finder.known(sandbox_id)
        holder = self._holds(tokens, sandbox_id)
        if row == surface.EXECUTE and not holder:
            raise Unauthorized(UNAUTHORIZED)
        if known.traffic_digest or not (holder or known.public or row == surface.HEALTH):
            await self._through_the_door(exchange.request, known)
        return await self._entrance.enter(
            exchange,
            sandbox_id,
            holder or row != surface.HEALTH,
            lambda route, agent: surface.serve(Call(exchange, route, agent, self._turns, context_id), row),
        )

    def _whose(self, target: Target, tokens: tuple[str, ...]) -> str:
        match target:
            case CodeSurface(sandbox_id=sandbox_id):
                return sandbox_id
            case TokenCode():
                return holder_of(self._auth, tokens)

    def _holds(self, tokens: tuple[str, ...], sandbox_id: str) -> bool:
        """A token that is shown has to be right."""
        if tokens and not (len(tokens) == 1 and self._auth.is_for(tokens[0], sandbox_id)):
            raise Unauthorized(UNAUTHORIZED)
        return bool(tokens)

    async def _through_the_door(self, request: web.BaseRequest, route: Route) -> None:
        """As to a program's port."""
        place = Place(route.id, CODE_PORT, False, route.traffic_digest)
        door = await self._auth.door(shown_by(request), place)
        if door.refusal is not None:
            raise door.refusal


def shown_by(request: web.BaseRequest) -> Credentials:
    """No cookie: no page is served here. What is given twice is not given."""

    def once(name: str) -> str:
        values = request.headers.getall(name, ())
        return values[0] if len(values) == 1 else ""

    return Credentials(
        api_key=once("X-API-Key"),
        authorization=once("Authorization"),
        traffic=once("E2B-Traffic-Access-Token"),
    )
