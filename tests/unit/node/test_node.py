"""The whole daemon on its socket, with a launcher process of its own (the fake one: nothing here needs root)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from atoll.core.errors import InvalidInput, Unavailable
from atoll.core.ids import new_sandbox_id
from atoll.core.settings import NodeSettings, Places
from atoll.listening import wait_listening
from atoll.node.egress_process import EgressProcess
from atoll.node.exits import start_time
from atoll.node.launcher_process import launcher_command, python_command, start_launcher
from atoll.node.main import Node
from atoll.node.native_engine import NativeEngine
from atoll.rpc import RpcClient
from atoll.testing.fake_launcher import VERSION

from .conftest import DISK_MIB

Connect = Callable[[], Awaitable[RpcClient]]


def fake_command(places: Places, version: str = VERSION) -> list[str]:
    _, *arguments = launcher_command(places)[3:]
    return [*python_command("atoll.testing.fake_launcher"), *arguments, "--version", version]


STARTED: list[subprocess.Popen[bytes]] = []
"""Launchers outlive their node on purpose; here they are children of one test process, which has to reap them."""


async def start_fake(places: Places, version: str) -> subprocess.Popen[bytes]:
    STARTED.append(await start_launcher(places, fake_command(places, version)))
    return STARTED[-1]


def build_node(places: Places, version: str = VERSION, egress: EgressProcess | None = None) -> Node:
    engine = NativeEngine(
        places,
        version,
        lambda: (Path("/runtime"), []),
        lambda *exited: None,
        start=partial(start_fake, version=version),
    )
    return Node(NodeSettings(places=places, warm=("base",)), engine, egress)


@asynccontextmanager
async def running(node: Node, places: Places) -> AsyncIterator[RpcClient]:
    stop = asyncio.Event()
    serving = asyncio.create_task(node.serve(stop))
    try:
        await wait_listening(places.node_socket, 20)
        client = await RpcClient.connect(places.node_socket)
        yield client
        await client.close()
    finally:
        stop.set()
        await serving
        places.node_socket.unlink(missing_ok=True)


@pytest.fixture
async def cleanup(places: Places) -> AsyncIterator[AsyncExitStack]:
    """Whatever a test leaves running is stopped through a last node."""
    async with AsyncExitStack() as stack:
        yield stack
    async with running(build_node(places), places) as client:
        await client.call("stop_all")
    while STARTED:
        STARTED.pop().wait()


def creation(**changes: object) -> dict[str, object]:
    limits = {"disk_mib": DISK_MIB}
    return {"id": new_sandbox_id(), "incarnation": 1, "template": "base", "limits": limits, "env": {}} | changes


async def launcher_pid(places: Places) -> int:
    client = await RpcClient.connect(places.launcher_socket)
    try:
        return int((await client.call("hello"))["pid"])
    finally:
        await client.close()


async def test_hello_names_the_templates_and_capacity_the_reserves(places: Places, cleanup: AsyncExitStack) -> None:
    client = await cleanup.enter_async_context(running(build_node(places), places))
    hello = await client.call("hello")
    assert [template["name"] for template in hello["templates"]] == ["base"]
    assert hello["node_id"] == places.installation
    capacity = await client.call("capacity")
    assert capacity["memory_reserve_mib"] == 1024
    assert 0 < capacity["disk_available_mib"] <= capacity["disk_total_mib"]


@pytest.mark.parametrize(
    "wrong", [{"id": "../../etc"}, {"id": 7}, {"incarnation": "1"}, {"limits": {"disk_mib": "much"}}, {"env": ["A"]}]
)
async def test_a_malformed_order_is_refused(places: Places, cleanup: AsyncExitStack, wrong: dict[str, object]) -> None:
    client = await cleanup.enter_async_context(running(build_node(places), places))
    with pytest.raises(InvalidInput):
        await client.call("create", creation(**wrong))


async def test_sandboxes_and_launcher_outlive_the_node(places: Places, cleanup: AsyncExitStack) -> None:
    async with running(build_node(places), places) as client:
        born = await client.call("create", creation())
        launcher = await launcher_pid(places)
    assert start_time(born["pid"]) is not None
    client = await cleanup.enter_async_context(running(build_node(places), places))
    assert [each["pid"] for each in (await client.call("list"))["sandboxes"]] == [born["pid"]]
    assert await launcher_pid(places) == launcher


async def test_a_killed_launcher_is_replaced_and_sandboxes_live_on(places: Places, cleanup: AsyncExitStack) -> None:
    client = await cleanup.enter_async_context(running(build_node(places), places))
    first = await client.call("create", creation())
    killed = await launcher_pid(places)
    os.kill(killed, signal.SIGKILL)
    second = creation()
    try:
        await client.call("create", second)
    except Unavailable:  # it was asked in the moment of the loss; the next one waits for the new launcher
        await client.call("create", creation())
    assert await launcher_pid(places) != killed
    assert start_time(first["pid"]) is not None
    await client.call("destroy", {"id": (await client.call("list"))["sandboxes"][0]["id"], "incarnation": 1})


async def test_a_launcher_of_another_version_is_replaced(places: Places, cleanup: AsyncExitStack) -> None:
    async with running(build_node(places, "older"), places) as client:
        born = await client.call("create", creation())
        older = await launcher_pid(places)
    await cleanup.enter_async_context(running(build_node(places), places))
    assert await launcher_pid(places) != older
    assert start_time(born["pid"]) is not None


async def test_a_launcher_that_cannot_start_is_told_with_its_log(places: Places) -> None:
    with pytest.raises(Unavailable, match=r"status 3.*launcher\.log"):
        await start_launcher(places, ["/bin/sh", "-c", "exit 3"])


async def leave_behind(places: Places, method: str, params: dict[str, object]) -> None:
    """The call arrives, and whoever would hear its answer is gone."""
    client = await RpcClient.connect(places.node_socket)
    call = asyncio.create_task(client.call(method, params))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(Unavailable):
        await call


async def until_undone(caplog: pytest.LogCaptureFixture, what: str) -> None:
    async with asyncio.timeout(20):
        while not any(each.getMessage().startswith(f"undone: {what}") for each in caplog.records):  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_create_whose_caller_has_gone_is_undone(
    places: Places, cleanup: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    client = await cleanup.enter_async_context(running(build_node(places), places))
    order = creation()
    await leave_behind(places, "create", order)
    await until_undone(caplog, f"create of {order['id']}")
    assert (await client.call("list"))["sandboxes"] == []
    assert not places.agent_socket(str(order["id"])).exists()


async def test_a_start_whose_caller_has_gone_is_undone_and_the_sandbox_listed_meanwhile(
    places: Places, cleanup: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that found it missing would forget it, and with it its disk."""
    caplog.set_level("INFO")
    client = await cleanup.enter_async_context(running(build_node(places), places))
    order = creation()
    await client.call("create", order)
    await client.call("stop", {"id": order["id"], "incarnation": 1})
    await leave_behind(places, "start", {**order, "incarnation": 2})
    (listed,) = (await client.call("list"))["sandboxes"]
    assert (listed["state"], listed["incarnation"]) == ("stopped", 2)
    await until_undone(caplog, f"start of {order['id']}")
    assert (await client.call("list"))["sandboxes"] == [{**listed, "pid": None}]
    again = await client.call("start", {**order, "incarnation": 3})
    assert start_time(again["pid"]) is not None


async def test_stop_all_ends_the_launcher(places: Places, cleanup: AsyncExitStack) -> None:
    async with running(build_node(places), places) as client:
        born = await client.call("create", creation())
        launcher = await launcher_pid(places)
        await client.call("stop_all")
    assert start_time(born["pid"]) is None
    assert start_time(launcher) is None
