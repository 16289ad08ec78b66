"""Volumes mounted at run time, with a fake node."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atoll.core.audit import Caller
from atoll.core.errors import Conflict, InvalidInput, NotFound, Unavailable
from atoll.core.keys import Principal
from atoll.core.order import CreateOrder
from atoll.core.volumes import MAX_MOUNTS


@pytest.fixture
async def box(plane):
    await plane.services.volumes.create(plane.caller, "data", 64)
    made, _ = await plane.services.sandboxes.create(plane.caller, CreateOrder("base"))
    return made


async def test_it_is_mounted_shown_and_taken_out(plane, box):
    mounts = plane.services.mounts
    for _ in range(2):
        found = await mounts.mount(plane.caller, box.id, "data", "/mnt/data")
        assert [(each.name, each.path) for each in found.volumes] == [("data", "/mnt/data")]
    assert list(plane.node.mounts[box.id]) == ["/mnt/data"]
    assert (await mounts.unmount(plane.caller, box.id, "/mnt/data")).volumes == ()
    assert plane.node.mounts == {box.id: {}}
    with pytest.raises(InvalidInput, match="no volume is mounted"):
        await mounts.unmount(plane.caller, box.id, "/mnt/data")
    entries = [entry for entry in await plane.store.audit.list(9) if "mount" in entry.operation]
    assert [(each.operation, each.detail, each.outcome) for each in reversed(entries)] == [
        *[("sandbox.mount", "data at /mnt/data", "ok")] * 2,
        ("sandbox.unmount", "/mnt/data", "ok"),
        ("sandbox.unmount", "/mnt/data", "invalid_input"),
    ]


async def test_one_that_is_gone_though_nobody_heard_of_it_is_mounted_again(plane, box):
    mounts = plane.services.mounts
    await mounts.mount(plane.caller, box.id, "data", "/mnt/data")
    plane.node.mounts[box.id].clear()  # by an unmount whose answer was lost
    found = await mounts.mount(plane.caller, box.id, "data", "/mnt/data")
    assert (list(plane.node.mounts[box.id]), len(found.volumes)) == (["/mnt/data"], 1)


@pytest.mark.parametrize(
    ("name", "path", "why"),
    [
        ("nope", "/a", "not found"),
        ("data", "/proc/x", "belongs to the sandbox"),
        ("data", "/a/../b", "not absolute and clean"),
        ("data", "/mnt", "inside one another"),
        ("data", "/mnt/data/x", "inside one another"),
    ],
)
async def test_what_cannot_be_mounted_is_refused_with_the_reason(plane, box, name, path, why):
    await plane.services.mounts.mount(plane.caller, box.id, "data", "/mnt/data")
    with pytest.raises(InvalidInput, match=why):
        await plane.services.mounts.mount(plane.caller, box.id, name, path)
    assert list(plane.node.mounts[box.id]) == ["/mnt/data"]


async def test_another_organizations_volume_is_not_there_and_its_sandbox_neither(plane, box):
    other = Caller(Principal("key_x", 999), "r", None)
    theirs, _ = await plane.services.sandboxes.create(other, CreateOrder("base"))
    with pytest.raises(InvalidInput, match="not found"):
        await plane.services.mounts.mount(other, theirs.id, "data", "/mnt")
    for act in (
        plane.services.mounts.mount(other, box.id, "data", "/mnt"),
        plane.services.mounts.unmount(other, box.id, "/mnt"),
    ):
        with pytest.raises(NotFound):
            await act


async def test_only_so_many_and_only_on_its_machine(plane, box):
    for number in range(MAX_MOUNTS):
        await plane.services.mounts.mount(plane.caller, box.id, "data", f"/m{number}")
    with pytest.raises(InvalidInput, match="at most"):
        await plane.services.mounts.mount(plane.caller, box.id, "data", "/more")
    await plane.services.mounts.unmount(plane.caller, box.id, "/m0")
    volume = await plane.store.volumes.by_name(plane.caller.principal.organization_id, "data")
    await plane.store.volumes.insert(replace(volume, id="b" * 20, name="far", node_id="node-2"), 9)
    with pytest.raises(Unavailable, match="another machine"):
        await plane.services.mounts.mount(plane.caller, box.id, "far", "/far")


async def test_one_that_rests_is_refused(plane, box):
    await plane.services.mounts.mount(plane.caller, box.id, "data", "/mnt")
    await plane.services.sandboxes.pause(plane.caller, box.id)
    for act in (
        plane.services.mounts.mount(plane.caller, box.id, "data", "/other"),
        plane.services.mounts.unmount(plane.caller, box.id, "/mnt", True),
    ):
        with pytest.raises(Conflict, match="paused"):
            await act


async def test_what_the_node_refuses_is_not_written(plane, box):
    plane.node.fail("volume_mount", InvalidInput("/mnt leads through something that is no directory"))
    with pytest.raises(InvalidInput):
        await plane.services.mounts.mount(plane.caller, box.id, "data", "/mnt")
    assert (await plane.services.sandboxes.get(plane.caller, box.id)).volumes == ()
