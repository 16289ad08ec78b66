"""Which sandboxes a session may touch: those that it made, and the one that the operator named.

A session's model reads what untrusted programs print, so it may be talked into anything. How far that goes is decided
here: it chooses no network policy, and reaches no sandbox of somebody else, unless the operator said so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError

from atoll.sdk import AsyncSandbox, AtollError, NotFoundError

from .output import shown

MAX_SANDBOXES = 16
"""Of one session at a time: a loop of a confused model is no fleet."""
MAX_SESSIONS = 64
MAX_REMEMBERED = 1_000
CLOSING_S = 20.0
MAX_MESSAGE = 2_000
IDLE = (
    "this session was idle for long, and its sandboxes were deleted: their files and variables are lost. "
    "The next call makes a new one."
)
METADATA = {"made-by": "atoll mcp"}
"""So that a person who finds the sandbox knows where it comes from."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What the operator decided; a model chooses within it."""

    template: str = "code-interpreter"
    create: Mapping[str, Any] = field(default_factory=dict)
    """What `AsyncSandbox.create` takes: time limit, network policy …"""
    sandbox_id: str | None = None
    """The default sandbox, which is there already and is left alone at the end."""
    keep: bool = False
    any_sandbox: bool = False
    shared: Path | None = None
    """The directory of this machine that files may be copied from and to."""
    account: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """`api_key` and `base_url`, as the SDK takes them."""


class Session:
    def __init__(
        self,
        order: Order,
        sdk: type[AsyncSandbox] = AsyncSandbox,
        now: Callable[[], float] = time.monotonic,
        was_idle: bool = False,
    ) -> None:
        """`was_idle`: there was one of this name, which lost its sandboxes; its model does not know yet."""
        self.order = order
        self._sdk = sdk
        self._now = now
        self._was_idle = was_idle
        self.default_id: str | None = order.sandbox_id
        self.used_at = now()
        self.in_use = 0
        self._sandboxes: dict[str, AsyncSandbox] = {}
        self._being_made = 0
        self._making = asyncio.Lock()
        self._ended = False

    @property
    def ids(self) -> list[str]:
        """Those that this session made and that were not killed since."""
        return list(self._sandboxes)

    async def create(self, template: str | None = None) -> AsyncSandbox:
        if len(self._sandboxes) + self._being_made >= MAX_SANDBOXES:
            raise ToolError(f"this session has {MAX_SANDBOXES} sandboxes already: kill one with kill_sandbox first")
        self._being_made += 1
        try:
            return await self._create(template or self.order.template)
        except AtollError as error:
            raise ToolError(message_of(error)) from error
        finally:
            self._being_made -= 1

    async def _create(self, template: str) -> AsyncSandbox:
        made = await self._sdk.create(template, metadata=METADATA, **self.order.create, **self.order.account)
        if self._ended:
            await made.kill()
            raise ToolError("the session has ended")
        self._sandboxes[made.sandbox_id] = made
        return made

    @asynccontextmanager
    async def using(self, sandbox_id: str | None = None) -> AsyncIterator[AsyncSandbox]:
        """The named sandbox, or the session's own. What fails on the way is an error that a model can act on."""
        self.in_use += 1
        try:
            sandbox = await self.find(sandbox_id)
            try:
                yield sandbox
            except AtollError as error:
                if await self._is_gone(sandbox):
                    raise ToolError(self._forget(sandbox.sandbox_id)) from error
                raise ToolError(message_of(error)) from error
        finally:
            self.in_use -= 1
            self.used_at = self._now()

    async def find(self, sandbox_id: str | None = None) -> AsyncSandbox:
        if sandbox_id is None:
            return await self._default()
        if sandbox_id in self._sandboxes:
            return self._sandboxes[sandbox_id]
        if self.order.any_sandbox or sandbox_id == self.order.sandbox_id:
            return self._sdk(sandbox_id, **self.order.account)
        known = ", ".join(filter(None, (self.order.sandbox_id, *self._sandboxes))) or "none yet"
        raise ToolError(
            f"sandbox {shown(sandbox_id, 64)} is not one of this session's ({known}). Leave sandbox_id out to use the "
            "default one, or make one with create_sandbox."
        )

    async def _default(self) -> AsyncSandbox:
        async with self._making:
            if self._was_idle:
                self._was_idle = False
                raise ToolError(IDLE)
            if self.default_id is None:
                self.default_id = (await self.create()).sandbox_id
            return await self.find(self.default_id)

    async def _is_gone(self, sandbox: AsyncSandbox) -> bool:
        try:
            await sandbox.get_info()
        except NotFoundError:
            return True
        except AtollError:
            return False
        return False

    def _forget(self, sandbox_id: str) -> str:
        self._sandboxes.pop(sandbox_id, None)
        gone = f"sandbox {sandbox_id} is gone: its time was over, or it was killed. Its files and variables are lost."
        if sandbox_id != self.default_id:
            return gone
        if sandbox_id == self.order.sandbox_id:
            return f"{gone} `atoll mcp` was told to use this one; use create_sandbox and pass its id as sandbox_id."
        self.default_id = None
        return f"{gone} The next call makes a new one."

    async def kill(self, sandbox_id: str) -> None:
        if sandbox_id == self.order.sandbox_id:
            raise ToolError(f"sandbox {sandbox_id} was given to this session by its operator, who alone may kill it")
        async with self.using(sandbox_id) as sandbox:
            await sandbox.kill()
        self._sandboxes.pop(sandbox_id, None)
        if self.default_id == sandbox_id:
            self.default_id = None

    async def close(self) -> None:
        """Kills what the session made; each failure is for the log, and the sandbox's own clock ends it later."""
        made, self._sandboxes = self._sandboxes, {}
        self._ended = True
        if self.order.keep:
            for sandbox_id in made:
                log.warning("sandbox %s is kept", sandbox_id)
            return
        outcomes = await asyncio.gather(*(each.kill() for each in made.values()), return_exceptions=True)
        for sandbox_id, outcome in zip(made, outcomes, strict=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, NotFoundError):
                log.warning("sandbox %s could not be killed: %s", sandbox_id, outcome)


