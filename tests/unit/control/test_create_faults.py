"""A create that fails after it began leaves nothing, whatever fails and wherever; and it fails in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy.exc import OperationalError

from atoll.control import deadline, sandboxes
from atoll.core.errors import CapacityExceeded, Conflict, InternalError, InvalidInput, NotFound, Unavailable
from atoll.core.lifecycle import State
from atoll.core.limits import Limits
from atoll.core.order import CreateOrder
from atoll.core.quota import Quota
from atoll.core.sandbox import Sandbox
from atoll.testing.node import ROOMY
from atoll.testing.plane import Plane

BASE = CreateOrder("base")


async def create(plane: Plane, order: CreateOrder = BASE, **more: object) -> Sandbox:
    sandbox, _ = await plane.services.sandboxes.create(plane.caller, order, **more)
    return sandbox


async def nothing_is_left(plane: Plane) -> None:
    assert plane.node.sandboxes == {}
    assert await plane.store.sandboxes.on_node("node-1") == []
    assert list(plane.services.routes.ids()) == []
    assert (await plane.services.sandboxes.list(plane.caller)).sandboxes == []


def with_quota(plane: Plane, **quota: int) -> Plane:
    principal = replace(plane.caller.principal, quota=Quota(**quota))
    return replace(plane, caller=replace(plane.caller, principal=principal))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """And yet so patient that nothing but what hangs takes longer."""
    monkeypatch.setattr(deadline, "ACT_S", 0.5)
    monkeypatch.setattr(sandboxes, "UNDO_S", 0.5)


def broken(*_: object) -> None:
    raise RuntimeError("a bug")


def full(*_: object, **__: object) -> None:
    raise OperationalError("UPDATE", {}, Exception("database or disk is full"))


def unknown_and_no_answer(plane: Plane) -> None:
    plane.placement._templates.clear()
    plane.node.fail("hello")


def no_capacity_answer(plane: Plane) -> None:
    plane.node.fail("capacity")


def full_host(plane: Plane) -> None:
    plane.node.room = replace(ROOMY, disk_available_mib=0)


def store_broken_at_the_beginning(plane: Plane) -> None:
    plane.store.sandboxes.begin = full


def node_refuses(plane: Plane) -> None:
    plane.node.fail("create", InternalError("no loop device"))


def node_away(plane: Plane) -> None:
    plane.node.fail("create")


def node_buggy(plane: Plane) -> None:
    plane.node.create = broken


FAULTS: list[tuple[Callable[[Plane], None], type[Exception]]] = [
    (unknown_and_no_answer, Unavailable),
    (no_capacity_answer, Unavailable),
    (full_host, CapacityExceeded),
    (store_broken_at_the_beginning, OperationalError),
    (node_refuses, InternalError),
    (node_away, Unavailable),
    (node_buggy, RuntimeError),
]


@pytest.mark.parametrize(("fault", "error"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
async def test_a_fault_at_a_step_leaves_nothing(plane: Plane, fault: Callable[[Plane], None], error: type[Exception]):
    fault(plane)
    with pytest.raises(error):
        await create(plane)
    await nothing_is_left(plane)


@pytest.mark.parametrize("method", ["hello", "capacity", "create"])
@pytest.mark.usefixtures("hasty")
async def test_a_node_that_hangs_is_given_up_before_clients_ask_again(plane: Plane, method: str):
    if method == "hello":
        plane.placement._templates.clear()
    plane.node.hold(method)
    with pytest.raises(Unavailable, match="create was not done within"):
        await create(plane)
    await nothing_is_left(plane)


@pytest.mark.usefixtures("hasty")
async def test_a_node_that_hangs_in_the_undoing_too_leaves_a_tombstone_that_nobody_sees(plane: Plane):
    plane.node.hold("create")
    gate = plane.node.hold("destroy")
    with pytest.raises(Unavailable):
        await create(plane)
    assert (await plane.services.sandboxes.list(plane.caller)).sandboxes == []
    gate.set()
    plane.clock.advance(60)
    await plane.services.reaper.tick()
    await nothing_is_left(plane)


def test_deadline_and_undoing_come_well_before_a_client_gives_up():
    assert deadline.ACT_S + deadline.UNDO_S <= 45


async def test_a_store_that_is_full_after_the_birth_ends_the_sandbox_at_once_and_its_row_later(plane: Plane):
    real, plane.store.sandboxes.replace = plane.store.sandboxes.replace, full
    with pytest.raises(OperationalError):
        await create(plane)
    assert plane.node.sandboxes == {}
    (row,) = await plane.store.sandboxes.on_node("node-1")
    assert row.state is State.CREATING
    plane.store.sandboxes.replace = real
    plane.clock.advance(119)
    await plane.services.reaper.tick()
    assert await plane.store.sandboxes.get(row.id) is not None
    plane.clock.advance(60)
    await plane.services.reaper.tick()
    await nothing_is_left(plane)


async def test_a_create_that_is_under_way_is_never_taken_for_an_unfinished_one(plane: Plane):
    """However far the clock jumps."""
    gate = plane.node.hold("create")
    task = asyncio.create_task(create(plane))
    await plane.node.entered.wait()
    plane.clock.advance(10**6)
    ticking = asyncio.create_task(plane.services.reaper.tick())
    gate.set()
    assert (await task).state is State.RUNNING
    await ticking
    assert len(plane.node.sandboxes) == 1


async def test_a_sandbox_whose_creator_has_left_is_undone(plane: Plane):
    async def gone() -> bool:
        assert len(plane.node.sandboxes) == 1, "it was asked after the birth"
        return False

    with pytest.raises(Conflict):
        await create(plane, waits=gone)
    await nothing_is_left(plane)


# ---- refused before anything happened


@pytest.mark.parametrize(
    ("order", "error"),
    [
        (CreateOrder("nope"), NotFound),
        (CreateOrder("base", region="mars"), InvalidInput),
        (CreateOrder("base", region=""), InvalidInput),
        (CreateOrder("base", timeout_s=0), InvalidInput),
        (CreateOrder("base", env={"A=": ""}), InvalidInput),
        (CreateOrder("base", size={"vcpu": 0}), InvalidInput),
        (CreateOrder("base", size={"vcpu": 9}), CapacityExceeded),
    ],
)
async def test_what_cannot_be_asked_for_never_reaches_the_node(plane: Plane, order: CreateOrder, error):
    with pytest.raises(error):
        await create(plane, order)
    assert not {"create", "destroy"} & {method for method, _ in plane.node.calls}
    await nothing_is_left(plane)


async def test_an_unknown_region_names_the_known_ones(plane: Plane):
    with pytest.raises(InvalidInput, match=r"'mars'.*local") as caught:
        await create(plane, CreateOrder("base", region="mars"))
    assert caught.value.details == {"field": "region", "regions": ["local"]}
    assert (await create(plane, CreateOrder("base", region="local"))).region == "local"


async def test_the_size_asked_for_is_the_size_that_is_born(plane: Plane):
    made = await create(plane, CreateOrder("base", size={"vcpu": 1, "memory_mib": 512, "disk_mib": 2048}))
    assert made.limits == Limits(vcpu=1, memory_mib=512, disk_mib=2048)
    assert plane.node.births[-1].limits == made.limits
    await plane.services.sandboxes.stop(plane.caller, made.id)
    await plane.services.sandboxes.start(plane.caller, made.id)
    assert plane.node.births[-1].limits == made.limits, "also in its next life"


# ---- quotas


async def test_of_creates_at_once_no_more_pass_than_the_quota_has(plane: Plane):
    plane = with_quota(plane, sandboxes=5)
    gate = plane.node.hold("create")
    tasks = [asyncio.create_task(create(plane)) for _ in range(20)]
    await plane.node.entered.wait()
    gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(result, Sandbox) for result in results) == 5
    assert sum(isinstance(result, CapacityExceeded) for result in results) == 15
    assert len(plane.node.sandboxes) == 5


@pytest.mark.parametrize("quota", [{"vcpu": 5}, {"memory_mib": 5000}, {"disk_mib": 25_000}, {"sandboxes": 2}])
async def test_a_quota_is_of_all_living_sandboxes_and_a_deleted_one_gives_it_back(plane: Plane, quota):
    plane = with_quota(plane, **quota)
    first = await create(plane)
    await create(plane)
    await plane.services.sandboxes.stop(plane.caller, first.id)
    with pytest.raises(CapacityExceeded) as caught:
        await create(plane)
    (resource,) = quota
    assert caught.value.details["resource"] == resource
    assert caught.value.details["current"] == 2 * getattr(Limits(), resource, 1)
    await plane.services.sandboxes.delete(plane.caller, first.id)
    await create(plane)


async def test_a_smaller_size_still_fits_into_what_is_left(plane: Plane):
    plane = with_quota(plane, memory_mib=3000)
    await create(plane)
    with pytest.raises(CapacityExceeded):
        await create(plane)
    await create(plane, CreateOrder("base", size={"memory_mib": 952}))


async def test_a_create_that_failed_uses_no_quota(plane: Plane):
    plane = with_quota(plane, sandboxes=1)
    plane.node.fail("create")
    for _ in range(3):
        with pytest.raises(Unavailable):
            await create(plane)
    plane.node.mend("create")
    await create(plane)


async def test_another_key_has_a_quota_of_its_own(plane: Plane):
    await create(with_quota(plane, sandboxes=1))
    principal = replace(plane.caller.principal, key_id="key_other", quota=Quota(sandboxes=1))
    await create(replace(plane, caller=replace(plane.caller, principal=principal)))


# ---- the other operations


@pytest.mark.parametrize("verb", ["pause", "stop"])
@pytest.mark.usefixtures("hasty")
async def test_a_move_on_a_node_that_hangs_is_given_up_and_changes_nothing(plane: Plane, verb: str):
    box = await create(plane)
    gate = plane.node.hold(verb)
    with pytest.raises(Unavailable, match="try again"):
        await getattr(plane.services.sandboxes, verb)(plane.caller, box.id)
    assert await plane.store.sandboxes.get(box.id) == box
    gate.set()
    await getattr(plane.services.sandboxes, verb)(plane.caller, box.id)


@pytest.mark.usefixtures("hasty")
async def test_a_start_on_a_node_that_hangs_is_stopped_again(plane: Plane):
    box = await create(plane)
    await plane.services.sandboxes.stop(plane.caller, box.id)
    plane.node.hold("start")
    with pytest.raises(Unavailable):
        await plane.services.sandboxes.start(plane.caller, box.id)
    assert plane.node.calls[-1] == ("stop", box.id)
    assert (await plane.store.sandboxes.get(box.id)).state is State.STOPPED


@pytest.mark.usefixtures("hasty")
async def test_whoever_waits_too_long_for_a_turn_hears_so(plane: Plane):
    box = await create(plane)
    async with plane.services.sandboxes.turns(box.id):
        with pytest.raises(Unavailable):
            await plane.services.sandboxes.pause(plane.caller, box.id)
        with pytest.raises(Unavailable):
            await plane.services.sandboxes.set_timeout(plane.caller, box.id, 60)


async def test_a_delete_whose_row_cannot_be_removed_is_still_a_success(plane: Plane):
    box = await create(plane)
    plane.store.sandboxes.purge = full
    assert (await plane.services.sandboxes.delete(plane.caller, box.id)).state is State.DELETED
    with pytest.raises(NotFound):
        await plane.services.sandboxes.get(plane.caller, box.id)
