import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from atoll.control.here import Here
from atoll.control.services import Services, build
from atoll.core.audit import Caller
from atoll.core.errors import Unavailable
from atoll.core.keys import Principal
from atoll.core.lifecycle import State
from atoll.core.order import CreateOrder
from atoll.core.settings import Clocks
from atoll.rpc import RpcServer, serve
from atoll.testing.clock import FakeClock
from atoll.testing.node import FakeNode
from atoll.testing.plane import TOKEN_KEY, open_store

CALLER = Caller(Principal("k", 1))


class World:
    """A control plane that talks to a node's socket."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "node.sock"
        self.node = FakeNode()
        self.store = open_store(directory / "atoll.db")
        self.here = Here(self.socket, self.store, FakeClock())
        self.services: Services = build(self.store, self.here, FakeClock(), TOKEN_KEY, Clocks())
        self.loop = asyncio.create_task(self._keep_connected())

    async def _keep_connected(self) -> None:
        sandboxes = self.services.sandboxes
        await self.here.run(self.services.node_connected, sandboxes.exited, sandboxes.punished)

    async def start_node(self) -> RpcServer:
        server = await serve(self.socket, self.node.handle)
        await self.here.wait_connected()
        return server

    async def create(self):
        sandbox, _ = await self.services.sandboxes.create(CALLER, CreateOrder("base", env={"A": "1"}))
        return sandbox

    async def close(self) -> None:
        self.loop.cancel()
        await asyncio.gather(self.loop, return_exceptions=True)
        self.store.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.close()


async def until(fact: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await fact():  # noqa: ASYNC110 (a turn of the loop each time, no pause)
            await asyncio.sleep(0)


async def disconnected(world: World) -> None:
    async def fact() -> bool:
        return not world.here.connected

    await until(fact)


async def test_before_the_node_is_there_everything_is_unavailable(world: World):
    with pytest.raises(Unavailable):
        await world.create()


async def test_the_whole_life_over_the_socket(world: World):
    server = await world.start_node()
    box = await world.create()
    service = world.services.sandboxes
    assert box.socket.endswith(f"{box.id}.sock")
    assert world.node.births[0].env == {"A": "1"}
    for verb in ("pause", "resume", "stop", "start"):
        await getattr(service, verb)(CALLER, box.id)
    node = world.here.node("node-1")
    world.node.running[box.id] = 3
    assert await node.live(box.id) == 3
    assert (await node.usage(box.id))["processes"] == 1
    assert [found.state for found in await node.list()] == [State.RUNNING]
    await service.delete(CALLER, box.id)
    assert world.node.sandboxes == {}
    (record,) = await world.store.nodes.list()
    assert record.lease_until > record.seen_at
    await server.close()


async def test_an_exit_event_reaches_the_row(world: World):
    server = await world.start_node()
    box = await world.create()
    server.broadcast("exited", {"id": box.id, "incarnation": 1, "reason": "killed"})

    async def noticed() -> bool:
        return (await world.store.sandboxes.get(box.id)).state is State.ERROR

    await until(noticed)
    assert (await world.store.sandboxes.get(box.id)).reason == "killed"
    await server.close()


async def test_a_node_that_comes_back_is_reconciled_before_it_is_used(world: World):
    server = await world.start_node()
    kept, lost = await world.create(), await world.create()
    await server.close()
    await disconnected(world)
    with pytest.raises(Unavailable):
        await world.create()
    assert await world.store.sandboxes.get(kept.id) == kept  # a node that is away has not lost anything
    del world.node.sandboxes[lost.id]
    server = await world.start_node()
    assert await world.store.sandboxes.get(kept.id) == kept
    assert await world.store.sandboxes.get(lost.id) is None
    await server.close()


async def test_a_node_that_dies_during_create_leaves_a_tombstone_and_clears_it_on_return(world: World):
    server = await world.start_node()
    world.node.hold("create")
    task = asyncio.create_task(world.create())
    await world.node.entered.wait()
    for connection in server.connections:
        connection._writer.close()
    with pytest.raises(Unavailable):
        await task
    (row,) = await world.store.sandboxes.on_node("node-1")
    assert row.state is State.DELETED
    world.node._gates.pop("create").set()
    await server.close()
    server = await world.start_node()
    assert world.node.sandboxes == {}
    assert await world.store.sandboxes.on_node("node-1") == []
    await server.close()


async def test_another_machine_is_not_here(world: World):
    server = await world.start_node()
    with pytest.raises(Unavailable):
        world.here.node("node-2")
    await server.close()
