"""`filesystem.Filesystem` but for its watches: entries, directories, moving and removing."""

from __future__ import annotations

from atoll.edge.agent_link import AgentRefused
from atoll.edge.frames_in import mapping, objects
from atoll.edge.listing import rendered
from atoll.wire import connect, proto_json
from atoll.wire.connect import Code, ConnectError, Object

from .call import Call
from .entries import WANTED, entry_info

MAX_DEPTH = 64
"""What the agent looks through at most."""


def path_of(call: Call, message: Object, name: str = "path") -> str:
    return call.path(proto_json.text(message, name))


async def entry_at(call: Call, path: str, follow: bool = False) -> Object:
    """In the agent's words."""
    query = {"path": path, "user": call.user, "follow": "1" if follow else "0", **WANTED}
    return mapping((await call.agent.call("GET", "/files/stat", query=query)).get("entry"))


async def stat(call: Call, message: Object) -> Object:
    return {"entry": entry_info(await entry_at(call, path_of(call, message)))}


async def make_directory(call: Call, message: Object) -> Object:
    path = path_of(call, message)
    body = {"path": path, "user": call.user, "mode": "0755", "exist_ok": False}
    try:
        await call.agent.call("POST", "/files/mkdir", json=body)
    except AgentRefused as refused:
        if refused.kind != "exists":
            raise
        there = await entry_at(call, path, follow=True)
        if there.get("type") == "directory":
            raise ConnectError(Code.ALREADY_EXISTS, f"directory already exists: {there.get('path')}") from refused
        raise connect.invalid(f"path already exists but it is not a directory: {there.get('path')}") from refused
    return {"entry": entry_info(await entry_at(call, path))}


async def move(call: Call, message: Object) -> Object:
    source, target = path_of(call, message, "source"), path_of(call, message, "destination")
    await call.agent.call("POST", "/files/move", json={"from": source, "to": target, "user": call.user})
    return {"entry": entry_info(await entry_at(call, target))}


async def list_directory(call: Call, message: Object) -> Object:
    depth = min(MAX_DEPTH, max(1, proto_json.whole(message, "depth")))
    query = {"path": path_of(call, message), "user": call.user, "depth": str(depth), **WANTED}
    entries = objects((await call.agent.call("GET", "/files/list", query=query)).get("entries"))
    return {"entries": await rendered(entries, entry_info)}


async def remove(call: Call, message: Object) -> Object:
    """What is not there is removed."""
    try:
        await call.agent.call("DELETE", "/files", query={"path": path_of(call, message), "user": call.user})
    except AgentRefused as refused:
        if refused.kind not in ("not_found", "not_a_directory"):
            raise
    return {}
