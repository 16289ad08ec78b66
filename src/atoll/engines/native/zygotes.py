"""One generation of a template: its user namespace U_T and the three helpers in it, made anew as `rotation` says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import socket
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from atoll.core.errors import AtollError, InternalError, Unavailable

from . import rotation, spawn, tree
from . import syscalls as sc
from .cgroup import Cgroup
from .ids import Slice, Slices

log = logging.getLogger("atoll.launcher")

READY_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_S = 20.0
MAX_REGIONS = 2000  # of a zygote's memory; their list is one packet
MAX_REGION = 1 << 30
MAX_ERROR = 500
MAX_PID = 1 << 22  # of any kernel
OOM_SCORE_ADJ = b"100"
"""Of what is born: when the host's memory runs out, that goes before a zygote, the launcher or any other program of the
host. Inside, programs have more (`agent.spawn`, `agent.runner.context`), so that PID 1 is the last; less only who has
CAP_SYS_RESOURCE on the host."""
UNREAPED_S = 3.0
END_TIMEOUT_S = 20.0

INTERPRETER_MAIN = (
    "import sys; sys.path.insert(1, '/.atoll/code'); "
    "from atoll.engines.native.interpreter_zygote import main; sys.path.remove('/.atoll/code'); main()"
)


@dataclass(frozen=True)
class TemplateSpec:
    name: str
    digest: str
    layers: tuple[str, ...]
    preload: tuple[str, ...]
    python: str | None
    runtime: str
    runtime_argv: tuple[str, ...]


async def readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


class Peer:
    """A helper's control socket: one request at a time, an answer for each. What it says is not trusted."""

    def __init__(self, name: str, pid: int, control: socket.socket) -> None:
        self.name = name
        self.pid = pid
        self.control = control
        self._pidfd = os.pidfd_open(pid)
        self._lock = asyncio.Lock()

    async def receive(self, timeout_s: float) -> tuple[dict[str, Any], list[int]]:
        try:
            async with asyncio.timeout(timeout_s):
                await readable(self.control.fileno())
            message, fds = sc.receive_message(self.control)
        except (TimeoutError, OSError) as error:
            raise Unavailable(f"the {self.name} does not answer") from error
        except (ValueError, RecursionError) as error:
            raise Unavailable(f"the {self.name} answers what is no JSON") from error
        if not isinstance(message, dict):
            close_all(fds)
            raise Unavailable(f"the {self.name} {'has ended' if message is None else 'answers nonsense'}")
        return message, fds

    async def request(self, message: dict[str, Any], fds: Sequence[int] = ()) -> tuple[dict[str, Any], list[int]]:
        async with self._lock:
            try:
                sc.send_message(self.control, message, fds)
            except OSError as error:
                raise Unavailable(f"the {self.name} has ended") from error
            answer, received = await self.receive(REQUEST_TIMEOUT_S)
        if "error" in answer:
            close_all(received)
            raise InternalError(f"{self.name}: {str(answer['error'])[:MAX_ERROR]}")
        return answer, received

    @property
    def has_ended(self) -> bool:
        return self.control.fileno() < 0 or has_ended(self._pidfd)

    def kill(self) -> None:
        if self.control.fileno() >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)  # its number may be another's by now

    async def close_when_idle(self) -> None:
        """Who has asked is still answered."""
        async with self._lock:
            self.close()

    def close(self) -> None:
        """When nobody waits for an answer."""
        if self.control.fileno() >= 0:
            self.kill()
            self.control.close()
            os.close(self._pidfd)


