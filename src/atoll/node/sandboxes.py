"""The sandboxes of this machine: every operation saves what it is about to do, does it, and saves that it is done.

Whatever is cut off between two of these steps is finished or undone by `recover`, whose rules are in `recover.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from atoll.core.engine import Engine, EngineHandle, Governed, Pausable, SandboxSpec, VolumeSpec
from atoll.core.errors import AtollError, Conflict, NotFound, Unavailable, Unsupported
from atoll.core.limits import Limits
from atoll.core.packet_policy import compile_policy
from atoll.core.policy import CLOSED, Policy, fingerprint, from_wire, to_wire
from atoll.core.settings import Places
from atoll.core.template import Template
from atoll.core.volumes import VolumeMount

from . import health, recover, trust
from .changes import Changes, Volumes
from .egress_process import Egress, NoEgress, Outbound
from .exits import ExitWatch, lives
from .handles import VISIBLE, Handle, HandleState, HandleStore
from .recover import Action
from .slots import Ready, SlotPool, agent_config
from .turns import Turns

log = logging.getLogger(__name__)

SYNC_AFTER_S = 0.05  # a disk that is being synced makes the next save wait, so answers come first
STOPPING_AT_ONCE = 16  # a stop is some milliseconds of kernel work; more in flight only makes each one slower

Facts = dict[str, Any]  # Any: JSON values, as docs/architecture.md says for each method
Emit = Callable[[str, Facts], None]


class Disks(Protocol):
    def fresh_key(self) -> bytes: ...

    def wrap(self, key: bytes, sandbox_id: str) -> str: ...

    def unwrap(self, wrapped: str, sandbox_id: str) -> bytes: ...

    def wrap_env(self, env: Mapping[str, str], sandbox_id: str) -> str: ...

    def unwrap_env(self, wrapped: str, sandbox_id: str) -> dict[str, str]: ...

    def wrap_policy(self, policy: Mapping[str, Any], sandbox_id: str) -> str: ...  # Any: JSON values

    def unwrap_policy(self, wrapped: str, sandbox_id: str) -> dict[str, Any]: ...

    def make(self, sandbox_id: str, size_mib: int) -> None: ...

    def rename(self, name: str, sandbox_id: str) -> None: ...

    def path(self, sandbox_id: str) -> Path: ...

    def sync(self, sandbox_id: str) -> None: ...

    def remove(self, sandbox_id: str) -> None: ...

    def used_bytes(self, sandbox_id: str) -> int: ...

    def ids(self) -> set[str]: ...


class Templates(Protocol):
    def get(self, name: str) -> Template: ...


class NoVolumes:
    def specs(self, mounts: Sequence[VolumeMount]) -> Sequence[VolumeSpec]:
        if mounts:
            raise Unsupported("this node has no volumes")
        return ()

    def image(self, volume_id: str) -> Path:
        raise Unsupported("this node has no volumes")


@dataclass(frozen=True)
class Order:
    """What the server asks for with `create` and `start`."""

    id: str
    incarnation: int
    template: str
    limits: Limits
    hostname: str
    env: Mapping[str, str] = field(default_factory=dict)
    policy: Policy = CLOSED
    volumes: tuple[VolumeMount, ...] = ()
    """Of `create`; a `start` mounts those of the handle."""
    keeper: bool = False


class Sandboxes:
    def __init__(
        self,
        places: Places,
        engine: Engine,
        handles: HandleStore,
        disks: Disks,
        templates: Templates,
        emit: Emit,
        slots: SlotPool | None = None,
        egress: Egress | None = None,
        volumes: Volumes | None = None,
    ) -> None:
        self._places = places
        self._engine = engine
        self._handles = handles
        self._disks = disks
        self._templates = templates
        self._emit = emit
        self._slots = slots
        self._egress = egress or NoEgress()
        self._volumes = volumes or NoVolumes()
        self._changes = Changes(places, engine, handles, self._volumes)
        self._turns = Turns()
        self._exits = ExitWatch(self.exited)
        self._background: set[asyncio.Task[None]] = set()
        self._exiting: set[asyncio.Task[None]] = set()
        self._unsynced: set[str] = set()

    # ---- what the server asks for

    async def create(self, order: Order) -> Facts:
        async with self._turns(order.id):
            template = self._templates.get(order.template)
            if (saved := self._handles.get(order.id)) is not None:
                return self._created_already(saved, order)
            with self._slot_of(order, template) as ready:
                key = ready.key if ready else self._disks.fresh_key()
                wrapped = self._disks.wrap(key, order.id)
                wrapped_env = self._disks.wrap_env(order.env, order.id) if order.env else ""
                handle = _handle(order, HandleState.CREATING, template, wrapped, wrapped_env)
                handle = self._handles.save(self._governed(handle, order.policy))
                return await self._bear(handle, order, order.env, key, ready.name if ready else None)

    async def start(self, order: Order) -> Facts:
        async with self._turns(order.id):
            saved = self._known(order.id)
            if order.incarnation < saved.incarnation:
                raise _stale(saved)
            if saved.state is not HandleState.STOPPED:
                return self._created_already(saved, order)
            handle = _handle(order, HandleState.STARTING, saved.template, saved.wrapped_key, saved.wrapped_env)
            handle = replace(self._governed(handle, order.policy), volumes=saved.volumes)
            try:
                key = self._disks.unwrap(saved.wrapped_key, saved.id)
                env = self._disks.unwrap_env(saved.wrapped_env, saved.id) if saved.wrapped_env else {}
                return await self._bear(self._handles.save(handle), order, {**env, **order.env}, key)
            except BaseException:
                self._take_back(saved)
                raise

    async def stop(self, sandbox_id: str, incarnation: int) -> Facts:
        async with self._turns(sandbox_id):
            handle = self._expect(sandbox_id, incarnation)
            if handle.state is not HandleState.STOPPED:
                await self._end(handle)
        return {}

    async def destroy(self, sandbox_id: str, incarnation: int) -> Facts:
        async with self._turns(sandbox_id):
            if self._handles.get(sandbox_id) is not None:
                await self._clean(self._expect(sandbox_id, incarnation))
        return {}

    async def pause(self, sandbox_id: str, incarnation: int) -> Facts:
        return await self._set_paused(sandbox_id, incarnation, HandleState.PAUSED)

    async def resume(self, sandbox_id: str, incarnation: int) -> Facts:
        return await self._set_paused(sandbox_id, incarnation, HandleState.RUNNING)

    async def set_network(self, sandbox_id: str, incarnation: int, policy: Policy) -> Facts:
        """A failure leaves it to the caller to say again what shall hold; until then the handle does."""
        async with self._turns(sandbox_id):
            handle = self._expect(sandbox_id, incarnation)
            if handle.state not in (HandleState.RUNNING, HandleState.PAUSED):
                raise Conflict(f"the sandbox is {handle.state.value}")
            rules = bool(policy.treatments or self._policy(handle).treatments)
            handle = replace(self._governed(handle, policy), trust_is_old=handle.trust_is_old or rules)
            handle = self._handles.save(handle)
            await self._govern(handle)
            await self._renew_trust(handle)
        return {}

    async def set_memory(self, sandbox_id: str, incarnation: int, memory_mib: int) -> Facts:
        async with self._turns(sandbox_id):
            await self._changes.set_memory(self._expect(sandbox_id, incarnation), memory_mib)
        return {}

    async def mount(self, sandbox_id: str, incarnation: int, mount: VolumeMount) -> Facts:
        async with self._turns(sandbox_id):
            await self._changes.mount(self._expect(sandbox_id, incarnation), mount)
        return {}

    async def unmount(self, sandbox_id: str, incarnation: int, path: str, force: bool) -> Facts:
        async with self._turns(sandbox_id):
            await self._changes.unmount(self._expect(sandbox_id, incarnation), path, force)
        return {}

    async def usage(self, sandbox_id: str) -> Facts:
        handle = self._known(sandbox_id)
        facts: Facts = {
            "cpu_seconds": 0.0,
            "memory_bytes": 0,
            "memory_cache_bytes": 0,
            "processes": 0,
            "memory_limit_bytes": handle.limits.memory_mib * 1024 * 1024,
            "disk_bytes": self._disks.used_bytes(sandbox_id),
        }
        if handle.engine is not None:
            used = await self._engine.usage(sandbox_id, handle.engine)
            facts |= {
                "cpu_seconds": used.cpu_seconds,
                "memory_bytes": used.memory_bytes,
                "memory_cache_bytes": used.memory_cache_bytes,
                "processes": used.processes,
            }
        return facts

    async def activity(self, sandbox_id: str) -> Facts:
        handle = self._known(sandbox_id)
        if handle.state is not HandleState.RUNNING:
            return {"live": 0}
        return {"live": await health.live(self._places.agent_socket(sandbox_id))}

    async def check_alive(self, sandbox_id: str) -> None:
        """Raises AtollError when it does not run, or its agent does not answer."""
        handle = self._known(sandbox_id)
        if handle.state is not HandleState.RUNNING:
            raise Conflict(f"the sandbox is {handle.state.value}", state=handle.state.value)
        await health.live(self._places.agent_socket(sandbox_id))

    def list(self) -> Facts:
        return {
            "sandboxes": [
                {
                    "id": handle.id,
                    "incarnation": handle.incarnation,
                    "state": VISIBLE[handle.state],
                    "template": handle.template.name,
                    "pid": handle.pid,
                    "policy": fingerprint(self._policy_form(handle)),
                }
                for handle in self._handles
                if handle.state in VISIBLE and not handle.keeper
            ]
        }

    def users_of(self, volume_id: str) -> int:
        """Sandboxes that have it mounted, or will when they start again."""
        leaving = HandleState.DESTROYING
        handles = (handle for handle in self._handles if not handle.keeper and handle.state is not leaving)
        return sum(any(mount.volume_id == volume_id for mount in handle.volumes) for handle in handles)

    async def stop_all(self) -> None:
        """After it nothing runs and nothing new is let in."""
        self._turns.shut()
        await self._turns.idle()
        slots = asyncio.Semaphore(STOPPING_AT_ONCE)

        async def stop(handle: Handle) -> None:
            async with slots, self._turns(handle.id, gate=False):
                await self._end(handle)

        running = [handle for handle in self._handles if handle.state in (HandleState.RUNNING, HandleState.PAUSED)]
        await _all(stop(handle) for handle in running)
        await self.settle()

    # ---- what happens by itself

    def exited(self, sandbox_id: str, pid: int) -> None:
        """PID 1 is gone. Told by the watch, by the launcher or by both; the second finds nothing to do."""
        self._spawn(self._after_exit(sandbox_id, pid), self._exiting)

    def engine_lost(self) -> None:
        self._turns.shut()

    async def recover(self) -> None:
        """Brings what was saved and what is together, then lets requests in. The engine has just been connected."""
        await self._turns.idle()
        listed = await self._engine.probe()
        found = recover.Found(
            alive={handle.id for handle in self._handles if lives(handle.engine)},
            engine=listed.keys(),
            disks=self._disks.ids(),
            sockets={path.stem for path in (self._places.run / "s").glob("*.sock")},
        )
        plan = recover.plan(self._handles, found, self._handles.unreadable)
        await _all(_or_log(self._engine.destroy(stranger, listed[stranger]), stranger) for stranger in plan.strangers)
        await _all(_or_log(self._apply(each, action), each) for each, action in plan.actions.items())
        for sandbox_id in plan.stray_disks:
            self._disks.remove(sandbox_id)
        for sandbox_id in plan.stray_sockets:
            self._places.agent_socket(sandbox_id).unlink(missing_ok=True)
        self._turns.open()
        counts = {action.value: list(plan.actions.values()).count(action) for action in Action}
        log.info("recovered: %s, strangers %d, stray disks %d", counts, len(plan.strangers), len(plan.stray_disks))

    async def settle(self) -> None:
        """Returns when everything swept in the background is swept."""
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)

    async def close(self) -> None:
        self._exits.close()
        for task in self._exiting:
            task.cancel()
        await asyncio.gather(*self._exiting, return_exceptions=True)
        await self.settle()

    # ---- steps; each is called with the sandbox's turn taken

    def _slot_of(self, order: Order, template: Template) -> AbstractContextManager[Ready | None]:
        """Volumes are mounted while a tree is made, so one made ahead is none for a sandbox that has some."""
        if self._slots is None or order.volumes:
            return nullcontext()
        return self._slots.creating(template, order.limits)

    async def _bear(
        self, handle: Handle, order: Order, env: Mapping[str, str], key: bytes, slot: str | None = None
    ) -> Facts:
        """One that fails in its first life leaves nothing, one that fails in a later one its disk."""
        first = handle.state is HandleState.CREATING
        try:
            if slot:
                self._disks.rename(slot, handle.id)
            elif first:
                self._disks.make(handle.id, handle.limits.disk_mib)
            engine_handle = await self._launch(handle, order.policy, env, key, slot)
        except BaseException:
            await self._undo(handle, Action.CLEAN if first else Action.END)
            raise
        handle = self._handles.change(handle, HandleState.RUNNING, engine=engine_handle)
        self._exits.watch(handle.id, engine_handle)
        self._sync_soon(handle.id)
        return self._born(handle)

    def _sync_soon(self, sandbox_id: str) -> None:
        """Those that are born within a moment together."""
        if not self._unsynced:
            self._spawn(self._sync_later())
        self._unsynced.add(sandbox_id)

    async def _sync_later(self) -> None:
        await asyncio.sleep(SYNC_AFTER_S)
        born, self._unsynced = self._unsynced, set()
        await asyncio.to_thread(self._handles.sync, *born)

    async def _launch(
        self, handle: Handle, policy: Policy, env: Mapping[str, str], key: bytes, slot: str | None
    ) -> EngineHandle:
        template = handle.template
        spec = SandboxSpec(
            id=handle.id,
            template=template,
            limits=handle.limits,
            hostname=handle.hostname,
            disk=self._disks.path(handle.id),
            key=key,
            socket=self._places.agent_socket(handle.id),
            config={
                **agent_config(template),
                "id": handle.id,
                "env": {**template.env, **env},
                "memory_limit_bytes": handle.limits.memory_mib << 20,
                "vcpus": handle.limits.vcpu,
                "trust": self._trust(policy),
            },
            slot=slot,
            nameservers=policy.resolvers,
            egress=compile_policy(policy),
            volumes=self._volumes.specs(handle.volumes),
        )
        await self._engine.prepare(template)
        engine_handle = await self._engine.create(spec)
        await self._put(handle, engine_handle)
        return engine_handle

    async def _govern(self, handle: Handle) -> None:
        """Kernel and daemon do what the handle says; each cuts what it forbids."""
        if not isinstance(self._engine, Governed):
            raise Unsupported("this engine has no rules for what goes out")
        assert handle.engine is not None, "running and paused sandboxes have an engine handle"
        packets = compile_policy(self._policy(handle))
        await asyncio.gather(self._engine.set_egress(handle.id, packets), self._put(handle, handle.engine))

    async def _renew_trust(self, handle: Handle) -> None:
        """Inside, by its agent, so not while it is paused. One whose agent does not do it hurts itself alone."""
        if handle.state is not HandleState.RUNNING or not handle.trust_is_old:
            return
        try:
            await trust.update(self._places.agent_socket(handle.id), self._trust(self._policy(handle)))
        except AtollError as error:
            log.warning("the trust store of %s is as it was: %s", handle.id, error.message)
        else:
            self._handles.save(replace(handle, trust_is_old=False))

    def _trust(self, policy: Policy) -> trust.Trust | None:
        return trust.for_policy(policy, self._egress.authority) if self._egress.authority else None

    async def _put(self, handle: Handle, engine: EngineHandle) -> None:
        """Nothing of it has run yet at its birth; an address that the daemon does not know is refused."""
        if address := engine.get("address"):
            await self._egress.put(Outbound(handle.id, address, self._policy_form(handle), engine.get("address6")))

    def _governed(self, handle: Handle, policy: Policy) -> Handle:
        simple = policy == Policy(internet_access=policy.internet_access)
        wrapped = "" if simple else self._disks.wrap_policy(to_wire(policy), handle.id)
        return replace(handle, internet_access=policy.internet_access, wrapped_policy=wrapped)

    def _policy(self, handle: Handle) -> Policy:
        return from_wire(self._policy_form(handle))

    def _policy_form(self, handle: Handle) -> dict[str, Any]:  # Any: JSON values
        if handle.wrapped_policy:
            return self._disks.unwrap_policy(handle.wrapped_policy, handle.id)
        return {"internet_access": handle.internet_access}

    async def _undo(self, handle: Handle, action: Action) -> None:
        """The error on its way to the caller says more than one from here; what stays undone is for recovery."""
        try:
            await asyncio.shield(self._clean(handle) if action is Action.CLEAN else self._end(handle))
        except AtollError as error:
            log.warning("sandbox %s is left to recovery: %s", handle.id, error)

    def _take_back(self, saved: Handle) -> None:
        """A start that failed was no life of its own: the incarnation is the old one again."""
        now = self._handles.get(saved.id)
        if now is not None and now.state is HandleState.STOPPED:
            self._handles.save(saved)

    async def _end(self, handle: Handle) -> None:
        self._exits.forget(handle.id)
        handle = self._handles.change(handle, HandleState.STOPPING)
        await self._engine.destroy(handle.id, handle.engine)
        self._egress.forget(handle.id)
        self._places.agent_socket(handle.id).unlink(missing_ok=True)
        await asyncio.to_thread(self._disks.sync, handle.id)
        self._handles.change(handle, HandleState.STOPPED, engine=None)
        await asyncio.to_thread(self._handles.sync, handle.id)

    async def _clean(self, handle: Handle) -> None:
        """Returns when nothing of it runs and nobody reaches it."""
        self._exits.forget(handle.id)
        handle = self._handles.doom(handle)
        await self._engine.destroy(handle.id, handle.engine, behind=True)
        self._egress.forget(handle.id)
        self._places.agent_socket(handle.id).unlink(missing_ok=True)
        self._spawn(self._sweep(handle.id))

    async def _sweep(self, sandbox_id: str) -> None:
        """Off the caller's path: cgroup, link and mounts go, and taking a large image's blocks back can take the file
        system a while. Cut off or failed, it is done by recovery."""
        await self._engine.swept(sandbox_id)
        await asyncio.to_thread(self._disks.remove, sandbox_id)
        self._handles.remove(sandbox_id)

    async def _set_paused(self, sandbox_id: str, incarnation: int, wanted: HandleState) -> Facts:
        async with self._turns(sandbox_id):
            handle = self._expect(sandbox_id, incarnation)
            if handle.state not in (HandleState.RUNNING, HandleState.PAUSED):
                raise Conflict(f"the sandbox is {handle.state.value}")
            if handle.state is not wanted:
                await self._renew_trust(await self._change_paused(handle, wanted))
        return {}

    async def _change_paused(self, handle: Handle, wanted: HandleState) -> Handle:
        try:
            changed = self._handles.change(handle, wanted)
            await self._apply_pause(changed)
        except Unavailable:
            raise  # what was saved is applied again when the engine is back
        except AtollError:
            self._handles.save(handle)
            raise
        return changed

    async def _apply_pause(self, handle: Handle) -> None:
        if not isinstance(self._engine, Pausable):
            raise Unsupported("this engine cannot pause a sandbox")
        assert handle.engine is not None, "running and paused sandboxes have an engine handle"
        act = self._engine.pause if handle.state is HandleState.PAUSED else self._engine.resume
        await act(handle.id, handle.engine)

    async def _apply(self, sandbox_id: str, action: Action) -> None:
        async with self._turns(sandbox_id, gate=False):
            handle = self._handles.get(sandbox_id)
            if handle is None or action is Action.KEEP:
                return
            if action is Action.CLEAN:
                await self._clean(handle)
            elif action is Action.END:
                await self._end_and_tell(handle, "its processes ended while nobody watched")
            else:
                await self._adopt(handle)

    async def _adopt(self, handle: Handle) -> None:
        assert handle.engine is not None, "a sandbox without an engine handle is never adopted"
        self._exits.watch(handle.id, handle.engine)
        if isinstance(self._engine, Governed):
            await self._govern(handle)  # a change may have been cut off, so before it goes on
        if isinstance(self._engine, Pausable):
            await self._apply_pause(handle)
        await self._renew_trust(await self._changes.settle(handle))

    async def _after_exit(self, sandbox_id: str, pid: int) -> None:
        """While the engine is away there is nothing to end it with; recovery sees it first, or has looked before."""
        await self._turns.opened()
        async with self._turns(sandbox_id, gate=False):
            handle = self._handles.get(sandbox_id)
            if handle is None or handle.pid != pid or handle.state not in (HandleState.RUNNING, HandleState.PAUSED):
                return
            try:
                await self._end_and_tell(handle, "its first process ended")
            except Unavailable:
                log.warning("sandbox %s ended while the launcher is away", sandbox_id)

    async def _end_and_tell(self, handle: Handle, reason: str) -> None:
        """Told also when something of it could not be ended, but not when recovery comes and tells."""
        told = True
        try:
            await self._end(handle)
        except Unavailable:
            told = False
            raise
        finally:
            if told and not handle.keeper:
                self._emit("exited", {"id": handle.id, "incarnation": handle.incarnation, "reason": reason})

    def _created_already(self, saved: Handle, order: Order) -> Facts:
        """The server asks again when it lost our first answer."""
        if saved.incarnation != order.incarnation:
            raise _stale(saved)
        if saved.state is not HandleState.RUNNING:
            raise Conflict(f"the sandbox is {saved.state.value}")
        return self._born(saved)

    def _born(self, handle: Handle) -> Facts:
        return {"socket": str(self._places.agent_socket(handle.id)), "pid": handle.pid}

    def policy(self, sandbox_id: str) -> Policy:
        return self._policy(self._known(sandbox_id))

    def _known(self, sandbox_id: str) -> Handle:
        handle = self._handles.get(sandbox_id)
        if handle is None or handle.state not in VISIBLE:
            raise NotFound("no such sandbox on this node")
        return handle

    def _expect(self, sandbox_id: str, incarnation: int) -> Handle:
        """An older incarnation is a late action; a newer one is a start that the server counted and we failed."""
        handle = self._handles.get(sandbox_id)
        if handle is None:
            raise NotFound("no such sandbox on this node")
        if incarnation < handle.incarnation:
            raise _stale(handle)
        return handle

    def _spawn(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]] | None = None) -> None:
        task = asyncio.get_running_loop().create_task(work)
        kept = self._background if tasks is None else tasks
        kept.add(task)
        task.add_done_callback(kept.discard)
        task.add_done_callback(_log_failure)


def _handle(order: Order, state: HandleState, template: Template, wrapped_key: str, wrapped_env: str) -> Handle:
    return Handle(
        id=order.id,
        incarnation=order.incarnation,
        state=state,
        template=template,
        limits=order.limits,
        hostname=order.hostname,
        wrapped_key=wrapped_key,
        wrapped_env=wrapped_env,
        volumes=order.volumes,
        keeper=order.keeper,
    )


def _stale(handle: Handle) -> Conflict:
    return Conflict("the sandbox has another incarnation", incarnation=handle.incarnation)


async def _all(work: Iterable[Awaitable[None]]) -> None:
    """Every one gets its try; then the first failure, if any, is raised."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def _or_log(work: Awaitable[None], sandbox_id: str) -> None:
    """One sandbox that cannot be recovered does not keep the others waiting; an engine that is gone again does."""
    try:
        await work
    except Unavailable:
        raise
    except AtollError:
        log.exception("sandbox %s could not be recovered", sandbox_id)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("background work failed", exc_info=error)
