"""The agent and the real interpreter side, together."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def agent_with_seed(start_agents):
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    source = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../../src"))
    seed = subprocess.Popen(
        [sys.executable, "-m", "atoll.agent.runner", "--seed-fd", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env={**os.environ, "PYTHONPATH": source},
    )
    agent = start_agents(seed=ours)
    theirs.close()
    ours.close()
    yield agent
    agent.stop()
    seed.wait()


@pytest.fixture
async def python_agent(agent_with_seed):
    """Each test begins without contexts."""
    yield agent_with_seed
    for context in (await agent_with_seed.request("GET", "/contexts")).json()["contexts"]:
        await agent_with_seed.request("DELETE", f"/contexts/{context['id']}")


async def test_state_stays_and_the_last_value_is_shown(python_agent):
    await python_agent.execute("default", "x = 20")
    result = await python_agent.execute("default", "print('hi'); x + 1")
    assert result.stdout == b"hi\n"
    (value,) = result.objects
    assert (value["type"], value["data"]["text/plain"]) == ("result", "21")
    assert result.end.items() >= {"status": "ok", "execution_count": 2}.items()


async def test_output_and_displays_keep_their_order(python_agent):
    code = "import subprocess\nfor n in range(20):\n    print(n)\n    display(n)\n    subprocess.run(['echo', 'x'])"
    async with python_agent.stream("POST", "/contexts/default/execute", {"code": code}) as stream:
        found = (await stream.rest())[1:-1]
    told = "".join(
        f"<{frame.json()['data']['text/plain']}>" if frame.type == b"J" else frame.payload.decode() for frame in found
    )
    assert told == "".join(f"{n}\n<{n}>x\n" for n in range(20))


async def test_displays_of_threads_wait_for_nobody(python_agent):
    code = (
        "import threading\n"
        "threads = [threading.Thread(target=lambda: [display(n) for n in range(50)]) for _ in range(4)]\n"
        "for thread in threads: thread.start()\n"
        "for n in range(50): display(n)\n"
        "for thread in threads: thread.join()"
    )
    for _ in range(3):
        result = await python_agent.execute("default", code)
        assert result.end["status"] == "ok"
        assert len(result.objects) == 250


async def test_an_exception_is_told(python_agent):
    result = await python_agent.execute("default", "1/0")
    assert result.end["status"] == "error"
    assert result.objects[0]["name"] == "ZeroDivisionError"


async def test_endless_loops_end_at_the_time_limit_and_the_state_stays(python_agent):
    await python_agent.execute("default", "x = 1")
    result = await python_agent.execute("default", "while True: pass", timeout_s=0.2)
    assert result.end["status"] == "timed_out"
    assert (await python_agent.execute("default", "print(x)")).stdout == b"1\n"


async def test_an_exit_and_a_kill_end_the_cell_as_died_and_the_next_one_starts_anew(python_agent):
    for code in ("import os; os._exit(3)", "import os; os.kill(os.getpid(), 9)"):
        result = await python_agent.execute("default", f"print('x'); {code}")
        assert (result.stdout, result.end["status"]) == (b"x\n", "died")
    assert (await python_agent.execute("default", "1")).end.items() >= {"status": "ok", "execution_count": 1}.items()


async def test_environment_and_directory_reach_the_cell(python_agent):
    (python_agent.workdir / "sub").mkdir()
    await python_agent.request("PATCH", "/env", {"env": {"WIDE": "w", "GONE": "g"}})
    code = "import os; print(os.environ.get('WIDE'), os.environ.get('GONE'), os.environ.get('CELL'), os.getcwd())"
    wd = python_agent.workdir
    assert (await python_agent.execute("default", code)).stdout.decode() == f"w g None {wd}\n"
    await python_agent.request("PATCH", "/env", {"env": {"WIDE": "v", "GONE": None}})
    result = await python_agent.execute("default", code, env={"CELL": "c"}, cwd=f"{wd}/sub")
    assert result.stdout.decode() == f"v None c {wd}/sub\n"


async def test_a_program_that_a_cell_started_ends_with_the_context(python_agent):
    code = "import subprocess; p = subprocess.Popen(['setsid', 'sleep', '1000']); print(p.pid)"
    pid = int((await python_agent.execute("default", code)).stdout)
    fd = os.pidfd_open(pid)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, ended.set)
    assert (await python_agent.request("DELETE", "/contexts/default")).status == 200
    await ended.wait()
    asyncio.get_running_loop().remove_reader(fd)
    os.close(fd)


async def test_contexts_run_side_by_side(python_agent):
    await python_agent.request("POST", "/contexts", {"id": "other"})
    await python_agent.execute("default", "x = 'default'")
    await python_agent.execute("other", "x = 'other'")
    results = await asyncio.gather(*(python_agent.execute(name, "print(x)") for name in ("default", "other")))
    assert [result.stdout for result in results] == [b"default\n", b"other\n"]
