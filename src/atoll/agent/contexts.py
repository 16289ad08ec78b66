"""Contexts: stateful interpreters of any language, each running one cell at a time.

A `Context` is what the caller knows by its id. Its `Interpreter` is the process behind it; when that dies, by the
user's own code, by its memory limit or by our hand, the context lives on and gets a new one at the next call.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from . import kernels, system
from .env import Env, Environment
from .errors import AgentError, Kind, invalid, not_found
from .http_server import JsonObject, Stream
from .interpreter import REMOVED, RESTARTED, Cell, Ending, Interpreter
from .kernels import PYTHON, Launch
from .plumbing import LINEFLUSH, unbuffered
from .processes import ensure_directory
from .seed_link import Kernel, SeedLink
from .signals import signal_tree
from .users import DEFAULT_USER, User, Users

DEFAULT = "default"
MAX_CONTEXTS = 64
MAX_SPARE = 32  # each is an interpreter of its own, and the sandbox's memory is the real bound
END_WAIT_S = 5.0


@dataclass(frozen=True)
class Make:
    """What a context is to be."""

    language: str = PYTHON
    cwd: str | None = None
    user: str = DEFAULT_USER
    env: Env = field(default_factory=dict)


@dataclass(eq=False)
class Context:
    id: str
    language: str
    cwd: str
    user: User
    env: Env
    users: Users
    spare: bool = False
    """Made for one cell that found another context busy; gone when the cell is over."""
    proven: bool = False
    """It has lived. One that never did is forgotten when its birth fails."""
    removed: AgentError | None = None
    """What whoever still waits for its turn is told."""
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Taken by the caller of a cell, given back when the cell is over, which may be later than the caller's leaving."""
    interpreter: Interpreter | None = None
    birth: asyncio.Task[Interpreter] | None = None
    cells: int = 0
    forks: int = 0

    def record(self) -> JsonObject:
        return {
            "id": self.id,
            "language": self.language,
            "cwd": self.cwd,
            "status": "busy" if self.turn.locked() else "idle",
            "pid": self.interpreter.pid if self.interpreter is not None else None,
        }

    @property
    def busy(self) -> bool:
        return self.turn.locked()

    def beside(self) -> Context:
        """A spare one, as this one was made."""
        return Context(secrets.token_hex(8), self.language, self.cwd, self.user, self.env, self.users, spare=True)

    def cell_over(self) -> None:
        if self.turn.locked():
            self.turn.release()

    def interpreter_gone(self, interpreter: Interpreter) -> None:
        if self.interpreter is interpreter:
            self.interpreter = None
            self.cells = 0

    def kill(self) -> None:
        """The interpreter and what its cells started."""
        pid = self.interpreter.pid if self.interpreter is not None else None
        signal_tree(self.users, pid or None, self.mark, signal.SIGKILL)

    def stop(self, cell: Cell) -> None:
        """Ask, and after a grace insist."""
        interpreter = self.interpreter
        if interpreter is None or interpreter.cell is not cell:
            return
        interpreter.interrupt()
        loop, grace_s = asyncio.get_running_loop(), kernels.interrupt_grace_s(self.language)
        cell.timers.append(loop.call_later(grace_s, self._insist, interpreter, cell))
        if interpreter.launch is not None:  # a kernel may have missed it in the moment between two programs
            cell.timers.append(loop.call_later(grace_s / 2, self._remind, interpreter, cell))

    def _remind(self, interpreter: Interpreter, cell: Cell) -> None:
        if interpreter.cell is cell:
            interpreter.interrupt()

    def _insist(self, interpreter: Interpreter, cell: Cell) -> None:
        if interpreter.cell is cell:
            self.kill()


