"""The node daemon: requests on RUN/node.sock, the launcher kept alive, sandboxes recovered.

It may be killed at any moment: sandboxes, their traffic and the launcher go on, the next node adopts them. Its own end
by SIGTERM touches nothing either; only `stop_all` stops sandboxes.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import uvloop

import atoll
from atoll.core.errors import AtollError, Conflict, InvalidInput, Unavailable
from atoll.core.ids import is_sandbox_id
from atoll.core.limits import Limits
from atoll.core.policy import CLOSED, Policy, from_wire
from atoll.core.reach import parse_open_ranges
from atoll.core.settings import NodeSettings, Places
from atoll.core.uplink import NO_UPLINK
from atoll.core.volumes import INODES_PER_MIB, VolumeMount, check_inodes, check_mounts, check_size
from atoll.egress.blocklist_file import BlockListFile, kernel_part
from atoll.egress.dial import Dialer, Outside
from atoll.engines.native.version import engine_version
from atoll.rpc import Connection, RpcServer, serve
from atoll.storage.keys import master_key
from atoll.storage.runtime import current, runtime_argv
from atoll.storage.templates import unbuilt

from .backoff import Backoff
from .callbacks import allowed_by
from .capacity import capacity, installed_mib
from .catalogue import Catalogue
from .dial_server import DialServer
from .disks import SealedDisks
from .egress_process import EgressProcess, NoEgress, egress_process
from .handles import HandleStore
from .keepers import Keepers
from .launcher_process import launcher_command, start_launcher
from .native_engine import NativeEngine
from .sandboxes import Order, Sandboxes
from .slots import SlotPool, fitting
from .volumes import Volumes

log = logging.getLogger(__name__)

EGRESS_ANSWER_S = 4.0
GROW_LOOKS, REMOVE_LOOKS, DETACH_LOOK_S = 20, 60, 0.05
MOST_MEMORY_MIB = 1 << 24

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
        self._engine = engine or native_engine(
            settings, lambda *exited: self._sandboxes.exited(*exited), lambda slot: self._slots.lost(slot)
        )
        master = master_key(places.data / "node" / "master.key")
        disks = SealedDisks(places.data / "node", master)
        self._volumes = Volumes(places.data / "node", master)
        ready = fitting(installed_mib()) if settings.ready is None else settings.ready
        self._slots = SlotPool(self._engine, disks, ready)
        handles = HandleStore(places.data / "node" / "sandboxes")
        self._egress = egress or egress_process(settings, self._egress_event)
        self._sandboxes = Sandboxes(
            places, self._engine, handles, disks, self._catalogue, self._emit, self._slots, self._egress, self._volumes
        )
        self._keepers = Keepers(self._sandboxes, self._catalogue.all)
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
            "set_memory": lambda params: self._sandboxes.set_memory(*which(params), memory_from(params)),
            "volume_mount": lambda params: self._sandboxes.mount(*which(params), mount_from(params)),
            "volume_unmount": lambda params: self._sandboxes.unmount(
                *which(params), str(params["path"]), params.get("force") is True
            ),
            "volume_grow": self._grow_volume,
            "usage": lambda params: self._sandboxes.usage(sandbox_id(params)),
            "activity": lambda params: self._sandboxes.activity(sandbox_id(params)),
            "volume_make": self._make_volume,
            "volume_remove": self._remove_volume,
            "volume_open": lambda params: self._keepers.open(volume_id(params)),
            "volumes": self._list_volumes,
            "egress_log": self._egress_log,
            "egress_totals": self._egress_totals,
            "list": self._list,
            "capacity": self._capacity,
            "stop_all": self._stop_all,
        }
        self._undoing: dict[str, Callable[[Params], Awaitable[Params]]] = {
            "create": self._methods["destroy"],
            "start": self._methods["stop"],
        }
        """What a server that has gone was making: the next one may look before it is there, and knows nothing of it."""

    async def serve(self, stop: asyncio.Event) -> None:
        """The socket appears when the launcher answers and everything is recovered; who connects finds the truth."""
        await asyncio.to_thread(self._volumes.clear)
        await asyncio.to_thread(self._volumes.finish_growing)
        await self._connect_engine()
        await self._sandboxes.recover()
        await self._egress.open()
        self._slots.open()
        self._dials.open()
        self._server = await serve(self._places.node_socket, self._answer)
        gc.freeze()  # what is there by now stays: no collection has to look through it
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
            await self._keepers.shut()
            await self._sandboxes.close()
            await self._egress.close()
            await asyncio.gather(*self._telling, return_exceptions=True)
            await self._engine.close()

    async def _answer(self, method: str, params: Params, connection: Connection) -> Params:
        try:
            act = self._methods[method]
        except KeyError:
            raise InvalidInput(f"no method {method!r}") from None
        answer = await act(params)
        if connection.lost and method in self._undoing:
            await self._undoing[method](params)
            log.info("undone: %s of %s, since nobody waits for it any more", method, params["id"])
        return answer

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

    async def _make_volume(self, params: Params) -> Params:
        size_mib = int(params["size_mib"])
        check_size(size_mib)
        inodes = int(params.get("inodes") or size_mib * INODES_PER_MIB)
        check_inodes(inodes, size_mib)
        await asyncio.to_thread(self._volumes.make, volume_id(params), size_mib, inodes)
        return {}

    async def _grow_volume(self, params: Params) -> Params:
        identity, size_mib = volume_id(params), int(params["size_mib"])
        check_size(size_mib)
        if users := self._sandboxes.users_of(identity):
            raise Conflict(
                f"sandboxes have the volume mounted ({users}): unmount it there, or kill them, first", sandboxes=users
            )
        with self._volumes.withheld(identity):
            await self._keepers.close(identity)
            await self._until_detached(identity, GROW_LOOKS)
            await asyncio.to_thread(self._volumes.grow, identity, size_mib)
        return {}

    async def _until_detached(self, identity: str, looks: int) -> None:
        """The kernel lets go of an image some time after its last user, and tells nobody."""
        for _ in range(looks):
            if not await self._engine.attached(self._volumes.image(identity)):
                return
            await asyncio.sleep(DETACH_LOOK_S)
        raise Conflict(
            "programs still have files of the volume open, in a sandbox from which it was unmounted by force: end "
            "them, or kill the sandbox"
        )

    async def _remove_volume(self, params: Params) -> Params:
        identity = volume_id(params)
        if users := self._sandboxes.users_of(identity):
            raise Conflict(
                f"sandboxes have the volume mounted ({users}): unmount it there, or kill them, first", sandboxes=users
            )
        with self._volumes.withheld(identity):  # nothing between: who comes now to mount it is refused, a keeper too
            await self._keepers.close(identity)
            if self._volumes.image(identity).exists():
                await self._until_detached(identity, REMOVE_LOOKS)
            self._volumes.close(identity)
            await asyncio.to_thread(self._volumes.remove, identity)
        return {}

    async def _list_volumes(self, _: Params) -> Params:
        return {"volumes": [{"id": each, "used_bytes": self._volumes.used_bytes(each)} for each in self._volumes.ids()]}

    async def _hello(self, _: Params) -> Params:
        return {
            "node_id": self._places.installation,
            "region": self._settings.region,
            "version": atoll.__version__,
            "templates": [template.to_wire() for template in self._catalogue.all()],
            "unbuilt": [asdict(template) for template in unbuilt(self._places.data)],
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
            self._keepers.forget()
            await self._sandboxes.recover()
            self._slots.open()
            await self._warm()
        except Exception:
            log.exception("the launcher could not be replaced")
            await self._engine.close()


def native_engine(
    settings: NodeSettings, on_exit: Callable[[str, int], None], on_lost_slot: Callable[[str], None]
) -> NativeEngine:
    places, limits = settings.places, settings.egress
    uplink, open_ranges = str(settings.uplink), settings.open_ranges
    version = engine_version(uplink, open_ranges, rate=limits.rate, burst=limits.burst, mbit=limits.mbit)

    def runtime() -> Any:
        directory = current(places.data)
        return directory, runtime_argv(directory)

    def start(places: Places) -> Awaitable[subprocess.Popen[bytes]]:
        return start_launcher(places, launcher_command(places, uplink, open_ranges, limits))

    return NativeEngine(places, version, runtime, on_exit, start, on_lost_slot)


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
            volumes=mounts_from(params),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput("not a sandbox order") from error


def memory_from(params: Params) -> int:
    memory_mib = params.get("memory_mib")
    if not isinstance(memory_mib, int) or not 0 < memory_mib <= MOST_MEMORY_MIB:
        raise InvalidInput("memory is a number of MiB")
    return memory_mib


def mount_from(params: Params) -> VolumeMount:
    try:
        (mount,) = mounts_from({"volumes": [params["mount"]]})
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInput("not a mount") from error
    return mount


def mounts_from(params: Params) -> tuple[VolumeMount, ...]:
    mounts = tuple(VolumeMount.from_wire(mount) for mount in params.get("volumes") or ())
    check_mounts(mounts)
    if not all(is_sandbox_id(mount.volume_id) for mount in mounts):
        raise InvalidInput("not a volume's id")
    return mounts


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


volume_id = sandbox_id
"""Ids of volumes have the same form."""


async def _or_log(work: Awaitable[None], what: str) -> None:
    try:
        await work
    except AtollError as error:
        log.error("%s was not done: %s", what, error.message)
    except Exception:
        log.exception("%s was not done", what)


def run(settings: NodeSettings) -> None:
    """Blocks until SIGTERM or SIGINT."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signal(settings))


async def _until_signal(settings: NodeSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Node(settings).serve(stop)
