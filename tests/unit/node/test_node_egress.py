"""The daemon's events reach the launcher and the server; the end of everything is its end too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from atoll.core.errors import InvalidInput, NotFound
from atoll.core.ids import new_sandbox_id
from atoll.core.settings import NodeSettings, Places
from atoll.core.uplink import parse_uplink
from atoll.listening import wait_listening
from atoll.node.egress_process import EgressProcess
from atoll.node.main import Node
from atoll.node.native_engine import NativeEngine
from atoll.rpc import RpcClient
from atoll.testing.fake_egress import VERSION as EGRESS_VERSION
from atoll.testing.fake_egress import FakeEgress
from atoll.testing.fake_launcher import VERSION

from .conftest import House
from .test_node import creation


class Server:
    """What the server would be: a client of the node's socket, with its events."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self.client: RpcClient

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        return await self.client.call(method, params)


@pytest.fixture
async def daemon(places: Places) -> AsyncIterator[FakeEgress]:
    daemon = FakeEgress()
    await daemon.listen(places.egress_socket)
    yield daemon
    await daemon.close()


@pytest.fixture
async def server(house: House, daemon: FakeEgress) -> AsyncIterator[Server]:
    places = house.places
    engine = NativeEngine(places, VERSION, lambda: (Path("/runtime"), []), lambda *_: None)
    egress = EgressProcess(
        places.egress_socket, ["/bin/false"], EGRESS_VERSION, lambda *told: node._egress_event(*told)
    )
    node = Node(NodeSettings(places, uplink=parse_uplink("netns:nowhere")), engine, egress)
    stop = asyncio.Event()
    serving = asyncio.create_task(node.serve(stop))
    await wait_listening(places.node_socket, 20)
    server = Server()
    server.client = await RpcClient.connect(places.node_socket, lambda *told: server.events.put_nowait(told))
    await server.call("list")  # from its answer on the node knows whom to tell
    yield server
    await server.client.close()
    stop.set()
    await serving


async def told(house: House, method: str, count: int) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while len(found := [params for name, params in house.launcher.told if name == method]) < count:  # noqa: ASYNC110
            await asyncio.sleep(0)
    return found[-1]


async def test_a_punished_sandbox_is_shut_in_the_kernel_and_the_server_hears_of_it(
    server: Server, house: House, daemon: FakeEgress
) -> None:
    daemon.emit("punish", {"id": "a" * 20, "rule": "scan", "seconds": 60, "detail": "101 addresses in 10 s"})
    event, data = await server.events.get()
    assert (event, data["id"]) == ("punish", "a" * 20)
    assert data["detail"] == "scan: 101 addresses in 10 s; no new connections for 60 s"
    assert await told(house, "punish", 1) == {"id": "a" * 20, "seconds": 60}


async def test_a_punishment_that_cannot_be_carried_out_is_not_reported_as_done(
    server: Server, house: House, daemon: FakeEgress, caplog: pytest.LogCaptureFixture
) -> None:
    house.launcher.failing.add("punish")
    daemon.emit("punish", {"id": "a" * 20, "rule": "scan", "seconds": 60, "detail": ""})
    daemon.emit("unheard of", {})
    await server.call("list")
    async with asyncio.timeout(10):
        while "punish was not done" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert server.events.empty()


async def test_the_block_list_is_in_the_kernel_before_anything_is_made_and_follows_the_daemons_word(
    server: Server, house: House, daemon: FakeEgress
) -> None:
    built_in = next(params for name, params in house.launcher.told if name == "blocked")
    assert "tcp/25" in built_in["ports"]
    before = len(house.launcher.told)
    daemon.emit("blocklist", {"networks": ["198.51.100.0/24"], "ports": ["udp/7"]})
    assert await told(house, "blocked", before + 1) == {"networks": ["198.51.100.0/24"], "ports": ["udp/7"]}


async def test_a_policy_goes_from_the_server_to_kernel_and_daemon(
    server: Server, house: House, daemon: FakeEgress
) -> None:
    order = creation(policy={"internet_access": True, "deny_out": ["1.1.1.1"]})
    sandbox_id = str(order["id"])
    await server.client.call("create", order)
    assert daemon.known[sandbox_id]["policy"] == {"internet_access": True, "deny_out": ["1.1.1.1"]}
    closed = {"internet_access": False}
    await server.call("set_network", id=sandbox_id, incarnation=1, policy=closed)
    assert daemon.known[sandbox_id]["policy"] == closed
    assert house.launcher.egress[sandbox_id]["open"] is False


@pytest.mark.parametrize("policy", [{"deny_out": ["a.example"]}, {"allow_out": ["a.example"]}])
async def test_a_policy_that_is_none_is_refused_and_nothing_changes(
    server: Server, house: House, daemon: FakeEgress, policy: dict[str, Any]
) -> None:
    order = creation(policy={"internet_access": True})
    await server.client.call("create", order)
    with pytest.raises(InvalidInput):
        await server.call("set_network", id=order["id"], incarnation=1, policy=policy)
    assert daemon.known[str(order["id"])]["policy"] == {"internet_access": True}


async def test_one_that_is_not_here_has_no_policy(server: Server) -> None:
    with pytest.raises(NotFound):
        await server.call("set_network", id=new_sandbox_id(), incarnation=1, policy={})


async def test_a_node_whose_daemon_died_makes_sandboxes_all_the_same(server: Server, daemon: FakeEgress) -> None:
    await daemon.close()
    born = await server.client.call("create", creation(policy={"internet_access": True}))
    assert Path(born["socket"]).exists()


async def test_the_log_is_asked_of_the_daemon(server: Server, daemon: FakeEgress) -> None:
    asked = {"id": "a" * 20, "after": -5, "limit": 10, "wait_s": 0.5}
    assert await server.call("egress_log", **asked) == {"entries": [{"seq": 1, **asked}], "cursor": 1}
    with pytest.raises(InvalidInput):
        await server.call("egress_log", id="../x", after=0, limit=1)


async def test_totals_of_all_are_the_daemons_and_the_kernels(server: Server) -> None:
    assert await server.call("egress_totals", id="a" * 20) == {"connections": 0}
    assert await server.call("egress_totals", id=None) == {"connections": 0, "refused_packets": {"never": 3}}


async def test_stop_all_ends_the_daemon_before_the_launcher(server: Server, house: House, daemon: FakeEgress) -> None:
    ending = asyncio.create_task(server.call("stop_all"))
    async with asyncio.timeout(10):
        await daemon.ended.wait()
        assert not house.launcher.ended.is_set()
        await daemon.close()
        await house.launcher.ended.wait()
        await house.launcher.close()
        assert await ending == {}