class Sessions:
    """By the transport's session id: a host over stdio is one session, each session of HTTP is one."""

    def __init__(
        self, order: Order, now: Callable[[], float], idle_s: float, sdk: type[AsyncSandbox] = AsyncSandbox
    ) -> None:
        self._order = order
        self._sdk = sdk
        self._now = now
        self._idle_s = idle_s
        self._sessions: dict[str, Session] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        """The latest that were ended for being idle."""

    async def of(self, session_id: str) -> Session:
        session = self._sessions.get(session_id)
        if session is None:
            await self._end_idle()
            if len(self._sessions) >= MAX_SESSIONS:
                raise ToolError(f"{MAX_SESSIONS} sessions are open already: end one, or try later")
            was_idle = session_id in self._idle
            self._idle.pop(session_id, None)
            made = Session(self._order, self._sdk, self._now, was_idle)
            session = self._sessions.setdefault(session_id, made)
        session.used_at = self._now()
        return session

    async def _end_idle(self) -> None:
        """Of sessions that the transport has given up nobody is told; they are looked for when one begins."""
        before = self._now() - self._idle_s
        for session_id, session in list(self._sessions.items()):
            if session.used_at < before and not session.in_use:
                self._idle[session_id] = None
                await self.end(session_id)
        while len(self._idle) > MAX_REMEMBERED:
            self._idle.popitem(last=False)

    async def end(self, session_id: str) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            await session.close()

    async def close(self) -> None:
        try:
            async with asyncio.timeout(CLOSING_S):
                await asyncio.gather(*(self.end(session_id) for session_id in list(self._sessions)))
        except TimeoutError:
            log.warning("not every sandbox could be killed in time; their clocks end them")


def message_of(error: AtollError) -> str:
    """What happened, bounded; the SDK's text has the id under which the server's log knows it."""
    return shown(str(error), MAX_MESSAGE)
