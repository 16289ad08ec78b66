from __future__ import annotations

import asyncio

import pytest

from atoll.core.errors import Unavailable
from atoll.node.turns import Turns


async def test_one_at_a_time_for_a_sandbox_and_any_number_of_sandboxes() -> None:
    turns, order, inside = Turns(), [], asyncio.Event()
    turns.open()

    async def act(sandbox_id: str, name: str, wait: bool = False) -> None:
        async with turns(sandbox_id):
            order.append(name)
            if wait:
                await inside.wait()
            order.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(act("a", "first", wait=True))
        group.create_task(act("a", "second"))
        await group.create_task(act("b", "other"))
        assert order == ["first", "other", "other"]
        inside.set()
    assert order == ["first", "other", "other", "first", "second", "second"]


async def test_nothing_is_kept_of_sandboxes_that_are_left() -> None:
    turns = Turns()
    turns.open()
    async with turns("a"):
        pass
    assert (turns._locks, turns._users) == ({}, {})


async def test_a_shut_gate_lets_recovery_in_only() -> None:
    turns = Turns(gate_timeout_s=0)
    with pytest.raises(Unavailable):
        async with turns("a"):
            pass
    async with turns("a", gate=False):
        pass


async def test_idle_waits_for_those_inside() -> None:
    turns = Turns()
    turns.open()
    async with turns("a"):
        turns.shut()
        idle = asyncio.create_task(turns.idle())
        await asyncio.sleep(0)
        assert not idle.done()
    await idle
