"""The launcher: the one process with host privilege that makes sandboxes. Small, single-threaded, standard library.

Its methods are in docs/architecture.md. It keeps one record a sandbox in RUN/launcher/ID.json, written
before the newborn is let go, so that a new launcher finds every sandbox that may be alive, adopts those
that are, and cleans after those that are not. Its own end, by `shutdown` or by a kill, leaves all
sandboxes running: they hold everything they need.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import resource
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll import rpc
from atoll.core.blocklist import DEFAULT_BLOCKLIST
from atoll.core.errors import (
    AtollError,
    CapacityExceeded,
    Conflict,
    InternalError,
    InvalidInput,
    NotFound,
    Unavailable,
    Unsupported,
)
from atoll.core.limits import Limits
from atoll.core.packet_policy import REFUSE_ALL, KernelPolicy, networks_as_intervals
from atoll.core.reach import parse_open_ranges
from atoll.core.uplink import parse_uplink

from . import host_limits, ids, network, seccomp, tree
from . import syscalls as sc
from .cgroup import Cgroup, Cgroups
from .claims import Claims
from .closed import ClosedConnections
from .counters import refused_packets
from .rules import DEFAULT_LIMITS, Blocked
from .rules import Limits as EgressLimits
from .slot import Berth, Slot, SlotRequest, discard_slot, make_slot, open_berth
from .uplink import UplinkSetup
from .version import engine_version
from .zygotes import Generation, TemplateSpec, readable

log = logging.getLogger("atoll.launcher")

BIRTH_TIMEOUT_S = 20.0
BIRTHS_AT_ONCE = 8
CUT_AGAIN_S = 1.0
MS_SLAVE = 1 << 19
BLOCKED_FILE = "blocked.json"


@dataclass
class Sandbox:
    id: str
    pid: int
    start_time: int
    ids: ids.Slice
    socket_path: Path
    cgroup: Cgroup
    pidfd: int
    egress_mark: int = 0
    """Of its way out; 0 when it has none."""
    egress: KernelPolicy = REFUSE_ALL
    generation: Generation | None = None
    """None when adopted: nothing more is born into it."""
    exited: asyncio.Event = field(default_factory=asyncio.Event)
    wanted: bool = False
    """We asked for its end, so nobody needs to be told."""

    def handle(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "pid": self.pid,
            "start_time": self.start_time,
            "generation": self.ids.generation,
            "slice": self.ids.index,
            "address": network.address_of(self.ids.number),
            "egress_mark": self.egress_mark,
            "socket": str(self.socket_path),
        }

    def record(self) -> dict[str, Any]:
        return {**self.handle(), "egress": self.egress.to_wire()}


class Channels:
    """The socket pairs of one birth: PID 1 and the launcher, the seed's joiner and the launcher, PID 1 and the seed."""

    def __init__(self) -> None:
        self.birth, self.birth_inside = _pair()
        self.join, self.join_inside = _pair()
        self.seed, self.seed_inside = _pair()

    def close(self) -> None:
        for sock in vars(self).values():
            sock.close()

    def __enter__(self) -> Channels:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