class ContextTable:
    def __init__(
        self,
        users: Users,
        environment: Environment,
        seed: socket.socket | None,
        workdir: str,
        lineflush: str = LINEFLUSH,
    ) -> None:
        self.cells_total = 0
        self.cells_failed_total = 0
        self._users = users
        self._environment = environment
        self._seed = SeedLink(seed) if seed is not None else None
        self._workdir = workdir
        self._lineflush = lineflush if os.path.exists(lineflush) else None
        self._contexts: dict[str, Context] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._ready: Context | None = None
        """Nobody's yet; the first that is made as the default one is becomes it."""

    def make_ready(self, done: Callable[[], None]) -> None:
        """`done` is called when a first context's interpreter is there, or cannot be."""
        self._later(self._make_ready(done))

    async def _make_ready(self, done: Callable[[], None]) -> None:
        with suppress(AgentError, OSError):
            if self.available and self._ready is None:
                context = Context("", PYTHON, self._workdir, self._users.lookup(), {}, self._users)
                await self._born(context)
                self._ready = context
        done()

    @property
    def available(self) -> bool:
        return self._seed is not None and self._seed.open

    @property
    def busy(self) -> int:
        return sum(context.busy for context in self._contexts.values())

    @property
    def waiting(self) -> int | None:
        """The process of the first context, as long as it is nobody's."""
        interpreter = self._ready.interpreter if self._ready is not None else None
        return interpreter.pid if interpreter is not None else None

    def pids(self) -> set[int]:
        return {context.interpreter.pid for context in self._contexts.values() if context.interpreter is not None}

    def list(self) -> list[Context]:
        return list(self._contexts.values())

    def get(self, context_id: str, make: Make | None = None) -> Context:
        """Made when it is not there and the caller says what it is to be; `default` is made on first use."""
        self._require_python()
        context = self._contexts.get(context_id)
        if context is not None:
            return context
        if make is None and context_id == DEFAULT:
            make = Make()
        if make is None:
            raise not_found(f"no such context: {context_id}")
        return self._make(context_id, make)

    async def create(self, context_id: str | None, make: Make) -> Context:
        self._require_python()
        context_id = context_id or secrets.token_hex(8)
        if context_id in self._contexts:
            raise AgentError(Kind.EXISTS, f"there is a context of this id: {context_id}")
        context = self._make(context_id, make)
        try:
            await self._living(context)
        except BaseException:
            self._drop(context)
            raise
        return context

    def _make(self, context_id: str, make: Make) -> Context:
        user = self._users.lookup(make.user)
        context = Context(context_id, make.language, make.cwd or self._workdir, user, make.env, self._users)
        return self._add(self._ready_as(context) or context)

    def _ready_as(self, wanted: Context) -> Context | None:
        ready = self._ready
        if ready is None or (ready.language, ready.cwd, ready.user) != (wanted.language, wanted.cwd, wanted.user):
            return None
        self._ready = None
        ready.id, ready.env = wanted.id, wanted.env
        return ready

    @asynccontextmanager
    async def instead_of(self, context: Context) -> AsyncIterator[Context]:
        """The context itself, or a spare one while it is busy: a fresh fork that knows nothing of its variables."""
        if not context.busy:
            yield context
            return
        if sum(each.spare for each in self._contexts.values()) >= MAX_SPARE:
            raise AgentError(Kind.TOO_MANY, f"{MAX_SPARE} cells run beside the context already: {context.id}")
        spare = self._add(context.beside())
        try:
            yield spare
        except BaseException:
            self._drop(spare)
            raise
        self._drop(spare, and_children=False)

    def _drop(self, context: Context, and_children: bool = True, error: AgentError | None = None) -> None:
        self._remove(context, error)
        self._later(self._end(context, REMOVED, and_children))

    def _remove(self, context: Context, error: AgentError | None = None) -> None:
        if context.removed is None:
            context.removed = error or not_found(f"no such context: {context.id}")
        if self._contexts.get(context.id) is context:
            del self._contexts[context.id]

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    async def delete(self, context_id: str) -> None:
        context = self._existing(context_id)
        self._remove(context)
        await self._end(context, REMOVED)

    async def restart(self, context_id: str) -> Context:
        context = self.get(context_id)
        await self._end(context, RESTARTED)
        await self._living(context)
        return context

    def interrupt(self, context_id: str) -> None:
        interpreter = self._existing(context_id).interpreter
        if interpreter is not None and interpreter.cell is not None:
            interpreter.interrupt()

    async def begin(
        self,
        context: Context,
        code: str,
        env: Env,
        cwd: str | None,
        timeout_s: float | None,
        wait: bool,
        describe: bool,
        open_stream: Callable[[], Stream],
        on_start: Callable[[Cell], None],
    ) -> None:
        """Once `on_start` was called the cell runs whether or not the caller stays; `Context.stop` ends it."""
        self._require_python()
        if context.busy and not wait:
            raise AgentError(Kind.BUSY, f"the context runs a cell: {context.id}")
        await context.turn.acquire()
        try:
            if cwd is not None:
                _check_cwd(context)
                ensure_directory(self._users, context.user, cwd, self._workdir)
            interpreter = await self._living(context)
            _check_env(context, interpreter, env)
            cell = self._announce(context, open_stream())
        except BaseException:
            context.cell_over()
            raise
        on_start(cell)
        if timeout_s is not None:
            cell.timers.append(asyncio.get_running_loop().call_later(timeout_s, self._time_is_up, context, cell))
        before = b""
        if interpreter.ahead:
            before = interpreter.born(self._environment.for_program(context.user, context.cwd, context.env))
        change = self._env_change(context, interpreter, env)
        request = {"op": "execute", "code": code, "env": change, "cwd": cwd, "ordered": True, "describe": describe}
        await interpreter.execute(cell, request, before)

    def _announce(self, context: Context, stream: Stream) -> Cell:
        self.cells_total += 1
        context.cells += 1
        cell = Cell(stream, context.cells)
        cell.done.add_done_callback(lambda _: self._count(cell))
        which = {"context": context.id, "language": context.language, "spare": context.spare}
        cell.forward({"type": "start", "execution_count": context.cells, **which})
        return cell

    def _count(self, cell: Cell) -> None:
        self.cells_failed_total += cell.status != "ok"

    def _time_is_up(self, context: Context, cell: Cell) -> None:
        cell.timed_out = True
        context.stop(cell)

    def _env_change(self, context: Context, interpreter: Interpreter, request: Env) -> dict[str, str | None]:
        """What differs now from what the interpreter was born with; null removes."""
        if interpreter.launch is not None and not interpreter.launch.takes_env:
            return {}
        now = self._environment.for_program(context.user, context.cwd, {**context.env, **request})
        changed: dict[str, str | None] = {
            name: value for name, value in now.items() if interpreter.env.get(name) != value
        }
        return changed | {name: None for name in interpreter.env if name not in now}

    async def _living(self, context: Context) -> Interpreter:
        """Raises why there is none; a context that never lived is forgotten then."""
        try:
            interpreter = context.interpreter or await self._born(context)
            if interpreter.launch is not None:
                await interpreter.launch.over()
        except AgentError as error:
            if not context.proven:
                self._drop(context, error=error)
            elif context.interpreter is not None:
                context.interpreter.kill()
            raise
        context.proven = True
        return interpreter

    async def _born(self, context: Context) -> Interpreter:
        """The fork goes on when its first caller leaves: an interpreter nobody owns would never be ended."""
        if context.removed is not None:  # while this caller waited for its turn
            raise context.removed
        if context.birth is None:
            context.birth = asyncio.get_running_loop().create_task(self._fork(context))
            context.birth.add_done_callback(lambda task: _birth_over(context, task))
        return await asyncio.shield(context.birth)

    async def _fork(self, context: Context) -> Interpreter:
        assert self._seed is not None
        ensure_directory(self._users, context.user, context.cwd, self._workdir)
        context.forks += 1
        env = self._environment.for_program(context.user, context.cwd, context.env)
        ours, theirs = socket.socketpair()
        launch = None if context.language == PYTHON else Launch()
        flags = os.O_CLOEXEC if launch is None else os.O_CLOEXEC | kernels.PIECES
        out, child_out = os.pipe2(flags)
        err, child_err = os.pipe2(flags)
        for fd in (child_out, child_err):
            self._users.give(fd, context.user)
        interpreter = Interpreter(ours.detach(), out, err, context, env, launch)
        interpreter.ahead = not context.id
        interpreter.marks = {system.MARK: context.mark, **unbuffered(env, child_out, self._lineflush)}
        try:
            interpreter.pid = await self._seed.fork(
                f"{context.mark}.{context.forks}",
                context.user,
                context.cwd,
                {**env, **interpreter.marks},
                [theirs.fileno(), child_out, child_err],
                interpreter.exited,
                None if launch is None else Kernel(context.language, self._directory_of(interpreter, context.user)),
                interpreter.ahead,
            )
        except BaseException:
            interpreter.abandon()
            raise
        finally:
            theirs.close()
            os.close(child_out)
            os.close(child_err)
        if interpreter.gone.is_set():
            if launch is not None:
                await launch.over()
            raise AgentError(Kind.INTERNAL, "the context ended while it was being made")
        context.interpreter = interpreter
        return interpreter

    def _directory_of(self, interpreter: Interpreter, user: User) -> str:
        """Of a kernel; it is gone soon after the interpreter."""
        path = kernels.make_directory(self._users, user)

        async def remove() -> None:
            await interpreter.gone.wait()
            await kernels.remove_directory(self._users, path)

        interpreter.tidied = self._later(remove())
        return path

    async def _end(self, context: Context, ending: Ending, and_children: bool = True) -> None:
        """Without its children: a server that a cell has started outlives the interpreter, whichever that was."""
        if context.birth is not None:  # else the child would be born into a context that is gone
            with suppress(AgentError, OSError):
                await asyncio.shield(context.birth)
        interpreter = context.interpreter
        if interpreter is not None:
            interpreter.ending = ending
        if and_children:
            context.kill()
        elif interpreter is not None:
            interpreter.kill()
        if interpreter is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(END_WAIT_S):
                await interpreter.gone.wait()
                if interpreter.tidied is not None:
                    await asyncio.shield(interpreter.tidied)
        if and_children:
            interpreter.close_pipes()

    def _add(self, context: Context) -> Context:
        if len(self._contexts) >= MAX_CONTEXTS:
            raise AgentError(Kind.TOO_MANY, f"more than {MAX_CONTEXTS} contexts")
        self._contexts[context.id] = context
        return context

    def _existing(self, context_id: str) -> Context:
        try:
            return self._contexts[context_id]
        except KeyError:
            raise not_found(f"no such context: {context_id}") from None

    def _require_python(self) -> None:
        if self._seed is None:
            raise AgentError(Kind.UNSUPPORTED, "this template has no Python")


def _check_cwd(context: Context) -> None:
    if context.language != PYTHON:
        raise invalid(f"cwd of one execution is for Python: this context is {context.language}")


def _check_env(context: Context, interpreter: Interpreter, env: Env) -> None:
    if env and interpreter.launch is not None and not interpreter.launch.takes_env:
        raise AgentError(Kind.UNSUPPORTED, f"env of one execution: the kernel for {context.language} does not take it")


def _birth_over(context: Context, task: asyncio.Task[Any]) -> None:
    context.birth = None
    if not task.cancelled():
        task.exception()  # seen: when the last caller left before, nobody else looks
