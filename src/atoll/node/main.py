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
from atoll.core.policy import CLOSED, Policy, from_wire
from atoll.core.reach import parse_open_ranges
from atoll.core.settings import NodeSettings, Places
from atoll.core.uplink import NO_UPLINK
from atoll.egress.blocklist_file import BlockListFile, kernel_part
from atoll.egress.dial import Dialer, Outside
from atoll.engines.native.version import engine_version
from atoll.rpc import Connection, RpcServer, serve
from atoll.storage.keys import master_key
from atoll.storage.runtime import current, runtime_argv

from .backoff import Backoff
from .callbacks import allowed_by
from .capacity import capacity
from .catalogue import Catalogue
from .dial_server import DialServer
from .disks import SealedDisks
from .egress_process import EgressProcess, NoEgress, egress_process
from .handles import HandleStore
from .launcher_process import launcher_command, start_launcher
from .native_engine import NativeEngine
from .sandboxes import Order, Sandboxes
from .slots import SlotPool

log = logging.getLogger(__name__)

EGRESS_ANSWER_S = 4.0

Params = dict[str, Any]  # Any: JSON values; shapes are in docs/architecture.md


class Node:
    def __init__(
        self,
        settings: NodeSettings,
        engine: NativeEngine | None = None,
        egress: EgressProcess | NoEgress | None = None,
    ) -> None:
        places = settings.places
        self._settings = settings
        self._places = places
        self._catalogue = Catalogue(places.data / "node" / "templates")
        self._engine = engine or native_engine(settings, lambda *exited: self._sandboxes.exited(*exited))
        disks = SealedDisks(places.data / "node", master_key(places.data / "node" / "master.key"))
        self._slots = SlotPool(self._engine, disks)
        handles = HandleStore(places.data / "node" / "sandboxes")
        self._egress = egress or egress_process(settings, self._egress_event)
        self._sandboxes = Sandboxes(
            places, self._engine, handles, disks, self._catalogue, self._emit, self._slots, self._egress
        )
        self._opened = parse_open_ranges(settings.open_ranges)
        self._outward = Dialer(Outside.of(settings.uplink, self._opened))
        self._blocklist = BlockListFile(places.data / "egress" / "blocklist.txt")
        self._telling: set[asyncio.Task[None]] = set()
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
            "set_network": lambda params: self._sandboxes.set_network(*which(params), policy_from(params)),
            "usage": lambda params: self._sandboxes.usage(sandbox_id(params)),
            "activity": lambda params: self._sandboxes.activity(sandbox_id(params)),
            "egress_log": self._egress_log,
            "egress_totals": self._egress_totals,
            "list": self._list,
            "capacity": self._capacity,
            "stop_all": self._stop_all,
        }

    async def serve(self, stop: asyncio.Event) -> None:
        """The socket appears when the launcher answers and everything is recovered; who connects finds the truth."""
        await self._connect_engine()
        await self._sandboxes.recover()
        await self._egress.open()
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
            await self._egress.close()
            await asyncio.gather(*self._telling, return_exceptions=True)
            await self._engine.close()

    async def _answer(self, method: str, params: Params, _: Connection) -> Params:
        try:
            act = self._methods[method]
        except KeyError:
            raise InvalidInput(f"no method {method!r}") from None
        return await act(params)

    async def _dial(self, sandbox_id: str, host: str, port: int) -> socket.socket:
        policy = self._sandboxes.policy(sandbox_id)
        self._blocklist.reload()
        allow = allowed_by(policy, host, port, self._opened, self._blocklist.current)
        return await self._outward.dial(host, port, allow)

    def _egress_event(self, event: str, data: Params) -> None:
        acts: dict[str, Callable[[Params], Awaitable[None]]] = {"punish": self._punish, "blocklist": self._block}
        if (act := acts.get(event)) is None:
            return
        task = asyncio.create_task(_or_log(act(data), event))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _punish(self, data: Params) -> None:
        seconds = int(data["seconds"])
        await self._engine.punish(str(data["id"]), seconds)
        detail = f"{data['rule']}: {data['detail']}; no new connections for {seconds} s"
        self._emit("punish", {"id": str(data["id"]), "detail": detail})

    async def _block(self, data: Params) -> None:
        await self._engine.blocked(data["networks"], data["ports"])

    async def _connect_engine(self) -> None:
        """The block list is in force before anything is let out, also when the daemon that watches it is away."""
        await self._engine.connect()
        if self._settings.uplink != NO_UPLINK:
            self._blocklist.reload()
            await self._block(kernel_part(self._blocklist.current))

    async def _egress_log(self, params: Params) -> Params:
        wait_s = float(params.get("wait_s") or 0.0)
        asked = {"id": sandbox_id(params), "after": params.get("after"), "limit": params.get("limit"), "wait_s": wait_s}
        return await self._egress.ask("log", asked, wait_s + EGRESS_ANSWER_S)

    async def _egress_totals(self, params: Params) -> Params:
        """Of all together also what the kernel counted; it tells of a few refusals only."""
        asked = params.get("id")
        totals = await self._egress.ask("totals", {"id": asked}, EGRESS_ANSWER_S)
        return totals if asked else {**totals, "refused_packets": await self._engine.refused()}

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
        await self._egress.shutdown()
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
        backoff, clock = Backoff(), asyncio.get_running_loop().time
        while True:
            connected_at = clock()
            with contextlib.suppress(Unavailable):
                await self._engine.wait_lost()
            if self._stopping:
                return
            self._sandboxes.engine_lost()
            await self._slots.close()
            delay_s = backoff.after(clock() - connected_at)
            log.warning("the launcher is gone; another is started in %.0f s", delay_s)
            await asyncio.sleep(delay_s)
            await self._reconnect()

    async def _reconnect(self) -> None:
        try:
            await self._connect_engine()
            await self._sandboxes.recover()
            self._slots.open()
            await self._warm()
        except Exception:
            log.exception("the launcher could not be replaced")
            await self._engine.close()


def native_engine(settings: NodeSettings, on_exit: Callable[[str, int], None]) -> NativeEngine:
    places, limits = settings.places, settings.egress
    uplink, open_ranges = str(settings.uplink), settings.open_ranges
    version = engine_version(uplink, open_ranges, rate=limits.rate, burst=limits.burst, mbit=limits.mbit)

    def runtime() -> Any:
        directory = current(places.data)
        return directory, runtime_argv(directory)

    def start(places: Places) -> Awaitable[subprocess.Popen[bytes]]:
        return start_launcher(places, launcher_command(places, uplink, open_ranges, limits))

    return NativeEngine(places, version, runtime, on_exit, start)


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
            policy=policy_from(params),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput("not a sandbox order") from error


def policy_from(params: Params) -> Policy:
    given = params.get("policy")
    return from_wire(given) if isinstance(given, dict) else CLOSED


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


async def _or_log(work: Awaitable[None], what: str) -> None:
    try:
        await work
    except AtollError as error:
        log.error("%s was not done: %s", what, error.message)
    except Exception:
        log.exception("%s was not done", what)


def run(settings: NodeSettings) -> None:
    """Blocks until SIGTERM or SIGINT."""
    asyncio.run(_until_signal(settings))


async def _until_signal(settings: NodeSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Node(settings).serve(stop)
