from __future__ import annotations

import pytest


async def test_background_code_is_a_fresh_process(client, agent, kit) -> None:
    agent.answers("POST", "/processes", {"process": kit.record(id="p9", pid=77)})
    status, body = await client.call("POST", "/execute/background", {"code": "C", "language": "python", "name": "job"})
    assert status == 200
    assert body.pop("start_time").endswith("Z")
    assert body == {
        "process_id": "p9",
        "execution_id": "p9",
        "status": "running",
        "pid": 77,
        "name": "job",
        "language": "python",
        "message": "Background process started: p9",
    }
    sent = agent.seen[0].json
    assert (sent["argv"], sent["files"]) == (["python3", "-u", "{dir}/main.py"], {"main.py": "C"})
    assert (sent["attach"], sent["timeout_s"], sent["name"]) == (False, 300.0, "job")
    assert sent.get("record", True)


async def test_background_command(client, agent, kit) -> None:
    agent.answers("POST", "/processes", {"process": kit.record(id="p9")})
    status, body = await client.call("POST", "/commands/background", {"command": "bash", "args": ["-c", "sleep 9"]})
    assert (status, body["process_id"], body["status"]) == (200, "p9", "running")


async def test_background_program_that_is_not_there_is_an_error_that_is_not_repeated(client, agent) -> None:
    agent.refuses("POST", "/processes", "not_found", 404)
    status, body = await client.call("POST", "/execute/background", {"code": "C", "language": "go"})
    assert (status, body["code"]) == (400, "INVALID_REQUEST")
    assert "go" in body["message"]


async def test_list_of_background_runs(client, agent, kit) -> None:
    python = ["python3", "-u", "/x/main.py"]
    done = {"started_at": 1700000000.0, "ended_at": 1700000002.5}
    agent.answers(
        "GET",
        "/processes",
        {
            "processes": [
                kit.record(id="p1", argv=python, name="job", status="exited", exit_code=0, **done),
                kit.record(id="p2", status="exited", exit_code=1, **done),
                kit.record(id="p3", status="killed", signal=9, **done),
                kit.record(id="p4", status="timed_out", exit_code=124, **done),
                kit.record(id="p5"),
                kit.record(id="t1", pty=True),
            ]
        },
    )
    _, body = await client.call("GET", "/execute/processes")
    assert body["count"] == 5
    assert [(p["process_id"], p["status"]) for p in body["processes"]] == [
        ("p1", "completed"),
        ("p2", "failed"),
        ("p3", "killed"),
        ("p4", "failed"),
        ("p5", "running"),
    ]
    assert body["processes"][0] == {
        "process_id": "p1",
        "execution_id": "p1",
        "pid": 42,
        "name": "job",
        "status": "completed",
        "language": "python",
        "command": "python3 -u /x/main.py",
        "start_time": "2023-11-14T22:13:20.000000Z",
        "started_at": "2023-11-14T22:13:20.000000Z",
        "end_time": "2023-11-14T22:13:22.500000Z",
        "completed_at": "2023-11-14T22:13:22.500000Z",
        "exit_code": 0,
        "duration": 2.5,
        "execution_time": 2.5,
        "stdout": "",
        "stderr": "",
        "output_truncated": False,
    }
    assert agent.seen[0].query == {"output": "8192"}
    assert body["processes"][4]["end_time"] is None


@pytest.mark.parametrize(
    ("found", "cut"),
    [
        ({"stdout": "all", "truncated": 0}, False),
        ({"stdout": "x" * 8192, "truncated": 0}, True),
        ({"stdout": "end", "truncated": 5}, True),
        ({"stdout": 7, "truncated": "no"}, True),
    ],
)
async def test_a_list_has_the_end_of_each_output(found, cut, client, agent, kit) -> None:
    agent.answers("GET", "/processes", {"processes": [{**kit.record(), **found}]})
    _, body = await client.call("GET", "/execute/processes")
    (shown,) = body["processes"]
    assert shown["stdout"] == (found["stdout"] if isinstance(found["stdout"], str) else "")
    assert shown["output_truncated"] is cut


async def test_one_background_run_with_its_output(client, agent, kit) -> None:
    agent.answers("GET", "/processes/p1", {"process": kit.record(), "stdout": "o", "stderr": "e", "truncated": 0})
    _, body = await client.call("GET", "/execute/processes/p1")
    assert (body["process_id"], body["stdout"], body["stderr"]) == ("p1", "o", "e")


async def test_system_list_carries_the_ids_that_kill_takes(client, agent, kit) -> None:
    process = {
        "pid": 42,
        "name": "bash",
        "status": "S",
        "cpu_percent": 0.1,
        "memory_mb": 3.0,
        "command": "bash -c true",
    }
    agent.answers("GET", "/system/processes", {"processes": [process, {**process, "pid": 43}]})
    agent.answers("GET", "/processes", {"processes": [kit.record(id="p1"), kit.record(id="p2", pid=99)]})
    _, body = await client.call("GET", "/processes")
    assert [(p["pid"], p["process_id"]) for p in body["processes"]] == [(42, "p1"), (43, "43"), (99, "p2")]
    assert process.items() <= body["processes"][0].items()


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/execute/kill/p1"), ("POST", "/processes/p1/kill"), ("DELETE", "/execute/kill?process_id=p1")],
)
async def test_every_spelling_of_kill(method, path, client, agent, kit) -> None:
    agent.answers("POST", "/processes/p1/signal", {"process": kit.record(status="killed")})
    status, body = await client.call(method, path)
    assert (status, body["success"], body["process_id"], body["status"]) == (200, True, "p1", "killed")
    assert agent.seen[0].json == {"signal": "SIGKILL", "tree": True}


async def test_kill_of_an_unknown_process_is_404(client, agent) -> None:
    agent.refuses("POST", "/processes/p1/signal", "not_found", 404)
    status, body = await client.call("POST", "/execute/kill/p1")
    assert (status, body["code"]) == (404, "PROCESS_NOT_FOUND")


@pytest.mark.parametrize("process_id", ["..", "a%2Fb", "x" * 65, "%00", "é"])
async def test_id_that_could_change_the_path_never_reaches_the_agent(process_id, client, agent) -> None:
    status, _ = await client.call("POST", f"/execute/kill/{process_id}")
    assert status in (404, 405)
    assert not agent.seen


async def test_system_process_is_killed_by_its_pid_as_the_user(client, agent, kit) -> None:
    agent.refuses("POST", "/processes/43/signal", "not_found", 404)
    agent.streams("POST", "/processes", kit.process_start(), kit.process_end(0))
    status, _ = await client.call("POST", "/processes/43/kill")
    assert status == 200
    assert agent.seen[1].json["argv"] == ["sh", "-c", 'kill -9 "$0"', "43"]
