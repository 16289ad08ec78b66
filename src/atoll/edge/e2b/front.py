"""The way to E2B's agent surface: which sandbox is meant, whether the caller may, and what is said where nobody is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from atoll.edge.auth import Authenticator
from atoll.edge.exchange import Exchange
from atoll.edge.hopx.errors import Kind, SurfaceError
from atoll.edge.pages import e2b
from atoll.edge.routing import EnvdSurface, SignedFiles, TokenPort

from . import cors, surface
from .auth import OPERATIONS, Admission, Shown, admit, signed_by
from .call import Call, answer
from .entrance import Entrance, holder_of
from .errors import UNAUTHORIZED
from .watchers import Watchers

Target = EnvdSurface | TokenPort | SignedFiles


class EnvdFront:
    def __init__(self, entrance: Entrance, auth: Authenticator) -> None:
        self._entrance = entrance
        self._auth = auth
        self._watchers = Watchers()

    async def serve(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        exchange.marks.update(cors.CORS)
        if exchange.request.method == "OPTIONS":
            return cors.preflight()
        if not surface.is_known(target.path):
            return surface.unknown()
        shown = shown_by(exchange.request, target.path)
        sandbox_id = exchange.sandbox_id = self._whose(target, shown)
        await self._entrance.finder.known(sandbox_id)
        admission = admit(
            shown,
            lambda text: self._auth.is_for(text, sandbox_id),
            self._auth.access_token(sandbox_id),
            time.time(),
        )
        return await self._entrance.enter(
            exchange,
            sandbox_id,
            admission is Admission.HOLDER,
            lambda route, agent: surface.serve(Call(exchange, route, agent, self._watchers), target.path),
        )

    def _whose(self, target: Target, shown: Shown) -> str:
        match target:
            case EnvdSurface(sandbox_id=sandbox_id):
                return sandbox_id
            case TokenPort():
                return holder_of(self._auth, shown.tokens)
            case SignedFiles():
                return self._signed_for(shown)

    def _signed_for(self, shown: Shown) -> str:
        """An address that was made for a host of the sandbox's own, and names it by its signature alone."""
        operation = OPERATIONS.get((shown.method, shown.path))
        if operation is None or "signature" not in shown.query:
            raise SurfaceError(Kind.NO_SUCH_ROUTE, "There is nothing at this path; the API is below /v1/")
        tokens = ((each, self._auth.access_token(each)) for each in self._entrance.finder.routes.table.ids())
        return signed_by(shown.query, operation, tokens, time.time())


def shown_by(request: web.BaseRequest, path: str) -> Shown:
    return Shown(request.method, path, request.query, tuple(request.headers.getall("X-Access-Token", ())))


def refusal(error: SurfaceError, sandbox_id: str) -> web.Response:
    """Of whoever does not get in, in the words that E2B's clients look for."""
    if error.kind in (Kind.INVALID_TOKEN, Kind.TOKEN_EXPIRED):
        said: Mapping[str, Any] = {"code": 401, "message": error.message or UNAUTHORIZED}
        return answer(said, status=401)
    status, said = e2b(error, sandbox_id)
    return answer(said, status)
