"""What the edge knows of sandboxes: a table kept current by the server's route stream.

The table is used while the stream is down; then it is as old as the disconnect, and a dead socket corrects it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from atoll.core.errors import AtollError
from atoll.core.ids import is_sandbox_id

log = logging.getLogger("atoll.edge.routes")

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 2.0

Message = dict[str, Any]  # Any: JSON


class RouteState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Route:
    id: str
    incarnation: int
    state: RouteState
    socket: str
    workdir: str = "/workspace"
    python: bool = True
    internet_access: bool = False
    public: bool = False
    """Its ports are open to everybody; the agent never is."""
    key: str = ""
    """The id of the API key that made it: its sandboxes share one rate."""
    calls_per_minute: int | None = None
    web_port: int | None = None
    """What its own host serves."""
    traffic_digest: str = ""
    """SHA-256, in hex, of the traffic token, which is another key to its ports; empty: it has none."""
    masked_host: str = ""
    """The Host that its programs see, with `${PORT}` for their port; empty: as it was sent."""
    https_ports: frozenset[int] = frozenset()
    """Ports whose programs speak TLS."""
    auto_resume: bool = False
    dialect: str = "hopx"
    """By which API it was created: whose words it answers in."""

    @classmethod
    def from_wire(cls, data: Message) -> Route:
        """ValueError, KeyError or TypeError when it is no route."""
        if not is_sandbox_id(data["id"]):
            raise ValueError("not a sandbox id")
        return cls(
            id=data["id"],
            incarnation=int(data["incarnation"]),
            state=RouteState(data["state"]),
            socket=str(data.get("socket") or ""),
            workdir=str(data.get("workdir") or "/workspace"),
            python=bool(data.get("python", True)),
            internet_access=data.get("internet_access") is True,
            public=data.get("inbound_auth") == "public",
            key=str(data.get("key") or ""),
            calls_per_minute=None if data.get("calls_per_minute") is None else int(data["calls_per_minute"]),
            web_port=None if data.get("web_port") is None else int(data["web_port"]),
            traffic_digest=str(data.get("traffic_digest") or ""),
            masked_host=str(data.get("masked_host") or ""),
            https_ports=frozenset(int(port) for port in data.get("https_ports") or ()),
            auto_resume=data.get("auto_resume") is True,
            dialect=str(data.get("dialect") or "hopx"),
        )


class RouteTable:
    """Pure. `on_change` is told the id whose connections are no longer any good, `on_route` each route that is new."""

    def __init__(
        self,
        on_change: Callable[[str], None] = lambda sandbox_id: None,
        on_route: Callable[[Route], None] = lambda route: None,
    ) -> None:
        self._on_route = on_route
        self._routes: dict[str, Route] = {}
        self._unconfirmed: set[str] = set()
        self._overtaken: dict[str, bool] = {}
        self._on_change = on_change

    def __len__(self) -> int:
        return len(self._routes)

    def get(self, sandbox_id: str) -> Route | None:
        return self._routes.get(sandbox_id)

    def ids(self) -> list[str]:
        return list(self._routes)

    def begin_snapshot(self) -> None:
        """What the coming snapshot does not name is gone at its end."""
        self._unconfirmed = set(self._routes)

    def end_snapshot(self) -> None:
        for sandbox_id in self._unconfirmed:
            self.remove(sandbox_id)
        self._unconfirmed = set()

    def put(self, route: Route) -> None:
        self._unconfirmed.discard(route.id)
        self._overtake(route.id)
        old = self._routes.get(route.id)
        self._routes[route.id] = route
        if old is not None and (old.incarnation, old.socket) != (route.incarnation, route.socket):
            self._on_change(route.id)
        if old != route:
            self._on_route(route)

    def remove(self, sandbox_id: str) -> None:
        self._overtake(sandbox_id)
        if self._routes.pop(sandbox_id, None) is not None:
            self._on_change(sandbox_id)

    def _overtake(self, sandbox_id: str) -> None:
        if sandbox_id in self._overtaken:
            self._overtaken[sandbox_id] = True

    def asking(self, sandbox_id: str) -> None:
        self._overtaken[sandbox_id] = False

    def answered(self, sandbox_id: str, route: Route | None) -> Route | None:
        """An answer that the stream has overtaken must neither revive a removed route nor turn a newer one back."""
        if not self._overtaken.pop(sandbox_id, False):
            if route is None:
                self.remove(sandbox_id)
            else:
                self.put(route)
        return self._routes.get(sandbox_id)

    def not_answered(self, sandbox_id: str) -> None:
        self._overtaken.pop(sandbox_id, None)


def apply(table: RouteTable, message: Message) -> bool:
    """True when the message ends the snapshot. A line that is no route is logged and skipped."""
    if message.get("ready"):
        table.end_snapshot()
        return True
    if not message:
        return False
    try:
        if message.get("removed"):
            table.remove(str(message["id"]))
        else:
            table.put(Route.from_wire(message))
    except (KeyError, TypeError, ValueError):
        log.error("not a route: %.200r", message)
    return False


class RouteSource(Protocol):
    def stream_routes(self) -> AsyncIterator[Message]: ...

    async def fetch_route(self, sandbox_id: str) -> Message | None: ...


class Routes:
    """The table with its feed and its questions."""

    def __init__(
        self,
        source: RouteSource,
        on_change: Callable[[str], None] = lambda sandbox_id: None,
        on_ready: Callable[[], None] = lambda: None,
        on_route: Callable[[Route], None] = lambda route: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.table = RouteTable(on_change, on_route)
        self.ready = asyncio.Event()
        self._source = source
        self._on_ready = on_ready
        self._sleep = sleep
        self._asks: dict[str, asyncio.Task[Route | None]] = {}
        self._mark = ""
        """Of the last message; empty while nothing comes."""

    async def follow(self) -> None:
        """Runs until cancelled."""
        delay = FIRST_RETRY_S
        while True:
            try:
                if await self._follow_once():
                    delay = FIRST_RETRY_S
            except AtollError as error:
                log.info("route stream: %s", error.message)
            await self._sleep(delay)
            delay = min(delay * 2, LAST_RETRY_S)

    async def _follow_once(self) -> bool:
        complete = False
        self.table.begin_snapshot()
        try:
            async for message in self._source.stream_routes():
                if apply(self.table, message):
                    complete = True
                    self.ready.set()
                    self._on_ready()
                self._mark = str(message.get("mark", self._mark))
        finally:
            self._mark = ""
        return complete

    async def find(self, sandbox_id: str) -> Route | None:
        return self.table.get(sandbox_id) or await self.ask(sandbox_id)

    async def ask(self, sandbox_id: str) -> Route | None:
        """The server's word, one question at a time per sandbox however many callers wait for it."""
        task = self._asks.get(sandbox_id)
        if task is None:
            task = asyncio.create_task(self._ask(sandbox_id))
            self._asks[sandbox_id] = task
            task.add_done_callback(lambda done: self._asked(sandbox_id, done))
        return await asyncio.shield(task)

    def _asked(self, sandbox_id: str, done: asyncio.Task[Route | None]) -> None:
        self._asks.pop(sandbox_id, None)
        if not done.cancelled():
            done.exception()  # seen, also when every caller has left

    async def refresh(self, sandbox_id: str, mark: str = "") -> None:
        """Makes the table at least as new as this moment, or as the server's was when it gave that mark; an answer
        asked for earlier will not do."""
        if self._has_seen(mark):
            return
        while (earlier := self._asks.get(sandbox_id)) is not None:
            await asyncio.wait((earlier,))
        with suppress(AtollError):
            await self.ask(sandbox_id)

    def _has_seen(self, mark: str) -> bool:
        life, _, number = mark.partition(".")
        seen_life, _, seen = self._mark.partition(".")
        return life == seen_life != "" and int(number) <= int(seen)

    async def _ask(self, sandbox_id: str) -> Route | None:
        self.table.asking(sandbox_id)
        try:
            data = await self._source.fetch_route(sandbox_id)
            route = None if data is None else Route.from_wire(data)
        except BaseException:
            self.table.not_answered(sandbox_id)
            raise
        return self.table.answered(sandbox_id, route)