class Zygote(Peer):
    """It answers with the process that it has forked. The interpreter's runs the template's files and may lie; what is
    done with the process that it names must not happen to anybody else's."""

    on_birth: Callable[[], None] | None = None

    async def request(self, message: dict[str, Any], fds: Sequence[int] = ()) -> tuple[dict[str, Any], list[int]]:
        answer, received = await super().request(message, fds)
        close_all(received)
        pid = answer.get("pid")
        if type(pid) is not int or not 0 < pid < MAX_PID:
            raise Unavailable(f"the {self.name} answers nonsense")
        try:
            self._take_child(pid)
        except OSError as error:
            raise InternalError(f"what the {self.name} has forked has ended") from error
        if self.on_birth:
            self.on_birth()
        return {"pid": pid}, []

    def _take_child(self, pid: int) -> None:
        self._check_child(pid)
        with open(f"/proc/{pid}/oom_score_adj", "wb", buffering=0) as file:
            self._check_child(pid)  # what was opened is its own
            file.write(OOM_SCORE_ADJ)

    def _check_child(self, pid: int) -> None:
        if parent_of(pid) != self.pid:
            raise Unavailable(f"the {self.name} names a process that it has not forked")


def parent_of(pid: int) -> int:
    return state_and_parent_of(pid)[1]


def state_and_parent_of(pid: int) -> tuple[bytes, int]:
    fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        state, parent, *_ = os.read(fd, 512).rpartition(b")")[2].split()
        return state, int(parent)
    finally:
        os.close(fd)


def keep_dead(pids: Collection[int]) -> bool:
    """Whether one of them has a child that has ended in a pid namespace below, and does not wait for it. The first
    process of that namespace cannot end before."""
    return any(_is_kept_dead(int(name), pids) for name in os.listdir("/proc") if name.isdigit())


def _is_kept_dead(pid: int, parents: Collection[int]) -> bool:
    with contextlib.suppress(OSError):
        state, parent = state_and_parent_of(pid)
        return state == b"Z" and parent in parents and _is_in_namespace_below(pid)
    return False


def _is_in_namespace_below(pid: int) -> bool:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        return any(line.startswith("NSpid:") and len(line.split()) > 2 for line in file)


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


P = TypeVar("P", bound=Peer)


async def share_memory(zygote: Peer) -> None:
    """It cannot see for itself where its memory lies: an interpreter zygote has no /proc."""
    regions = [] if threads_of(zygote.pid) > 1 else writable_regions(zygote.pid)
    answer, received = await Peer.request(zygote, {"share": regions})
    close_all(received)
    if not answer.get("shared"):
        log.warning("the %s shares less of its memory with its forks than it could", zygote.name)


def threads_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def writable_regions(pid: int) -> list[tuple[int, int]]:
    """Private and writable, but not the stack."""
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
        return regions_in(file)


