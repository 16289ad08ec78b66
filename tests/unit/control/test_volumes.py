"""Volumes of the control plane, with a fake node."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atoll.core.errors import CapacityExceeded, Conflict, InvalidInput, NotFound, Unavailable
from atoll.core.order import CreateOrder
from atoll.testing.plane import Plane, open_plane


@pytest.fixture
async def plane(tmp_path):
    made = await open_plane(tmp_path)
    yield made
    made.close()


async def volume(plane: Plane, name: str = "data"):
    made, _ = await plane.services.volumes.create(plane.caller, name, 64)
    return made


async def test_a_volume_is_made_on_a_node_and_listed(plane):
    made = await volume(plane)
    assert plane.node.volumes == {made.id: 64}
    assert [each.name for each in await plane.services.volumes.list(plane.caller)] == ["data"]


async def test_a_name_is_used_once(plane):
    await volume(plane)
    with pytest.raises(Conflict, match="already there"):
        await volume(plane)


async def test_a_node_that_fails_leaves_no_row(plane):
    plane.node.fail("volume_make")
    with pytest.raises(Unavailable):
        await volume(plane)
    assert await plane.services.volumes.list(plane.caller) == []


async def test_what_a_node_has_made_without_an_answer_is_removed(plane, monkeypatch):
    make = plane.node.make_volume

    async def silent(*order):
        await make(*order)
        raise Unavailable("no answer")

    monkeypatch.setattr(plane.node, "make_volume", silent)
    with pytest.raises(Unavailable):
        await volume(plane)
    assert plane.node.volumes == {}
    assert await plane.services.volumes.list(plane.caller) == []


async def test_a_node_that_is_away_by_then_leaves_no_row_either(plane):
    plane.node.fail("volume_make")
    plane.node.fail("volume_remove")
    with pytest.raises(Unavailable):
        await volume(plane)
    assert await plane.services.volumes.list(plane.caller) == []


async def test_a_sandbox_is_born_with_its_volumes(plane):
    made = await volume(plane)
    sandbox, _ = await plane.services.sandboxes.create(plane.caller, CreateOrder("base", volumes=[("data", "/mnt")]))
    assert [(each.volume_id, each.path) for each in plane.node.births[0].volumes] == [(made.id, "/mnt")]
    found = await plane.services.sandboxes.get(plane.caller, sandbox.id)
    assert [(each.name, each.path) for each in found.volumes] == [("data", "/mnt")]


async def test_all_that_is_wrong_with_mounts_is_said_at_once(plane):
    await volume(plane)
    order = CreateOrder("base", volumes=[("nope", "/a"), ("data", "relative"), ("data", "/b"), ("data", "/b/c")])
    with pytest.raises(InvalidInput) as error:
        await plane.services.sandboxes.create(plane.caller, order)
    assert error.value.message.splitlines() == [
        "invalid mounts:",
        "- volume mount #0: volume 'nope' not found",
        "- volume mount #1: path 'relative' is not absolute and clean: /a/b, without '..', '//' or a '/' at its end",
        "- volume mount #3: path '/b/c' and path '/b' are inside one another",
    ]
    assert plane.node.births == []


async def test_a_mounted_volume_is_not_deleted(plane):
    made = await volume(plane)
    sandbox, _ = await plane.services.sandboxes.create(plane.caller, CreateOrder("base", volumes=[("data", "/mnt")]))
    with pytest.raises(Conflict):
        await plane.services.volumes.delete(plane.caller, made.id)
    await plane.services.sandboxes.delete(plane.caller, sandbox.id)
    await plane.services.volumes.delete(plane.caller, made.id)
    with pytest.raises(NotFound):
        await plane.services.volumes.get(plane.caller, made.id)
    assert plane.node.volumes == {}


async def test_there_are_so_many_volumes_and_no_more(plane, monkeypatch):
    monkeypatch.setattr("atoll.control.volumes.MAX_VOLUMES", 1)
    await volume(plane)
    with pytest.raises(CapacityExceeded):
        await volume(plane, "more")


async def test_none_is_made_on_a_machine_whose_disk_is_full(plane):
    plane.node.room = replace(plane.node.room, disk_available_mib=0)
    with pytest.raises(CapacityExceeded):
        await volume(plane)
    assert plane.node.volumes == {}


async def test_a_volume_grows_and_its_inodes_with_it(plane):
    made, _ = await plane.services.volumes.create(plane.caller, "data", 10240, 10_000)
    assert (made.inodes, plane.node.volumes) == (10_000, {made.id: 10240})
    grown, token = await plane.services.volumes.resize(plane.caller, made.id, 20480, 20_000)
    assert (grown.size_mib, grown.inodes, plane.node.volumes) == (20480, 20_000, {made.id: 20480})
    assert token
    assert (await plane.services.volumes.get(plane.caller, made.id))[0] == grown
    assert (await plane.services.volumes.resize(plane.caller, made.id, inodes=500))[0] == grown
    assert await plane.services.volumes.used_bytes([grown]) == {made.id: 4096}


async def test_what_a_file_system_cannot_do_is_refused_with_the_reason(plane):
    made, _ = await plane.services.volumes.create(plane.caller, "data", 1024, 1000)
    for size_mib, inodes, why in ((512, None, "cannot be made smaller"), (2048, 2001, "room for 2000 inodes")):
        with pytest.raises(InvalidInput, match=why):
            await plane.services.volumes.resize(plane.caller, made.id, size_mib, inodes)
    with pytest.raises(InvalidInput):
        await plane.services.volumes.create(plane.caller, "more", 64, 64 * 256 + 1)
    plane.node.fail("volume_grow", Conflict("mounted"))
    with pytest.raises(Conflict):
        await plane.services.volumes.resize(plane.caller, made.id, 2048)
    assert (await plane.services.volumes.get(plane.caller, made.id))[0] == made
