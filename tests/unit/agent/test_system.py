from __future__ import annotations

import os

import pytest

from atoll.agent.system import ProcStat, has_empty_environment, parse_stat, started_in_sandbox, tree_of

LINE = "42 (a (b) c) S 7 40 39 0 -1 4194560 1 2 3 4 100 50 20 10 20 0 1 0 9000 1000000 250 18446744073709551615 1"


def process(pid: int, ppid: int, pgrp: int = 0, session: int = 0, state: str = "S") -> ProcStat:
    return ProcStat(pid, "x", state, ppid, pgrp or pid, session or pid, 0, 0, 0, 0)


def table(*stats: ProcStat) -> dict[int, ProcStat]:
    return {stat.pid: stat for stat in stats}


def test_a_name_with_parentheses_is_parsed():
    stat = parse_stat(LINE)
    assert (stat.pid, stat.name, stat.state, stat.ppid, stat.pgrp, stat.session) == (42, "a (b) c", "S", 7, 40, 39)
    assert (stat.cpu_ticks, stat.waited_ticks, stat.started_ticks) == (150, 30, 9000)
    assert stat.rss_bytes == 250 * os.sysconf("SC_PAGE_SIZE")


def test_a_tree_is_group_session_descendants_and_marked_orphans():
    stats = table(
        process(1, 0),
        process(10, 1),
        process(11, 10, pgrp=10, session=10),
        process(12, 1, pgrp=12, session=10),
        process(13, 1, pgrp=10, session=13),
        process(14, 11),
        process(15, 14),
        process(16, 1),
        process(17, 16),
        process(20, 1),
        process(21, 20),
    )
    assert tree_of(10, stats, lambda stat: stat.pid == 16, init=1) == {10, 11, 12, 13, 14, 15, 16, 17}


def test_a_tree_without_a_root_is_what_carries_the_mark():
    stats = table(process(1, 0), process(16, 1), process(17, 16), process(20, 1))
    assert tree_of(None, stats, lambda stat: stat.pid == 16, init=1) == {16, 17}


def test_init_is_never_part_of_a_tree():
    stats = table(process(1, 0, pgrp=10, session=10), process(10, 1))
    assert tree_of(10, stats, lambda stat: True, init=1) == {10}


def test_what_was_joined_from_outside_is_not_shown():
    stats = table(process(1, 0), process(2, 0), process(3, 2), process(4, 1))
    assert {stat.pid for stat in started_in_sandbox(stats, own_pid=1)} == {3, 4}


async def test_the_processes_of_the_system_are_listed(agent):
    spec = {"argv": ["sleep", "1000"], "attach": False}
    record = (await agent.request("POST", "/processes", spec)).json()["process"]
    rows = (await agent.request("GET", "/system/processes")).json()["processes"]
    row = next(row for row in rows if row["pid"] == record["pid"])
    assert (row["name"], row["command"], row["ppid"]) == ("sleep", "sleep 1000", agent.pid)
    assert row["status"] in ("sleeping", "running")
    assert row["memory_mb"] >= 0
    assert row["cpu_percent"] >= 0
    await agent.request("POST", f"/processes/{record['id']}/signal", {"signal": "SIGKILL"})


async def test_the_figures_follow_a_limit_that_was_changed(start_agent):
    agent = start_agent(memory_limit_bytes=1 << 30)
    assert (await agent.request("PUT", "/limits", {"memory_bytes": 3 << 30})).status == 200
    assert (await agent.request("GET", "/system")).json()["memory_limit_bytes"] == 3 << 30
    for wrong in ({}, {"memory_bytes": "1"}, {"memory_bytes": True}, {"memory_bytes": 0}):
        assert (await agent.request("PUT", "/limits", wrong)).status == 400


async def test_stats_and_activity(start_agent):
    agent = start_agent()
    stats = (await agent.request("GET", "/stats")).json()
    assert stats["cpu_seconds"] > 0
    assert stats["memory_bytes"] > 0
    assert 0 < stats["disk_free_bytes"] <= stats["disk_total_bytes"]
    assert (stats["processes_started_total"], stats["cells_total"], stats["errors_total"]) == (0, 0, 0)
    assert (await agent.request("GET", "/activity")).json() == {"live": 0}
    async with agent.stream("POST", "/processes", {"argv": ["sleep", "1000"]}) as stream:
        process_id = (await stream.next_json())["process"]["id"]
        assert (await agent.request("GET", "/activity")).json() == {"live": 2}
        await agent.request("POST", f"/processes/{process_id}/signal", {"signal": "SIGKILL"})
        await stream.rest()
    assert (await agent.request("GET", "/activity")).json() == {"live": 0}


@pytest.mark.parametrize(
    ("start", "end", "empty"),
    [("0", "0", False), ("4096", "4096", True), ("4096", "8192", False)],
    ids=["in execve", "env -i", "an environment"],
)
def test_an_environment_is_empty_only_in_a_program_that_has_begun(start, end, empty):
    fields = ["S", *("0" for _ in range(46)), start, end, "0"]
    assert has_empty_environment(f"7 (a) b) {' '.join(fields)}") is empty
