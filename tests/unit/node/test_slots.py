from __future__ import annotations

import asyncio
from pathlib import Path

from atoll.core.engine import SlotSpec
from atoll.core.errors import Unavailable
from atoll.core.limits import Limits
from atoll.core.template import Template
from atoll.node.slots import SlotPool

TEMPLATE = Template("base", "d" * 16, ("/layer",))
LIMITS = Limits()


class Maker:
    """Counts what is made; `made` is set whenever another one is."""

    def __init__(self) -> None:
        self.specs: list[SlotSpec] = []
        self.made = asyncio.Event()
        self.broken = False

    async def prepare_slot(self, spec: SlotSpec) -> None:
        if self.broken:
            raise Unavailable("no launcher")
        self.specs.append(spec)
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
    with pool.creating(TEMPLATE, Limits(disk_mib=1)) as ready:
        assert ready is None
    with pool.creating(TEMPLATE, Limits(processes=7)) as ready:
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
