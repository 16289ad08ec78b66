"""The front door: what becomes of each request, and who has to wait for that.

Most requests for a program need nobody's answer: the route is known, the credential was checked some seconds ago, a
connection is free. Then all happens at once; otherwise a task is begun that asks, dials, and then does the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from atoll.core.errors import AtollError, Conflict
from atoll.edge import routing
from atoll.edge.access_log import AccessLog, Line
from atoll.edge.activity import Activity
from atoll.edge.agent_link import AgentError, AgentLink, AgentRefused
from atoll.edge.auth import Authenticator, Credentials, Door, Place, TrafficRefused, Unauthorized
from atoll.edge.exchange import new_request_id
from atoll.edge.finder import Finder
from atoll.edge.frames_in import objects, whole
from atoll.edge.hopx import surface
from atoll.edge.hopx.errors import FROM_CORE, Kind, SurfaceError, sandbox_not_found
from atoll.edge.pages import Failure, PortError, Reader, refusal
from atoll.edge.routes import Route, RouteState
from atoll.edge.routing import (
    AgentSurface,
    BadNaming,
    Names,
    NoSuchPort,
    NoSuchSandbox,
    Port,
    WebHost,
    classify,
)
from atoll.wire.http1 import Malformed, Request

from .crowd import Crowd
from .errand import REFUSED_METHODS, Asked, Caller, Errand, Lease, Visit
from .fields import Passing
from .grpc import Call, is_grpc
from .noted import door_cookie, link_in, note
from .surfaces import Surfaces
from .upstream import Ports, Upstream

log = logging.getLogger("atoll.edge")

HOPX = "hopx"
WEB_PORT = 8000
LISTENING_FOR_S = 1.0
"""How long an answer to "who listens?" is used."""
MAX_PORTS = 256
LEASE_S = 1.0
QUICK_S = 1.0
"""A connection inwards that was used so lately serves what cannot be sent twice as well."""
SECURE = b"https"


class Links(Protocol):
    def to(self, route: Route) -> AgentLink: ...

    def to_ports(self, route: Route) -> Ports: ...


class Gate:
    def __init__(
        self,
        finder: Finder,
        links: Links,
        auth: Authenticator,
        activity: Activity,
        names: Names,
        surfaces: Surfaces,
        access: AccessLog,
    ) -> None:
        self._finder = finder
        self._links = links
        self._auth = auth
        self._activity = activity
        self._names = names
        self.surfaces = surfaces
        self._access = access
        self.crowd = Crowd()

    # ---- each request

    def dispatch(self, caller: Caller, request: Request) -> None:
        lease = caller.lease
        noted = note(request) if lease is None or not lease.is_for(request) else lease.noted
        asked = Asked(caller, request, noted)
        try:
            if lease is None or not self._as_before(asked, lease):
                self._dispatch(asked)
        except Exception as error:
            self._refuse(asked, error)

    def _dispatch(self, asked: Asked) -> None:
        request, noted = asked.request, asked.noted
        path = request.target.partition(b"?")[0].decode("latin-1")
        inside = asked.caller.inside
        if inside is None:
            target = classify(request.host.decode("latin-1"), path, self._names, noted.naming)
        else:
            target = routing.inside(*inside, path)
        match target:
            case Port(sandbox_id=sandbox_id, port=port, path=inner, mount=mount, shared=shared):
                self._enter(asked, Visit(request, sandbox_id, port, inner.encode("latin-1"), mount, shared))
            case WebHost(sandbox_id=sandbox_id, path=inner):
                self._web_host(asked, sandbox_id, inner)
            case NoSuchSandbox(sandbox_id=sandbox_id):
                raise sandbox_not_found(sandbox_id)
            case NoSuchPort(text=text):
                raise PortError(Failure.NO_SUCH_PORT, f"{text} is no port: they go from 1 to 65535")
            case BadNaming(why=why):
                asked.e2b = True
                raise PortError(Failure.BAD_REQUEST, why)
            case _:
                asked.caller.to_surface(target)

    def _as_before(self, asked: Asked, lease: Lease) -> bool:
        """The short way for what was let in a moment ago."""
        request = asked.request
        if (
            asked.since > lease.ends_at
            or not lease.covers(request, asked.noted)
            or self._finder.routes.table.get(lease.sandbox_id) is not lease.route
            or lease.ports.is_full()
        ):
            return False
        target = request.target[len(lease.mount) :]
        visit = Visit(request, lease.sandbox_id, lease.port, target.partition(b"?")[0], lease.way.mount)
        upstream = lease.ports.take(lease.port, None if visit.repeatable else QUICK_S)
        if upstream is None:
            return False
        asked.sandbox_id, asked.e2b = lease.sandbox_id, lease.e2b
        self._send_in(asked, visit, lease.port, target, lease.way, lease.ports, upstream)
        return True

    def _web_host(self, asked: Asked, sandbox_id: str, path: str) -> None:
        """The agent's paths are for who holds the sandbox's token; for anybody else they are the program's."""
        agents = path != "/" and surface.find(path) is not None
        if agents and self._auth.holds_token(asked.noted.said.get("authorization", ""), sandbox_id):
            asked.caller.to_surface(AgentSurface(sandbox_id, path))
        else:
            self._enter(asked, Visit(asked.request, sandbox_id, None, path.encode("latin-1")))

    def _enter(self, asked: Asked, visit: Visit) -> None:
        request, noted = visit.request, asked.noted
        visit.grpc = asked.caller.multiplexes and is_grpc(request.fields)
        asked.port = visit.port
        asked.sandbox_id, asked.e2b = visit.sandbox_id, noted.names_sandbox
        if request.method in REFUSED_METHODS:
            raise PortError(Failure.METHOD, f"{request.method.decode()} is not allowed here")
        if noted.doubled:
            raise PortError(Failure.BAD_REQUEST, f"The header {noted.doubled} is there more than once")
        if not visit.path:
            self._to_directory(asked, visit)
            return
        credentials = noted.credentials(asked.caller.scheme, request.host)
        _, _, query = request.target.partition(b"?")
        link = link_in(query)
        if link is not None:
            self._sign_in(asked, visit, *link)
        elif not self._at_once(asked, visit, credentials):
            asked.caller.deciding = asyncio.create_task(self._in_time(asked, visit, credentials))

    def _to_directory(self, asked: Asked, visit: Visit) -> None:
        """`/s/ID/PORT`: relative links of the program's pages need the slash."""
        _, mark, query = visit.request.target.partition(b"?")
        location = visit.mount.encode() + b"/" + mark + query
        self._reply(asked, 308, [(b"Location", location)], b"")

    def _sign_in(self, asked: Asked, visit: Visit, link: bytes, query: bytes) -> None:
        """The link becomes a cookie, and is seen in no address any more."""
        place = Place(visit.sandbox_id, visit.port or 0, False, "")
        cookie, expires_at = self._auth.redeem(link.decode("latin-1"), place)
        fields = [
            (b"Location", visit.mount.encode() + on_this_host(visit.path) + (b"?" + query if query else b"")),
            (b"Cache-Control", b"no-store"),
            (b"Referrer-Policy", b"no-referrer"),
            door_cookie(cookie, visit.mount, asked.caller.scheme == SECURE, int(expires_at - time.time())),
        ]
        self._reply(asked, 303, fields, b"")

    def _at_once(self, asked: Asked, visit: Visit, shown: Credentials) -> bool:
        """False: somebody has to be asked."""
        route = self._finder.routes.table.get(visit.sandbox_id)
        if route is None or route.state is not RouteState.RUNNING:
            return False
        asked.e2b = asked.e2b or route.dialect != HOPX
        door = self._auth.door_now(shown, _place(visit, route))
        if isinstance(door, str):
            return False
        if door.refusal is not None:
            raise door.refusal
        ports = self._links.to_ports(route)
        port = visit.port or route.web_port
        if port is None or visit.grpc or port in route.https_ports or ports.is_full():
            return False
        upstream = ports.take(port, QUICK_S if not visit.repeatable else None)
        if upstream is None:
            return False
        self._attach(asked, visit, route, ports, upstream, port, door)
        return True

    async def _in_time(self, asked: Asked, visit: Visit, shown: Credentials) -> None:
        caller = asked.caller
        try:
            await self._after_asking(asked, visit, shown)
        except Exception as error:
            caller.deciding = None
            self._refuse(asked, error)

    async def _after_asking(self, asked: Asked, visit: Visit, shown: Credentials) -> None:
        known = await self._finder.routes.find(visit.sandbox_id)
        if known is None:
            asked.e2b = asked.e2b or visit.is_named
            raise sandbox_not_found(visit.sandbox_id)
        asked.e2b = asked.e2b or known.dialect != HOPX
        door = await self._auth.door(shown, _place(visit, known))
        if door.refusal is not None:
            raise door.refusal
        with self._activity.call(visit.sandbox_id):  # from here on it is used, however long the way in takes
            try:
                route = await self._finder.running(visit.sandbox_id, resume=True)
            except Conflict as error:
                raise PortError(Failure.TRANSITION, "The sandbox is being paused or resumed; try again") from error
            await self._connect(asked, visit, route, door)

    async def _connect(self, asked: Asked, visit: Visit, route: Route, door: Door) -> None:
        ports = self._links.to_ports(route)
        if ports.is_full():
            raise PortError(
                Failure.TOO_MANY_CONNECTIONS, "Too many connections to this sandbox at once", limit=ports.max_open
            )
        port = visit.port
        with ports.passage():
            try:
                port = port or route.web_port or await self._web_port(ports, self._links.to(route))
                quick = QUICK_S if not visit.repeatable else None
                upstream: Upstream | Call | None
                if visit.grpc:
                    upstream = await ports.call(port)
                else:
                    upstream = None if visit.fresh else ports.take(port, quick)
                    upstream = upstream or await ports.connect(port, tls=port in route.https_ports)
            except AgentRefused as error:
                if error.kind == "not_found" and port:
                    raise PortError(
                        Failure.PORT_CLOSED, f"Nothing listens at port {port} of this sandbox", port=port
                    ) from error
                raise await self._finder.explain(error, visit.sandbox_id) from error
            except AgentError as error:
                raise await self._finder.explain(error, visit.sandbox_id) from error
        asked.caller.deciding = None
        self._attach(asked, visit, route, ports, upstream, port, door)

    async def _web_port(self, ports: Ports, agent: AgentLink) -> int:
        known = ports.listening
        if known is None or known[0] < time.monotonic():
            answer = await agent.call("GET", "/ports")
            numbers = {port for each in objects(answer.get("ports")) if 0 < (port := whole(each.get("port"))) < 65536}
            ports.listening = known = (time.monotonic() + LISTENING_FOR_S, sorted(numbers)[:MAX_PORTS])
        chosen = web_port(known[1])
        if chosen is None:
            raise PortError(
                Failure.NO_WEB_PORT,
                f"Nothing listens at port {WEB_PORT} of this sandbox, and more than one other port does: name one",
                listening=known[1],
            )
        return chosen

    def _attach(
        self, asked: Asked, visit: Visit, route: Route, ports: Ports, upstream: Upstream | Call, port: int, door: Door
    ) -> None:
        request, caller = visit.request, asked.caller
        _, mark, query = request.target.partition(b"?")
        way = Passing(
            source=b"unknown" if caller.source.startswith(b"sandbox ") else caller.source,  # its id is its own affair
            scheme=caller.scheme,
            host=request.host,
            mount=visit.mount,
            spent=door.spent,
            masked=masked_host(route.masked_host, port),
            shared=visit.shared,
        )
        if visit.port and not visit.shared:
            caller.lease = Lease(
                request=request,
                noted=asked.noted,
                mount=visit.mount.encode(),
                sandbox_id=visit.sandbox_id,
                port=port,
                route=route,
                ports=ports,
                way=way,
                e2b=asked.e2b or route.dialect != HOPX,
                ends_at=asked.since + LEASE_S,
            )
        self._send_in(asked, visit, port, visit.path + mark + query, way, ports, upstream)

    def _send_in(
        self,
        asked: Asked,
        visit: Visit,
        port: int,
        target: bytes,
        way: Passing,
        ports: Ports,
        upstream: Upstream | Call,
    ) -> None:
        """`_leave` is its end."""
        visit.fresh = upstream.fresh
        use = self._activity.enter(visit.sandbox_id)
        ports.open += 1
        asked.caller.attach(upstream, Errand(asked, visit, port, target, way, ports, use))

    # ---- what callers tell

    def ended(self, caller: Caller, errand: Errand) -> None:
        self._leave(errand)
        self._log(errand.asked, errand.status or 499, errand.visit.sandbox_id, errand)

    def _leave(self, errand: Errand) -> None:
        errand.ports.open -= 1
        self._activity.leave(errand.visit.sandbox_id, errand.use)

    def unanswered(self, caller: Caller, errand: Errand, why: str) -> None:
        visit, asked = errand.visit, errand.asked
        if not visit.fresh and visit.repeatable:  # its end was on its way when we wrote
            visit.fresh = True
            self._leave(errand)
            caller.again()
            shown = asked.noted.credentials(caller.scheme, asked.request.host)
            caller.deciding = asyncio.create_task(self._in_time(asked, visit, shown))
            return
        message = f"The program at port {errand.port} closed the connection or does not speak HTTP: {why}"
        self._refuse(asked, PortError(Failure.BROKEN_ANSWER, message, port=errand.port), errand)

    def malformed(self, caller: Caller, error: Malformed) -> None:
        """Nothing of it is believed, not even where it was to go."""
        request_id, source = new_request_id(), caller.source.decode("latin-1")
        self._access.write(Line(time.time(), None, None, "", "", error.status, 0, 0, 0.0, source, request_id))
        cells = {408: Kind.AGENT_SILENT, 413: Kind.BODY_TOO_LARGE}
        kind = cells.get(error.status, Kind.INVALID_REQUEST)
        said = refusal(SurfaceError(kind, f"Not a well-formed request: {error.why}"), Reader(), request_id)
        caller.reply(error.status, said.fields, said.content, last=True)

    # ---- answers of our own

    def _refuse(self, asked: Asked, error: Exception, errand: Errand | None = None) -> None:
        reader = Reader(asked.noted.page, asked.e2b, asked.sandbox_id)
        said = refusal(translate(error, asked.id), reader, asked.id)
        self._reply(asked, said.status, said.fields, said.content, errand)

    def _reply(
        self,
        asked: Asked,
        status: int,
        fields: list[tuple[bytes, bytes]],
        content: bytes,
        errand: Errand | None = None,
    ) -> None:
        asked.caller.reply(status, fields, content)
        if errand is None:
            self._log(asked, status, asked.sandbox_id or None, sent=len(content))

    def _log(
        self, asked: Asked, status: int, sandbox_id: str | None, errand: Errand | None = None, sent: int = 0
    ) -> None:
        request = asked.request
        self._access.write(
            Line(
                asked.at,
                sandbox_id,
                errand.port if errand is not None else asked.port,
                request.method.decode("latin-1"),
                request.target.partition(b"?")[0].decode("latin-1"),
                status,
                errand.received if errand is not None else 0,
                errand.sent if errand is not None else sent,
                1000 * (time.monotonic() - asked.since),
                asked.caller.source.decode("latin-1"),
                asked.id,
            )
        )


