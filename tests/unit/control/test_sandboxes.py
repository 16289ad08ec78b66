import asyncio
from dataclasses import replace

import pytest

from atoll.core.audit import Caller
from atoll.core.errors import CapacityExceeded, Conflict, InternalError, InvalidInput, NotFound, Unavailable
from atoll.core.keys import Principal
from atoll.core.lifecycle import State
from atoll.core.order import CreateOrder
from atoll.core.policy import CLOSED
from atoll.testing.node import ROOMY
from atoll.testing.plane import Plane

BASE = CreateOrder("base")


async def create(plane: Plane, order: CreateOrder = BASE):
    sandbox, _ = await plane.services.sandboxes.create(plane.caller, order)
    return sandbox


async def rows(plane: Plane):
    return await plane.store.sandboxes.on_node("node-1")


# ---- create


async def test_a_created_sandbox_runs_is_stored_and_is_routed(plane: Plane):
    sandbox = await create(plane, CreateOrder("base", env={"A": "1"}, policy=CLOSED))
    assert sandbox.state is State.RUNNING
    assert await plane.store.sandboxes.get(sandbox.id) == sandbox
    assert plane.services.routes.get(sandbox.id) == {
        "id": sandbox.id,
        "incarnation": 1,
        "state": "running",
        "socket": f"/run/fake/s/{sandbox.id}.sock",
        "workdir": "/workspace",
        "python": True,
        "internet_access": False,
        "inbound_auth": "token",
        "key": plane.caller.principal.key_id,
        "calls_per_minute": None,
        "web_port": None,
        "traffic_digest": "",
        "masked_host": "",
        "https_ports": [],
        "auto_resume": False,
        "dialect": "hopx",
    }
    (birth,) = plane.node.births
    assert birth.env == {"A": "1"}
    assert birth.internet_access is False


async def test_variables_are_not_in_the_database(plane: Plane, tmp_path):
    await create(plane, CreateOrder("base", env={"TOKEN": "s3cret-value"}))
    assert not any(b"s3cret-value" in path.read_bytes() for path in tmp_path.iterdir())


async def test_the_row_is_there_before_the_node_acts(plane: Plane):
    gate = plane.node.hold("create")
    task = asyncio.create_task(create(plane))
    await plane.node.entered.wait()
    (row,) = await rows(plane)
    assert row.state is State.CREATING
    gate.set()
    await task


@pytest.mark.parametrize("error", [Unavailable("away"), InternalError("broken"), CapacityExceeded("limit")])
async def test_a_create_that_fails_leaves_nothing(plane: Plane, error):
    plane.node.fail("create", error)
    with pytest.raises(type(error)):
        await create(plane)
    assert await rows(plane) == []
    assert [method for method, _ in plane.node.calls][-2:] == ["create", "destroy"]


async def test_a_create_that_cannot_be_cleaned_up_leaves_a_tombstone_for_later(plane: Plane):
    plane.node.fail("create")
    plane.node.fail("destroy")
    with pytest.raises(Unavailable):
        await create(plane)
    (row,) = await rows(plane)
    assert row.state is State.DELETED
    with pytest.raises(NotFound):
        await plane.services.sandboxes.get(plane.caller, row.id)


async def test_a_cancelled_create_leaves_nothing(plane: Plane):
    plane.node.hold("create")
    task = asyncio.create_task(create(plane))
    await plane.node.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await rows(plane) == []


async def test_a_delete_during_create_wins(plane: Plane):
    gate = plane.node.hold("create")
    task = asyncio.create_task(create(plane))
    await plane.node.entered.wait()
    (row,) = await rows(plane)
    await plane.services.sandboxes.delete(plane.caller, row.id)
    gate.set()
    with pytest.raises(NotFound):
        await task
    assert plane.node.sandboxes == {}
    assert await rows(plane) == []
    assert plane.services.routes.get(row.id) is None


async def test_an_unknown_template_is_not_found(plane: Plane):
    with pytest.raises(NotFound, match="Template 'nope' not found"):
        await create(plane, CreateOrder("nope"))
    assert await rows(plane) == []


