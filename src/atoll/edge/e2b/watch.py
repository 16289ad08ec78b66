"""`filesystem.Filesystem`: watches, as streams and by asking."""

from __future__ import annotations

import posixpath
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from atoll.edge.agent_link import AgentError, AgentRefused, Answer
from atoll.edge.frames_in import text
from atoll.wire import connect, proto_json
from atoll.wire.connect import Code, ConnectError, Object

from .call import Call
from .entries import entry_info
from .filesystem import entry_at, path_of
from .rpc import Send
from .watchers import LOST

SETTLE_S = 5.0
"""So long an asker waits for the agent's word that it is awake: it tells what has happened before it answers calls."""
KEEPALIVE: Object = {"keepalive": {}}
EVENTS: dict[str, tuple[str, ...]] = {
    "created": ("EVENT_TYPE_CREATE",),
    "modified": ("EVENT_TYPE_WRITE",),
    "deleted": ("EVENT_TYPE_REMOVE",),
    "attributes": ("EVENT_TYPE_CHMOD",),
}
WITH_CONTENT = ("EVENT_TYPE_CREATE", "EVENT_TYPE_CHMOD", "EVENT_TYPE_WRITE")
"""A file that came whole: made, given its mode and its content. Suites of clients count these three."""
HAS_ENTRY = frozenset(("EVENT_TYPE_CREATE", "EVENT_TYPE_WRITE", "EVENT_TYPE_CHMOD"))


def events_of(told: Object, root: str) -> list[Object]:
    """The agent's event in E2B's words: names are relative to the watched directory."""
    kind, path = text(told.get("event")), text(told.get("path"))
    if kind == "renamed":
        return [
            {"name": _relative(text(told.get("from")), root), "type": "EVENT_TYPE_RENAME"},
            {"name": _relative(path, root), "type": "EVENT_TYPE_CREATE"},
        ]
    types = WITH_CONTENT if kind == "created" and told.get("whole") is True else EVENTS.get(kind, ())
    return [{"name": _relative(path, root), "type": each} for each in types]


def _relative(path: str, root: str) -> str:
    return posixpath.relpath(path, root) if path else ""


class _Watch:
    """What a call wants watched."""

    def __init__(self, call: Call, message: Object, root: str) -> None:
        self.root = root
        self._call = call
        self._recursive = proto_json.boolean(message, "recursive")
        self._with_entry = proto_json.boolean(message, "includeEntry")

    @classmethod
    async def of(cls, call: Call, message: Object) -> _Watch:
        """Network mounts are not told apart: a sandbox has none."""
        there = await entry_at(call, path_of(call, message), follow=True)
        if there.get("type") != "directory":
            raise connect.invalid(f"path {text(there.get('path'))} is not a directory")
        return cls(call, message, text(there.get("path")))

    async def open(self) -> Answer:
        recursive = "1" if self._recursive else "0"
        query = {"path": self.root, "user": self._call.user, "recursive": recursive, "attributes": "1"}
        return await self._call.agent.open("GET", "/files/watch", query=query)

    async def events(self, stream: Answer) -> AsyncGenerator[Object | None, None]:
        """None: from now on nothing is missed. ConnectError when something was."""
        async for frame in stream.frames():
            match frame.type:
                case "ready":
                    yield None
                case "event":
                    for event in events_of(frame.value, self.root):
                        yield await self._complete(event)
                case "overflow":
                    raise ConnectError(Code.RESOURCE_EXHAUSTED, LOST)

    async def _complete(self, event: Object) -> Object:
        if self._with_entry and event["type"] in HAS_ENTRY:
            with suppress(AgentRefused):  # it is gone already
                entry = await entry_at(self._call, posixpath.join(self.root, event["name"]))
                return {**event, "entry": entry_info(entry)}
        return event


async def watch_directory(call: Call, message: Object, send: Send) -> None:
    watch = await _Watch.of(call, message)
    async with await watch.open() as stream, aclosing(watch.events(stream)) as events:
        async for event in events:
            await send(connect.message({"start": {}} if event is None else {"filesystem": event}))


async def create_watcher(call: Call, message: Object) -> Object:
    watch = await _Watch.of(call, message)
    with call.watchers.new(call.agent) as (watcher_id, watcher):
        stream = await watch.open()
        await watcher.begin(stream, watch.events(stream))
    return {"watcherId": watcher_id}


async def watcher_events(call: Call, message: Object) -> Object:
    watcher = call.watchers.find(call.agent, _id(message))
    with suppress(AgentError):  # the watcher itself says what has ended
        await call.agent.call("GET", "/health", timeout_s=SETTLE_S)
    return {"events": await watcher.take()}


async def remove_watcher(call: Call, message: Object) -> Object:
    call.watchers.remove(call.agent, _id(message))
    return {}


def _id(message: Object) -> str:
    return proto_json.text(message, "watcherId")
