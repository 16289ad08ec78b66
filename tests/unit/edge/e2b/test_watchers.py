from __future__ import annotations

import asyncio
import gc
from contextlib import AbstractAsyncContextManager, nullcontext

import pytest

from atoll.edge.agent_link import AgentGone
from atoll.edge.e2b import watchers as watchers_module
from atoll.edge.e2b.watchers import MAX_EVENTS, MAX_KEPT, MAX_WATCHERS, Watcher, Watchers
from atoll.wire.connect import Code, ConnectError


class Link:
    """Stands for the edge's link to a sandbox, which is only what watchers are kept by."""


def stream() -> AbstractAsyncContextManager[None]:
    return nullcontext()


async def watching(*told: object):
    yield None
    for each in told:
        if isinstance(each, Exception):
            raise each
        yield each


async def forever(over: asyncio.Event):
    try:
        yield None
        await asyncio.Event().wait()
    finally:
        over.set()


async def test_a_watcher_hands_out_what_it_has_kept_once():
    watcher = Watcher()
    await watcher.begin(stream(), watching({"name": "f"}))
    await asyncio.wait_for(watcher._task, 5)
    assert await watcher.take() == [{"name": "f"}]
    assert await watcher.take() == []


async def test_what_comes_a_moment_after_the_question_is_in_the_answer(monkeypatch):
    monkeypatch.setattr(watchers_module, "ON_ITS_WAY_S", 10.0)
    watcher, more = Watcher(), asyncio.Event()

    async def events():
        yield None
        await more.wait()
        yield {"name": "f"}
        await asyncio.Event().wait()

    await watcher.begin(stream(), events())
    asyncio.get_running_loop().call_later(0.01, more.set)
    assert await watcher.take() == [{"name": "f"}]
    monkeypatch.undo()
    assert await watcher.take() == []
    watcher.close()


async def test_a_watcher_that_lost_some_says_so_once():
    watcher = Watcher()
    await watcher.begin(stream(), watching(*({"name": str(number)} for number in range(MAX_EVENTS + 1))))
    await asyncio.wait_for(watcher._task, 5)
    with pytest.raises(ConnectError, match="look through the directory"):
        await watcher.take()
    assert await watcher.take() == []


async def test_long_names_take_no_more_room_than_short_ones():
    watcher, name = Watcher(), "n" * 4096
    await watcher.begin(stream(), watching(*({"name": name} for _ in range(MAX_KEPT // 4096 + 1))))
    await asyncio.wait_for(watcher._task, 5)
    with pytest.raises(ConnectError, match="look through the directory"):
        await watcher.take()
    watcher._keep({"name": name})
    assert await watcher.take() == [{"name": name}]


async def test_a_watcher_says_that_its_sandbox_has_gone():
    watcher = Watcher()
    await watcher.begin(stream(), watching(AgentGone("the answer broke off")))
    await asyncio.wait_for(watcher._task, 5)
    with pytest.raises(ConnectError, match="ended with its sandbox"):
        await watcher.take()


async def test_a_watcher_that_is_removed_watches_no_more():
    watchers, link, over = Watchers(), Link(), asyncio.Event()
    with watchers.new(link) as (watcher_id, watcher):
        await watcher.begin(stream(), forever(over))
    watchers.remove(link, watcher_id)
    await asyncio.wait_for(over.wait(), 5)
    with pytest.raises(ConnectError, match="not found") as refused:
        watchers.find(link, watcher_id)
    assert refused.value.code is Code.NOT_FOUND


def test_a_watcher_that_could_not_begin_is_none():
    watchers, link = Watchers(), Link()
    with pytest.raises(ConnectError, match="no directory"), watchers.new(link) as (watcher_id, _):
        raise ConnectError(Code.NOT_FOUND, "no directory")
    with pytest.raises(ConnectError, match="not found"):
        watchers.find(link, watcher_id)


def test_a_sandbox_has_its_own_watchers_and_at_most_so_many():
    watchers, link, other = Watchers(), Link(), Link()
    for _ in range(MAX_WATCHERS):
        with watchers.new(link) as (watcher_id, _):
            pass
    with pytest.raises(ConnectError, match="at most"), watchers.new(link):
        pass
    with pytest.raises(ConnectError, match="not found"):
        watchers.find(other, watcher_id)
    with watchers.new(other) as (theirs, watcher):
        pass
    assert watchers.find(other, theirs) is watcher


def test_watchers_go_with_the_link_to_their_sandbox():
    watchers, link = Watchers(), Link()
    with watchers.new(link):
        pass
    del link
    gc.collect()
    assert len(watchers._of) == 0
