from __future__ import annotations

import asyncio

import pytest

from atoll.engines.native import sweep
from atoll.engines.native.sweep import Births, Leftover, Sweeper


class Taker:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.allowed = asyncio.Event()
        self.allowed.set()
        self.begun = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self, leftovers) -> None:
        self.begun.set()
        await self.allowed.wait()
        self.batches.append([each.link for each in leftovers])
        if self.failure is not None:
            raise self.failure


async def test_what_comes_together_is_swept_together_and_never_too_much_at_once():
    take = Taker()
    sweeper = Sweeper(Births(), take)
    names = [f"at{number}" for number in range(sweep.AT_ONCE + 3)]
    await asyncio.gather(*(sweeper.sweep(Leftover(name)) for name in names))
    assert take.batches == [names[: sweep.AT_ONCE], names[sweep.AT_ONCE :]]


async def test_what_comes_while_another_is_swept_is_the_next_batch():
    take = Taker()
    take.allowed.clear()
    sweeper = Sweeper(Births(), take)
    first = asyncio.create_task(sweeper.sweep(Leftover("at1")))
    await take.begun.wait()
    rest = [asyncio.create_task(sweeper.sweep(Leftover(name))) for name in ("at2", "at3")]
    await asyncio.sleep(0)
    take.allowed.set()
    await asyncio.gather(first, *rest)
    assert take.batches == [["at1"], ["at2", "at3"]]


async def test_births_that_are_under_way_go_first():
    births, take = Births(), Taker()
    sweeper = Sweeper(births, take)
    with births.under_way():
        with births.under_way():
            swept = asyncio.create_task(sweeper.sweep(Leftover("at1")))
            await asyncio.sleep(2 * sweep.GATHER_S)
        await asyncio.sleep(0)
        assert not take.begun.is_set()
    await swept
    assert take.batches == [["at1"]]


async def test_births_that_do_not_end_are_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(sweep, "PATIENCE_S", 0.01)
    births, take = Births(), Taker()
    with births.under_way():
        await Sweeper(births, take).sweep(Leftover("at1"))
    assert take.batches == [["at1"]]


async def test_a_failure_is_told_to_all_of_its_batch_and_ends_nothing_else():
    take = Taker()
    take.failure = OSError("no")
    sweeper = Sweeper(Births(), take)
    told = await asyncio.gather(*(sweeper.sweep(Leftover(name)) for name in ("at1", "at2")), return_exceptions=True)
    assert told == [take.failure, take.failure]
    take.failure = None
    await sweeper.sweep(Leftover("at3"))
    assert take.batches == [["at1", "at2"], ["at3"]]


async def test_one_that_nobody_waits_for_any_more_is_swept_with_the_others():
    take = Taker()
    sweeper = Sweeper(Births(), take)
    left, stays = (asyncio.create_task(sweeper.sweep(Leftover(name))) for name in ("at1", "at2"))
    await asyncio.sleep(0)
    left.cancel()
    await stays
    assert take.batches == [["at1", "at2"]]
    with pytest.raises(asyncio.CancelledError):
        await left