def _place(visit: Visit, route: Route) -> Place:
    open_to_all = route.public and not route.traffic_digest
    return Place(visit.sandbox_id, visit.port or 0, open_to_all, route.traffic_digest)


def web_port(listening: list[int]) -> int | None:
    if WEB_PORT in listening or not listening:
        return WEB_PORT
    return listening[0] if len(listening) == 1 else None


def on_this_host(path: bytes) -> bytes:
    """A browser takes what stands behind two slashes for a host, and reads a backslash as a slash."""
    return b"/." + path if path[1:2] in (b"/", b"\\") else path


def masked_host(mask: str, port: int) -> bytes:
    return mask.replace("${PORT}", str(port)).encode("latin-1")


def translate(error: Exception, request_id: str) -> SurfaceError:
    match error:
        case SurfaceError():
            return error
        case TrafficRefused(message=message):
            return PortError(Failure.TRAFFIC_TOKEN, message)
        case Unauthorized(message=message, expired=expired):
            return SurfaceError(Kind.TOKEN_EXPIRED if expired else Kind.INVALID_TOKEN, message)
        case AtollError():
            return SurfaceError(FROM_CORE[error.kind], error.message, **error.details)
        case RecursionError():
            return SurfaceError(Kind.AGENT_FAILED, "The answer is nested too deeply")
        case _:
            log.exception("request %s failed", request_id, exc_info=error)
            return SurfaceError(Kind.INTERNAL, f"Internal error; its cause is in the log under {request_id}")
