"""The daemon's life as the node leads it: started, found again, replaced, told the truth each time, ended."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atoll.core.errors import InternalError, NotFound, Unavailable
from atoll.core.settings import EgressSettings, NodeSettings, Places
from atoll.core.uplink import parse_uplink
from atoll.node import egress_process
from atoll.node.egress_process import EgressProcess, NoEgress, Outbound, egress_command, egress_version
from atoll.node.exits import start_time
from atoll.node.launcher_process import python_command
from atoll.testing.fake_egress import VERSION, FakeEgress

A = Outbound("a" * 20, "100.96.0.2", {"internet_access": True, "deny_out": ["1.1.1.1"]})
B = Outbound("b" * 20, "100.96.0.3", {"internet_access": False}, "fd00::3")


class Stand:
    """One node's side, and whatever answers on the socket."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "egress.sock"
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.heard = asyncio.Event()

    def process(self, version: str = VERSION, fabric: Path | None = None) -> EgressProcess:
        command = python_command("atoll.testing.fake_egress", "--socket", str(self.path), "--version", version)
        return EgressProcess(self.path, command, version, self._hear, fabric)

    def _hear(self, event: str, data: dict[str, Any]) -> None:
        self.events.append((event, data))
        self.heard.set()


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


@pytest.fixture
async def cleanup() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def daemon(stand: Stand, cleanup: AsyncExitStack) -> FakeEgress:
    """In this process, so that it can be looked into."""
    daemon = FakeEgress()
    await daemon.listen(stand.path)
    cleanup.push_async_callback(daemon.close)
    return daemon


async def opened(stand: Stand, cleanup: AsyncExitStack, *known: Outbound) -> EgressProcess:
    process = stand.process()
    for each in known:
        await process.put(each)
    await process.open()
    cleanup.push_async_callback(process.close)
    return process


async def daemon_pid(stand: Stand) -> int:
    client = await egress_process.RpcClient.connect(stand.path)
    try:
        return int((await client.call("hello"))["pid"])
    finally:
        await client.close()


