"""Every state a caller can find a sandbox in, and every operation on it: what the table says is what happens."""

from __future__ import annotations

import asyncio

import pytest

from atoll.core.errors import Conflict, NotFound
from atoll.core.lifecycle import TRANSITIONS, Event, State
from atoll.core.order import CreateOrder
from atoll.testing.plane import Plane

OPERATIONS = {"pause": Event.PAUSE, "resume": Event.RESUME, "stop": Event.STOP, "start": Event.START}
LIVING = [state for state in State if state is not State.DELETED]
PAIRS = [(state, verb) for state in LIVING for verb in OPERATIONS]


async def in_state(plane: Plane, state: State) -> tuple[str, asyncio.Task | None]:
    """A sandbox in that state; the task is the create that is held in it."""
    service, order = plane.services.sandboxes, CreateOrder("base")
    if state is State.CREATING:
        plane.node.hold("create")
        task = asyncio.create_task(service.create(plane.caller, order))
        await plane.node.entered.wait()
        (row,) = await plane.store.sandboxes.on_node("node-1")
        return row.id, task
    made, _ = await service.create(plane.caller, order)
    if state is State.PAUSED:
        await service.pause(plane.caller, made.id)
    if state is State.STOPPED:
        await service.stop(plane.caller, made.id)
    if state is State.ERROR:
        await service.exited(made.id, 1, "died")
    return made.id, None


async def release(plane: Plane, task: asyncio.Task | None) -> None:
    if task is not None:
        plane.node.hold("create").set()
        await task


@pytest.mark.parametrize(("state", "verb"), PAIRS)
async def test_an_operation_does_what_the_table_says_or_is_a_conflict_that_names_the_state(
    plane: Plane, state: State, verb: str
):
    box, task = await in_state(plane, state)
    operation = getattr(plane.services.sandboxes, verb)
    after = TRANSITIONS.get((state, OPERATIONS[verb]))
    async with asyncio.timeout(5):
        if after is None:
            with pytest.raises(Conflict, match=state.value) as caught:
                await operation(plane.caller, box)
            assert caught.value.details["state"] == state.value
            assert (await plane.services.sandboxes.get(plane.caller, box)).state is state
        else:
            assert (await operation(plane.caller, box)).state is after
            assert (await operation(plane.caller, box)).state is after, "and again"
    await release(plane, task)


@pytest.mark.parametrize("state", LIVING)
async def test_in_every_state_it_is_listed_under_its_state_and_can_be_deleted(plane: Plane, state: State):
    box, task = await in_state(plane, state)
    service = plane.services.sandboxes
    for each in LIVING:
        found = [row.id for row in (await service.list(plane.caller, state=each)).sandboxes]
        assert found == ([box] if each is state else [])
    assert (await service.delete(plane.caller, box)).state is State.DELETED
    with pytest.raises(NotFound):
        await service.get(plane.caller, box)
    if task is not None:
        plane.node.hold("create").set()
        with pytest.raises(NotFound):
            await task
    assert plane.node.sandboxes == {}


@pytest.mark.parametrize("verb", [*OPERATIONS, "delete", "get", "refresh_token"])
async def test_of_a_deleted_one_nothing_is_found(plane: Plane, verb: str):
    box, _ = await in_state(plane, State.RUNNING)
    await plane.services.sandboxes.delete(plane.caller, box)
    with pytest.raises(NotFound):
        await getattr(plane.services.sandboxes, verb)(plane.caller, box)
