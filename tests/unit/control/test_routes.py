import asyncio

from atoll.control import routes as routes_module
from atoll.core.order import CreateOrder
from atoll.testing.plane import Plane


async def create(plane: Plane) -> str:
    sandbox, _ = await plane.services.sandboxes.create(plane.caller, CreateOrder("busybox"))
    return sandbox.id


async def test_a_follower_gets_everything_then_ready_then_changes(plane: Plane):
    first = await create(plane)
    stream = plane.services.routes.follow()
    assert (await anext(stream))["id"] == first
    ready = await anext(stream)
    assert ready == {"ready": True, "mark": plane.services.routes.mark}
    await plane.services.sandboxes.pause(plane.caller, first)
    paused = await anext(stream)
    assert paused["state"] == "paused"
    assert paused["mark"] == plane.services.routes.mark != ready["mark"]
    await plane.services.sandboxes.delete(plane.caller, first)
    assert await anext(stream) == {"id": first, "removed": True, "mark": plane.services.routes.mark}
    await stream.aclose()


async def test_a_change_reaches_the_follower_before_the_caller_has_the_answer(plane: Plane):
    seen: list[dict] = []
    ready = asyncio.Event()

    async def follow() -> None:
        async for message in plane.services.routes.follow():
            seen.append(message)
            if "ready" in message:
                ready.set()

    task = asyncio.create_task(follow())
    await ready.wait()
    box = await create(plane)
    assert seen[-1]["id"] == box
    await plane.services.sandboxes.pause(plane.caller, box)
    assert seen[-1]["state"] == "paused"
    plane.services.routes.close()
    await task


async def test_a_silent_table_beats_its_heart(plane: Plane):
    stream = plane.services.routes.follow(heartbeat_s=0.01)
    assert (await anext(stream))["ready"]
    assert await anext(stream) == {}
    await stream.aclose()


async def test_a_follower_that_does_not_read_is_dropped(plane: Plane, monkeypatch):
    monkeypatch.setattr(routes_module, "MAX_BEHIND", 2)
    stream = plane.services.routes.follow()
    assert (await anext(stream))["ready"]
    for _ in range(4):
        await create(plane)
    assert [message async for message in stream] == []


async def test_close_ends_every_stream(plane: Plane):
    stream = plane.services.routes.follow()
    await anext(stream)
    plane.services.routes.close()
    assert [message async for message in stream] == []
