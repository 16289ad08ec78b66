"""Memory added at run time: what bounds it, and what is counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atoll.core.audit import ATOLL, Caller
from atoll.core.errors import CapacityExceeded, Conflict, InvalidInput, Unavailable
from atoll.core.keys import Principal
from atoll.core.limits import LARGEST
from atoll.core.order import CreateOrder
from atoll.core.quota import Quota
from atoll.testing.node import ROOMY

BORN = 2048


@pytest.fixture
async def box(plane):
    made, _ = await plane.services.sandboxes.create(plane.caller, CreateOrder("base"))
    return made


async def test_it_has_so_much_more_than_it_was_born_with(plane, box):
    for mib in (512, 512, 256, 1024, 0):
        found = await plane.services.memory.plug(plane.caller, box.id, mib)
        assert (found.limits.memory_mib, found.plugged_mib, plane.node.memory[box.id]) == (BORN + mib, mib, BORN + mib)
        assert await plane.services.sandboxes.get(plane.caller, box.id) == found


async def test_its_next_life_has_it_too(plane, box):
    await plane.services.memory.plug(plane.caller, box.id, 512)
    await plane.services.resets.reset(plane.caller, box.id)
    assert plane.node.births[-1].limits.memory_mib == BORN + 512
    found = await plane.services.memory.plug(plane.caller, box.id, 0)
    assert found.limits.memory_mib == BORN


async def test_the_templates_largest_is_the_most(plane, box):
    with pytest.raises(CapacityExceeded) as refused:
        await plane.services.memory.plug(plane.caller, box.id, LARGEST.memory_mib)
    assert (refused.value.details["cause"], refused.value.details["limit"]) == ("size", LARGEST.memory_mib)
    assert plane.node.memory == {}
    full = await plane.services.memory.plug(plane.caller, box.id, LARGEST.memory_mib - BORN)
    assert full.limits.memory_mib == LARGEST.memory_mib


async def test_what_the_host_does_not_have_is_refused(plane, box):
    plane.clock.advance(1)
    plane.node.room = replace(ROOMY, memory_available_mib=ROOMY.memory_reserve_mib + 500)
    with pytest.raises(CapacityExceeded) as refused:
        await plane.services.memory.plug(plane.caller, box.id, 501)
    assert (refused.value.details["cause"], refused.value.details["requested"]) == ("host_full", 501)
    assert (await plane.services.memory.plug(plane.caller, box.id, 500)).plugged_mib == 500


async def test_the_quota_of_the_key_that_made_it_counts(plane):
    key, _ = await plane.services.keys.create(ATOLL, "small", Quota(memory_mib=BORN + 512))
    by = Caller(Principal(key.id, key.organization_id, quota=key.quota), "r", None)
    made, _ = await plane.services.sandboxes.create(by, CreateOrder("base"))
    for caller in (by, plane.caller):
        with pytest.raises(CapacityExceeded) as refused:
            await plane.services.memory.plug(caller, made.id, 513)
        assert refused.value.details["cause"] == "quota"
    await plane.services.memory.plug(by, made.id, 512)
    assert (await plane.store.sandboxes.used(key.id)).memory_mib == BORN + 512
    with pytest.raises(CapacityExceeded):
        await plane.services.sandboxes.create(by, CreateOrder("base"))
    assert (await plane.services.memory.plug(by, made.id, 100)).plugged_mib == 100


async def test_what_the_node_did_not_do_is_not_written(plane, box):
    plane.node.fail("set_memory")
    with pytest.raises(Unavailable):
        await plane.services.memory.plug(plane.caller, box.id, 512)
    assert await plane.services.sandboxes.get(plane.caller, box.id) == box
    plane.node.mend("set_memory")
    await plane.services.memory.plug(plane.caller, box.id, 512)
    plane.node.fail("set_memory", Conflict("more in use"))
    with pytest.raises(Conflict):
        await plane.services.memory.plug(plane.caller, box.id, 0)
    assert (await plane.services.sandboxes.get(plane.caller, box.id)).plugged_mib == 512


async def test_only_one_that_runs_and_only_more(plane, box):
    with pytest.raises(InvalidInput):
        await plane.services.memory.plug(plane.caller, box.id, -1)
    await plane.services.sandboxes.pause(plane.caller, box.id)
    with pytest.raises(Conflict, match="paused"):
        await plane.services.memory.plug(plane.caller, box.id, 1)
