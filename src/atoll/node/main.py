"""The node daemon: requests on RUN/node.sock, the launcher kept alive, sandboxes recovered.

It may be killed at any moment: sandboxes, their traffic and the launcher go on, the next node adopts them. Its own end
by SIGTERM touches nothing either; only `stop_all` stops sandboxes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

import atoll
from atoll.core.errors import AtollError, InvalidInput, Unavailable
from atoll.core.ids import is_sandbox_id
from atoll.core.limits import Limits
from atoll.core.reach import parse_open_ranges
from atoll.core.settings import NodeSettings, Places
from atoll.egress.dial import Dialer, Outside
from atoll.engines.native.version import engine_version
from atoll.rpc import Connection, RpcServer, serve
from atoll.storage.keys import master_key
from atoll.storage.runtime import current, runtime_argv

from .capacity import capacity
from .catalogue import Catalogue
from .dial_server import DialServer
from .disks import SealedDisks
from .handles import HandleStore
from .launcher_process import launcher_command, start_launcher
from .native_engine import NativeEngine
from .sandboxes import Order, Sandboxes
from .slots import SlotPool

log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
SETTLED_S = 30.0

Params = dict[str, Any]  # Any: JSON values; shapes are in docs/architecture.md


class Node:
    def __init__(self, settings: NodeSettings, engine: NativeEngine | None = None) -> None:
        places = settings.places
        self._settings = settings
        self._places = places
        self._catalogue = Catalogue(places.data / "node" / "templates")
        self._engine = engine or native_engine(settings, lambda *exited: self._sandboxes.exited(*exited))
        disks = SealedDisks(places.data / "node", master_key(places.data / "node" / "master.key"))
        self._slots = SlotPool(self._engine, disks)
        handles = HandleStore(places.data / "node" / "sandboxes")
        self._sandboxes = Sandboxes(places, self._engine, handles, disks, self._catalogue, self._emit, self._slots)
        self._outward = Dialer(Outside.of(settings.uplink, parse_open_ranges(settings.open_ranges)))
        self._dials = DialServer(places.dial_socket, self._dial)
        self._server: RpcServer | None = None
        self._stopping = False
        self._methods: dict[str, Callable[[Params], Awaitable[Params]]] = {
            "hello": self._hello,
            "create": lambda params: self._sandboxes.create(order_from(params)),
            "start": lambda params: self._sandboxes.start(order_from(params)),
            "stop": lambda params: self._sandboxes.stop(*which(params)),
            "destroy": lambda params: self._sandboxes.destroy(*which(params)),
            "pause": lambda params: self._sandboxes.pause(*which(params)),
            "resume": lambda params: self._sandboxes.resume(*which(params)),
            "usage": lambda params: self._sandboxes.usage(sandbox_id(params)),
            "activity": lambda params: self._sandboxes.activity(sandbox_id(params)),
            "list": self._list,
            "capacity": self._capacity,
            "stop_all": self._stop_all,
        }

    async def serve(self, stop: asyncio.Event) -> None:
        """The socket appears when the launcher answers and everything is recovered; who connects finds the truth."""
        await self._engine.connect()
        await self._sandboxes.recover()
        self._slots.open()
        self._dials.open()
        self._server = await serve(self._places.node_socket, self._answer)
        warming = asyncio.create_task(self._warm())
        keeping = asyncio.create_task(self._keep_engine())
        try:
            await stop.wait()
        finally:
            await self._server.close()
            await self._dials.close()
            for task in (warming, keeping):
                task.cancel()
            await asyncio.gather(warming, keeping, return_exceptions=True)
            await self._slots.close()
            await self._sandboxes.close()
            await self._engine.close()

    async def _answer(self, method: str, params: Params, _: Connection) -> Params:
        try:
            act = self._methods[method]
        except KeyError:
            raise InvalidInput(f"no method {method!r}") from None
        return await act(params)

    async def _dial(self, sandbox_id: str, host: str, port: int) -> socket.socket:
        self._sandboxes.require_internet(sandbox_id)
        return await self._outward.dial(host, port)

    async def _hello(self, _: Params) -> Params:
        return {
            "node_id": self._places.installation,
            "region": self._settings.region,
            "version": atoll.__version__,
            "templates": [template.to_wire() for template in self._catalogue.all()],
        }

    async def _list(self, _: Params) -> Params:
        return self._sandboxes.list()

    async def _capacity(self, _: Params) -> Params:
        return dict(capacity(self._places.data, self._settings.reserves))

    async def _stop_all(self, _: Params) -> Params:
        self._stopping = True
        await self._slots.close()
        await self._sandboxes.stop_all()
        await self._engine.shutdown()
        return {}

    def _emit(self, event: str, data: Params) -> None:
        """Before the socket is there nobody needs telling: the server lists when it connects."""
        if self._server is not None:
            self._server.broadcast(event, data)

    async def _warm(self) -> None:
        for template in self._catalogue.all():
            if template.name in self._settings.warm:
                try:
                    await self._engine.prepare(template)
                    self._slots.want(template, template.limits)
                except AtollError as error:
                    log.warning("template %s is not warm: %s", template.name, error)

    async def _keep_engine(self) -> None:
        """A launcher that dies is replaced at once, one that dies again and again less and less often."""
        clock = asyncio.get_running_loop().time
        backoff_s = 0.0
        while True:
            connected_at = clock()
            with contextlib.suppress(Unavailable):
                await self._engine.wait_lost()
            if self._stopping:
                return
            self._sandboxes.engine_lost()
            await self._slots.close()
            if clock() - connected_at > SETTLED_S:
                backoff_s = 0.0
            log.warning("the launcher is gone; another is started in %.1f s", backoff_s)
            await asyncio.sleep(backoff_s)
            backoff_s = min(max(backoff_s * 2, FIRST_BACKOFF_S), MAX_BACKOFF_S)
            await self._reconnect()

    async def _reconnect(self) -> None:
        try:
            await self._engine.connect()
            await self._sandboxes.recover()
            self._slots.open()
            await self._warm()
        except Exception:
            log.exception("the launcher could not be replaced")
            await self._engine.close()


def native_engine(settings: NodeSettings, on_exit: Callable[[str, int], None]) -> NativeEngine:
    places, uplink, open_ranges = settings.places, str(settings.uplink), settings.open_ranges

    def runtime() -> Any:
        directory = current(places.data)
        return directory, runtime_argv(directory)

    def start(places: Places) -> Awaitable[subprocess.Popen[bytes]]:
        return start_launcher(places, launcher_command(places, uplink, open_ranges))

    return NativeEngine(places, engine_version(uplink, open_ranges), runtime, on_exit, start)


def order_from(params: Params) -> Order:
    identity, incarnation = which(params)
    try:
        env = {str(name): str(value) for name, value in (params.get("env") or {}).items()}
        return Order(
            id=identity,
            incarnation=incarnation,
            template=str(params["template"]),
            limits=Limits.from_wire(params.get("limits") or {}),
            hostname=str(params.get("hostname") or identity),
            env=env,
            internet_access=params.get("internet_access") is True,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput("not a sandbox order") from error


def which(params: Params) -> tuple[str, int]:
    incarnation = params.get("incarnation")
    if not isinstance(incarnation, int):
        raise InvalidInput("an incarnation is a whole number")
    return sandbox_id(params), incarnation


def sandbox_id(params: Params) -> str:
    """It becomes a file name and a cgroup name."""
    identity = params.get("id")
    if not isinstance(identity, str) or not is_sandbox_id(identity):
        raise InvalidInput("not a sandbox id")
    return identity


def run(settings: NodeSettings) -> None:
    """Blocks until SIGTERM or SIGINT."""
    asyncio.run(_until_signal(settings))


async def _until_signal(settings: NodeSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Node(settings).serve(stop)
