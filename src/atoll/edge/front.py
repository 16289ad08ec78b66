"""The API and the agents' surface, as aiohttp's handlers: every request gets an id, an answer and a line in the access
log. The gate has said already what each is for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import nullcontext
from typing import Any

from aiohttp import web

from . import reference
from .access_log import AccessLog, Line
from .activity import Activity
from .agent_link import AgentError
from .auth import Authenticator, Unauthorized
from .e2b import front as envd
from .e2b.code.front import CodeFront
from .e2b.entrance import Entrance
from .e2b.volumes import Volumes
from .exchange import Exchange
from .finder import Finder
from .gate.gate import translate
from .gate.surfaces import Handler
from .hopx import surface
from .hopx.call import Call, answer, timestamp
from .hopx.errors import Kind, SurfaceError, body
from .hopx.webhooks import Webhooks
from .links import Links
from .proxy import forward, source_of
from .rate import CallRates
from .routing import (
    AgentSurface,
    CodeSurface,
    ControlPlane,
    EnvdSurface,
    Landing,
    Reference,
    SignedFiles,
    Target,
    TokenCode,
    TokenPort,
    TokenSocket,
    Unknown,
    VolumeContent,
    changed_sandbox,
)
from .server_link import ServerLink

log = logging.getLogger("atoll.edge")

LEFT_FIRST = 499
PAGE = """<!doctype html><meta charset=utf-8><title>Atoll</title>
<h1>Atoll</h1><p>A self-hosted sandbox cloud.
The API is below <code>/v1/</code>, and described <a href=/docs>here</a>; its health is at
<a href=/health>/health</a>.</p>
"""


class Front:
    def __init__(
        self,
        server: ServerLink,
        finder: Finder,
        links: Links,
        auth: Authenticator,
        activity: Activity,
        webhooks: Webhooks,
        access: AccessLog,
        volumes: Volumes,
    ) -> None:
        self._server = server
        self._finder = finder
        self._links = links
        self._auth = auth
        self._activity = activity
        self._webhooks = webhooks
        self._access = access
        self._volumes = volumes
        self._rates = CallRates()
        entrance = Entrance(finder, links, activity, self._rates)
        self._envd = envd.EnvdFront(entrance, auth)
        self._code = CodeFront(entrance, auth)
        self._open_sockets: set[web.WebSocketResponse] = set()

    async def close_sockets(self, code: int) -> None:
        await asyncio.gather(*(ws.close(code=code) for ws in self._open_sockets), return_exceptions=True)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        exchange, handler = Exchange(request), request.protocol
        assert isinstance(handler, Handler)
        target, at, begun = handler.target, time.time(), time.monotonic()

        def answered(status: int, sent: int) -> None:
            self._access.write(
                Line(
                    at,
                    target.sandbox_id if isinstance(target, AgentSurface) else exchange.sandbox_id or None,
                    None,
                    request.method,
                    exchange.path,
                    status,
                    request.content_length or 0,
                    sent,
                    1000 * (time.monotonic() - begun),
                    source_of(request),
                    exchange.id,
                )
            )

        try:
            response = await self._answer(exchange, target)
        except BaseException:
            answered(LEFT_FIRST, 0)
            raise
        handler.on_sent = answered
        return response

    async def _answer(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        try:
            await exchange.admit_body()
            response = await self._serve(target, exchange)
        except Exception as error:
            if exchange.begun:
                return _cut_off(exchange, error)
            response = _refusal(translate(error, exchange.id), target, exchange)
        if not exchange.begun:
            exchange.sign(response)
        return response

    async def _serve(self, target: Target, exchange: Exchange) -> web.StreamResponse:
        match target:
            case AgentSurface(sandbox_id=sandbox_id, path=path):
                return await self._agent(exchange, sandbox_id, path)
            case EnvdSurface() | TokenPort() | SignedFiles():
                return await self._envd.serve(exchange, target)
            case CodeSurface() | TokenCode():
                return await self._code.serve(exchange, target)
            case ControlPlane():
                return await self._control(exchange)
            case TokenSocket(path=path):
                return await self._agent(exchange, self._auth.subject(exchange.request.headers), path)
            case Landing():
                return _landing(exchange.request)
            case VolumeContent(volume_id=volume_id, what=what):
                return await self._volumes.serve(exchange, volume_id, what)
            case Reference(is_page=is_page):
                return reference.serve(exchange.request, is_page)
            case _:
                raise SurfaceError(Kind.NO_SUCH_ROUTE, "There is nothing at this path; the API is below /v1/")

    async def _control(self, exchange: Exchange) -> web.StreamResponse:
        response = await forward(exchange, self._server)
        changed = changed_sandbox(exchange.request.method, exchange.path)
        if changed is not None:
            await self._finder.routes.refresh(changed, exchange.routes)
        return response

    async def _agent(self, exchange: Exchange, sandbox_id: str, path: str) -> web.StreamResponse:
        authorized = await self._authorize(exchange.request, sandbox_id, path)
        route = await self._finder.running(sandbox_id)
        if authorized:
            self._rates.admit(route, exchange.marks)
        call = Call(exchange, route, self._links.to(route), self._webhooks, authorized, self._open_sockets)
        # A probe that anybody can send keeps no sandbox alive.
        with self._activity.call(sandbox_id) if authorized else nullcontext():
            try:
                return await surface.serve(call, path)
            except AgentError as error:
                if exchange.begun:
                    raise
                raise await self._finder.explain(error, sandbox_id) from error

    async def _authorize(self, request: web.BaseRequest, sandbox_id: str, path: str) -> bool:
        try:
            await self._auth.authorize(request.headers, sandbox_id)
        except Unauthorized:
            if (request.method, path) not in surface.WITHOUT_TOKEN:
                raise
            return False
        return True


def _refusal(error: SurfaceError, target: Target, exchange: Exchange) -> web.Response:
    if isinstance(target, EnvdSurface | TokenPort | SignedFiles | CodeSurface | TokenCode):
        return envd.refusal(error, exchange.sandbox_id)
    if isinstance(target, ControlPlane) and target.e2b:
        return answer({"code": error.cell.status, "message": error.message}, status=error.cell.status)
    rendered = body(error, exchange.id, timestamp())
    if isinstance(target, ControlPlane | Unknown | Landing | Reference):
        rendered["error"] = {name: rendered[name] for name in ("message", "code", "request_id", "details")}
    return answer(rendered, status=error.cell.status)


def _cut_off(exchange: Exchange, error: Exception) -> web.StreamResponse:
    """Half an answer is out; closing the connection is the only honest way left to say that it is not whole."""
    if not isinstance(error, ConnectionError | AgentError):
        log.exception("request %s failed after its answer had begun", exchange.id, exc_info=error)
    if exchange.request.transport is not None:
        exchange.request.transport.abort()
    raise ConnectionResetError("the answer broke off") from error


def _landing(request: web.BaseRequest) -> web.Response:
    if request.method not in ("GET", "HEAD"):
        raise SurfaceError(Kind.METHOD_NOT_ALLOWED, "Only GET is allowed here")
    if "text/html" in request.headers.get("Accept", ""):
        unframed = {"Content-Security-Policy": "frame-ancestors 'none'"}
        return web.Response(text=PAGE, content_type="text/html", headers=unframed)
    facts: dict[str, Any] = {"name": "atoll", "status": "ok", "api": "/v1/", "health": "/health", "docs": "/docs"}
    return answer(facts)
