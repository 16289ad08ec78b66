"""The agent as PID 1 of a process namespace of its own."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
# Killing returns before the killed process is gone; this waits for that, also when it is gone already.
AWAIT_END = """
import os, select, sys
try:
    select.select([os.pidfd_open(int(sys.argv[1]))], [], [])
except ProcessLookupError:
    pass
"""
UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture
def init(start_agent):
    return start_agent(prefix=UNSHARE)


async def test_no_signal_from_inside_ends_it(init):
    script = "for s in TERM INT HUP USR1 QUIT CHLD PIPE ALRM STOP KILL; do kill -$s 1; done; echo $PPID"
    assert (await init.run("sh", "-c", script)).stdout == b"1\n"
    assert (await init.request("GET", "/health")).status == 200


async def test_killing_everything_leaves_it(init):
    await init.run("sh", "-c", "kill -9 -1")
    assert (await init.run("echo", "alive")).stdout == b"alive\n"


async def test_orphans_are_adopted_and_reaped(init):
    await init.run("bash", "-c", "for i in $(seq 50); do (sh -c : &) ; done; wait")
    result = await init.run("sh", "-c", "while ps -eo stat= | grep -q Z; do :; done", timeout_s=10)
    assert result.end["process"]["status"] == "exited"


async def test_what_a_call_left_running_counts_as_activity(init):
    assert (await init.request("GET", "/activity")).json() == {"live": 0}
    result = await init.run("bash", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!")
    assert result.end["process"]["status"] == "exited"
    assert (await init.request("GET", "/activity")).json() == {"live": 1}
    rows = (await init.request("GET", "/system/processes")).json()["processes"]
    assert [row["pid"] for row in rows] == [int(result.stdout)]
    await init.request("POST", f"/processes/{result.end['process']['id']}/signal", {"signal": "SIGKILL"})
    await init.run(sys.executable, "-c", AWAIT_END, result.stdout.decode())
    assert (await init.request("GET", "/activity")).json() == {"live": 0}


async def test_a_kill_finds_what_is_just_becoming_another_program(init):
    for _ in range(30):
        result = await init.run("bash", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!")
        await init.request("POST", f"/processes/{result.end['process']['id']}/signal", {"signal": "SIGKILL"})
        awaited = await init.run(sys.executable, "-c", AWAIT_END, result.stdout.decode(), timeout_s=10)
        assert awaited.end["process"]["status"] == "exited"


async def test_a_fork_bomb_ends_at_its_time_limit_and_the_agent_answers_meanwhile(start_agent):
    agent = start_agent(prefix=("prlimit", "--nproc=300:300", *UNSHARE), switch_users=True, lineflush="/nonexistent")
    await agent.request("GET", "/health")
    bomb = "f() { f | f & }; f; while :; do f; done"
    spec = {"argv": ["bash", "-c", bomb], "user": "nobody", "timeout_s": 1.0, "cwd": "/", "record": False}
    running = asyncio.create_task(agent.outcome("POST", "/processes", spec))
    while not running.done():
        assert (await agent.request("GET", "/health")).status == 200
    assert (await running).end["process"]["status"] == "timed_out"
    assert (await agent.run("echo", "alive", user="nobody", cwd="/")).stdout == b"alive\n"
