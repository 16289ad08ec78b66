"""Contexts: stateful interpreters, each running one cell at a time.

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

from . import system
from .env import Env, Environment
from .errors import AgentError, Kind, not_found
from .http_server import JsonObject, Stream
from .interpreter import Cell, Interpreter
from .plumbing import LINEFLUSH, unbuffered
from .processes import ensure_directory
from .seed_link import SeedLink
from .signals import signal_tree
from .users import User, Users

DEFAULT = "default"
MAX_CONTEXTS = 64
MAX_SPARE = 32  # each is an interpreter of its own, and the sandbox's memory is the real bound
INTERRUPT_GRACE_S = 1.0
END_WAIT_S = 5.0


@dataclass(eq=False)
class Context:
    id: str
    cwd: str
    user: User
    env: Env
    users: Users
    spare: bool = False
    """Made for one cell that found another context busy; gone when the cell is over."""
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
            "language": "python",
            "cwd": self.cwd,
            "status": "busy" if self.turn.locked() else "idle",
            "pid": self.interpreter.pid if self.interpreter is not None else None,
        }

    @property
    def busy(self) -> bool:
        return self.turn.locked()

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
        """Ask, and after a second insist."""
        interpreter = self.interpreter
        if interpreter is None or interpreter.cell is not cell:
            return
        interpreter.interrupt()
        loop = asyncio.get_running_loop()
        cell.timers.append(loop.call_later(INTERRUPT_GRACE_S, self._insist, interpreter, cell))

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

    @property
    def available(self) -> bool:
        return self._seed is not None and self._seed.open

    @property
    def busy(self) -> int:
        return sum(context.busy for context in self._contexts.values())

    def pids(self) -> set[int]:
        return {context.interpreter.pid for context in self._contexts.values() if context.interpreter is not None}

    def list(self) -> list[Context]:
        return list(self._contexts.values())

    def get(self, context_id: str) -> Context:
        """`default` is made on first use."""
        self._require_python()
        context = self._contexts.get(context_id)
        if context is None and context_id == DEFAULT:
            context = self._add(DEFAULT, self._workdir, self._users.lookup(), {})
        if context is None:
            raise not_found(f"no such context: {context_id}")
        return context

    async def create(self, context_id: str | None, cwd: str | None, user_name: str, env: Env) -> Context:
        self._require_python()
        context_id = context_id or secrets.token_hex(8)
        if context_id in self._contexts:
            raise AgentError(Kind.EXISTS, f"there is a context of this id: {context_id}")
        user = self._users.lookup(user_name)
        context = self._add(context_id, cwd or self._workdir, user, env)
        try:
            await self._living(context)
        except BaseException:
            self._contexts.pop(context_id, None)
            raise
        return context

    @asynccontextmanager
    async def instead_of(self, context: Context) -> AsyncIterator[Context]:
        """The context itself, or a spare one while it is busy: a fresh fork that knows nothing of its variables."""
        if not context.busy:
            yield context
            return
        if sum(each.spare for each in self._contexts.values()) >= MAX_SPARE:
            raise AgentError(Kind.TOO_MANY, f"{MAX_SPARE} cells run beside the context already: {context.id}")
        spare = self._add(secrets.token_hex(8), context.cwd, context.user, context.env, spare=True)
        try:
            yield spare
        except BaseException:
            self._contexts.pop(spare.id, None)
            self._later(self._end(spare))
            raise
        self._contexts.pop(spare.id, None)
        self._later(self._end(spare, and_children=False))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def delete(self, context_id: str) -> None:
        context = self._existing(context_id)
        del self._contexts[context_id]
        await self._end(context)

    async def restart(self, context_id: str) -> Context:
        context = self.get(context_id)
        await self._end(context)
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
                ensure_directory(self._users, context.user, cwd, self._workdir)
            interpreter = await self._living(context)
            cell = self._announce(context, open_stream())
        except BaseException:
            context.cell_over()
            raise
        on_start(cell)
        if timeout_s is not None:
            cell.timers.append(asyncio.get_running_loop().call_later(timeout_s, self._time_is_up, context, cell))
        change = self._env_change(context, interpreter, env)
        request = {"op": "execute", "code": code, "env": change, "cwd": cwd, "ordered": True}
        await interpreter.execute(cell, request)

    def _announce(self, context: Context, stream: Stream) -> Cell:
        self.cells_total += 1
        context.cells += 1
        cell = Cell(stream, context.cells)
        cell.done.add_done_callback(lambda _: self._count(cell))
        cell.forward({"type": "start", "execution_count": context.cells, "context": context.id, "spare": context.spare})
        return cell

    def _count(self, cell: Cell) -> None:
        self.cells_failed_total += cell.status != "ok"

    def _time_is_up(self, context: Context, cell: Cell) -> None:
        cell.timed_out = True
        context.stop(cell)

    def _env_change(self, context: Context, interpreter: Interpreter, request: Env) -> dict[str, str | None]:
        """What differs now from what the interpreter was born with; null removes."""
        now = self._environment.for_program(context.user, context.cwd, {**context.env, **request})
        changed: dict[str, str | None] = {
            name: value for name, value in now.items() if interpreter.env.get(name) != value
        }
        return changed | {name: None for name in interpreter.env if name not in now}

    async def _living(self, context: Context) -> Interpreter:
        """The fork goes on when its first caller leaves: an interpreter nobody owns would never be ended."""
        if context.interpreter is not None:
            return context.interpreter
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
        out, child_out = os.pipe2(os.O_CLOEXEC)
        err, child_err = os.pipe2(os.O_CLOEXEC)
        for fd in (child_out, child_err):
            self._users.give(fd, context.user)
        interpreter = Interpreter(ours.detach(), out, err, context, env)
        marked = {**env, system.MARK: context.mark, **unbuffered(env, child_out, self._lineflush)}
        try:
            interpreter.pid = await self._seed.fork(
                f"{context.mark}.{context.forks}",
                context.user,
                context.cwd,
                marked,
                [theirs.fileno(), child_out, child_err],
                interpreter.exited,
            )
        except BaseException:
            interpreter.abandon()
            raise
        finally:
            theirs.close()
            os.close(child_out)
            os.close(child_err)
        if interpreter.gone.is_set():
            raise AgentError(Kind.INTERNAL, "the context ended while it was being made")
        context.interpreter = interpreter
        return interpreter

    async def _end(self, context: Context, and_children: bool = True) -> None:
        """Without its children: a server that a cell has started outlives the interpreter, whichever that was."""
        if context.birth is not None:  # else the child would be born into a context that is gone
            with suppress(AgentError, OSError):
                await asyncio.shield(context.birth)
        interpreter = context.interpreter
        if and_children:
            context.kill()
        elif interpreter is not None and not interpreter.gone.is_set():
            with suppress(ProcessLookupError):
                os.kill(interpreter.pid, signal.SIGKILL)
        if interpreter is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(END_WAIT_S):
                    await interpreter.gone.wait()

    def _add(self, context_id: str, cwd: str, user: User, env: Env, spare: bool = False) -> Context:
        if len(self._contexts) >= MAX_CONTEXTS:
            raise AgentError(Kind.TOO_MANY, f"more than {MAX_CONTEXTS} contexts")
        context = Context(context_id, cwd, user, env, self._users, spare)
        self._contexts[context_id] = context
        return context

    def _existing(self, context_id: str) -> Context:
        try:
            return self._contexts[context_id]
        except KeyError:
            raise not_found(f"no such context: {context_id}") from None

    def _require_python(self) -> None:
        if self._seed is None:
            raise AgentError(Kind.UNSUPPORTED, "this template has no Python")


def _birth_over(context: Context, task: asyncio.Task[Any]) -> None:
    context.birth = None
    if not task.cancelled():
        task.exception()  # seen: when the last caller left before, nobody else looks