class Launcher:
    def __init__(
        self,
        run: Path,
        installation: str,
        uplink: str = "none",
        open_ranges: str = "",
        limits: EgressLimits = DEFAULT_LIMITS,
    ) -> None:
        self.version = engine_version(uplink, open_ranges, limits.rate, limits.burst, limits.mbit)
        self.run = run
        self.installation = installation
        self.records = run / "launcher"
        self.records.mkdir(mode=0o700, exist_ok=True)
        (run / "s").mkdir(mode=0o700, exist_ok=True)
        self.bpf = seccomp.compile_filter()
        self.host_mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self.cgroups = Cgroups(installation)
        self.claims = Claims(run.parent / "generations", installation)
        self.fabric = network.Fabric(installation)
        self.uplink = UplinkSetup(self.fabric, run, parse_uplink(uplink), parse_open_ranges(open_ranges), limits)
        sc.unshare(sc.CLONE_NEWNS)
        sc.mount(None, "/", None, sc.MS_REC | MS_SLAVE)
        self.stage = tree.Stage(run / "stage")
        self.sandboxes: dict[str, Sandbox] = {}
        self.slots: dict[str | None, Slot] = {}
        self.preparing = asyncio.Lock()
        self.generations: dict[str, list[Generation]] = {}
        self.births = asyncio.Semaphore(BIRTHS_AT_ONCE)
        self.template_lock = asyncio.Lock()
        self.server: rpc.RpcServer | None = None
        self.finished = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    # --- recovery

    async def recover(self) -> None:
        self._recall_blocked()
        for path in sorted(self.records.glob("*.json")):
            try:
                self._adopt(json.loads(path.read_text()))
            except (OSError, ValueError, KeyError):
                await self._sweep_or_log(path.stem)
        for name in self.cgroups.names() - self.sandboxes.keys():
            await self._sweep_or_log(name)
        self.uplink.set_up()

    async def _sweep_or_log(self, sandbox_id: str) -> None:
        """One that cannot be swept must not keep the others without a launcher; the next start tries again."""
        try:
            await self._sweep(sandbox_id)
        except (OSError, TimeoutError):
            log.exception("sandbox %s is not wholly swept", sandbox_id)

    def _adopt(self, record: dict[str, Any]) -> None:
        pid = int(record["pid"])
        pidfd = os.pidfd_open(pid)
        if start_time_of(pid) != record["start_time"]:
            os.close(pidfd)
            raise ProcessLookupError(pid)
        sandbox = Sandbox(
            id=record["id"],
            pid=pid,
            start_time=record["start_time"],
            ids=ids.Slice(record["generation"], record["slice"]),
            socket_path=Path(record["socket"]),
            cgroup=self.cgroups.of(record["id"]),
            pidfd=pidfd,
            egress_mark=int(record.get("egress_mark", 0)),
            egress=_policy_in(record),
        )
        self.fabric.adopt(sandbox.ids.number, sandbox.egress_mark, sandbox.egress)
        self._watch(sandbox)

    async def _sweep(self, sandbox_id: str) -> None:
        """After a sandbox of which we know the name only."""
        await self.cgroups.of(sandbox_id).destroy()
        (self.run / "s" / f"{sandbox_id}.sock").unlink(missing_ok=True)
        self._record_path(sandbox_id).unlink(missing_ok=True)

    # --- rpc

    async def handle(self, method: str, params: dict[str, Any], connection: rpc.Connection) -> dict[str, Any]:
        handler = self.METHODS.get(method)
        if handler is None:
            raise InvalidInput(f"the launcher has no method {method!r}")
        try:
            return await handler(self, params)
        except AtollError:
            raise
        except (OSError, RuntimeError, TimeoutError) as error:
            log.exception("%s failed", method)
            raise InternalError(f"{method}: {error}") from error

    async def hello(self, params: dict[str, Any]) -> dict[str, Any]:
        alive = [{**sandbox.handle(), "frozen": sandbox.cgroup.frozen()} for sandbox in self.sandboxes.values()]
        return {"version": self.version, "pid": os.getpid(), "sandboxes": alive}

    async def template(self, params: dict[str, Any]) -> dict[str, Any]:
        spec = TemplateSpec(
            name=params["name"],
            digest=params["digest"],
            layers=tuple(params["layers"]),
            preload=tuple(params["preload"]),
            python=params["python"],
            runtime=params["runtime"],
            runtime_argv=tuple(params["runtime_argv"]),
        )
        async with self.template_lock:
            current = self.generations.get(spec.name, [])
            if not (current and current[-1].spec == spec):
                await self._new_generation(spec)
        return {}

    async def create(self, params: dict[str, Any]) -> dict[str, Any]:
        sandbox_id = params["id"]
        if sandbox_id in self.sandboxes:
            raise Conflict(f"sandbox {sandbox_id} is already there")
        async with self.births:
            sandbox = await self._create_in(await self._slot_for(params), params)
        return sandbox.handle()

    async def prepare(self, params: dict[str, Any]) -> dict[str, Any]:
        """A slot ahead of its sandbox, under a name that `create` may give. Idle work: births go first."""
        async with self.preparing, self.births:
            if params["slot"] not in self.slots:
                self.slots[params["slot"]] = await self._make_slot(params["slot"], params)
        return {}

    async def discard(self, params: dict[str, Any]) -> dict[str, Any]:
        slot = self.slots.pop(params["slot"], None)
        if slot:
            discard_slot(slot, self.fabric)
        return {}

    async def destroy(self, params: dict[str, Any]) -> dict[str, Any]:
        sandbox = self.sandboxes.get(params["id"])
        if sandbox is None:
            await self._sweep(params["id"])
            return {}
        sandbox.wanted = True
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(sandbox.pidfd, signal.SIGKILL)
        await sandbox.cgroup.thaw_if_frozen()
        async with asyncio.timeout(BIRTH_TIMEOUT_S):
            await sandbox.exited.wait()
        return {}

    async def pause(self, params: dict[str, Any]) -> dict[str, Any]:
        await self._get(params).cgroup.freeze()
        return {}

    async def resume(self, params: dict[str, Any]) -> dict[str, Any]:
        await self._get(params).cgroup.thaw()
        return {}

    async def set_egress(self, params: dict[str, Any]) -> dict[str, Any]:
        """Noted first: whatever happens meanwhile, it holds from the next start on."""
        sandbox = self._get(params)
        sandbox.egress = KernelPolicy.from_wire(params["egress"])
        self._write_record(sandbox)
        mark = self.fabric.govern(sandbox.ids.number, sandbox.pidfd, sandbox.egress)
        if mark != sandbox.egress_mark:
            sandbox.egress_mark = mark
            self._write_record(sandbox)
        asyncio.get_running_loop().call_later(CUT_AGAIN_S, self._cut_again, sandbox)
        return {}

    def _cut_again(self, sandbox: Sandbox) -> None:
        """What was just being judged by the old policy when the new one came was not among what was cut."""
        if self.sandboxes.get(sandbox.id) is sandbox:
            self.fabric.cut_forbidden(sandbox.ids.number, sandbox.pidfd, sandbox.egress_mark)

    async def punish(self, params: dict[str, Any]) -> dict[str, Any]:
        sandbox = self.sandboxes.get(params["id"])
        if sandbox is not None:
            self.fabric.punish(sandbox.ids.number, max(1, int(params["seconds"])))
        return {}

    async def blocked(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = {"networks": list(params["networks"]), "ports": list(params["ports"])}
        self.fabric.block(_blocked_by(wanted))
        _write_whole(self.run / BLOCKED_FILE, json.dumps(wanted))
        return {}

    async def refused(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"packets": refused_packets() if self.fabric.has_uplink else {}}

    def _recall_blocked(self) -> None:
        try:
            noted = json.loads((self.run / BLOCKED_FILE).read_text())
        except (FileNotFoundError, ValueError):
            noted = {"networks": [], "ports": [f"{protocol}/{port}" for protocol, port in DEFAULT_BLOCKLIST.ports]}
        self.fabric.block(_blocked_by(noted))

    async def usage(self, params: dict[str, Any]) -> dict[str, Any]:
        return dict(self._get(params).cgroup.usage())

    async def shutdown(self, params: dict[str, Any]) -> dict[str, Any]:
        """Sandboxes that still run keep running, and the fabric with them; the next launcher adopts them."""
        try:
            while self.slots:
                discard_slot(self.slots.popitem()[1], self.fabric)
            self._close_generations()
            if not self.sandboxes:
                self.cgroups.remove()
                self.claims.release_all()
                self.uplink.tear_down()
                sc.setns(self.host_mounts, sc.CLONE_NEWNS)
                network.remove_fabric(self.installation)
        finally:
            self.finished.set()  # half ended is no state to go on from
        return {}

    METHODS = {  # noqa: RUF012 — a table, never written to
        "hello": hello,
        "template": template,
        "create": create,
        "prepare": prepare,
        "discard": discard,
        "destroy": destroy,
        "pause": pause,
        "resume": resume,
        "set_egress": set_egress,
        "punish": punish,
        "blocked": blocked,
        "refused": refused,
        "usage": usage,
        "shutdown": shutdown,
    }

    # --- templates

    async def _new_generation(self, spec: TemplateSpec) -> Generation:
        taken = {g.slices.generation for chain in self.generations.values() for g in chain}
        number = self.claims.take(taken | {sandbox.ids.generation for sandbox in self.sandboxes.values()})
        if number is None:
            raise CapacityExceeded("all ranges of user ids are in use", limit=ids.GENERATIONS, current=ids.GENERATIONS)
        with contextlib.ExitStack() as undo:
            undo.callback(self.claims.release, number)
            generation = Generation(spec, number, self.stage)
            undo.callback(generation.close)
            await generation.until_ready(self.bpf)
            undo.pop_all()
        chain = self.generations.setdefault(spec.name, [])
        chain.append(generation)
        self._retire(chain)
        return generation

    def _retire(self, chain: list[Generation]) -> None:
        """A generation goes when a newer one is there and its last sandbox is gone."""
        for generation in [g for g in chain[:-1] if g.live == 0]:
            chain.remove(generation)
            generation.close()
            self.claims.release(generation.slices.generation)

    async def _generation_with_room(self, name: str) -> Generation:
        async with self.template_lock:
            chain = self.generations.get(name)
            if not chain:
                raise NotFound(f"template {name!r} has not been announced")
            current = chain[-1]
            if current.slices.left == 0 or current.broken:
                current = await self._new_generation(current.spec)
            return current

    def _close_generations(self) -> None:
        for chain in self.generations.values():
            for generation in chain:
                generation.close()
        self.generations.clear()

    # --- birth and end

    async def _slot_for(self, params: dict[str, Any]) -> Slot:
        """The one made ahead, when it is still there and fit; else a new one."""
        ready = self.slots.pop(params.get("slot"), None)
        if ready:
            if not ready.generation.broken and ready.generation is self.generations[params["template"]][-1]:
                return ready
            discard_slot(ready, self.fabric)
        return await self._make_slot(params["id"], params)

    async def _make_slot(self, name: str, params: dict[str, Any]) -> Slot:
        generation = await self._generation_with_room(params["template"])
        try:
            return await make_slot(SlotRequest.of(name, params), generation, self.stage, self.fabric)
        except Unavailable:
            generation.broken = True
            raise

    async def _create_in(self, slot: Slot, params: dict[str, Any]) -> Sandbox:
        sandbox_id, socket_path = params["id"], Path(params["socket"])
        async with contextlib.AsyncExitStack() as undo:
            undo.callback(discard_slot, slot, self.fabric)
            undo.push_async_callback(self._sweep, sandbox_id)
            berth = open_berth(sandbox_id, Limits.from_wire(params["limits"]), socket_path, self.cgroups)
            undo.callback(berth.close)
            try:
                pid, channels = await self._clone_agent(slot, berth, params)
            except Unavailable:
                slot.generation.broken = True
                raise
            egress = KernelPolicy.from_wire(params["egress"])
            egress_mark = self.fabric.open(slot.ids.number, slot.netns_fd, egress)
            sandbox = self._born(slot, berth, sandbox_id, socket_path, pid, egress_mark, egress)
            undo.pop_all()  # from here on its end is what cleans up
            with contextlib.closing(slot), contextlib.closing(berth), channels:
                await self._raise_newborn(slot, berth, sandbox, channels, params)
        return sandbox

    async def _clone_agent(self, slot: Slot, berth: Berth, params: dict[str, Any]) -> tuple[int, Channels]:
        channels = Channels()
        try:
            message = {name: params[name] for name in ("hostname", "nameservers", "limits", "config")}
            fds = [slot.netns_fd, slot.userns_fd, slot.tree_fd, berth.listening.fileno()]
            fds += [channels.seed_inside.fileno(), channels.birth_inside.fileno(), *berth.cgroup_doors]
            answer, _ = await slot.generation.agent.request(message, fds)
        except BaseException:
            channels.close()
            raise
        channels.birth_inside.close()
        return int(answer["pid"]), channels

    async def _raise_newborn(
        self, slot: Slot, berth: Berth, sandbox: Sandbox, channels: Channels, params: dict[str, Any]
    ) -> None:
        try:
            berth.cgroup.attach(sandbox.pid)
            sc.send_message(channels.birth, {"go": True})
            if params["config"]["python"]:
                await self._join(slot, berth, sandbox, channels, params)
            else:
                await expect_ready(channels.birth, "birth")
        except BaseException:
            await self.destroy({"id": sandbox.id})
            raise

    async def _join(
        self, slot: Slot, berth: Berth, sandbox: Sandbox, channels: Channels, params: dict[str, Any]
    ) -> None:
        """The interpreter is forked while PID 1 is still being set up, and enters when it is ready."""
        generation = slot.generation
        if generation.interpreter is None:
            raise Unsupported(f"template {generation.spec.name!r} has no Python")
        fds = [sandbox.pidfd, slot.userns_fd, channels.seed.fileno(), channels.join_inside.fileno()]
        fds += berth.cgroup_doors
        try:
            answer, _ = await generation.interpreter.request({"limits": params["limits"]}, fds)
        except Unavailable:
            generation.broken = True
            raise
        channels.join_inside.close()
        berth.cgroup.attach(int(answer["pid"]))
        await expect_ready(channels.birth, "birth")
        sc.send_message(channels.join, {"go": True})
        await expect_ready(channels.join, "join")

    def _born(
        self,
        slot: Slot,
        berth: Berth,
        sandbox_id: str,
        socket_path: Path,
        pid: int,
        egress_mark: int,
        egress: KernelPolicy,
    ) -> Sandbox:
        pidfd = os.pidfd_open(pid)
        sandbox = Sandbox(
            id=sandbox_id,
            pid=pid,
            start_time=start_time_of(pid),
            ids=slot.ids,
            socket_path=socket_path,
            cgroup=berth.cgroup,
            pidfd=pidfd,
            egress_mark=egress_mark,
            egress=egress,
            generation=slot.generation,
        )
        self._write_record(sandbox)
        self._watch(sandbox)
        return sandbox

    def _watch(self, sandbox: Sandbox) -> None:
        self.sandboxes[sandbox.id] = sandbox
        task = asyncio.create_task(self._until_exit(sandbox))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _until_exit(self, sandbox: Sandbox) -> None:
        await readable(sandbox.pidfd)
        await self._sweep_or_log(sandbox.id)
        self.fabric.disconnect(sandbox.ids.number)
        os.close(sandbox.pidfd)
        del self.sandboxes[sandbox.id]
        if sandbox.generation:
            sandbox.generation.give_back(sandbox.ids)
            self._retire(self.generations.get(sandbox.generation.spec.name, []))
        sandbox.exited.set()
        if not sandbox.wanted and self.server:
            self.server.broadcast("exited", {"id": sandbox.id, "pid": sandbox.pid})

    def _write_record(self, sandbox: Sandbox) -> None:
        _write_whole(self._record_path(sandbox.id), json.dumps(sandbox.record()))

    def _record_path(self, sandbox_id: str) -> Path:
        return self.records / f"{sandbox_id}.json"

    def _get(self, params: dict[str, Any]) -> Sandbox:
        sandbox = self.sandboxes.get(params["id"])
        if sandbox is None:
            raise NotFound(f"no sandbox {params['id']} runs here")
        return sandbox


async def expect_ready(sock: socket.socket, what: str) -> None:
    async with asyncio.timeout(BIRTH_TIMEOUT_S):
        await readable(sock.fileno())
    message, _ = sc.receive_message(sock)
    if not message or "error" in message:
        raise InternalError(f"{what} failed: {(message or {}).get('error', 'the newborn ended')}")


def _policy_in(record: dict[str, Any]) -> KernelPolicy:
    """Where none was noted nothing is allowed until the node says what is."""
    try:
        return KernelPolicy.from_wire(record["egress"])
    except (KeyError, InvalidInput):
        return REFUSE_ALL


def _blocked_by(given: dict[str, Any]) -> Blocked:
    try:
        intervals4, _ = networks_as_intervals(given["networks"])  # nothing goes out over IPv6, blocked or not
        pairs = (str(word).partition("/") for word in given["ports"])
        ports = tuple(sorted({(protocol, int(port)) for protocol, _, port in pairs}))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"not a block list: {error}") from error
    if any(protocol not in ("tcp", "udp") or not 0 < port < 65536 for protocol, port in ports):
        raise InvalidInput("a blocked port is tcp/NUMBER or udp/NUMBER")
    return Blocked(intervals4, ports=ports)


