"""Where the edge finds a sandbox: the table, and its changes to whoever follows it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Iterable, KeysView
from typing import Any

from atoll.core.lifecycle import State
from atoll.core.policy import has_way_out
from atoll.core.sandbox import InboundAuth, Sandbox

Message = dict[str, Any]  # Any: JSON values

HEARTBEAT_S = 15.0
MAX_BEHIND = 10_000  # changes a follower may be behind; then it is dropped, and starts anew with the whole table

ROUTED: dict[State, str] = {
    State.RUNNING: "running",
    State.PAUSED: "paused",
    State.STOPPED: "stopped",
    State.ERROR: "stopped",
}


def route_of(sandbox: Sandbox) -> Message | None:
    if sandbox.state not in ROUTED:
        return None
    return {
        "id": sandbox.id,
        "incarnation": sandbox.incarnation,
        "state": ROUTED[sandbox.state],
        "socket": sandbox.socket,
        "workdir": sandbox.workdir,
        "python": sandbox.python,
        "internet_access": has_way_out(sandbox.internet_access, sandbox.network),
        "inbound_auth": (InboundAuth.PUBLIC if sandbox.is_public else InboundAuth.TOKEN).value,
        "key": sandbox.key_id,
        "calls_per_minute": sandbox.agent_per_minute,
        "web_port": sandbox.ingress.web_port,
        "traffic_digest": sandbox.ingress.traffic_digest,
        "masked_host": sandbox.ingress.mask_request_host,
        "https_ports": list(sandbox.ingress.https_ports),
        "auto_resume": sandbox.ingress.auto_resume,
        "dialect": sandbox.dialect.value,
    }


class Routes:
    def __init__(self) -> None:
        self._routes: dict[str, Message] = {}
        self._life = secrets.token_hex(4)
        self._told = 0
        self._followers: set[asyncio.Queue[Message | None]] = set()

    @property
    def mark(self) -> str:
        """Of this server's life and of its changes until now: whoever follows has seen them with the message that bears
        it."""
        return f"{self._life}.{self._told}"

    def load(self, sandboxes: Iterable[Sandbox]) -> None:
        self._routes = {sandbox.id: route for sandbox in sandboxes if (route := route_of(sandbox))}

    def get(self, sandbox_id: str) -> Message | None:
        return self._routes.get(sandbox_id)

    def running(self, dialects: Collection[str]) -> list[str]:
        """Ids of those that run and were made by one of these."""
        return [
            sandbox_id
            for sandbox_id, route in self._routes.items()
            if route["state"] == "running" and route["dialect"] in dialects
        ]

    def ids(self) -> KeysView[str]:
        return self._routes.keys()

    async def publish(self, sandbox: Sandbox) -> None:
        """Returns when the followers have been woken, so that the change is on its way before the answer is."""
        route = route_of(sandbox)
        if route is None:
            if self._routes.pop(sandbox.id, None) is None:
                return
            self._tell({"id": sandbox.id, "removed": True})
        elif self._routes.get(sandbox.id) != route:
            self._routes[sandbox.id] = route
            self._tell(route)
        await asyncio.sleep(0)

    async def follow(self, heartbeat_s: float = HEARTBEAT_S) -> AsyncIterator[Message]:
        changes: asyncio.Queue[Message | None] = asyncio.Queue(MAX_BEHIND)
        snapshot, mark = list(self._routes.values()), self.mark
        self._followers.add(changes)
        try:
            for route in snapshot:
                yield route
            yield {"ready": True, "mark": mark}
            while (message := await _next(changes, heartbeat_s)) is not None:
                yield message
        finally:
            self._followers.discard(changes)

    def close(self) -> None:
        """Ends every stream; the server is about to stop."""
        for follower in list(self._followers):
            self._drop(follower)

    def _tell(self, change: Message) -> None:
        self._told += 1
        message = {**change, "mark": self.mark}
        for follower in list(self._followers):
            try:
                follower.put_nowait(message)
            except asyncio.QueueFull:
                self._drop(follower)

    def _drop(self, follower: asyncio.Queue[Message | None]) -> None:
        self._followers.discard(follower)
        while not follower.empty():
            follower.get_nowait()
        follower.put_nowait(None)


async def _next(changes: asyncio.Queue[Message | None], heartbeat_s: float) -> Message | None:
    try:
        async with asyncio.timeout(heartbeat_s):
            return await changes.get()
    except TimeoutError:
        return {}
