from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from atoll.core.engine import SlotSpec
from atoll.core.errors import Unavailable
from atoll.core.limits import Limits
from atoll.core.template import Template
from atoll.node import slots
from atoll.node.slots import SHAPES, SlotPool, fitting

TEMPLATE = Template("base", "d" * 16, ("/layer",))
LIMITS = Limits()


class Maker:
    """Counts what is made; `made` is set whenever another one is."""

    def __init__(self) -> None:
        self.specs: list[SlotSpec] = []
        self.made = asyncio.Event()
        self.broken = False
        self.refused = ""
        self.discarded: set[str] = set()

    async def prepare_slot(self, spec: SlotSpec) -> None:
        if self.broken or spec.template.name == self.refused:
            raise Unavailable("no launcher")
        self.specs.append(spec)
        self.made.set()

    async def discard_slot(self, name: str) -> None:
        self.discarded.add(name)
        self.made.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.specs) < count:
                self.made.clear()
                await self.made.wait()


class Disks:
    def __init__(self) -> None:
        self.images: set[str] = set()

    def fresh_key(self) -> bytes:
        return bytes(64)

    def make(self, sandbox_id: str, size_mib: int) -> None:
        self.images.add(sandbox_id)

    def path(self, sandbox_id: str) -> Path:
        return Path(f"/{sandbox_id}.img")

    def remove(self, sandbox_id: str) -> None:
        self.images.discard(sandbox_id)


async def test_a_wanted_shape_is_made_ahead_up_to_the_size() -> None:
    maker, disks = Maker(), Disks()
    pool = SlotPool(maker, disks, size=2)
    pool.open()
    pool.want(TEMPLATE, LIMITS)
    await maker.until(2)
    assert {spec.name for spec in maker.specs} == disks.images
    await pool.close()


async def test_the_first_create_of_a_shape_finds_none_and_the_next_one_does() -> None:
    maker = Maker()
    pool = SlotPool(maker, Disks(), size=1)
    pool.open()
    with pool.creating(TEMPLATE, LIMITS) as ready:
        assert ready is None
    await maker.until(1)
    with pool.creating(TEMPLATE, LIMITS) as ready:
        assert ready is not None
        assert ready.name == maker.specs[0].name
    await pool.close()


async def test_no_slot_is_made_while_a_create_is_under_way() -> None:
    maker = Maker()
    pool = SlotPool(maker, Disks(), size=1)
    pool.open()
    with pool.creating(TEMPLATE, LIMITS):
        for _ in range(10):
            await asyncio.sleep(0)
        assert maker.specs == []
    await maker.until(1)
    await pool.close()


async def test_other_limits_do_not_fit() -> None:
    maker = Maker()
    pool = SlotPool(maker, Disks(), size=1)
    pool.open()
    pool.want(TEMPLATE, LIMITS)
    await maker.until(1)
    for other in (Limits(disk_mib=1), Limits(processes=7)):
        with pool.creating(TEMPLATE, other) as ready:
            assert ready is None
    with pool.creating(TEMPLATE, LIMITS) as ready:
        assert ready is not None
    await pool.close()


async def test_a_failure_leaves_no_disk_and_the_next_create_tries_again() -> None:
    maker, disks = Maker(), Disks()
    maker.broken = True
    pool = SlotPool(maker, disks, size=1)
    pool.open()
    with pool.creating(TEMPLATE, LIMITS):
        pass
    for _ in range(10):
        await asyncio.sleep(0)
    assert disks.images == set()
    maker.broken = False
    with pool.creating(TEMPLATE, LIMITS):
        pass
    await maker.until(1)
    await pool.close()


async def test_a_making_that_fails_is_told_to_the_launcher_which_may_have_it_by_then() -> None:
    maker = Maker()
    maker.broken = True
    pool = SlotPool(maker, Disks(), size=1)
    pool.open()
    pool.want(TEMPLATE, LIMITS)
    async with asyncio.timeout(5):
        await maker.made.wait()
    assert len(maker.discarded) == 2  # it is tried twice
    await pool.close()


async def test_a_making_that_fails_once_is_repeated_though_nobody_asks() -> None:
    class Unlucky(Maker):
        async def prepare_slot(self, spec: SlotSpec) -> None:
            self.broken = not self.broken
            await super().prepare_slot(spec)

    maker = Unlucky()
    pool = SlotPool(maker, Disks(), size=3)
    pool.open()
    pool.want(TEMPLATE, LIMITS)
    await maker.until(3)
    await pool.close()


async def test_those_that_end_together_are_put_off_as_one() -> None:
    maker = Maker()
    pool = SlotPool(maker, Disks(), size=4)
    pool.open()
    pool.want(TEMPLATE, LIMITS)
    await maker.until(4)
    before = asyncio.get_running_loop().time()
    for spec in list(maker.specs):
        pool.lost(spec.name)
    await maker.until(8)
    assert asyncio.get_running_loop().time() - before < 4  # 1 s, and not 1 + 2 + 4
    await pool.close()


async def test_what_a_create_that_fails_was_given_is_let_go() -> None:
    maker, disks = Maker(), Disks()
    pool = SlotPool(maker, disks, size=1)
    pool.open()
    pool.want(TEMPLATE, LIMITS)
    await maker.until(1)
    with suppress(OSError), pool.creating(TEMPLATE, LIMITS):
        raise OSError("full")
    async with asyncio.timeout(5):
        while not maker.discarded:
            maker.made.clear()
            await maker.made.wait()
    assert maker.discarded == {maker.specs[0].name}
    assert maker.specs[0].name not in disks.images
    await pool.close()


async def test_closing_removes_the_disks_of_what_was_ready() -> None:
    maker, disks = Maker(), Disks()
    pool = SlotPool(maker, disks, size=2)
    pool.open()
    pool.want(TEMPLATE, LIMITS)
    await maker.until(2)
    await pool.close()
    assert disks.images == set()


