"""The launcher: the one process with host privilege that makes sandboxes. Small, single-threaded, standard library.

Its methods are in docs/architecture.md. It keeps one record a sandbox in RUN/launcher/ID.json, written
before the newborn is let go, so that a new launcher finds every sandbox that may be alive, adopts those
that are, and cleans after those that are not. A record goes last. Its own end, by `shutdown` or by a kill, leaves all
sandboxes running: they hold everything they need.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
from collections import defaultdict
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

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
)
from atoll.core.limits import Limits
from atoll.core.packet_policy import REFUSE_ALL, KernelPolicy, networks_as_intervals
from atoll.core.reach import parse_open_ranges
from atoll.core.uplink import parse_uplink

from . import host_limits, hot_mounts, ids, network, rotation, seccomp, tree, volumes
from . import syscalls as sc
from .cgroup import Cgroup, Cgroups
from .child import in_child
from .claims import Claims
from .closed import ClosedConnections
from .counters import refused_packets
from .newborn import Newborn, bear, start_time_of
from .rules import DEFAULT_LIMITS, Blocked
from .rules import Limits as EgressLimits
from .slot import SlotRequest, discard_slot, make_slot
from .sweep import Births, Leftover, Sweeper, remove_links
from .uplink import UplinkSetup
from .version import engine_version
from .volumes import VolumeRequest
from .zygotes import END_TIMEOUT_S, Generation, TemplateSpec, readable

log = logging.getLogger("atoll.launcher")

T = TypeVar("T")

BIRTHS_AT_ONCE = 8
LINGER_S = 60.0
"""Longer than a birth takes: those that have begun in a generation when it is followed by another still end well."""
CUT_AGAIN_S = 1.0
GIVEN_UP_S = 5.0
"""For births under way when the launcher is to end."""
MS_SLAVE = 1 << 19
HELPERS = "zygotes-"
HELPER_PROCESSES = 4096
"""Of a generation: three, their newborns for a moment, and threads that a template's modules start. What those would
start without end is not to take the host's numbers of processes."""
BLOCKED_FILE = "blocked.json"


@dataclass
class Sandbox:
    id: str
    pid: int
    start_time: int
    ids: ids.Slice
    socket_path: Path
    cgroup_name: str
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
    mounts_fd: int | None = None
    """Its mount namespace, kept through its end, so that its last process does not end with an unmount."""

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
            "cgroup": self.cgroup_name,
        }

    def record(self) -> dict[str, Any]:
        return {**self.handle(), "egress": self.egress.to_wire()}


class Turns:
    """Of one template: a hostile one's zygotes answer nobody, which must hold up nobody else's births."""

    def __init__(self) -> None:
        self.births = asyncio.Semaphore(BIRTHS_AT_ONCE)
        self.preparing = asyncio.Lock()
        self.making = asyncio.Lock()


