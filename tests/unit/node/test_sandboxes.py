from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from atoll.core.errors import Conflict, InternalError, NotFound, Unavailable
from atoll.core.policy import CLOSED, fingerprint, to_wire
from atoll.node import health
from atoll.node.exits import start_time
from atoll.node.handles import HandleState
from atoll.node.sandboxes import Sandboxes

from .conftest import House, kill, order, write_template


def process_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def ended(sandboxes: Sandboxes, house: House) -> None:
    await house.told.wait()
    await asyncio.gather(*sandboxes._exiting)


async def test_create_answers_when_the_agent_does(sandboxes: Sandboxes, house: House) -> None:
    asked = order(env={"A": "1"})
    born = await sandboxes.create(asked)
    assert born["socket"] == str(house.places.agent_socket(asked.id))
    await health.ask(Path(born["socket"]), "GET", "/health", 10.0)
    assert start_time(born["pid"]) is not None
    (listed,) = sandboxes.list()["sandboxes"]
    assert listed == {
        "id": asked.id,
        "incarnation": 1,
        "state": "running",
        "template": "base",
        "pid": born["pid"],
        "policy": fingerprint(to_wire(CLOSED)),
    }


async def test_every_birth_is_synced_behind_its_answer(sandboxes: Sandboxes, monkeypatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(sandboxes._handles, "sync", lambda *ids: synced.extend(ids))
    asked = [order(), order(), order()]
    for each in asked:
        await sandboxes.create(each)
    await sandboxes.settle()
    assert sorted(synced) == sorted(each.id for each in asked)


async def test_create_asked_again_gives_the_same_answer(sandboxes: Sandboxes) -> None:
    asked = order()
    assert await sandboxes.create(asked) == await sandboxes.create(asked)


async def test_create_of_another_incarnation_is_a_conflict(sandboxes: Sandboxes) -> None:
    asked = order()
    await sandboxes.create(asked)
    with pytest.raises(Conflict):
        await sandboxes.create(order(incarnation=2, id=asked.id))


async def test_an_unknown_template_leaves_nothing(sandboxes: Sandboxes, house: House) -> None:
    with pytest.raises(NotFound):
        await sandboxes.create(order(template="nope"))
    assert (list(house.handles), house.disks.ids()) == ([], set())


async def test_a_create_that_the_engine_refuses_leaves_nothing(sandboxes: Sandboxes, house: House) -> None:
    house.launcher.failing.add("create")
    with pytest.raises(InternalError):
        await sandboxes.create(order())
    await sandboxes.settle()
    assert (list(house.handles), house.disks.ids()) == ([], set())


async def test_the_key_at_rest_is_wrapped(sandboxes: Sandboxes, house: House) -> None:
    asked = order()
    await sandboxes.create(asked)
    (handle,) = house.handles
    key = house.disks.unwrap(handle.wrapped_key, asked.id)
    assert len(key) == 64
    assert key.hex() not in handle.to_json().decode()


async def test_stop_keeps_the_disk_and_start_uses_it(sandboxes: Sandboxes, house: House) -> None:
    asked = order()
    born = await sandboxes.create(asked)
    house.disks.path(asked.id).write_bytes(b"somebody's files")
    await sandboxes.stop(asked.id, 1)
    assert start_time(born["pid"]) is None
    assert not Path(born["socket"]).exists()
    again = await sandboxes.start(order(incarnation=2, id=asked.id))
    assert again["pid"] != born["pid"]
    assert house.disks.path(asked.id).read_bytes() == b"somebody's files"


async def test_variables_of_the_create_come_back_at_start_and_are_not_kept_in_clear(
    sandboxes: Sandboxes, house: House
) -> None:
    asked = order(env={"TOKEN": "a-secret-value"})
    await sandboxes.create(asked)
    (handle,) = house.handles
    assert b"a-secret-value" not in handle.to_json()
    await sandboxes.stop(asked.id, 1)
    again = await sandboxes.start(order(incarnation=2, id=asked.id))
    assert (await environment_of(again["socket"]))["TOKEN"] == "a-secret-value"


async def environment_of(socket: str) -> dict[str, str]:
    reader, writer = await asyncio.open_unix_connection(socket)
    writer.write(b"GET /env HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return dict(json.loads(answer.partition(b"\r\n\r\n")[2])["env"])


async def test_stop_twice_is_one_stop(sandboxes: Sandboxes) -> None:
    asked = order()
    await sandboxes.create(asked)
    await sandboxes.stop(asked.id, 1)
    await sandboxes.stop(asked.id, 1)
    assert sandboxes.list()["sandboxes"][0]["state"] == "stopped"


async def test_a_failed_start_keeps_disk_and_incarnation(sandboxes: Sandboxes, house: House) -> None:
    asked = order()
    await sandboxes.create(asked)
    await sandboxes.stop(asked.id, 1)
    house.launcher.failing.add("create")
    with pytest.raises(InternalError):
        await sandboxes.start(order(incarnation=2, id=asked.id))
    (handle,) = house.handles
    assert (handle.state, handle.incarnation) == (HandleState.STOPPED, 1)
    assert house.disks.ids() == {asked.id}


async def test_start_uses_the_layers_of_the_birth_after_a_rebuild(sandboxes: Sandboxes, house: House) -> None:
    asked = order()
    await sandboxes.create(asked)
    await sandboxes.stop(asked.id, 1)
    write_template(house.places, digest="e" * 64, layers=("/newer",))
    await sandboxes.start(order(incarnation=2, id=asked.id))
    (handle,) = house.handles
    assert handle.template.layers == ("/layer",)


async def test_destroy_takes_everything_and_may_be_repeated(sandboxes: Sandboxes, house: House) -> None:
    asked = order()
    born = await sandboxes.create(asked)
    await sandboxes.destroy(asked.id, 1)
    assert start_time(born["pid"]) is None
    assert not Path(born["socket"]).exists()
    await sandboxes.destroy(asked.id, 1)
    await sandboxes.settle()
    assert (list(house.handles), house.disks.ids()) == ([], set())
    assert house.events == []


async def test_destroy_answers_before_the_rest_is_swept(sandboxes: Sandboxes, house: House) -> None:
    asked = order()
    born = await sandboxes.create(asked)
    house.launcher.sweeping.clear()
    await sandboxes.destroy(asked.id, 1)
    assert start_time(born["pid"]) is None
    assert house.disks.ids() == {asked.id}
    with pytest.raises(Conflict):
        await sandboxes.create(order(id=asked.id))
    house.launcher.sweeping.set()
    await sandboxes.settle()
    assert (house.launcher.swept, list(house.handles), house.disks.ids()) == ([asked.id], [], set())


async def test_a_node_that_ends_before_the_sweep_leaves_it_to_the_next(sandboxes: Sandboxes, house: House) -> None:
    asked = order()
    await sandboxes.create(asked)
    house.launcher.sweeping.clear()
    await sandboxes.destroy(asked.id, 1)
    for task in sandboxes._background:  # as a kill -9 does
        task.cancel()
    assert [handle.state for handle in house.handles] == [HandleState.DESTROYING]
    house.launcher.sweeping.set()
    successor = await house.node()
    await successor.settle()
    assert (list(house.handles), house.disks.ids()) == ([], set())


async def test_a_sweep_that_fails_is_done_by_recovery(sandboxes: Sandboxes, house: House) -> None:
    asked = order()
    await sandboxes.create(asked)
    house.launcher.failing.add("swept")
    await sandboxes.destroy(asked.id, 1)
    await sandboxes.settle()
    assert house.disks.ids() == {asked.id}
    house.launcher.failing.clear()
    await sandboxes.recover()
    await sandboxes.settle()
    assert (list(house.handles), house.disks.ids()) == ([], set())


@pytest.mark.parametrize("action", ["stop", "destroy", "pause", "resume"])
async def test_an_action_of_an_older_incarnation_is_a_conflict(sandboxes: Sandboxes, action: str) -> None:
    asked = order(incarnation=2)
    await sandboxes.create(asked)
    with pytest.raises(Conflict):
        await getattr(sandboxes, action)(asked.id, 1)


@pytest.mark.parametrize("action", ["stop", "pause", "resume"])
async def test_an_action_on_nothing_is_not_found(sandboxes: Sandboxes, action: str) -> None:
    with pytest.raises(NotFound):
        await getattr(sandboxes, action)(order().id, 1)


async def test_pause_and_resume_may_be_repeated(sandboxes: Sandboxes) -> None:
    asked = order()
    born = await sandboxes.create(asked)
    for action, state in (("pause", "T"), ("pause", "T"), ("resume", "S"), ("resume", "S")):
        await getattr(sandboxes, action)(asked.id, 1)
        assert (process_state(born["pid"]) == "T") == (state == "T")


async def test_a_pause_that_the_engine_refuses_changes_nothing(sandboxes: Sandboxes, house: House) -> None:
    asked = order()
    await sandboxes.create(asked)
    house.launcher.failing.add("pause")
    with pytest.raises(InternalError):
        await sandboxes.pause(asked.id, 1)
    assert sandboxes.list()["sandboxes"][0]["state"] == "running"


async def test_pausing_a_stopped_sandbox_is_a_conflict(sandboxes: Sandboxes) -> None:
    asked = order()
    await sandboxes.create(asked)
    await sandboxes.stop(asked.id, 1)
    with pytest.raises(Conflict):
        await sandboxes.pause(asked.id, 1)


async def test_usage_is_what_the_host_sees(sandboxes: Sandboxes) -> None:
    asked = order()
    await sandboxes.create(asked)
    used = await sandboxes.usage(asked.id)
    assert used["memory_limit_bytes"] == 2048 * 2**20
    assert used["memory_bytes"] > 0
    assert used["processes"] >= 1
    assert set(used) == {
        *("cpu_seconds", "memory_bytes", "memory_limit_bytes", "processes", "disk_bytes", "memory_cache_bytes"),
    }


async def test_activity_is_nothing_unless_it_runs(sandboxes: Sandboxes) -> None:
    asked = order()
    await sandboxes.create(asked)
    assert await sandboxes.activity(asked.id) == {"live": 0}
    await sandboxes.stop(asked.id, 1)
    assert await sandboxes.activity(asked.id) == {"live": 0}


async def test_a_first_process_that_ends_is_told_and_its_disk_is_kept(sandboxes: Sandboxes, house: House) -> None:
    asked = order()
    born = await sandboxes.create(asked)
    kill(born["pid"])
    await ended(sandboxes, house)
    assert [(name, data["id"], data["incarnation"]) for name, data in house.events] == [("exited", asked.id, 1)]
    assert sandboxes.list()["sandboxes"][0]["state"] == "stopped"
    assert house.disks.ids() == {asked.id}


async def test_stop_all_stops_everything_and_lets_nothing_in(sandboxes: Sandboxes, house: House) -> None:
    born = [await sandboxes.create(order()) for _ in range(2)]
    await sandboxes.stop_all()
    assert [start_time(each["pid"]) for each in born] == [None, None]
    assert len(house.disks.ids()) == 2


# ---- a new node finds what the old one left


async def test_a_new_node_adopts_and_goes_on_watching(sandboxes: Sandboxes, house: House) -> None:
    asked = order()
    born = await sandboxes.create(asked)
    await house.leave()
    successor = await house.node()
    assert successor.list()["sandboxes"][0]["pid"] == born["pid"]
    kill(born["pid"])
    await ended(successor, house)
    assert successor.list()["sandboxes"][0]["state"] == "stopped"


async def test_a_pause_that_was_only_written_down_is_done_by_the_next_node(sandboxes: Sandboxes, house: House) -> None:
    asked = order()
    born = await sandboxes.create(asked)
    await house.leave()
    store = house.handles
    (handle,) = store
    store.change(handle, HandleState.PAUSED)
    await house.node()
    assert process_state(born["pid"]) == "T"


async def test_a_half_made_sandbox_is_cleaned(sandboxes: Sandboxes, house: House) -> None:
    """The node died between the launcher's answer and its own note of it."""
    asked = order()
    born = await sandboxes.create(asked)
    await house.leave()
    store = house.handles
    (handle,) = store
    store.change(handle, HandleState.CREATING, engine=None)
    successor = await house.node()
    await successor.settle()
    assert start_time(born["pid"]) is None
    assert (list(house.handles), house.disks.ids()) == ([], set())
    assert not Path(born["socket"]).exists()


async def test_a_half_started_sandbox_keeps_its_disk(sandboxes: Sandboxes, house: House) -> None:
    asked = order()
    born = await sandboxes.create(asked)
    await house.leave()
    store = house.handles
    (handle,) = store
    store.change(handle, HandleState.STARTING, engine=None)
    await house.node()
    assert start_time(born["pid"]) is None
    assert house.disks.ids() == {asked.id}


async def test_a_sandbox_that_ended_while_no_node_ran_is_told(sandboxes: Sandboxes, house: House) -> None:
    asked = order()
    born = await sandboxes.create(asked)
    await house.leave()
    kill(born["pid"])
    successor = await house.node()
    await ended(successor, house)
    assert [name for name, _ in house.events] == ["exited"]
    assert successor.list()["sandboxes"][0]["state"] == "stopped"


async def test_strangers_stray_disks_and_stray_sockets_are_removed(sandboxes: Sandboxes, house: House) -> None:
    asked = order()
    born = await sandboxes.create(asked)
    await house.leave()
    house.handles.remove(asked.id)
    await house.node()
    assert start_time(born["pid"]) is None
    assert house.disks.ids() == set()
    assert not Path(born["socket"]).exists()


async def test_the_disk_behind_an_unreadable_handle_is_kept(house: House) -> None:
    asked = order()
    house.disks.make(asked.id, 16)
    directory = house.places.data / "node" / "sandboxes"
    directory.mkdir()
    (directory / f"{asked.id}.json").write_text("{")
    await house.node()
    assert house.disks.ids() == {asked.id}


async def test_one_sandbox_that_cannot_be_recovered_does_not_keep_the_rest_out(
    sandboxes: Sandboxes, house: House
) -> None:
    asked = order()
    born = await sandboxes.create(asked)
    await house.leave()
    kill(born["pid"])
    house.launcher.failing.add("destroy")
    successor = await house.node()
    await successor.create(order())


async def test_without_its_launcher_a_create_is_unavailable_and_leaves_work_for_recovery(
    sandboxes: Sandboxes, house: House
) -> None:
    first = await sandboxes.create(order())
    await house.launcher.close()
    with pytest.raises(Unavailable):
        await sandboxes.create(order())
    assert start_time(first["pid"]) is not None
    await house.leave()
    await house.launcher.listen(house.places.launcher_socket)
    successor = await house.node()
    await successor.settle()
    assert [each["pid"] for each in successor.list()["sandboxes"]] == [first["pid"]]
    assert len(house.disks.ids()) == 1
