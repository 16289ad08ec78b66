import pytest

from atoll.control.reconcile import Action, decide
from atoll.core.lifecycle import State
from atoll.core.limits import Limits
from atoll.core.order import CreateOrder
from atoll.core.ports import Birth, NodeSandbox
from atoll.core.sandbox import Sandbox, moved
from atoll.testing.plane import Plane

KEPT = (State.RUNNING, State.PAUSED, State.STOPPED, State.ERROR)
STRANGER = "z" * 20


async def create(plane: Plane) -> Sandbox:
    sandbox, _ = await plane.services.sandboxes.create(plane.caller, CreateOrder("base"))
    return sandbox


async def put(plane: Plane, sandbox: Sandbox, state: State) -> None:
    assert await plane.store.sandboxes.replace(sandbox, moved(sandbox, state, plane.clock.now()))


async def reconcile(plane: Plane) -> None:
    await plane.services.node_connected(plane.node)


async def test_every_case_has_an_action(plane: Plane):
    row = await create(plane)
    old, same, new = (NodeSandbox(row.id, incarnation, State.RUNNING) for incarnation in (0, 1, 2))
    assert decide(None, None) is Action.NOTHING
    assert decide(None, same) is Action.DESTROY
    for state in State:
        stored = moved(row, state, 0.0)
        if state in KEPT:
            assert [decide(stored, found) for found in (None, old, same, new)] == [
                Action.LOSE,
                Action.OUTDATED,
                Action.OBSERVE,
                Action.OBSERVE,
            ]
        else:
            assert {decide(stored, found) for found in (None, old, same, new)} == {Action.CLEAR}


async def test_a_stranger_on_the_node_is_destroyed(plane: Plane):
    await plane.node.create(Birth(STRANGER, 1, "base", Limits(), {}))
    await reconcile(plane)
    assert plane.node.sandboxes == {}


@pytest.mark.parametrize("made", [True, False], ids=["made", "not made yet"])
@pytest.mark.parametrize("state", [State.CREATING, State.DELETED])
async def test_a_half_made_or_half_deleted_one_is_cleared_on_both_sides(plane: Plane, state: State, made: bool):
    row = await create(plane)
    await put(plane, row, state)
    if not made:
        plane.node.sandboxes.clear()
    await reconcile(plane)
    assert plane.node.sandboxes == {}
    assert await plane.store.sandboxes.get(row.id) is None
    assert plane.node.calls[-1] == ("destroy", row.id)  # also when it has nothing: it may still be busy making it


async def test_a_clearing_that_fails_is_left_to_the_reaper(plane: Plane):
    row = await create(plane)
    await put(plane, row, State.CREATING)
    plane.node.fail("destroy")
    await reconcile(plane)
    plane.node.mend("destroy")
    plane.clock.advance(60)
    await plane.services.reaper.tick()
    assert plane.node.sandboxes == {}
    assert await plane.store.sandboxes.get(row.id) is None


@pytest.mark.parametrize("state", KEPT)
async def test_what_the_node_does_not_have_is_gone(plane: Plane, state: State):
    row = await create(plane)
    await put(plane, row, state)
    plane.node.sandboxes.clear()
    await reconcile(plane)
    assert await plane.store.sandboxes.get(row.id) is None
    assert plane.services.routes.get(row.id) is None


@pytest.mark.parametrize("found", [State.RUNNING, State.PAUSED, State.STOPPED])
@pytest.mark.parametrize("stored", KEPT)
async def test_the_nodes_word_on_the_state_counts(plane: Plane, stored: State, found: State):
    row = await create(plane)
    await put(plane, row, stored)
    plane.node.sandboxes[row.id] = NodeSandbox(row.id, 1, found)
    await reconcile(plane)
    expected = State.ERROR if (stored, found) == (State.ERROR, State.STOPPED) else found
    assert (await plane.store.sandboxes.get(row.id)).state is expected


async def test_a_start_that_was_cut_off_is_adopted_with_its_incarnation(plane: Plane):
    row = await create(plane)
    await put(plane, row, State.STOPPED)
    plane.node.sandboxes[row.id] = NodeSandbox(row.id, 2, State.RUNNING)
    await reconcile(plane)
    adopted = await plane.store.sandboxes.get(row.id)
    assert (adopted.state, adopted.incarnation) == (State.RUNNING, 2)
    assert plane.services.routes.get(row.id)["incarnation"] == 2


async def test_an_earlier_life_is_destroyed(plane: Plane):
    row = await create(plane)
    plane.node.sandboxes[row.id] = NodeSandbox(row.id, 0, State.RUNNING)
    await reconcile(plane)
    assert plane.node.sandboxes == {}
    assert await plane.store.sandboxes.get(row.id) is None


async def test_what_agrees_is_left_alone(plane: Plane):
    row = await create(plane)
    await reconcile(plane)
    assert await plane.store.sandboxes.get(row.id) == row
