from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from atoll.edge.e2b.watch import events_of
from atoll.edge.e2b.watchers import ON_ITS_WAY_S


@pytest.mark.parametrize(
    ("told", "events"),
    [
        ({"event": "created", "path": "/r/f"}, [("f", "CREATE")]),
        ({"event": "created", "path": "/r/f", "whole": True}, [("f", "CREATE"), ("f", "CHMOD"), ("f", "WRITE")]),
        ({"event": "modified", "path": "/r/a/f"}, [("a/f", "WRITE")]),
        ({"event": "deleted", "path": "/r/f"}, [("f", "REMOVE")]),
        ({"event": "attributes", "path": "/r/f"}, [("f", "CHMOD")]),
        ({"event": "renamed", "path": "/r/b", "from": "/r/a"}, [("a", "RENAME"), ("b", "CREATE")]),
        ({"event": "deleted", "path": "/r"}, [(".", "REMOVE")]),
        ({"event": "something new", "path": "/r/f"}, []),
        ({}, []),
    ],
)
def test_events_in_the_words_of_the_contract(told, events):
    assert [(each["name"], each["type"]) for each in events_of(told, "/r")] == [
        (name, f"EVENT_TYPE_{kind}") for name, kind in events
    ]


async def test_a_watcher_that_is_asked_waits_for_a_sandbox_that_stands_still(envd, agent, kit):
    told, over = asyncio.Event(), asyncio.Event()
    event = {"type": "event", "path": "/r/f", "event": "created"}
    agent.answers("GET", "/files/stat", {"entry": {"path": "/r", "type": "directory"}})
    agent.streams("GET", "/files/watch", kit.frame({"type": "ready"}), told, kit.frame(event), over)

    async def goes_on(_: object) -> web.Response:
        await asyncio.sleep(3 * ON_ITS_WAY_S)
        told.set()
        return web.json_response({})

    agent.on("GET", "/health", goes_on)

    async def call(name: str, **message: str) -> dict[str, object]:
        status, answer = await envd.json("POST", f"/filesystem.Filesystem/{name}", json=message)
        assert status == 200, answer
        return answer

    watcher = await call("CreateWatcher", path="/r")
    assert await call("GetWatcherEvents", **watcher) == {"events": [{"name": "f", "type": "EVENT_TYPE_CREATE"}]}
    over.set()