class Pending:
    """A birth under way. What nobody waits for any more when it is there ends at once."""

    def __init__(self) -> None:
        self.wanted = True
        self.over = asyncio.Event()


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
        self.births_place = run / "b"
        self.births_place.mkdir(mode=0o700, exist_ok=True)
        self.own_uts = os.open("/proc/self/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
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
        self.newborns: dict[str | None, Newborn] = {}
        self.pending: dict[str, Pending] = {}
        """By the name of the sandbox, or of one made ahead."""
        self.generations: dict[str, list[Generation]] = {}
        self.specs: dict[str, TemplateSpec] = {}
        self.turns: defaultdict[str, Turns] = defaultdict(Turns)
        self.clearing: set[int] = set()
        self.next_look: asyncio.TimerHandle | None = None
        self.births = Births()
        """Of creates: somebody waits."""
        self.ending = False
        self.sweeper = Sweeper(self.births)
        self.sweeping: dict[str, asyncio.Task[bool]] = {}
        """What is left of sandboxes of which nothing runs any more."""
        self.discards: set[asyncio.Task[None]] = set()
        """Of those that nobody asked for."""
        self.unswept: dict[str, Sandbox] = {}
        """Where that failed."""
        self.server: rpc.RpcServer | None = None
        self.finished = asyncio.Event()
        self.tasks: set[asyncio.Task[Any]] = set()

    # --- recovery

    async def recover(self) -> None:
        self._recall_blocked()
        for path in sorted(self.records.glob("*.json")):
            try:
                self._adopt(json.loads(path.read_text()))
            except (OSError, ValueError, KeyError):
                await self._sweep_or_log(path.stem)
        for name in self.cgroups.names() - {sandbox.cgroup_name for sandbox in self.sandboxes.values()}:
            await self._sweep_or_log(name)
        for path in self.births_place.glob("*.sock"):
            path.unlink()
        remove_links(set(network.links()) - {network.link_name(each.ids.number) for each in self.sandboxes.values()})
        self.uplink.set_up()

    async def _sweep_or_log(self, sandbox_id: str, cgroup: Cgroup | None = None) -> None:
        """One that cannot be swept must not keep the others without a launcher; the next start tries again."""
        try:
            await self._sweep(sandbox_id, cgroup)
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
            cgroup_name=_cgroup_in(record),
            cgroup=self.cgroups.of(_cgroup_in(record)),
            pidfd=pidfd,
            egress_mark=int(record.get("egress_mark", 0)),
            egress=_policy_in(record),
        )
        self.fabric.adopt(sandbox.ids.number, sandbox.egress_mark, sandbox.egress)
        self._watch(sandbox)

    async def _sweep(self, sandbox_id: str, cgroup: Cgroup | None = None) -> None:
        """After a sandbox of which we may know the name only."""
        await (cgroup or self.cgroups.of(sandbox_id)).destroy()
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
        """A node that begins knows nothing of what an earlier one had made ahead, or waited for."""
        self._give_up_all()
        self._discard_all()
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
        async with self.turns[spec.name].making:
            if self.specs.get(spec.name) != spec:
                await self._new_generation(spec)
        return {}

    async def create(self, params: dict[str, Any]) -> dict[str, Any]:
        sandbox_id, egress = params["id"], KernelPolicy.from_wire(params["egress"])
        if sandbox_id in self.sandboxes:
            raise Conflict(f"sandbox {sandbox_id} is already there")
        with self._birth_of(sandbox_id) as pending:
            await self._until_swept(sandbox_id)
            with self.births.under_way():
                async with self.turns[params["template"]].births:
                    newborn = await self._newborn_for(params)
                if not pending.wanted:
                    await self._discard(newborn)
                    raise _given_up(sandbox_id)
                return (await self._give_identity(newborn, params, egress)).handle()

    async def prepare(self, params: dict[str, Any]) -> dict[str, Any]:
        """A newborn ahead of its sandbox, under a name that `create` may give. Idle work: creates go first."""
        name, turns = params["slot"], self.turns[params["template"]]
        with self._birth_of(name) as pending:
            async with turns.preparing, turns.births:
                if name not in self.newborns and pending.wanted:
                    self._keep_ready(name, await self._bear_and_rehearse(name, params, pending))
        return {}

    async def _bear_and_rehearse(self, name: str, params: dict[str, Any], pending: Pending) -> Newborn:
        newborn = await self._bear(name, params)
        try:
            await newborn.rehearse()
            if not pending.wanted:
                raise _given_up(name)
        except BaseException:
            await self._discard(newborn)
            raise
        return newborn

    def _keep_ready(self, name: str, newborn: Newborn) -> None:
        self.newborns[name] = newborn
        asyncio.get_running_loop().add_reader(newborn.pidfd, self._tell_lost, name, newborn)

    def _tell_lost(self, name: str, newborn: Newborn) -> None:
        """It has ended by itself. It is kept until it is discarded, or given out in vain: its disk is in use still."""
        asyncio.get_running_loop().remove_reader(newborn.pidfd)
        if self.server:
            self.server.broadcast("lost", {"slot": name})

    def _take_ready(self, name: str | None) -> Newborn | None:
        newborn = self.newborns.pop(name, None)
        if newborn:
            asyncio.get_running_loop().remove_reader(newborn.pidfd)
        return newborn

    async def discard(self, params: dict[str, Any]) -> dict[str, Any]:
        if pending := self.pending.get(params["slot"]):
            pending.wanted = False
        newborn = self._take_ready(params["slot"])
        if newborn:
            await self._discard(newborn)
        return {}

    @contextlib.contextmanager
    def _birth_of(self, name: str) -> Iterator[Pending]:
        if name in self.pending:
            raise Conflict(f"{name} is being born already")
        self.pending[name] = pending = Pending()
        try:
            yield pending
        finally:
            del self.pending[name]
            pending.over.set()

    async def _births_over(self) -> None:
        """Those of a hostile template take as long as it likes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GIVEN_UP_S):
                await asyncio.gather(*(pending.over.wait() for pending in self.pending.values()))
                for turns in self.turns.values():
                    async with turns.making:
                        pass

    def _check_not_ending(self) -> None:
        if self.ending:
            raise Unavailable("the launcher is about to end")

    def _give_up_all(self) -> None:
        for pending in self.pending.values():
            pending.wanted = False

    async def destroy(self, params: dict[str, Any]) -> dict[str, Any]:
        """`behind`: answers when nothing of it runs and nothing gets out in its name; `swept` waits for the rest. One
        that is being born still, whoever asked for it, ends with its birth."""
        pending = self.pending.get(params["id"])
        if pending is not None and params["id"] not in self.sandboxes:
            pending.wanted = False
            await pending.over.wait()
        return await self._destroy(params)

    async def _destroy(self, params: dict[str, Any]) -> dict[str, Any]:
        sandbox_id, behind = params["id"], bool(params.get("behind"))
        sandbox = self.sandboxes.get(sandbox_id)
        if sandbox is not None:
            await self._kill(sandbox, behind)
        if not (behind and sandbox_id in self.sweeping):
            await self.swept(params)
        return {}

    async def swept(self, params: dict[str, Any]) -> dict[str, Any]:
        """Also tries again what failed."""
        sandbox_id = params["id"]
        if sandbox_id in self.sandboxes:
            raise Conflict(f"sandbox {sandbox_id} runs")
        if await self._until_swept(sandbox_id):
            return {}
        if (sandbox := self.unswept.pop(sandbox_id, None)) is None:
            await self._sweep(sandbox_id)
            return {}
        self.sweeping[sandbox_id] = self._keep(self._sweep_after(sandbox))
        if not await self._until_swept(sandbox_id):
            raise InternalError(f"sandbox {sandbox_id} is not wholly swept")
        return {}

    async def _kill(self, sandbox: Sandbox, behind: bool) -> None:
        sandbox.wanted = True
        if behind and sandbox.mounts_fd is None:
            with contextlib.suppress(OSError):
                sandbox.mounts_fd = _namespace(sandbox, "mnt")
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(sandbox.pidfd, signal.SIGKILL)
        sandbox.cgroup.kill()
        await sandbox.cgroup.thaw_if_frozen()
        self.fabric.close_out(sandbox.ids.number)  # while the kernel ends the processes
        if sandbox.generation:
            await sandbox.generation.see_end(sandbox.exited.wait)
            return
        async with asyncio.timeout(END_TIMEOUT_S):
            await sandbox.exited.wait()

    async def _until_swept(self, sandbox_id: str) -> bool:
        """False: nothing is being done about it, or it failed."""
        task = self.sweeping.get(sandbox_id)
        return task is not None and await asyncio.shield(task)

    async def pause(self, params: dict[str, Any]) -> dict[str, Any]:
        await self._get(params).cgroup.freeze()
        return {}

    async def resume(self, params: dict[str, Any]) -> dict[str, Any]:
        await self._get(params).cgroup.thaw()
        return {}

    async def set_memory(self, params: dict[str, Any]) -> dict[str, Any]:
        cgroup, limits = self._get(params).cgroup, Limits.from_wire(params["limits"])
        try:
            answer = await in_child(lambda: {"done": cgroup.set_memory(limits)}, "the change of memory")
        finally:
            cgroup.unthrottle()
        if not answer["done"]:
            raise Conflict(
                f"the sandbox has more than {limits.memory_mib} MiB in use: end programs in it first", cause="busy"
            )
        return {}

    async def mount(self, params: dict[str, Any]) -> dict[str, Any]:
        """Staged here, attached by a child."""
        sandbox, volume = self._thawed(params), VolumeRequest.of(params)
        with contextlib.ExitStack() as stack:
            userns_fd = _namespace(sandbox, "user")
            stack.callback(os.close, userns_fd)
            with self.stage.place(f"{sandbox.id}.mount") as place:
                mount_fd = tree.volume_mount(place / "v", volume, userns_fd)
            stack.callback(os.close, mount_fd)

            def attach() -> dict[str, Any]:
                return {"new": hot_mounts.attach(sandbox.pidfd, mount_fd, sandbox.ids.host_base, volume.path)}

            return await in_child(attach, "the mount")

    async def unmount(self, params: dict[str, Any]) -> dict[str, Any]:
        sandbox, path, force = self._thawed(params), str(params["path"]), bool(params["force"])
        device = volumes.device_of(params["image"])
        there = 0 if device is None else hot_mounts.count(sandbox.pid, device)
        if device is None or there == 0:
            return {"was": False}
        answer = await in_child(lambda: {"was": hot_mounts.detach(sandbox.pidfd, device, path, force)}, "the unmount")
        if not answer["was"] and there >= int(params["known"]):
            raise Conflict(
                f"the volume is not at {path} any more: the directories on the way were moved inside the sandbox. Move "
                "them back, or stop and start it",
                cause="moved",
            )
        return answer

    async def mounted(self, params: dict[str, Any]) -> dict[str, Any]:
        sandbox, path = self._get(params), str(params["path"])
        device = volumes.device_of(params["image"])
        if device is None:
            return {"mounted": False}
        return await in_child(
            lambda: {"mounted": hot_mounts.mounted(sandbox.pidfd, device, path)}, "the look at a mount"
        )

    async def attached(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"attached": volumes.device_of(params["image"]) is not None}

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
        self.ending = True
        try:
            self._give_up_all()
            await self._births_over()
            self._discard_all()
            await asyncio.gather(*self.discards)
            await asyncio.gather(*self.sweeping.values(), return_exceptions=True)
            await self._close_generations()
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
        "swept": swept,
        "pause": pause,
        "resume": resume,
        "set_memory": set_memory,
        "mount": mount,
        "unmount": unmount,
        "mounted": mounted,
        "attached": attached,
        "set_egress": set_egress,
        "punish": punish,
        "blocked": blocked,
        "refused": refused,
        "usage": usage,
        "shutdown": shutdown,
    }

    # --- templates

    async def _new_generation(self, spec: TemplateSpec) -> Generation:
        self._check_not_ending()
        taken = {g.slices.generation for chain in self.generations.values() for g in chain} | self.clearing
        number = self.claims.take(taken | {sandbox.ids.generation for sandbox in self.sandboxes.values()})
        if number is None:
            raise CapacityExceeded("all ranges of user ids are in use", limit=ids.GENERATIONS, current=ids.GENERATIONS)
        with contextlib.ExitStack() as undo:
            undo.callback(self._clear, number)
            cgroup = self._cgroup_of_helpers(number)
            cgroup.make(HELPER_PROCESSES)
            generation = Generation.of(spec, number, self.stage, cgroup, self.bpf)
            undo.callback(generation.close)
            await generation.renew()
            undo.pop_all()
        chain = self.generations.setdefault(spec.name, [])
        chain.append(generation)
        self.specs[spec.name] = spec
        self._retire(spec.name)
        for former in chain[:-1]:
            asyncio.get_running_loop().call_later(LINGER_S, former.rest)
        self._look_for_unused()
        return generation

    def _retire(self, name: str) -> None:
        """A generation goes with its last sandbox, unless more are to be born there."""
        chain = self.generations.get(name, [])
        for generation in [g for g in chain if g.live == 0 and (g is not chain[-1] or g.resting)]:
            chain.remove(generation)
            generation.close()
            self._clear(generation.slices.generation)
        if not chain:
            self.generations.pop(name, None)

    def _cgroup_of_helpers(self, number: int) -> Cgroup:
        return self.cgroups.of(f"{HELPERS}{number}")

    def _clear(self, number: int) -> None:
        self.clearing.add(number)
        self._keep(self._end_leftovers(number))

    async def _end_leftovers(self, number: int) -> None:
        """A template's files may have left processes behind, whose ids are the next one's: they end first."""
        try:
            await self._cgroup_of_helpers(number).destroy()
            self.claims.release(number)
        except (OSError, TimeoutError):
            log.exception("processes are left of generation %s; its ids are not used again", number)
            return
        self.clearing.discard(number)

    async def _generation_with_room(self, name: str) -> Generation:
        async with self.turns[name].making:
            if name not in self.specs:
                raise NotFound(f"template {name!r} has not been announced")
            chain = self.generations.get(name)
            if not chain or chain[-1].slices.left == 0:
                return await self._new_generation(self.specs[name])
            current = chain[-1]
            current.look_after()
            if current.broken:
                await current.renew()
                self._look_for_unused()
            return current

    def _look_for_unused(self) -> None:
        """Of what is no longer born, the zygotes end too; the ranges of ids when their last sandbox is gone."""
        loop = asyncio.get_running_loop()
        uses = {name: chain[-1].use for name, chain in self.generations.items() if not chain[-1].resting}
        names, again = rotation.unused(uses, loop.time())
        for name in names:
            self.generations[name][-1].rest()
            self._retire(name)
        if self.next_look:
            self.next_look.cancel()
        self.next_look = None if again is None else loop.call_at(again, self._look_for_unused)

    async def _close_generations(self) -> None:
        generations = [generation for chain in self.generations.values() for generation in chain]
        self.generations.clear()
        for generation in generations:
            generation.close()
        for name in self.cgroups.names():
            if name.startswith(HELPERS):  # of those that were just being made or cleared, too
                await self.cgroups.of(name).destroy()

    # --- birth and end

    async def _newborn_for(self, params: dict[str, Any]) -> Newborn:
        """The one made ahead, when it still lives and fits; else a new one, when the other's disk is free."""
        ready = self._take_ready(params.get("slot"))
        if ready:
            if ready.fits(self.specs.get(params["template"]), Limits.from_wire(params["limits"])):
                return ready
            await ready.end()
            self._behind(self._clear_after(ready))
        return await self._bear(params["id"], params)

    async def _bear(self, name: str, params: dict[str, Any]) -> Newborn:
        self._check_not_ending()
        generation = await self._generation_with_room(params["template"])
        try:
            slot = await make_slot(SlotRequest.of(name, params), generation, self.stage, self.fabric)
            try:
                limits = Limits.from_wire(params["limits"])
                config = {**params["config"], "env": params["config"]["template_env"]}
                return await bear(name, slot, limits, config, self.births_place, self.cgroups)
            except BaseException:
                discard_slot(slot, self.fabric)
                raise
        except Unavailable:
            generation.broken = True
            raise

    async def _discard(self, newborn: Newborn) -> None:
        """Where that fails its ids stay out of use."""
        await newborn.end()
        await self._clear_after(newborn)

    async def _clear_after(self, newborn: Newborn) -> None:
        await self.sweeper.sweep(Leftover(network.link_name(newborn.ids.number)))
        newborn.generation.give_back(newborn.ids)
        self._retire(newborn.generation.spec.name)

    def _discard_all(self) -> None:
        """`discards` are under way then."""
        for name in list(self.newborns):
            if newborn := self._take_ready(name):
                self._behind(self._discard(newborn))

    def _behind(self, discard: Coroutine[Any, Any, None]) -> None:
        task = self._keep(_logged(discard))
        self.discards.add(task)
        task.add_done_callback(self.discards.discard)

    async def _give_identity(self, newborn: Newborn, params: dict[str, Any], egress: KernelPolicy) -> Sandbox:
        """The record comes first: it lives on without us as soon as it knows who it is."""
        sandbox = Sandbox(
            id=params["id"],
            pid=newborn.pid,
            start_time=newborn.start_time,
            ids=newborn.ids,
            socket_path=Path(params["socket"]),
            cgroup_name=newborn.name,
            cgroup=newborn.cgroup,
            pidfd=newborn.pidfd,
            egress=egress,
            generation=newborn.generation,
        )
        self._watch(sandbox)  # from here on its end is what cleans up
        with contextlib.closing(newborn.channel):
            try:
                newborn.socket_path.rename(sandbox.socket_path)
                sandbox.egress_mark = self.fabric.open(sandbox.ids.number, sandbox.pidfd, sandbox.egress)
                newborn.name_host(params["hostname"], self.own_uts)
                self._write_record(sandbox)
                await newborn.identify(params["hostname"], params["nameservers"], params["config"])
            except BaseException:
                newborn.socket_path.unlink(missing_ok=True)
                await self._destroy({"id": sandbox.id, "behind": True})  # what sweeps waits for births to be over
                raise
        return sandbox

    def _watch(self, sandbox: Sandbox) -> None:
        self.sandboxes[sandbox.id] = sandbox
        self._keep(self._until_exit(sandbox))

    def _keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _until_exit(self, sandbox: Sandbox) -> None:
        await readable(sandbox.pidfd)
        try:
            self.fabric.close_out(sandbox.ids.number)
        except OSError:
            log.exception("the way out of sandbox %s is not closed yet", sandbox.id)
        os.close(sandbox.pidfd)
        del self.sandboxes[sandbox.id]
        self.sweeping[sandbox.id] = self._keep(self._sweep_after(sandbox))
        sandbox.exited.set()
        if not sandbox.wanted and self.server:
            self.server.broadcast("exited", {"id": sandbox.id, "pid": sandbox.pid})

    async def _sweep_after(self, sandbox: Sandbox) -> bool:
        """Its ids, and with them its address, are given back last. Where that fails they stay out of use, and its
        record with them: `swept`, or the next launcher, tries again."""
        mounts_fd, sandbox.mounts_fd = sandbox.mounts_fd, None
        try:
            await self.sweeper.sweep(Leftover(network.link_name(sandbox.ids.number), mounts_fd))
            self.fabric.close_out(sandbox.ids.number)  # if it failed when it had to be
            await self._sweep(sandbox.id, sandbox.cgroup)
        except (AtollError, OSError, TimeoutError):
            log.exception("sandbox %s is not wholly swept", sandbox.id)
            self.unswept[sandbox.id] = sandbox
            return False
        finally:
            del self.sweeping[sandbox.id]
        if sandbox.generation:
            sandbox.generation.give_back(sandbox.ids)
            self._retire(sandbox.generation.spec.name)
        return True

    def _write_record(self, sandbox: Sandbox) -> None:
        _write_whole(self._record_path(sandbox.id), json.dumps(sandbox.record()))

    def _record_path(self, sandbox_id: str) -> Path:
        return self.records / f"{sandbox_id}.json"

    def _thawed(self, params: dict[str, Any]) -> Sandbox:
        """Programs that are frozen may keep what is needed for ever."""
        sandbox = self._get(params)
        if sandbox.cgroup.frozen():
            raise Conflict("the sandbox is paused")
        return sandbox

    def _get(self, params: dict[str, Any]) -> Sandbox:
        sandbox = self.sandboxes.get(params["id"])
        if sandbox is None:
            raise NotFound(f"no sandbox {params['id']} runs here")
        return sandbox


def _namespace(sandbox: Sandbox, kind: str) -> int:
    """A number may be another process's by now; one whose own process still lives is not."""
    fd = os.open(f"/proc/{sandbox.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        signal.pidfd_send_signal(sandbox.pidfd, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


async def _logged(discard: Coroutine[Any, Any, None]) -> None:
    """What is left of it is for the next launcher."""
    try:
        await discard
    except (AtollError, OSError, TimeoutError):
        log.exception("one made ahead is not wholly swept")


def _given_up(name: str) -> Unavailable:
    return Unavailable(f"nobody waits for {name} any more; try again")


def _cgroup_in(record: dict[str, Any]) -> str:
    return str(record.get("cgroup", record["id"]))


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
    host_limits.set_own()
    host_limits.raise_quotas()
    os.umask(0o022)  # what is private lies below RUN, which is 0700
    sc.prctl(sc.PR_SET_DUMPABLE, 0)
    sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
    uplink, open_ranges = arguments.uplink, arguments.open_ranges
    limits = EgressLimits(arguments.egress_rate, arguments.egress_burst, arguments.egress_mbit)
    asyncio.run(serve(arguments.run, arguments.installation, arguments.socket, uplink, open_ranges, limits))


if __name__ == "__main__":
    main()