async def until(fact: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not fact():  # noqa: ASYNC110 (a turn of the loop each time, no pause)
            await asyncio.sleep(0)


# ---- told


async def test_what_was_there_before_it_is_told_at_once(
    stand: Stand, daemon: FakeEgress, cleanup: AsyncExitStack
) -> None:
    await opened(stand, cleanup, A, B)
    assert daemon.known == {A.id: A.to_wire(), B.id: B.to_wire()}
    assert daemon.known[B.id]["address6"] == "fd00::3"


async def test_one_that_has_nothing_to_tell_says_so(stand: Stand, daemon: FakeEgress, cleanup: AsyncExitStack) -> None:
    daemon.known = {"gone": {}}
    await opened(stand, cleanup)
    assert daemon.known == {}


async def test_the_daemon_learns_of_changes_and_of_the_end(
    stand: Stand, daemon: FakeEgress, cleanup: AsyncExitStack
) -> None:
    process = await opened(stand, cleanup, A)
    await process.put(replace(A, policy={"internet_access": False}))
    assert daemon.known[A.id]["policy"] == {"internet_access": False}
    process.forget(A.id)
    await until(lambda: not daemon.known)
    process.forget(A.id)
    assert daemon.calls.count("forget") == 1


async def test_more_than_a_line_of_the_rpc_holds_is_told_all_the_same(
    stand: Stand, daemon: FakeEgress, cleanup: AsyncExitStack
) -> None:
    large = {"internet_access": True, "rules": "x" * 1_000_000}
    known = [Outbound(f"{number:020}", "100.96.0.2", large) for number in range(20)]
    await opened(stand, cleanup, *known)
    assert len(daemon.known) == 20


async def test_what_changes_while_it_is_told_is_told_too(
    stand: Stand, daemon: FakeEgress, cleanup: AsyncExitStack
) -> None:
    gate = daemon.silent["sync"] = asyncio.Event()
    process = stand.process()
    await process.put(A)
    await process.put(B)
    opening = asyncio.create_task(process.open())
    cleanup.push_async_callback(process.close)
    await until(lambda: "sync" in daemon.calls)
    await process.put(replace(A, policy={"internet_access": False}))
    process.forget(B.id)
    gate.set()
    await opening
    assert set(daemon.known) == {A.id}
    assert daemon.known[A.id]["policy"] == {"internet_access": False}


async def test_a_policy_that_it_does_not_take_is_an_error_and_keeps_no_other_from_working(
    stand: Stand, daemon: FakeEgress, cleanup: AsyncExitStack
) -> None:
    daemon.failing.add("put")
    process = await opened(stand, cleanup, A)
    with pytest.raises(InternalError):
        await process.put(B)
    daemon.failing.clear()
    await process.put(B)
    assert set(daemon.known) == {B.id}


async def test_events_and_the_block_list_are_passed_on(
    stand: Stand, daemon: FakeEgress, cleanup: AsyncExitStack
) -> None:
    await opened(stand, cleanup)
    assert stand.events == [("blocklist", daemon.blocked)]
    stand.heard.clear()
    daemon.emit("punish", {"id": A.id})
    await stand.heard.wait()
    assert stand.events[-1] == ("punish", {"id": A.id})


# ---- its life


async def test_one_is_started_and_outlives_the_node(stand: Stand, cleanup: AsyncExitStack) -> None:
    first = stand.process()
    await first.open()
    pid = await daemon_pid(stand)
    await first.close()
    assert start_time(pid) is not None
    second = await opened(stand, cleanup, A)
    assert await daemon_pid(stand) == pid
    assert await second.ask("totals", {}) == {"connections": 1}
    await second.shutdown()
    first._wait_started()
    assert start_time(pid) is None


async def test_one_of_another_version_is_replaced(stand: Stand, cleanup: AsyncExitStack) -> None:
    old = stand.process("old")
    await old.open()
    pid = await daemon_pid(stand)
    await old.close()
    process = await opened(stand, cleanup, A)
    assert await daemon_pid(stand) != pid
    old._wait_started()
    assert start_time(pid) is None
    await process.shutdown()


async def test_one_in_another_network_namespace_is_replaced(stand: Stand, tmp_path: Path) -> None:
    elsewhere = tmp_path / "fabric"
    elsewhere.touch()
    first = stand.process()
    await first.open()
    await first.close()
    second = stand.process(fabric=elsewhere)
    await second.open()  # the new one is no more in that place than the old one
    with pytest.raises(Unavailable):
        await second.ask("totals", {})
    await second.close()
    here = stand.process(fabric=Path("/proc/self/ns/net"))
    await here.open()
    assert await here.ask("totals", {}) == {"connections": 0}
    await here.shutdown()
    for process in (first, second):
        process._wait_started()


async def test_a_killed_one_is_started_again_and_told_everything(stand: Stand, cleanup: AsyncExitStack) -> None:
    process = await opened(stand, cleanup, A)
    pid = await daemon_pid(stand)
    stand.heard.clear()
    os.kill(pid, signal.SIGKILL)
    await stand.heard.wait()  # the new one's block list
    await process.put(B)
    await until(lambda: process._client is not None)
    assert await process.ask("totals", {}) == {"connections": 2}
    assert await daemon_pid(stand) != pid
    await process.shutdown()


async def test_without_one_a_sandbox_is_made_all_the_same_and_questions_are_not_answered(stand: Stand) -> None:
    process = stand.process()
    await process.put(A)
    process.forget(A.id)
    with pytest.raises(Unavailable):
        await process.ask("totals", {})


async def test_one_that_cannot_start_does_not_keep_the_node_from_starting(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    process = EgressProcess(stand.path, ["/bin/false"], VERSION, stand._hear, None)
    await process.open()
    assert "is refused" in caplog.text
    await process.close()


async def test_one_that_does_not_take_a_policy_in_time_is_ended_for_it_may_go_on_by_the_old_one(
    stand: Stand, cleanup: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await opened(stand, cleanup, A)
    pid = await daemon_pid(stand)
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(egress_process, "PUT_TIMEOUT_S", 0.05)
    stand.heard.clear()
    await process.put(B)
    await stand.heard.wait()
    assert await daemon_pid(stand) != pid
    await process.shutdown()
    assert start_time(pid) is None


async def test_an_installation_without_a_way_out_has_none(places: Places) -> None:
    nothing = egress_process.egress_process(NodeSettings(places), lambda *_: None)
    assert isinstance(nothing, NoEgress)
    await nothing.open()
    await nothing.put(A)
    nothing.forget(A.id)
    with pytest.raises(NotFound, match="--uplink none"):
        await nothing.ask("log", {})


# ---- what it is told at its start


def test_every_setting_is_on_its_command_line_and_changes_its_version(places: Places) -> None:
    settings = NodeSettings(places, uplink=parse_uplink("netns:x"), open_ranges="10.0.0.0/8")
    changed = EgressSettings(
        nameservers=("9.9.9.9", "1.1.1.1"), log_mib=7, domain="boxes.example", authorities=(Path("/a"), Path("/b"))
    )
    words = egress_command(replace(settings, egress=changed))
    for word in (
        "--uplink=netns:x",
        "--open-ranges=10.0.0.0/8",
        "--nameservers=9.9.9.9,1.1.1.1",
        "--log-mib=7",
        "--domain=boxes.example",
        "--egress-ca=/a",
        "--egress-ca=/b",
    ):
        assert word in words
    assert egress_version(settings) == egress_version(settings)
    assert egress_version(settings) != egress_version(replace(settings, egress=changed))
