"""The server process: control plane and store behind RUN/server.sock.

It may be killed at any moment: sandboxes and their traffic go on, the next one reads the store, connects to the node
and reconciles. It ends nothing when it stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from atoll.control.clock import SystemClock
from atoll.control.here import Here
from atoll.control.routes import Routes
from atoll.control.services import Services, build
from atoll.control.tokens import load_or_make_key
from atoll.core.api_paths import is_e2b
from atoll.core.errors import AtollError
from atoll.core.settings import ServerSettings
from atoll.dialects import egress, internal, reference
from atoll.dialects.e2b import novita
from atoll.dialects.e2b.answers import answer_error as e2b_error
from atoll.dialects.e2b.routes import router as e2b
from atoll.dialects.hopx import render
from atoll.dialects.hopx.routes import router as hopx
from atoll.dialects.hopx.secrets import router as hopx_secrets
from atoll.dialects.http import RequestScope, handle_errors, plain_routes, plainly
from atoll.rpc import listening_socket
from atoll.store.engine import migrate, sqlite
from atoll.store.seal import Seal
from atoll.store.sql import SqlStore

log = logging.getLogger(__name__)
hopx_error = plainly(render.error)

ROUTERS = (hopx, hopx_secrets, egress.router, reference.router, internal.router, novita.own, novita.differing, e2b)
DRAIN_S = 5
MAX_HELD = 64 * 1024
KEEP_ALIVE_S = 120  # longer than the edge keeps an idle connection, so it never writes into one that we close


def create_app(
    services: Services, public_url: str, is_ready: Callable[[], bool] = lambda: True, domain: str | None = None
) -> ASGIApp:
    """It describes itself by `dialects.reference`, not by the framework: its routes read their requests themselves."""
    app = Starlette(routes=plain_routes(ROUTERS, novita.is_for))
    app.router.redirect_slashes = False  # a client takes a redirect for a success
    app.state.services = services
    app.state.addresses = render.Addresses(public_url.rstrip("/"), domain)
    app.state.is_ready = is_ready
    handle_errors(app, _answer_error)
    return RequestScope(app, lambda: services.routes.mark)


def _answer_error(request: Request, problem: AtollError, status: int | None) -> Response:
    """In the words of the API that was called."""
    tell = e2b_error if is_e2b(request.url.path) else hopx_error
    return tell(request, problem, status)


def run(settings: ServerSettings) -> None:
    """Blocks until SIGTERM or SIGINT."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))


async def serve(settings: ServerSettings) -> None:
    async with running(settings) as (services, app):
        server = _Server(app, services.routes)
        gc.freeze()  # what is there by now stays: no collection has to look through it
        with contextlib.closing(listening_socket(settings.places.server_socket)) as sock:
            log.info("serving on %s", settings.places.server_socket)
            await server.serve([sock])


@contextlib.asynccontextmanager
async def running(settings: ServerSettings) -> AsyncIterator[tuple[Services, ASGIApp]]:
    """Everything but the listener."""
    places, clock = settings.places, SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        engine = sqlite(places.database)
        migrate(engine)
        store = SqlStore(engine, Seal(load_or_make_key(places.seal_key)))
        stack.callback(store.close)
        here = Here(places.node_socket, store, clock)
        services = build(store, here, clock, load_or_make_key(places.token_key), settings.clocks)
        await services.keys.ensure_first(places.first_key)
        await services.load()
        sandboxes = services.sandboxes
        keeping = here.run(services.node_connected, sandboxes.exited, sandboxes.punished)
        for loop in (keeping, services.reaper.run(), services.measures.run()):
            stack.push_async_callback(_end, asyncio.create_task(loop))
        yield services, create_app(services, settings.public_url, lambda: here.connected, settings.domain)


class OneWrite(asyncio.Transport):
    """What is written in one turn of the loop leaves in one packet: head and body of an answer wake the edge once."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._held: list[bytes] = []
        self._size = 0

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # Any: as the transport's own
        return self._transport.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._held:
            asyncio.get_running_loop().call_soon(self._flush)
        self._held.append(bytes(data))
        self._size += len(data)
        if self._size > MAX_HELD:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held, self._size = self._held, [], 0
        if held and not self._transport.is_closing():
            self._transport.write(b"".join(held))


class _Protocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(OneWrite(transport))


class _Server(uvicorn.Server):
    """Its route streams never end by themselves, so a stop ends them first."""

    def __init__(self, app: ASGIApp, routes: Routes) -> None:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=DRAIN_S,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        super().__init__(config)
        self._routes = routes

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        self.should_exit = True
        self._routes.close()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
