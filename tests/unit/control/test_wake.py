"""Traffic resumes a sandbox that asked for it: once, however many come at once, and no other sandbox."""

from __future__ import annotations

import asyncio

import pytest

from atoll.core.errors import AtollError, Conflict, NotFound, Unavailable
from atoll.core.ingress import Ingress
from atoll.core.lifecycle import State
from atoll.core.order import CreateOrder
from atoll.testing.plane import Plane

RESUMES = Ingress(auto_resume=True)


async def paused(plane: Plane, ingress: Ingress = RESUMES) -> str:
    box, _ = await plane.services.sandboxes.create(plane.caller, CreateOrder("base", ingress=ingress))
    await plane.services.sandboxes.pause(plane.caller, box.id)
    return box.id


def resumes(plane: Plane) -> int:
    return [call for call, _ in plane.node.calls].count("resume")


async def audited(plane: Plane) -> list[tuple[str, str, str | None]]:
    rows = await plane.store.audit.list(100)
    return [(row.key_id, row.outcome, row.detail) for row in rows if row.operation == "sandbox.resume"]


async def test_it_runs_its_route_says_so_and_the_audit_why(plane: Plane) -> None:
    box = await paused(plane)
    plane.clock.advance(10)
    woken = await plane.services.sandboxes.wake(box)
    assert (woken.state, woken.last_activity_at) == (State.RUNNING, plane.clock.now())
    route = plane.services.routes.get(box)
    assert route is not None
    assert route["state"] == "running"
    ((key, outcome, detail),) = await audited(plane)
    assert (outcome, detail) == ("ok", "traffic")
    assert key != plane.caller.principal.key_id


async def test_those_who_come_together_resume_it_once_and_all_wait(plane: Plane) -> None:
    box = await paused(plane)
    gate = plane.node.hold("resume")
    callers = [asyncio.create_task(plane.services.sandboxes.wake(box)) for _ in range(20)]
    await plane.node.entered.wait()
    assert not any(caller.done() for caller in callers)
    gate.set()
    assert {woken.state for woken in await asyncio.gather(*callers)} == {State.RUNNING}
    assert resumes(plane) == 1
    assert len(await audited(plane)) == 1


async def test_the_others_are_served_when_the_first_leaves(plane: Plane) -> None:
    box = await paused(plane)
    gate = plane.node.hold("resume")
    first = asyncio.create_task(plane.services.sandboxes.wake(box))
    await plane.node.entered.wait()
    second = asyncio.create_task(plane.services.sandboxes.wake(box))
    first.cancel()
    await asyncio.wait([first])
    gate.set()
    assert (await second).state is State.RUNNING
    assert resumes(plane) == 1


async def test_a_failure_is_told_to_all_who_wait_and_the_next_tries_again(plane: Plane) -> None:
    box = await paused(plane)
    plane.node.fail("resume")
    told = await asyncio.gather(*(plane.services.sandboxes.wake(box) for _ in range(5)), return_exceptions=True)
    assert {type(each) for each in told} == {Unavailable}
    assert resumes(plane) == 1
    plane.node.mend("resume")
    assert (await plane.services.sandboxes.wake(box)).state is State.RUNNING


async def test_one_that_runs_is_as_it_is_whether_it_asked_for_it_or_not(plane: Plane) -> None:
    box = await paused(plane, Ingress())
    await plane.services.sandboxes.resume(plane.caller, box)
    assert (await plane.services.sandboxes.wake(box)).state is State.RUNNING
    assert resumes(plane) == 1


async def test_one_that_did_not_ask_for_it_stays_paused(plane: Plane) -> None:
    box = await paused(plane, Ingress())
    with pytest.raises(Conflict, match="without auto_resume"):
        await plane.services.sandboxes.wake(box)
    assert resumes(plane) == 0
    assert await audited(plane) == [], "strangers do not write into the audit"


async def test_a_stopped_one_is_not_started(plane: Plane) -> None:
    box = await paused(plane)
    await plane.services.sandboxes.stop(plane.caller, box)
    with pytest.raises(Conflict, match="stopped"):
        await plane.services.sandboxes.wake(box)
    assert await audited(plane) == []


async def test_one_that_is_stopped_just_before_its_turn_stays_stopped(plane: Plane) -> None:
    box = await paused(plane)
    gate = plane.node.hold("stop")
    stopping = asyncio.create_task(plane.services.sandboxes.stop(plane.caller, box))
    await plane.node.entered.wait()
    waking = asyncio.create_task(plane.services.sandboxes.wake(box))
    await asyncio.sleep(0)
    gate.set()
    await stopping
    with pytest.raises(Conflict):
        await waking
    assert resumes(plane) == 0


@pytest.mark.parametrize("unknown", ["a" * 20, "../x", ""])
async def test_one_that_is_not_there_is_not_found(plane: Plane, unknown: str) -> None:
    with pytest.raises(NotFound):
        await plane.services.sandboxes.wake(unknown)


async def test_one_that_was_deleted_meanwhile_is_not_found(plane: Plane) -> None:
    box = await paused(plane)
    gate = plane.node.hold("resume")
    waking = asyncio.create_task(plane.services.sandboxes.wake(box))
    await plane.node.entered.wait()
    await plane.services.sandboxes.delete(plane.caller, box)
    gate.set()
    with pytest.raises(AtollError) as told:
        await waking
    assert isinstance(told.value, NotFound)
    assert plane.services.routes.get(box) is None
