"""Programs in sandboxes that come to the surfaces on 127.0.0.1, where they expect them (agent protocol, "Doors").

For each sandbox that runs, its agent is asked for the next one who comes. What it hands out becomes a client like any
other, but one whose requests are for that sandbox alone, whatever they name; and credentials are as needed as outside.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from .agent_link import AgentError
from .gate.client import Client, Gate
from .guest_transport import GuestTransport
from .ports_link import next_caller
from .routes import Route, RouteState
from .routing import AGENT_PORT, CODE_PORT, E2B_AGENT_PORT

log = logging.getLogger("atoll.edge.inside")

PORTS = frozenset((AGENT_PORT, E2B_AGENT_PORT, CODE_PORT))
AFTER_S = 1.0
"""Behind a sandbox's birth: whoever waits for that goes first."""
MAX_CLIENTS = 32
"""Of one sandbox at once; the next ones wait inside."""
RETRY_S = (1.0, 5.0, 30.0)
"""After an agent that does not do it, the last one again and again."""


class Inside:
    def __init__(self, gate: Callable[[], Gate], after_s: float = AFTER_S) -> None:
        self._gate = gate
        self._after_s = after_s
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def attend(self, route: Route) -> None:
        """Idempotent. A sandbox that is paused is asked on: its answer comes when it runs again."""
        if route.state is RouteState.STOPPED:
            self.leave(route.id)
        elif route.id not in self._tasks:
            self._tasks[route.id] = asyncio.create_task(self._attend(route))

    def leave(self, sandbox_id: str) -> None:
        task = self._tasks.pop(sandbox_id, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _attend(self, route: Route) -> None:
        room, failed = asyncio.Semaphore(MAX_CLIENTS), 0
        await asyncio.sleep(self._after_s)
        while True:
            await room.acquire()
            try:
                port, sock = await next_caller(route.socket, PORTS)
                GuestTransport(
                    asyncio.get_running_loop(),
                    sock,
                    InsideClient(self._gate(), route.id, port),
                    lambda transport: room.release(),
                )
            except (AgentError, OSError) as error:
                room.release()
                log.debug("sandbox %s hands nobody out: %s", route.id, error)
                await asyncio.sleep(RETRY_S[min(failed, len(RETRY_S) - 1)])
                failed += 1
            else:
                failed = 0


class InsideClient(Client):
    def __init__(self, gate: Gate, sandbox_id: str, port: int) -> None:
        super().__init__(gate)
        self.inside = (sandbox_id, port)
        self._own = b"sandbox " + sandbox_id.encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.source = self._own