def regions_in(maps: Iterable[str]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for line in maps:
        fields = line.split()
        if fields[1] == "rw-p" and fields[-1] != "[stack]" and len(found) < MAX_REGIONS:
            start, end = (int(bound, 16) for bound in fields[0].split("-"))
            if end - start <= MAX_REGION:
                found.append((start, end))
    return found


class Helpers:
    """The three processes that serve a generation for a while."""

    def __init__(self, spec: TemplateSpec, generation: int, userns_fd: int, stage: tree.Stage, cgroup: Cgroup) -> None:
        self._spec, self._generation, self._userns_fd, self._stage = spec, generation, userns_fd, stage
        self._cgroup = cgroup
        self.peers: list[Peer] = []
        self.slots: Peer
        self.agent: Zygote
        self.interpreter: Zygote | None = None

    async def start(self, bpf: bytes) -> None:
        """Each takes some milliseconds, between which the loop goes on."""
        self.slots = self._start_on_runtime(Peer, "slot_helper")
        await asyncio.sleep(0)
        self.agent = self._start_on_runtime(Zygote, "agent_zygote")
        await asyncio.sleep(0)
        self.interpreter = self._start_interpreter() if self._spec.python else None
        await self._until_ready(bpf)

    def _start_on_runtime(self, kind: type[P], module: str) -> P:
        root = tree.zygote_root(self._stage, f"{module}-{self._generation}", self._spec.runtime)
        return self._start(kind, module, [*self._spec.runtime_argv, "-m", f"atoll.engines.native.{module}"], root)

    def _start_interpreter(self) -> Zygote:
        name = f"interpreter-{self._generation}"
        root = tree.interpreter_root(self._stage, name, self._spec.layers, self._spec.runtime)
        assert self._spec.python
        return self._start(Zygote, "interpreter_zygote", [self._spec.python, "-c", INTERPRETER_MAIN], root)

    def _start(self, kind: type[P], name: str, argv: Sequence[str], root_fd: int) -> P:
        try:
            pid, control = spawn.start(argv, userns_fd=self._userns_fd, root_fd=root_fd, enter=self._cgroup.enter)
        finally:
            os.close(root_fd)
        peer = kind(name, pid, control)
        self.peers.append(peer)
        return peer

    async def _until_ready(self, bpf: bytes) -> None:
        sc.send_message(self.agent.control, {"bpf": bpf.hex()})
        if self.interpreter:
            sc.send_message(self.interpreter.control, {"bpf": bpf.hex(), "preload": self._spec.preload})
        for peer in self.peers:
            ready, fds = await peer.receive(READY_TIMEOUT_S)
            close_all(fds)
            failed = ready.get("failed")
            for failure in failed if isinstance(failed, list) else []:
                log.warning("template %s, %s: %s", self._spec.name, peer.name, str(failure)[:MAX_ERROR])

        for zygote in filter(None, (self.agent, self.interpreter)):
            await share_memory(zygote)

    @property
    def has_ended(self) -> bool:
        """One of them."""
        return any(peer.has_ended for peer in self.peers)

    def kill(self) -> None:
        for peer in self.peers:
            peer.kill()

    async def close_when_idle(self) -> None:
        for peer in self.peers:
            await peer.close_when_idle()

    def close(self) -> None:
        for peer in self.peers:
            peer.close()


async def start_helpers(
    spec: TemplateSpec, generation: int, userns_fd: int, stage: tree.Stage, cgroup: Cgroup, bpf: bytes
) -> Helpers:
    helpers = Helpers(spec, generation, userns_fd, stage, cgroup)
    try:
        await helpers.start(bpf)
    except BaseException:
        helpers.close()
        raise
    return helpers


class Generation:
    """Nothing can be born before the first `renew`."""

    def __init__(
        self,
        spec: TemplateSpec,
        number: int,
        userns_fd: int,
        start: Callable[[], Awaitable[Helpers]],
        limits: rotation.Limits = rotation.LIMITS,
        cgroup: Cgroup | None = None,
    ) -> None:
        """`cgroup`: of the helpers, and of all that they leave behind."""
        self.spec = spec
        self.slices = Slices(number)
        self.live = 0
        self.broken = True
        """Has no helpers, or one that has ended: no births before it has new ones."""
        self.userns_fd = userns_fd
        self._start = start
        self._limits = limits
        self._cgroup = cgroup
        self._helpers: Helpers | None = None
        self._leaving: set[Helpers] = set()
        self._replacing = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self.use = rotation.Use(self._loop.time(), self._loop.time())
        self._wear = rotation.Wear()
        self._not_before = 0.0
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._rotation: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, spec: TemplateSpec, number: int, stage: tree.Stage, cgroup: Cgroup, bpf: bytes) -> Generation:
        userns_fd = spawn.new_user_namespace(number)
        start = partial(start_helpers, spec, number, userns_fd, stage, cgroup, bpf)
        return cls(spec, number, userns_fd, start, cgroup=cgroup)

    @property
    def helper(self) -> Peer:
        return self._present().slots

    @property
    def agent(self) -> Zygote:
        return self._present().agent

    @property
    def interpreter(self) -> Zygote | None:
        return self._present().interpreter

    @property
    def resting(self) -> bool:
        return self._helpers is None and not self._replacing.locked()

    def _present(self) -> Helpers:
        if self._helpers is None:
            raise Unavailable("the template's helpers have been ended; try again")
        return self._helpers

    def look_after(self) -> None:
        """One that has ended by itself: the host was out of memory, or the template's own files have ended it."""
        if self._helpers is not None and self._helpers.has_ended and not self.broken:
            log.warning("template %s: a helper has ended by itself; new ones are made", self.spec.name)
            self.broken = True

    async def see_end(self, over: Callable[[], Awaitable[object]]) -> None:
        """`over`: the end of a PID 1 that was killed. It waits for everybody who was forked into its namespace to be
        reaped by whoever has forked them, which the interpreter zygote of a hostile template may not do."""
        try:
            async with asyncio.timeout(UNREAPED_S):
                await over()
        except TimeoutError:
            self._end_who_keep_dead()
            async with asyncio.timeout(END_TIMEOUT_S):
                await over()

    def _end_who_keep_dead(self) -> None:
        if self._cgroup is not None and keep_dead(set(self._cgroup.pids())):
            log.warning("template %s: its helpers do not let a sandbox end; new ones are made", self.spec.name)
            self.broken = True
            self._cgroup.kill()

    async def renew(self) -> None:
        """New helpers in place of broken ones."""
        async with self._replacing:
            if self.broken:
                await self._replace()

    async def _replace(self) -> None:
        helpers = await self._start()
        helpers.agent.on_birth = self._count_birth
        if self._helpers:
            self._see_off(self._helpers, at_once=self.broken)
        else:
            self.use = rotation.Use(self._loop.time(), self._loop.time())
        self._helpers = helpers
        self.broken = False
        self._wear = rotation.Wear()
        self._plan(None)

    def rest(self) -> None:
        """Nobody is born here for a while."""
        self.broken = True
        self._plan(None)
        if self._rotation:
            self._rotation.cancel()
        if self._helpers:
            self._see_off(self._helpers)
        self._helpers = None

    def _see_off(self, helpers: Helpers, at_once: bool = False) -> None:
        """`at_once`: who waits for an answer gets none."""
        if at_once:
            helpers.kill()
        self._leaving.add(helpers)
        self._do(self._close_when_idle(helpers))

    async def _close_when_idle(self, helpers: Helpers) -> None:
        await helpers.close_when_idle()
        self._leaving.discard(helpers)

    def _count_birth(self) -> None:
        now = self._loop.time()
        self.use = self.use._replace(last=now)
        self._wear = self._wear.after_birth(now)
        self._plan(rotation.due_at(self._wear, self._limits))

    def _plan(self, due: float | None) -> None:
        if due == self._due:
            return
        self._due = due
        if self._timer:
            self._timer.cancel()
        self._timer = None if due is None else self._loop.call_at(max(due, self._not_before), self._begin_rotation)

    def _begin_rotation(self) -> None:
        self._rotation = self._do(self._rotate())

    async def _rotate(self) -> None:
        """Births go on meanwhile, from the old helpers."""
        async with self._replacing:
            if self.broken or self._due is None:
                return
            try:
                await self._replace()
            except (AtollError, OSError, RuntimeError):
                log.exception("template %s: the zygotes were not made anew; the old ones go on", self.spec.name)
                self._not_before = self._loop.time() + self._limits.retry_s
                self._due = None
                self._plan(rotation.due_at(self._wear, self._limits))

    def _do(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def take_slice(self) -> Slice:
        taken = self.slices.take()
        if taken is None:
            raise Unavailable("no free range of user ids in this generation")
        self.live += 1
        return taken

    def give_back(self, taken: Slice) -> None:
        self.live -= 1
        self.slices.give_back(taken)

    def close(self) -> None:
        self._plan(None)
        for task in self._tasks:
            task.cancel()
        for helpers in (*self._leaving, *([self._helpers] if self._helpers else ())):
            helpers.close()
        self._helpers = None
        os.close(self.userns_fd)
