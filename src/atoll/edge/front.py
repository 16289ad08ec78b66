"""The front door: every public request gets an id, an answer and one line in the access log."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import nullcontext
from typing import Any, assert_never

from aiohttp import web

from atoll.core.errors import AtollError

from . import ingress, pages
from .activity import Activity
from .agent_link import AgentError, AgentGone, AgentLink
from .auth import Authenticator, Unauthorized
from .exchange import Exchange
from .hopx import surface
from .hopx.call import Call, answer, timestamp
from .hopx.errors import FROM_CORE, Kind, SurfaceError, body, from_agent, sandbox_not_found
from .hopx.webhooks import Webhooks
from .ingress import Visit
from .pages import Failure, PortError
from .ports_link import PortsLink
from .proxy import forward, source_of
from .rate import CallRates
from .routes import Route, Routes, RouteState
from .routing import (
    AgentSurface,
    ControlPlane,
    Landing,
    Names,
    NoSuchPort,
    NoSuchSandbox,
    Port,
    Target,
    TokenSocket,
    Unknown,
    WebHost,
    changed_sandbox,
    classify,
)
from .server_link import ServerLink

log = logging.getLogger("atoll.edge")
access = logging.getLogger("atoll.edge.access")

PAGE = """<!doctype html><meta charset=utf-8><title>Atoll</title>
<h1>Atoll</h1><p>A self-hosted sandbox cloud.
The API is below <code>/v1/</code>; its health is at <a href=/health>/health</a>.</p>
"""

NOT_RUNNING = {
    RouteState.PAUSED: (Kind.SANDBOX_PAUSED, "Sandbox {id} is paused; resume it first"),
    RouteState.STOPPED: (Kind.SANDBOX_STOPPED, "Sandbox {id} is stopped; start it first"),
}


class AgentLinks:
    """Links per sandbox, closed when its route goes or points elsewhere."""

    def __init__(self) -> None:
        self._links: dict[str, AgentLink] = {}
        self._ports: dict[str, PortsLink] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def to(self, route: Route) -> AgentLink:
        link = self._links.get(route.id)
        if link is None:
            link = self._links[route.id] = AgentLink(route.socket)
        return link

    def to_ports(self, route: Route) -> PortsLink:
        link = self._ports.get(route.id)
        if link is None:
            link = self._ports[route.id] = PortsLink(route.socket)
        return link

    def drop(self, sandbox_id: str) -> None:
        for link in (self._links.pop(sandbox_id, None), self._ports.pop(sandbox_id, None)):
            if link is not None:
                task = asyncio.create_task(link.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        for sandbox_id in self._links.keys() | self._ports.keys():
            self.drop(sandbox_id)
        await asyncio.gather(*self._closing, return_exceptions=True)


class Front:
    def __init__(
        self,
        server: ServerLink,
        routes: Routes,
        links: AgentLinks,
        auth: Authenticator,
        activity: Activity,
        webhooks: Webhooks,
        names: Names = Names(),  # noqa: B008 - frozen
    ) -> None:
        self._server = server
        self._routes = routes
        self._links = links
        self._auth = auth
        self._activity = activity
        self._webhooks = webhooks
        self._names = names
        self._rates = CallRates()
        self._open_sockets: set[web.WebSocketResponse] = set()

    async def close_sockets(self, code: int) -> None:
        await asyncio.gather(*(ws.close(code=code) for ws in self._open_sockets), return_exceptions=True)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        begun, exchange = time.monotonic(), Exchange(request)
        status = 499  # the client left first
        try:
            response = await self._answer(exchange)
            status = response.status
            return response
        finally:
            access.info(
                "method=%s path=%s status=%d duration_ms=%.1f remote=%s request_id=%s",
                request.method,
                exchange.path,  # without the query, which may hold what is nobody's business
                status,
                1000 * (time.monotonic() - begun),
                source_of(request),
                exchange.id,
            )

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        headers = exchange.request.headers
        target = classify(headers.get("Host", ""), headers, exchange.path, self._names)
        try:
            await exchange.admit_body()
            response = await self._serve(target, exchange)
        except Exception as error:
            if exchange.begun:
                return _cut_off(exchange, error)
            response = _refusal(_translate(error, exchange.id), target, exchange)
        if not exchange.begun:
            exchange.sign(response)
        return response

    async def _serve(self, target: Target, exchange: Exchange) -> web.StreamResponse:
        match target:
            case AgentSurface(sandbox_id=sandbox_id, path=path):
                return await self._agent(exchange, sandbox_id, path)
            case ControlPlane():
                return await self._control(exchange)
            case Port(sandbox_id=sandbox_id, port=port, path=path, mount=mount):
                return await self._port(exchange, sandbox_id, port, path, mount)
            case WebHost(sandbox_id=sandbox_id, path=path):
                return await self._web_host(exchange, sandbox_id, path)
            case TokenSocket(path=path):
                return await self._agent(exchange, self._auth.subject(exchange.request.headers), path)
            case Landing():
                return _landing(exchange.request)
            case NoSuchSandbox(sandbox_id=sandbox_id):
                raise sandbox_not_found(sandbox_id)
            case NoSuchPort(text=text):
                raise PortError(Failure.NO_SUCH_PORT, f"{text} is no port: they go from 1 to 65535")
            case Unknown():
                raise SurfaceError(Kind.NO_SUCH_ROUTE, "There is nothing at this path; the API is below /v1/")
            case _:
                assert_never(target)

    async def _control(self, exchange: Exchange) -> web.StreamResponse:
        response = await forward(exchange, self._server)
        changed = changed_sandbox(exchange.request.method, exchange.path)
        if changed is not None:
            await self._routes.refresh(changed)
        return response

    async def _agent(self, exchange: Exchange, sandbox_id: str, path: str) -> web.StreamResponse:
        authorized = await self._authorize(exchange.request, sandbox_id, path)
        route = await self._route(sandbox_id)
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
                raise await self._explain(error, sandbox_id) from error

    async def _web_host(self, exchange: Exchange, sandbox_id: str, path: str) -> web.StreamResponse:
        """The agent's paths are for who holds the sandbox's token; for anybody else they are the program's."""
        agents = path != "/" and surface.find(path) is not None
        if agents and self._auth.holds_token(exchange.request.headers, sandbox_id):
            return await self._agent(exchange, sandbox_id, path)
        return await self._port(exchange, sandbox_id, None, path, "")

    async def _port(
        self, exchange: Exchange, sandbox_id: str, port: int | None, path: str, mount: str
    ) -> web.StreamResponse:
        spent = await self._enter(exchange.request, sandbox_id)
        route = await self._route(sandbox_id)
        visit = Visit(exchange, self._links.to_ports(route), self._links.to(route), port, path, mount, spent)
        with self._activity.call(sandbox_id):
            try:
                return await ingress.serve(visit)
            except AgentError as error:
                if exchange.begun:
                    raise
                raise await self._explain(error, sandbox_id) from error

    async def _enter(self, request: web.BaseRequest, sandbox_id: str) -> frozenset[str]:
        """The headers that hold credentials of ours."""
        door = await self._auth.door(request.headers, sandbox_id)
        if door.refusal is not None:
            route = await self._routes.find(sandbox_id)
            if route is None or not route.public:
                raise door.refusal
        return door.spent

    async def _route(self, sandbox_id: str) -> Route:
        """A table that says no may be behind, so the server is asked. One that says yes a dead socket corrects."""
        route = await self._routes.find(sandbox_id)
        if route is not None and route.state is not RouteState.RUNNING:
            await self._routes.refresh(sandbox_id)
            route = self._routes.table.get(sandbox_id)
        return _running(route, sandbox_id)

    async def _authorize(self, request: web.BaseRequest, sandbox_id: str, path: str) -> bool:
        try:
            await self._auth.authorize(request.headers, sandbox_id)
        except Unauthorized:
            if (request.method, path) not in surface.WITHOUT_TOKEN:
                raise
            return False
        return True

    async def _explain(self, error: AgentError, sandbox_id: str) -> SurfaceError:
        """A dead socket: paused or stopped meanwhile, or over. The server knows."""
        if isinstance(error, AgentGone):
            log.info("sandbox %s: %s", sandbox_id, error)
            try:
                _running(await self._routes.ask(sandbox_id), sandbox_id)
            except SurfaceError as known:
                return known
            except AtollError as unknown:
                log.info("sandbox %s: %s", sandbox_id, unknown.message)
        return from_agent(error, sandbox_id)


