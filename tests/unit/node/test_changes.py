"""Memory and mounts of a sandbox that runs: what is written down, when, and what is made of it after a restart."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from atoll.core.engine import VolumeSpec
from atoll.core.errors import Conflict, InternalError, InvalidInput, NotFound, Unavailable
from atoll.core.ids import new_sandbox_id
from atoll.core.volumes import VolumeMount
from atoll.node import health

from .conftest import order

MOUNT = VolumeMount("v" * 20, "/mnt/data", "data")
OTHER = VolumeMount("w" * 20, "/mnt/other", "other")


@dataclass
class OwnVolumes:
    gone: bool = False

    def specs(self, mounts):
        if self.gone:
            raise NotFound("no such volume")
        return [VolumeSpec(self.image(mount.volume_id), b"k" * 64, mount.path) for mount in mounts]

    def image(self, volume_id: str) -> Path:
        return Path("/volumes") / volume_id


@pytest.fixture
def house(house):
    house.volumes = OwnVolumes()
    return house


@pytest.fixture
async def box(sandboxes):
    asked = order()
    await sandboxes.create(asked)
    return asked


async def test_more_memory_is_given_written_down_and_shown_inside(sandboxes, house, box):
    await sandboxes.set_memory(box.id, 1, 4096)
    assert house.launcher.memory == {box.id: 4096}
    assert (house.handles.get(box.id).limits.memory_mib, house.handles.get(box.id).unsettled) == (4096, False)
    assert (await sandboxes.usage(box.id))["memory_limit_bytes"] == 4096 << 20
    shown = json.loads(await health.ask(house.places.agent_socket(box.id), "GET", "/system", 10.0))
    assert shown["memory_limit_bytes"] == 4096 << 20


async def test_a_refusal_leaves_the_handle_as_it_was(sandboxes, house, box):
    before = house.handles.get(box.id)
    house.launcher.failing = {"set_memory", "mount"}
    for change in (sandboxes.set_memory(box.id, 1, 4096), sandboxes.mount(box.id, 1, MOUNT)):
        with pytest.raises(InternalError):
            await change
        assert house.handles.get(box.id) == before


async def test_a_mount_is_written_down_and_counted_and_taken_out_again(sandboxes, house, box):
    await sandboxes.mount(box.id, 1, MOUNT)
    await sandboxes.mount(box.id, 1, MOUNT)
    assert house.launcher.mounts == {box.id: {"/mnt/data": "/volumes/" + "v" * 20}}
    assert (house.handles.get(box.id).volumes, sandboxes.users_of(MOUNT.volume_id)) == ((MOUNT,), 1)
    await sandboxes.unmount(box.id, 1, "/mnt/data", False)
    await sandboxes.unmount(box.id, 1, "/mnt/data", False)
    assert (house.launcher.mounts, house.handles.get(box.id).volumes) == ({box.id: {}}, ())
    assert sandboxes.users_of(MOUNT.volume_id) == 0


async def test_what_is_in_use_stays_until_force(sandboxes, house, box):
    await sandboxes.mount(box.id, 1, MOUNT)
    house.launcher.busy = {"/mnt/data"}
    with pytest.raises(Conflict):
        await sandboxes.unmount(box.id, 1, "/mnt/data", False)
    assert (house.handles.get(box.id).volumes, house.handles.get(box.id).unsettled) == ((MOUNT,), False)
    await sandboxes.unmount(box.id, 1, "/mnt/data", True)
    assert house.handles.get(box.id).volumes == ()


@pytest.mark.parametrize("path", ["/mnt/data/deeper", "/mnt", "/proc/x", "relative"])
async def test_a_path_that_a_create_would_refuse_is_refused(sandboxes, box, path):
    await sandboxes.mount(box.id, 1, MOUNT)
    with pytest.raises(InvalidInput):
        await sandboxes.mount(box.id, 1, replace(OTHER, path=path))


async def test_only_one_that_runs_is_changed(sandboxes, house, box):
    await sandboxes.pause(box.id, 1)
    for change in (
        sandboxes.set_memory(box.id, 1, 4096),
        sandboxes.mount(box.id, 1, MOUNT),
        sandboxes.unmount(box.id, 1, "/mnt/data", True),
    ):
        with pytest.raises(Conflict, match="paused"):
            await change
    assert (house.launcher.memory, house.launcher.mounts) == ({}, {})


async def test_a_volume_that_is_gone_leaves_nothing(sandboxes, house, box):
    house.volumes.gone = True
    with pytest.raises(NotFound):
        await sandboxes.mount(box.id, 1, MOUNT)
    assert house.handles.get(box.id).volumes == ()
    with pytest.raises(NotFound):
        await sandboxes.mount(new_sandbox_id(), 1, MOUNT)


async def test_the_next_life_has_the_mounts(sandboxes, house, box):
    await sandboxes.mount(box.id, 1, MOUNT)
    await sandboxes.stop(box.id, 1)
    await sandboxes.start(order(id=box.id, incarnation=2))
    assert house.handles.get(box.id).volumes == (MOUNT,)


@pytest.mark.parametrize("done", [True, False])
async def test_what_was_cut_off_is_looked_up_where_it_is_true(sandboxes, house, box, done):
    """The launcher's answer is lost: whether it was done, only the kernel knows."""
    await sandboxes.mount(box.id, 1, OTHER)
    begun = replace(house.handles.get(box.id), volumes=(OTHER, MOUNT), unsettled=True)
    if done:
        house.launcher.mounts[box.id][MOUNT.path] = "/volumes/" + "v" * 20
    house.launcher.memory.clear()
    await house.leave()
    house.handles.save(begun)
    again = await house.node()
    assert house.handles.get(box.id).volumes == ((OTHER, MOUNT) if done else (OTHER,))
    assert house.handles.get(box.id).unsettled is False
    assert house.launcher.memory == {box.id: begun.limits.memory_mib}
    assert again.users_of(MOUNT.volume_id) == int(done)


async def test_without_an_answer_nothing_is_taken_for_done_or_undone(sandboxes, house, box):
    await house.nodes[0][1].close()
    with pytest.raises(Unavailable):
        await sandboxes.mount(box.id, 1, MOUNT)
    assert (house.handles.get(box.id).volumes, house.handles.get(box.id).unsettled) == ((MOUNT,), True)
