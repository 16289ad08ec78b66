from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from atoll.core.errors import Unavailable
from atoll.edge.routes import Route, Routes, RouteState, RouteTable, apply

A, B = "a" * 20, "b" * 20


def message(sandbox_id: str = A, **more: Any) -> dict[str, Any]:
    return {"id": sandbox_id, "incarnation": 1, "state": "running", "socket": "/s", **more}


def test_snapshot_removes_what_it_does_not_name() -> None:
    table = RouteTable()
    apply(table, message(A))
    apply(table, message(B))
    table.begin_snapshot()
    apply(table, message(B))
    assert table.get(A) is not None, "usable until the snapshot is complete"
    assert apply(table, {"ready": True})
    assert (table.get(A), table.get(B) is not None) == (None, True)


def test_change_of_incarnation_or_socket_or_removal_is_told() -> None:
    told: list[str] = []
    table = RouteTable(told.append)
    apply(table, message())
    apply(table, message(state="paused"))
    assert told == []
    apply(table, message(incarnation=2))
    apply(table, message(incarnation=2, socket="/t"))
    apply(table, {"id": A, "removed": True})
    assert told == [A, A, A]


@pytest.mark.parametrize("bad", [{"id": A}, message("short"), message(state="odd"), message(incarnation="x")])
def test_line_that_is_no_route_changes_nothing(bad: dict[str, Any]) -> None:
    table = RouteTable()
    assert not apply(table, bad)
    assert len(table) == 0


def test_what_a_route_says_of_its_ports_is_read() -> None:
    told = message(
        inbound_auth="public",
        web_port=3000,
        traffic_digest="d" * 64,
        masked_host="localhost:${PORT}",
        https_ports=[8443, 9443],
        auto_resume=True,
        dialect="e2b",
    )
    route = Route.from_wire(told)
    assert (route.public, route.web_port, route.traffic_digest) == (True, 3000, "d" * 64)
    assert (route.masked_host, route.https_ports) == ("localhost:${PORT}", {8443, 9443})
    assert (route.auto_resume, route.dialect) == (True, "e2b")


def test_a_route_that_says_nothing_of_its_ports_is_closed_and_plain() -> None:
    route = Route.from_wire(message())
    assert (route.public, route.web_port, route.traffic_digest) == (False, None, "")
    assert (route.masked_host, route.https_ports) == ("", frozenset())
    assert (route.auto_resume, route.dialect) == (False, "hopx")


def test_heartbeat_is_nothing() -> None:
    assert not apply(RouteTable(), {})


def test_answer_overtaken_by_a_removal_does_not_revive() -> None:
    table = RouteTable()
    table.asking(A)
    table.remove(A)
    assert table.answered(A, Route.from_wire(message())) is None
    assert table.get(A) is None


def test_answer_overtaken_by_a_change_does_not_turn_it_back() -> None:
    table = RouteTable()
    table.put(Route.from_wire(message(state="paused")))
    table.asking(A)
    table.put(Route.from_wire(message()))
    found = table.answered(A, Route.from_wire(message(state="paused")))
    assert found is not None
    assert found.state is RouteState.RUNNING


def test_answer_that_nothing_overtook_is_the_news() -> None:
    table = RouteTable()
    table.put(Route.from_wire(message()))
    table.asking(A)
    assert table.answered(A, None) is None
    assert table.get(A) is None


class Source:
    def __init__(self) -> None:
        self.streams: asyncio.Queue[list[dict[str, Any]] | Exception] = asyncio.Queue()
        self.answers: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.asked = 0
        self.hold_open = False
        """A stream that has said all stays."""

    async def stream_routes(self) -> AsyncIterator[dict[str, Any]]:
        told = await self.streams.get()
        if isinstance(told, Exception):
            raise told
        for item in told:
            yield item
        if self.hold_open:
            await asyncio.Event().wait()

    async def fetch_route(self, sandbox_id: str) -> dict[str, Any] | None:
        self.asked += 1
        return await self.answers.get()


async def test_feed_reconnects_and_waits_longer_each_time_it_fails() -> None:
    source, slept = Source(), []
    done = asyncio.Event()

    async def sleep(delay: float) -> None:
        slept.append(delay)
        if len(slept) == 4:
            done.set()
            await asyncio.Event().wait()

    routes = Routes(source, sleep=sleep)
    source.streams.put_nowait(Unavailable("away"))
    source.streams.put_nowait(Unavailable("away"))
    source.streams.put_nowait([message(), {"ready": True}])
    source.streams.put_nowait(Unavailable("away"))
    following = asyncio.create_task(routes.follow())
    await done.wait()
    following.cancel()
    assert slept == [0.1, 0.2, 0.1, 0.2]
    assert routes.table.get(A) is not None, "the table stays usable"


async def test_callers_for_one_unknown_sandbox_share_one_question() -> None:
    source = Source()
    routes = Routes(source)
    callers = [asyncio.create_task(routes.find(A)) for _ in range(5)]
    source.answers.put_nowait(message())
    found = await asyncio.gather(*callers)
    assert source.asked == 1
    assert {route.id for route in found if route} == {A}


async def test_negative_answer_is_not_kept() -> None:
    source = Source()
    routes = Routes(source)
    source.answers.put_nowait(None)
    assert await routes.find(A) is None
    source.answers.put_nowait(message())
    assert await routes.find(A) is not None


async def test_refresh_asks_again_after_an_earlier_question() -> None:
    source = Source()
    routes = Routes(source)
    earlier = asyncio.create_task(routes.find(A))
    await asyncio.sleep(0)
    refresh = asyncio.create_task(routes.refresh(A))
    source.answers.put_nowait(message(state="paused"))
    source.answers.put_nowait(message())
    await asyncio.gather(earlier, refresh)
    assert source.asked == 2
    assert routes.table.get(A).state is RouteState.RUNNING


@pytest.mark.parametrize(
    ("mark", "asked"),
    [("life.2", 0), ("life.1", 0), ("life.3", 1), ("other.1", 1), ("", 1)],
    ids=["seen", "seen long ago", "not seen", "another server's", "none"],
)
async def test_who_has_seen_the_change_on_the_stream_asks_for_nothing(mark: str, asked: int) -> None:
    source, told = Source(), asyncio.Event()
    routes = Routes(source, on_route=lambda route: route.state is RouteState.PAUSED and told.set())
    source.hold_open = True
    source.streams.put_nowait([{"ready": True, "mark": "life.1"}, message(state="paused", mark="life.2"), {}])
    following = asyncio.create_task(routes.follow())
    await told.wait()
    await asyncio.sleep(0)
    source.answers.put_nowait(message(state="stopped"))
    await routes.refresh(A, mark)
    assert source.asked == asked
    following.cancel()


async def test_without_its_stream_the_edge_asks_whatever_the_mark() -> None:
    source, over = Source(), asyncio.Event()

    async def sleep(_: float) -> None:
        over.set()
        await asyncio.Event().wait()

    routes = Routes(source, sleep=sleep)
    source.streams.put_nowait([message(), {"ready": True, "mark": "life.1"}])
    following = asyncio.create_task(routes.follow())
    await over.wait()
    source.answers.put_nowait(message(state="paused"))
    await routes.refresh(A, "life.1")
    assert source.asked == 1
    following.cancel()