async def test_a_size_that_a_caller_chose_is_not_made_ahead() -> None:
    """There are thousands of them."""
    maker = Maker()
    pool = SlotPool(maker, Disks(), size=1)
    pool.open()
    for memory_mib in range(512, 600):
        with pool.creating(TEMPLATE, Limits(memory_mib=memory_mib)) as ready:
            assert ready is None
    with pool.creating(TEMPLATE, LIMITS):
        pass
    await maker.until(1)
    for _ in range(10):
        await asyncio.sleep(0)
    assert [spec.limits for spec in maker.specs] == [LIMITS]
    await pool.close()


async def test_shapes_that_others_have_followed_are_let_go() -> None:
    maker, disks = Maker(), Disks()
    pool = SlotPool(maker, disks, size=2)
    pool.open()
    shapes = [Limits(processes=number) for number in range(1, SHAPES + 2)]
    for number, limits in enumerate(shapes, 1):
        pool.want(TEMPLATE, limits)
        await maker.until(2 * number)
    async with asyncio.timeout(5):
        while len(maker.discarded) < 2:
            maker.made.clear()
            await maker.made.wait()
    first = {spec.name for spec in maker.specs if spec.limits == shapes[0]}
    assert maker.discarded == first
    assert disks.images == {spec.name for spec in maker.specs} - first
    with pool.creating(TEMPLATE, shapes[0]) as ready:
        assert ready is None
    await pool.close()


@pytest.mark.parametrize(("memory_mib", "slots"), [(1_000, 4), (8_000, 26), (24_000, 80), (500_000, 128)])
def test_a_fiftieth_of_the_memory_is_for_slots(memory_mib: int, slots: int) -> None:
    assert fitting(memory_mib) == slots


async def test_a_shape_that_cannot_be_made_keeps_no_other_waiting() -> None:
    maker = Maker()
    pool = SlotPool(maker, Disks(), size=1)
    maker.refused = "broken"
    pool.want(TEMPLATE, LIMITS)
    pool.want(replace(TEMPLATE, name="broken", digest="b" * 16), LIMITS)
    pool.open()
    await maker.until(1)
    assert [spec.template.name for spec in maker.specs] == [TEMPLATE.name]
    await pool.close()


async def test_those_of_an_earlier_build_are_let_go() -> None:
    maker = Maker()
    pool = SlotPool(maker, Disks(), size=1)
    pool.open()
    pool.want(TEMPLATE, LIMITS)
    await maker.until(1)
    pool.want(replace(TEMPLATE, digest="e" * 16), LIMITS)
    async with asyncio.timeout(5):
        while not maker.discarded:
            maker.made.clear()
            await maker.made.wait()
    assert maker.discarded == {maker.specs[0].name}
    await pool.close()


async def test_while_creates_follow_each_other_a_pool_that_is_half_full_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "IDLE_S", 0.2)
    maker = Maker()
    pool = SlotPool(maker, Disks(), size=2 * slots.FEWEST)
    pool.open()
    pool.want(TEMPLATE, LIMITS)
    await maker.until(2 * slots.FEWEST)
    asked = asyncio.get_running_loop().time()
    with pool.creating(TEMPLATE, LIMITS) as ready:
        assert ready is not None
    await maker.until(2 * slots.FEWEST + 1)
    assert asyncio.get_running_loop().time() - asked >= 0.19
    await pool.close()


async def test_one_that_ends_while_it_waits_is_let_go_and_another_is_made() -> None:
    maker, disks = Maker(), Disks()
    pool = SlotPool(maker, disks, size=2)
    pool.open()
    pool.want(TEMPLATE, LIMITS)
    await maker.until(2)
    ended = maker.specs[0].name
    pool.lost(ended)
    await maker.until(3)
    with pool.creating(TEMPLATE, LIMITS) as ready:
        assert ready is not None
        assert ready.name != ended
    async with asyncio.timeout(5):
        while not maker.discarded:
            maker.made.clear()
            await maker.made.wait()
    assert maker.discarded == {ended}
    assert ended not in disks.images
    await pool.close()


async def test_those_that_end_again_and_again_are_made_more_and_more_slowly() -> None:
    maker = Maker()
    pool = SlotPool(maker, Disks(), size=1)
    pool.open()
    pool.want(TEMPLATE, LIMITS)
    await maker.until(1)
    pool.lost(maker.specs[0].name)
    await maker.until(2)
    pool.lost(maker.specs[1].name)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(maker.specs) == 2
    with pool.creating(TEMPLATE, LIMITS) as ready:
        assert ready is None
    await pool.close()


async def test_one_that_has_ended_before_its_making_is_told_is_not_given_out() -> None:
    class Short(Maker):
        async def prepare_slot(self, spec: SlotSpec) -> None:
            await super().prepare_slot(spec)
            pool.lost(spec.name)

    maker, disks = Short(), Disks()
    pool = SlotPool(maker, disks, size=1)
    pool.open()
    pool.want(TEMPLATE, LIMITS)
    async with asyncio.timeout(5):
        while not maker.discarded:
            maker.made.clear()
            await maker.made.wait()
    with pool.creating(TEMPLATE, LIMITS) as ready:
        assert ready is None
    assert disks.images == set()
    await pool.close()


async def test_a_name_that_it_does_not_have_changes_nothing() -> None:
    maker = Maker()
    pool = SlotPool(maker, Disks(), size=1)
    pool.open()
    pool.want(TEMPLATE, LIMITS)
    await maker.until(1)
    pool.lost("slotother")
    with pool.creating(TEMPLATE, LIMITS) as ready:
        assert ready is not None
    await pool.close()