def _running(route: Route | None, sandbox_id: str) -> Route:
    if route is None:
        raise sandbox_not_found(sandbox_id)
    if route.state is not RouteState.RUNNING:
        kind, message = NOT_RUNNING[route.state]
        raise SurfaceError(kind, message.format(id=sandbox_id), sandbox_id=sandbox_id)
    return route


def _translate(error: Exception, request_id: str) -> SurfaceError:
    match error:
        case SurfaceError():
            return error
        case Unauthorized(message=message, expired=expired):
            return SurfaceError(Kind.TOKEN_EXPIRED if expired else Kind.INVALID_TOKEN, message)
        case AtollError():
            return SurfaceError(FROM_CORE[error.kind], error.message, **error.details)
        case RecursionError():
            return SurfaceError(Kind.AGENT_FAILED, "The answer is nested too deeply")
        case _:
            log.exception("request %s failed", request_id, exc_info=error)
            return SurfaceError(Kind.INTERNAL, f"Internal error; its cause is in the log under {request_id}")


def _refusal(error: SurfaceError, target: Target, exchange: Exchange) -> web.Response:
    request_id = exchange.id
    if isinstance(target, Port | WebHost | NoSuchPort | NoSuchSandbox):
        return pages.refusal(error, exchange.request, request_id)
    rendered = body(error, request_id, timestamp())
    if isinstance(target, ControlPlane | Unknown | Landing):
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
        return web.Response(text=PAGE, content_type="text/html")
    facts: dict[str, Any] = {"name": "atoll", "status": "ok", "api": "/v1/", "health": "/health"}
    return answer(facts)
