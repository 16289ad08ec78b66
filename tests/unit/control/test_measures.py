from __future__ import annotations

import pytest

from atoll.control.measures import KEEP_S
from atoll.core.errors import NotFound, Unavailable
from atoll.core.ingress import Dialect
from atoll.core.order import CreateOrder
from atoll.testing.plane import Plane


async def make(plane: Plane, dialect: Dialect = Dialect.E2B) -> str:
    sandbox, _ = await plane.services.sandboxes.create(plane.caller, CreateOrder("base", dialect=dialect))
    return sandbox.id


async def test_only_what_runs_and_shows_figures_is_looked_at(plane: Plane):
    shown, paused, other = await make(plane), await make(plane), await make(plane, Dialect.HOPX)
    await plane.services.sandboxes.pause(plane.caller, paused)
    await plane.services.measures.round()
    assert [sandbox_id for method, sandbox_id in plane.node.calls if method == "usage"] == [shown]
    assert other


async def test_shares_are_of_all_its_cpus_and_of_the_time_between(plane: Plane):
    sandbox_id = await make(plane)
    for spent in (0.0, 4.0, 4.0, 100.0):
        plane.node.cpu_seconds[sandbox_id] = spent
        await plane.services.measures.round()
        plane.clock.advance(10)
    found = await plane.services.measures.of(plane.caller, sandbox_id)
    assert [each.cpu_used_pct for each in found][:4] == [0, 20, 0, 100]


async def test_a_new_life_counts_from_nothing(plane: Plane):
    sandbox_id = await make(plane)
    plane.clock.advance(10)
    plane.node.cpu_seconds[sandbox_id] = 10
    await plane.services.measures.round()
    await plane.services.sandboxes.stop(plane.caller, sandbox_id)
    await plane.services.sandboxes.start(plane.caller, sandbox_id)
    plane.clock.advance(10)
    plane.node.cpu_seconds[sandbox_id] = 5
    await plane.services.measures.round()
    found = await plane.services.measures.of(plane.caller, sandbox_id)
    assert [each.cpu_used_pct for each in found] == [50, 25]


async def test_who_asks_often_is_told_the_same(plane: Plane):
    sandbox_id = await make(plane)
    for _ in range(3):
        await plane.services.measures.of(plane.caller, sandbox_id)
        plane.clock.advance(0.4)
    assert [method for method, _ in plane.node.calls].count("usage") == 1


async def test_half_an_hour_is_kept_and_nothing_of_what_is_gone(plane: Plane):
    sandbox_id = await make(plane)
    for _ in range(100):
        await plane.services.measures.round()
        plane.clock.advance(60)
    found = await plane.services.measures.of(plane.caller, sandbox_id)
    assert found[-1].at - found[0].at <= KEEP_S
    await plane.services.sandboxes.delete(plane.caller, sandbox_id)
    with pytest.raises(NotFound):
        await plane.services.measures.of(plane.caller, sandbox_id)
    await plane.services.measures.round()
    assert plane.services.measures._series == {}


async def test_one_that_cannot_be_measured_does_not_keep_the_others_waiting(plane: Plane):
    first, second = await make(plane), await make(plane)
    plane.node.fail("usage", Unavailable("away"))
    await plane.services.measures.round()
    plane.node.mend("usage")
    await plane.services.measures.round()
    found = await plane.services.measures.latest(plane.caller, [first, second, "x" * 20])
    assert found.keys() == {first, second}


async def test_added_memory_is_shown_at_once(plane: Plane) -> None:
    order = CreateOrder("base", dialect=Dialect.NOVITA)
    box, _ = await plane.services.sandboxes.create(plane.caller, order)
    await plane.services.measures.of(plane.caller, box.id)
    await plane.services.memory.plug(plane.caller, box.id, 512)
    totals = [each.memory_total for each in await plane.services.measures.of(plane.caller, box.id)]
    assert totals == [box.limits.memory_mib << 20, (box.limits.memory_mib + 512) << 20]
