from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from atoll.edge.activity import Activity

A, B = "a" * 20, "b" * 20


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_only_what_changed_is_reported() -> None:
    clock = Clock()
    activity = Activity(clock)
    with activity.call(A):
        clock.now = 101.0
    assert activity.take() == [{"id": A, "last_call_at": 101.0, "open": 0}]
    assert activity.take() == []


def test_open_call_is_counted_and_its_end_reported() -> None:
    activity = Activity(Clock())
    with activity.call(A):
        with activity.call(A):
            assert activity.take()[0]["open"] == 2
        assert activity.take()[0]["open"] == 1
        assert activity.take() == []
    assert activity.take()[0]["open"] == 0


def test_report_that_failed_is_reported_again_unless_newer() -> None:
    clock = Clock()
    activity = Activity(clock)
    with activity.call(A), activity.call(B):
        pass
    taken = activity.take()
    clock.now = 200.0
    with activity.call(B):
        pass
    activity.give_back(taken)
    assert {entry["id"]: entry["last_call_at"] for entry in activity.take()} == {A: 100.0, B: 200.0}


def test_open_calls_are_told_again_to_a_server_that_was_away() -> None:
    activity = Activity(Clock())
    with activity.call(A):
        activity.take()
        activity.report_open_again()
        assert [entry["id"] for entry in activity.take()] == [A]


def test_nothing_is_kept_of_a_sandbox_that_is_not_used() -> None:
    activity = Activity(Clock())
    with activity.call(A):
        pass
    activity.take()
    assert activity._uses == {}


async def test_calls_reach_the_server(client, agent, edge, kit) -> None:
    agent.answers("GET", "/env", {"env": {"A": "1"}})
    await client.call("GET", "/env")
    (entry,) = edge.activity.take()
    assert (entry["id"], entry["open"]) == (kit.SANDBOX, 0)


async def test_open_call_counts(client, agent, edge, kit) -> None:
    async def hang(seen: Any) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    agent.on("GET", "/env", hang)
    call = asyncio.create_task(client.call("GET", "/env"))
    await agent.arrived.wait()
    assert edge.activity.open_calls(kit.SANDBOX) == 1
    call.cancel()
    await agent.left.wait()


async def test_probe_without_a_token_is_no_activity(session, origin, agent, edge, kit) -> None:
    agent.answers("GET", "/health", {"status": "ok"})
    async with session.get(f"{origin}/s/{kit.SANDBOX}/health") as answer:
        assert answer.status == 200
    assert edge.activity.take() == []


async def test_report_is_sent(monkeypatch, places, server, agent, kit) -> None:
    import aiohttp

    from atoll.core.settings import EdgeSettings
    from atoll.edge.main import serving

    monkeypatch.setattr("atoll.edge.main.REPORT_EVERY_S", 0.01)
    agent.answers("GET", "/env", {"env": {"A": "1"}})
    async with serving(EdgeSettings(places, "127.0.0.1", 0)) as edge, aiohttp.ClientSession() as session:
        client = kit.Client(session, f"http://127.0.0.1:{edge.port}", kit.token_for(kit.SANDBOX))
        await client.call("GET", "/env")
        (entry, *_) = await server.activity.get()
        assert entry["id"] == kit.SANDBOX