async def test_a_template_built_after_the_node_said_hello_is_found(plane: Plane):
    plane.node.templates.append(replace(plane.node.templates[0], name="fresh"))
    assert (await create(plane, CreateOrder("fresh"))).template == "fresh"


@pytest.mark.parametrize(
    ("room", "resource"),
    [(replace(ROOMY, memory_available_mib=1023), "memory"), (replace(ROOMY, disk_available_mib=19_999), "disk")],
)
async def test_create_is_refused_below_the_reserve(plane: Plane, room, resource: str):
    plane.node.room = room
    with pytest.raises(CapacityExceeded, match=f"{resource} limit") as caught:
        await create(plane)
    assert caught.value.details["available"] == 0
    assert caught.value.details["limit"] <= caught.value.details["current"]
    assert await rows(plane) == []


async def test_at_the_reserve_itself_create_is_allowed(plane: Plane):
    plane.node.room = replace(ROOMY, memory_available_mib=1024, disk_available_mib=20_000)
    await create(plane)


async def test_no_create_waits_for_the_capacity_while_the_known_one_is_less_than_a_second_old(plane: Plane):
    await create(plane)
    gate = plane.node.hold("capacity")
    plane.clock.advance(0.9)
    await create(plane)
    plane.node.room = replace(plane.node.room, memory_available_mib=0)
    gate.set()
    plane.clock.advance(0.9)
    with pytest.raises(CapacityExceeded):
        await create(plane)


async def test_a_burst_of_creates_asks_for_the_capacity_once(plane: Plane):
    await asyncio.gather(*(create(plane) for _ in range(20)))
    assert [method for method, _ in plane.node.calls].count("capacity") == 1
    plane.clock.advance(1)
    await create(plane)
    assert [method for method, _ in plane.node.calls].count("capacity") == 2


async def test_without_a_node_nothing_happens_and_the_client_may_try_again(plane: Plane):
    plane.placement.connected = False
    with pytest.raises(Unavailable):
        await create(plane)
    assert await rows(plane) == []


@pytest.mark.parametrize("timeout_s", [0, -5, 25 * 3600, 10**20])
async def test_an_impossible_timeout_is_refused(plane: Plane, timeout_s: int):
    with pytest.raises(InvalidInput):
        await create(plane, CreateOrder("base", timeout_s=timeout_s))


# ---- moves


async def test_pause_resume_stop_start(plane: Plane):
    box = await create(plane)
    service, node = plane.services.sandboxes, plane.node
    for verb, state in (("pause", "paused"), ("resume", "running"), ("stop", "stopped"), ("start", "running")):
        after = await getattr(service, verb)(plane.caller, box.id)
        assert after.state == state
        assert node.sandboxes[box.id].state == state
        assert plane.services.routes.get(box.id)["state"] == state


async def test_a_start_is_a_new_incarnation(plane: Plane):
    box = await create(plane)
    await plane.services.sandboxes.stop(plane.caller, box.id)
    started = await plane.services.sandboxes.start(plane.caller, box.id)
    assert started.incarnation == 2
    assert plane.node.sandboxes[box.id].incarnation == 2


async def test_repeating_a_move_is_a_success_without_asking_the_node(plane: Plane):
    box = await create(plane)
    await plane.services.sandboxes.pause(plane.caller, box.id)
    before = list(plane.node.calls)
    assert (await plane.services.sandboxes.pause(plane.caller, box.id)).state is State.PAUSED
    assert plane.node.calls == before


async def test_an_illegal_move_is_a_conflict_that_names_the_state(plane: Plane):
    box = await create(plane)
    await plane.services.sandboxes.stop(plane.caller, box.id)
    with pytest.raises(Conflict, match="stopped"):
        await plane.services.sandboxes.pause(plane.caller, box.id)


async def test_a_move_the_node_refuses_changes_nothing(plane: Plane):
    box = await create(plane)
    plane.node.fail("pause")
    with pytest.raises(Unavailable):
        await plane.services.sandboxes.pause(plane.caller, box.id)
    assert await plane.store.sandboxes.get(box.id) == box
    assert plane.services.routes.get(box.id)["state"] == "running"


