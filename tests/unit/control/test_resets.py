"""A new life on the old disk, with a fake node."""

from __future__ import annotations

import asyncio

import pytest

from atoll.core.audit import Caller
from atoll.core.errors import Conflict, InvalidInput, NotFound, Unavailable
from atoll.core.keys import Principal
from atoll.core.lifecycle import State
from atoll.core.order import CreateOrder
from atoll.core.policy import from_wire, parse
from atoll.core.sandbox import OnTimeout

RULED = parse({"rules": {"api.example": [{"transform": {"headers": {"X-Key": "${e2b.secrets.nope}"}}}]}})
ORDER = CreateOrder("base", timeout_s=300, on_timeout=OnTimeout.KILL)


@pytest.fixture
async def box(plane):
    made, _ = await plane.services.sandboxes.create(plane.caller, ORDER)
    return made


@pytest.mark.parametrize("before", ["running", "paused", "stopped", "error"])
async def test_from_every_state_it_begins_a_new_life_with_its_id(plane, box, before):
    sandboxes = plane.services.sandboxes
    if before == "paused":
        await sandboxes.pause(plane.caller, box.id)
    if before == "stopped":
        await sandboxes.stop(plane.caller, box.id)
    if before == "error":
        await plane.node.stop(box.id, 1)
        await sandboxes.exited(box.id, 1, "its first process ended")
    found = await plane.services.resets.reset(plane.caller, box.id)
    assert (found.id, found.state, found.incarnation) == (box.id, State.RUNNING, 2)
    assert [call for call, _ in plane.node.calls][-1] == "start"
    assert plane.services.routes.get(box.id)["incarnation"] == 2


async def test_without_resume_it_waits_for_its_start(plane, box):
    found = await plane.services.resets.reset(plane.caller, box.id, resume=False)
    assert (found.state, found.incarnation, plane.node.sandboxes[box.id].state) == (State.STOPPED, 1, State.STOPPED)
    again, roused = await plane.services.sandboxes.connect(plane.caller, box.id, 60)
    assert (again.state, again.incarnation, roused) == (State.RUNNING, 2, True)


async def test_new_rules_hold_from_the_first_moment_of_the_new_life(plane, box):
    policy = from_wire({"internet_access": True, "deny_out": ["192.0.2.0/24"]})
    found = await plane.services.resets.reset(
        plane.caller, box.id, policy=policy, ingress={"allow_public_traffic": False}, timeout_s=60
    )
    assert plane.node.births[-1].network["deny_out"] == ["192.0.2.0/24"]
    assert ("set_network", box.id) not in plane.node.calls
    assert found.ingress.token_in_force
    assert (found.timeout_s, found.timeout_from) == (60, plane.clock.now())


async def test_what_is_not_given_stays_and_a_timeout_that_rests_begins_anew(plane, box):
    plane.clock.advance(100)
    found = await plane.services.resets.reset(plane.caller, box.id)
    assert (found.timeout_s, found.timeout_from) == (300, plane.clock.now())
    assert (found.network, found.ingress) == (box.network, box.ingress)


async def test_what_is_wrong_is_said_before_anything_ends(plane, box):
    with pytest.raises(NotFound, match="no secret 'nope'"):
        await plane.services.resets.reset(plane.caller, box.id, policy=RULED)
    with pytest.raises(InvalidInput):
        await plane.services.resets.reset(plane.caller, box.id, timeout_s=0)
    stranger = Caller(Principal("key_x", 999), "r", None)
    with pytest.raises(NotFound):
        await plane.services.resets.reset(stranger, box.id)
    assert [call for call, _ in plane.node.calls if call in ("stop", "start")] == []


async def test_one_that_cannot_be_started_is_stopped_and_can_be_reset_again(plane, box):
    plane.node.fail("start")
    with pytest.raises(Unavailable):
        await plane.services.resets.reset(plane.caller, box.id)
    assert (await plane.services.sandboxes.get(plane.caller, box.id)).state is State.STOPPED
    plane.node.mend("start")
    assert (await plane.services.resets.reset(plane.caller, box.id)).state is State.RUNNING


async def test_one_that_is_being_made_is_a_conflict_at_once(plane):
    gate = plane.node.hold("create")
    making = asyncio.create_task(plane.services.sandboxes.create(plane.caller, ORDER))
    await plane.node.entered.wait()
    (row,) = (await plane.services.sandboxes.list(plane.caller)).sandboxes
    with pytest.raises(Conflict, match="creating"):
        await plane.services.resets.reset(plane.caller, row.id)
    gate.set()
    await making
