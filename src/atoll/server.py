"""The server process: control plane and store behind RUN/server.sock.

It may be killed at any moment: sandboxes and their traffic go on, the next one reads the store, connects to the node
and reconciles. It ends nothing when it stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from atoll import __version__
from atoll.control.clock import SystemClock
from atoll.control.here import Here
from atoll.control.routes import Routes
from atoll.control.services import Services, build
from atoll.control.tokens import load_or_make_key
from atoll.core.settings import ServerSettings
from atoll.dialects import egress, internal
from atoll.dialects.hopx import render
from atoll.dialects.hopx.routes import router as hopx
from atoll.dialects.http import RequestScope, handle_errors
from atoll.rpc import listening_socket
from atoll.store.engine import migrate, sqlite
from atoll.store.seal import Seal
from atoll.store.sql import SqlStore

log = logging.getLogger(__name__)

DRAIN_S = 5
KEEP_ALIVE_S = 120  # longer than the edge keeps an idle connection, so it never writes into one that we close


def create_app(
    services: Services, public_url: str, is_ready: Callable[[], bool] = lambda: True, domain: str | None = None
) -> ASGIApp:
    """The schema is at /v1/openapi.json. No documentation pages: they would load scripts from somebody else's host."""
    app = FastAPI(title="Atoll", version=__version__, openapi_url="/v1/openapi.json", docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False  # a client takes a redirect for a success
    app.state.services = services
    app.state.addresses = render.Addresses(public_url.rstrip("/"), domain)
    app.state.is_ready = is_ready
    handle_errors(app, render.error)
    app.include_router(hopx)
    app.include_router(egress.router)
    app.include_router(internal.router)
    return RequestScope(app)


async def run(settings: ServerSettings) -> None:
    """Serves until SIGTERM or SIGINT."""
    async with running(settings) as (services, app):
        server = _Server(app, services.routes)
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
        for loop in (keeping, services.reaper.run()):
            stack.push_async_callback(_end, asyncio.create_task(loop))
        yield services, create_app(services, settings.public_url, lambda: here.connected, settings.domain)


class _Server(uvicorn.Server):
    """Its route streams never end by themselves, so a stop ends them first."""

    def __init__(self, app: ASGIApp, routes: Routes) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
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