async def test_a_start_that_fails_is_stopped_again(plane: Plane):
    box = await create(plane)
    await plane.services.sandboxes.stop(plane.caller, box.id)
    plane.node.fail("start", InternalError("broken"))
    with pytest.raises(InternalError):
        await plane.services.sandboxes.start(plane.caller, box.id)
    assert plane.node.calls[-1] == ("stop", box.id)
    assert (await plane.store.sandboxes.get(box.id)).state is State.STOPPED


async def test_a_pause_and_a_resume_at_once_take_turns(plane: Plane):
    box = await create(plane)
    gate = plane.node.hold("pause")
    pausing = asyncio.create_task(plane.services.sandboxes.pause(plane.caller, box.id))
    await plane.node.entered.wait()
    resuming = asyncio.create_task(plane.services.sandboxes.resume(plane.caller, box.id))
    gate.set()
    await pausing
    assert (await resuming).state is State.RUNNING
    assert plane.node.sandboxes[box.id].state is State.RUNNING


async def test_a_delete_during_a_stop_wins(plane: Plane):
    box = await create(plane)
    gate = plane.node.hold("stop")
    stopping = asyncio.create_task(plane.services.sandboxes.stop(plane.caller, box.id))
    await plane.node.entered.wait()
    await plane.services.sandboxes.delete(plane.caller, box.id)
    gate.set()
    with pytest.raises(NotFound):
        await stopping
    assert await rows(plane) == []


# ---- delete


async def test_a_deleted_sandbox_is_gone_everywhere(plane: Plane):
    box = await create(plane)
    await plane.services.sandboxes.delete(plane.caller, box.id)
    assert plane.node.sandboxes == {}
    assert await rows(plane) == []
    assert plane.services.routes.get(box.id) is None
    for verb in ("get", "delete", "pause", "resume", "start", "stop", "refresh_token"):
        with pytest.raises(NotFound):
            await getattr(plane.services.sandboxes, verb)(plane.caller, box.id)


async def test_without_a_node_a_delete_is_refused_before_it_did_anything(plane: Plane):
    box = await create(plane)
    plane.placement.connected = False
    with pytest.raises(Unavailable):
        await plane.services.sandboxes.delete(plane.caller, box.id)
    assert await plane.store.sandboxes.get(box.id) == box


async def test_a_delete_the_node_fails_is_a_success_and_is_finished_by_the_reaper(plane: Plane):
    box = await create(plane)
    plane.node.fail("destroy")
    assert (await plane.services.sandboxes.delete(plane.caller, box.id)).state is State.DELETED
    with pytest.raises(NotFound):
        await plane.services.sandboxes.get(plane.caller, box.id)
    plane.node.mend("destroy")
    plane.clock.advance(60)
    await plane.services.reaper.tick()
    assert plane.node.sandboxes == {}
    assert await rows(plane) == []


async def test_two_deletes_at_once_one_finds_nothing(plane: Plane):
    box = await create(plane)
    results = await asyncio.gather(
        *(plane.services.sandboxes.delete(plane.caller, box.id) for _ in range(2)), return_exceptions=True
    )
    assert sorted(isinstance(result, NotFound) for result in results) == [False, True]


# ---- the rest


async def test_set_timeout_counts_from_now(plane: Plane):
    box = await create(plane, CreateOrder("base", timeout_s=60))
    plane.clock.advance(30)
    after = await plane.services.sandboxes.set_timeout(plane.caller, box.id, 600)
    assert after.timeout_s == 600
    assert plane.services.sandboxes.expires_at(after) == plane.clock.now() + 600


async def test_set_timeout_beyond_the_maximum_life_is_invalid(plane: Plane):
    box = await create(plane)
    plane.clock.advance(3600)
    with pytest.raises(InvalidInput):
        await plane.services.sandboxes.set_timeout(plane.caller, box.id, 24 * 3600)


async def test_tokens_expire_strictly_later_each_time(plane: Plane):
    box, first = await plane.services.sandboxes.create(plane.caller, BASE)
    expiries = [first.expires_at]
    expiries += [(await plane.services.sandboxes.refresh_token(plane.caller, box.id)).expires_at for _ in range(3)]
    assert expiries == sorted(set(expiries))
    assert expiries[0] >= plane.clock.now() + 23 * 3600


