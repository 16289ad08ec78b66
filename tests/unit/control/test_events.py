"""What happened to an organization's sandboxes, and what a key has."""

from __future__ import annotations

import pytest

from atoll.core.audit import ATOLL, Caller
from atoll.core.errors import InvalidInput, NotFound
from atoll.core.events import EventQuery, Outcomes
from atoll.core.keys import Principal
from atoll.core.limits import LARGEST
from atoll.core.order import CreateOrder
from atoll.core.quota import Quota, Used
from atoll.core.sandbox import OnTimeout


async def listed(plane, **query):
    page = await plane.services.events.list(plane.caller, EventQuery(**query))
    return [each.operation.partition(".")[2] for each in page.events], page.total


@pytest.fixture
async def gone(plane):
    order = CreateOrder("busybox", timeout_s=60, on_timeout=OnTimeout.KILL)
    box, _ = await plane.services.sandboxes.create(plane.caller, order)
    await plane.services.sandboxes.pause(plane.caller, box.id)
    await plane.services.sandboxes.get(plane.caller, box.id)
    await plane.services.sandboxes.resume(plane.caller, box.id)
    with pytest.raises(InvalidInput):
        await plane.services.memory.plug(plane.caller, box.id, -1)
    plane.clock.advance(61)
    await plane.services.reaper.tick()
    with pytest.raises(NotFound):
        await plane.services.sandboxes.get(plane.caller, box.id)
    return box


async def test_the_whole_life_is_there_also_of_one_that_is_gone(plane, gone):
    assert await listed(plane) == (["expire", "plug_memory", "resume", "pause", "create"], 5)
    page = await plane.services.events.list(plane.caller, EventQuery(oldest_first=True))
    first, last = page.events[0], page.events[-1]
    assert (first.operation, first.template, first.sandbox_id) == ("sandbox.create", "busybox", gone.id)
    assert (last.operation, last.outcome, last.detail) == ("sandbox.expire", "ok", "timeout")
    assert last.at - first.at == 61


async def test_it_is_found_by_each_of_its_sides(plane, gone):
    other, _ = await plane.services.sandboxes.create(plane.caller, CreateOrder("base"))
    assert (await listed(plane, sandbox=gone.id[3:12]))[1] == 5
    assert (await listed(plane, template="usyb"))[1] == 5
    assert await listed(plane, template="bas%") == ([], 0)
    assert await listed(plane, operations=["sandbox.create"]) == (["create", "create"], 2)
    assert await listed(plane, operations=["sandbox.get"]) == ([], 0)
    assert await listed(plane, outcomes=Outcomes.FAILED) == (["plug_memory"], 1)
    assert (await listed(plane, outcomes=Outcomes.OK))[1] == 5
    now = plane.clock.now()
    assert await listed(plane, since=now) == (["create", "expire"], 2)
    assert (await listed(plane, until=now - 1))[1] == 4
    assert await listed(plane, offset=1, limit=2, oldest_first=True) == (["pause", "resume"], 6)
    assert other.id != gone.id


async def test_old_ones_are_left_out_unless_they_are_asked_for(plane, gone):
    plane.clock.advance(31 * 86400)
    assert (await listed(plane))[1] == 0
    assert (await listed(plane, since=0))[1] == 5


async def test_nobody_sees_another_organizations(plane, gone):
    stranger = Caller(Principal("key_x", 999), "r", None)
    assert (await plane.services.events.list(stranger, EventQuery())).total == 0


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 101}, {"offset": -1}])
async def test_pages_have_bounds(plane, wrong):
    with pytest.raises(InvalidInput):
        await plane.services.events.list(plane.caller, EventQuery(**wrong))


async def test_a_key_is_told_its_limits_and_what_it_has(plane):
    key, _ = await plane.services.keys.create(ATOLL, "small", Quota(sandboxes=3, memory_mib=9000))
    by = Caller(Principal(key.id, key.organization_id, quota=key.quota), "r", None)
    await plane.services.sandboxes.create(by, CreateOrder("base"))
    box, _ = await plane.services.sandboxes.create(by, CreateOrder("base"))
    await plane.services.memory.plug(by, box.id, 512)
    await plane.services.sandboxes.create(plane.caller, CreateOrder("base"))
    standing = await plane.services.quotas.of(by)
    assert standing.quota == Quota(sandboxes=3, memory_mib=9000)
    assert standing.used == Used(sandboxes=2, vcpu=4, memory_mib=4096 + 512, disk_mib=20480)
    assert (standing.largest, standing.max_life_s) == (LARGEST, 86400)