def _write_whole(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.rename(path)


def start_time_of(pid: int) -> int:
    """Clock ticks since boot: with the pid it names one process for ever."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[19])


def reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


async def serve(
    run: Path, installation: str, socket_path: Path, uplink: str, open_ranges: str, limits: EgressLimits
) -> None:
    launcher = Launcher(run, installation, uplink, open_ranges, limits)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, reap)
    loop.add_signal_handler(signal.SIGTERM, launcher.finished.set)
    await launcher.recover()
    with contextlib.ExitStack() as stack:
        if launcher.fabric.has_uplink:
            stack.enter_context(contextlib.closing(ClosedConnections(loop)))
        launcher.server = await rpc.serve(socket_path, launcher.handle)
        await launcher.finished.wait()
    loop.remove_signal_handler(signal.SIGCHLD)  # zygotes end while the loop does
    await launcher.server.close()


def raise_limits() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    parser = argparse.ArgumentParser(prog="atoll-launcher")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--installation", required=True)
    parser.add_argument("--uplink", default="none")
    parser.add_argument("--open-ranges", default="")
    parser.add_argument("--egress-rate", type=int, default=EgressLimits.rate)
    parser.add_argument("--egress-burst", type=int, default=EgressLimits.burst)
    parser.add_argument("--egress-mbit", type=int, default=EgressLimits.mbit)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    raise_limits()
    host_limits.raise_quotas()
    os.umask(0o022)  # what is private lies below RUN, which is 0700
    sc.prctl(sc.PR_SET_DUMPABLE, 0)
    sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
    uplink, open_ranges = arguments.uplink, arguments.open_ranges
    limits = EgressLimits(arguments.egress_rate, arguments.egress_burst, arguments.egress_mbit)
    asyncio.run(serve(arguments.run, arguments.installation, arguments.socket, uplink, open_ranges, limits))


if __name__ == "__main__":
    main()