async def test_another_organization_sees_nothing(plane: Plane):
    box = await create(plane)
    stranger = Caller(Principal("key_other", 2))
    for verb in ("get", "delete", "pause", "refresh_token"):
        with pytest.raises(NotFound):
            await getattr(plane.services.sandboxes, verb)(stranger, box.id)
    assert (await plane.services.sandboxes.list(stranger)).sandboxes == []
    assert not await plane.services.sandboxes.owns(2, box.id)
    assert await plane.services.sandboxes.owns(1, box.id)


@pytest.mark.parametrize("sandbox_id", ["", "x", "../../etc/passwd", "A" * 20, "a" * 20 + "\0", "\ud800", "a" * 10_000])
async def test_what_is_no_id_is_not_found(plane: Plane, sandbox_id: str):
    with pytest.raises(NotFound):
        await plane.services.sandboxes.get(plane.caller, sandbox_id)


async def test_pages_follow_one_another(plane: Plane):
    made = []
    for _ in range(5):
        plane.clock.advance(1)
        made.append((await create(plane)).id)
    seen, cursor = [], None
    while True:
        page = await plane.services.sandboxes.list(plane.caller, limit=2, cursor=cursor)
        seen += [row.id for row in page.sandboxes]
        if (cursor := page.next_cursor) is None:
            break
    assert seen == made[::-1]


async def test_a_full_last_page_has_no_cursor(plane: Plane):
    await create(plane)
    await create(plane)
    assert (await plane.services.sandboxes.list(plane.caller, limit=2)).next_cursor is None


async def test_every_operation_is_in_the_audit_with_its_outcome(plane: Plane):
    box = await create(plane)
    await plane.services.sandboxes.pause(plane.caller, box.id)
    with pytest.raises(NotFound):
        await create(plane, CreateOrder("nope"))
    with pytest.raises(NotFound):
        await plane.services.sandboxes.get(plane.caller, "x" * 500)
    await plane.services.sandboxes.delete(plane.caller, box.id)
    entries = [
        (entry.operation, entry.sandbox_id, entry.outcome)
        for entry in reversed(await plane.store.audit.list(100))
        if entry.key_id == plane.caller.principal.key_id
    ]
    assert entries == [
        ("sandbox.create", box.id, "ok"),
        ("sandbox.pause", box.id, "ok"),
        ("sandbox.create", None, "not_found"),
        ("sandbox.get", "x" * 64, "not_found"),
        ("sandbox.delete", box.id, "ok"),
    ]
    newest = (await plane.store.audit.list(1))[0]
    assert (newest.request_id, newest.source, newest.at) == ("req_test", "192.0.2.1", plane.clock.now())


# ---- exits


async def test_an_unasked_exit_is_an_error_that_can_be_started_again(plane: Plane):
    box = await create(plane)
    await plane.services.sandboxes.exited(box.id, 1, "out of memory")
    row = await plane.store.sandboxes.get(box.id)
    assert (row.state, row.reason) == (State.ERROR, "out of memory")
    assert plane.services.routes.get(box.id)["state"] == "stopped"
    assert (await plane.services.sandboxes.start(plane.caller, box.id)).state is State.RUNNING


async def test_the_exit_of_an_earlier_life_changes_nothing(plane: Plane):
    box = await create(plane)
    await plane.services.sandboxes.exited(box.id, 0, "late")
    await plane.services.sandboxes.exited("b" * 20, 1, "unknown")
    assert (await plane.store.sandboxes.get(box.id)).state is State.RUNNING


async def test_an_exit_told_during_create_is_noticed_after_it(plane: Plane):
    gate = plane.node.hold("create")
    task = asyncio.create_task(create(plane))
    await plane.node.entered.wait()
    (row,) = await rows(plane)
    exit_told = asyncio.create_task(plane.services.sandboxes.exited(row.id, 1, "died at once"))
    gate.set()
    await task
    await exit_told
    assert (await plane.store.sandboxes.get(row.id)).state is State.ERROR
