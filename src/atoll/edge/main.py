"""The edge process: one public listener in front of the server and of every sandbox."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import WSCloseCode

from atoll.core.errors import AtollError
from atoll.core.settings import EdgeSettings

from .access_log import AccessLog
from .activity import Activity
from .auth import Authenticator
from .dialer import NodeDialer
from .e2b.volumes import Volumes
from .finder import Finder
from .front import Front
from .gate.arrival import Arrival
from .gate.gate import Gate
from .gate.surfaces import Surfaces
from .hopx.webhooks import Webhooks
from .inside import Inside
from .links import Links
from .listener import Listener
from .outbound import trusting
from .routes import Routes
from .routing import Names
from .server_link import ServerLink
from .tls import TlsSource
from .tokens import TokenVerifier

log = logging.getLogger("atoll.edge")

REPORT_EVERY_S = 5.0
DRAIN_S = 5.0  # what calls may still take after SIGTERM
BACKLOG = 1024


@dataclass
class RunningEdge:
    host: str
    port: int
    routes: Routes
    activity: Activity
    failed: asyncio.Future[Any]
    """Done when a part that should run for ever has ended."""


def run(settings: EdgeSettings) -> None:
    """Blocks until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signal(settings))


async def _until_signal(settings: EdgeSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings) as edge:
        log.info("listening on %s:%d", edge.host, edge.port)
        gc.freeze()  # what is there by now stays: no collection has to look through it
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((stopped, edge.failed), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if edge.failed.done():
            edge.failed.result()


@asynccontextmanager
async def serving(settings: EdgeSettings) -> AsyncIterator[RunningEdge]:
    activity, links = Activity(), Links()
    inside = Inside(lambda: gate)

    def changed(sandbox_id: str) -> None:
        links.drop(sandbox_id)
        inside.leave(sandbox_id)

    access = AccessLog(settings.places.access_log)
    async with ServerLink(settings.places.server_socket) as server:
        routes = Routes(server, on_change=changed, on_ready=activity.report_open_again, on_route=inside.attend)
        tokens = TokenVerifier(settings.places.token_key)
        auth, volumes = Authenticator(tokens, server.authenticate), Volumes(server, tokens)
        webhooks = Webhooks(NodeDialer(settings.places.dial_socket), trusting(settings.callback_ca))
        finder = Finder(routes, server.resume)
        front = Front(server, finder, links, auth, activity, webhooks, access, volumes)
        gate = Gate(finder, links, auth, activity, Names(settings.domain, settings.region), surfaces(front), access)
        loops = asyncio.gather(routes.follow(), _report(server, activity), gate.crowd.watch())
        try:
            async with _listening(gate, front, settings) as port:
                yield RunningEdge(settings.host, port, routes, activity, loops)
        finally:
            loops.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await loops
            await webhooks.close()
            await inside.close()
            await links.close()
            await volumes.close()
            access.flush()


async def _report(server: ServerLink, activity: Activity) -> None:
    while True:
        await asyncio.sleep(REPORT_EVERY_S)
        taken = activity.take()
        try:
            if taken:
                await server.report_activity(taken)
        except AtollError as error:
            activity.give_back(taken)
            log.info("activity not reported: %s", error.message)


def surfaces(front: Front) -> Surfaces:
    return Surfaces(
        front.handle,
        handler_cancellation=True,  # a client that leaves ends what it started
        access_log=None,
        auto_decompress=False,  # bodies pass as they are; nothing here unpacks a bomb
        keepalive_timeout=3600.0,  # connections are the gate's to end
    )


@asynccontextmanager
async def _listening(gate: Gate, front: Front, settings: EdgeSettings) -> AsyncIterator[int]:
    tls = TlsSource(settings.tls.cert, settings.tls.key) if settings.tls else None
    with _socket(settings) as sock, _inner_socket(settings.places.ingress_socket) as inner:
        listeners = [Listener(each, lambda: Arrival(gate), tls, settings.plain_for_all) for each in (sock, inner)]
        for listener in listeners:
            listener.start()
        try:
            yield sock.getsockname()[1]
        finally:
            await asyncio.gather(*(listener.stop() for listener in listeners))
            await front.close_sockets(WSCloseCode.GOING_AWAY)
            gate.surfaces.pre_shutdown()  # whoever is between two requests is not waited for
            await gate.surfaces.shutdown(DRAIN_S)
            gate.crowd.end_all()


def _inner_socket(path: Path) -> socket.socket:
    """For connections of sandboxes; bound beside its name, so that there is one all the time."""
    path.parent.mkdir(mode=0o700, exist_ok=True)  # `compose` has made it for who may connect
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    staging.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(staging))
        staging.chmod(0o666)
        sock.listen(BACKLOG)
        staging.rename(path)
    except OSError:
        sock.close()
        raise
    return sock


def _socket(settings: EdgeSettings) -> socket.socket:
    if settings.listen_fd is not None:
        return socket.socket(fileno=os.dup(settings.listen_fd))
    return socket.create_server((settings.host, settings.port), backlog=BACKLOG)
