"""One at a time for each sandbox, any number of sandboxes at once; and a gate that is shut while the engine is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from atoll.core.errors import Unavailable


class Turns:
    def __init__(self, gate_timeout_s: float = 15.0) -> None:
        self._gate_timeout_s = gate_timeout_s
        self._open = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    def open(self) -> None:
        self._open.set()

    def shut(self) -> None:
        """Nobody new gets in; those inside finish, see `idle`."""
        self._open.clear()

    async def opened(self) -> None:
        await self._open.wait()

    async def idle(self) -> None:
        await self._idle.wait()

    @contextlib.asynccontextmanager
    async def __call__(self, sandbox_id: str, *, gate: bool = True) -> AsyncIterator[None]:
        """`gate=False` is for recovery, which is what the others wait for."""
        if gate:
            await self._pass()
        self._users[sandbox_id] = self._users.get(sandbox_id, 0) + 1
        self._idle.clear()
        lock = self._locks.setdefault(sandbox_id, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            self._leave(sandbox_id)

    async def _pass(self) -> None:
        if self._open.is_set():
            return
        try:
            async with asyncio.timeout(self._gate_timeout_s):
                await self._open.wait()
        except TimeoutError as error:
            raise Unavailable("the node is not ready: its launcher is being started") from error

    def _leave(self, sandbox_id: str) -> None:
        self._users[sandbox_id] -= 1
        if not self._users[sandbox_id]:
            del self._users[sandbox_id], self._locks[sandbox_id]
        if not self._users:
            self._idle.set()
