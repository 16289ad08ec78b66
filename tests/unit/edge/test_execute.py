from __future__ import annotations

import asyncio
from typing import Any

import pytest

CELL = "/contexts/default/execute"
START = {"type": "start", "execution_count": 1}


def steady(body: dict[str, Any]) -> dict[str, Any]:
    assert body.pop("timestamp").endswith("Z")
    return body


async def test_python_runs_in_the_default_context(client, agent, kit) -> None:
    agent.streams("POST", CELL, kit.frame(START), kit.out("hi\n"), kit.err("careful\n"), kit.cell_end())
    asked = {"language": "python", "code": "print('hi')", "workdir": "/tmp", "timeout": 7, "env": {"A": "1"}}
    status, body = await client.call("POST", "/execute", asked)
    assert status == 200
    assert steady(body) == {
        "success": True,
        "stdout": "hi\n",
        "stderr": "careful\n",
        "exit_code": 0,
        "execution_time": 0.5,
        "language": "python",
    }
    (seen,) = agent.seen
    assert seen.json == {"code": "print('hi')", "env": {"A": "1"}, "cwd": "/tmp", "timeout_s": 7.0, "spare": True}


async def test_frames_may_arrive_cut_anywhere(client, agent, kit) -> None:
    whole = kit.frame(START) + kit.out("é" * 10) + kit.cell_end()
    agent.streams("POST", CELL, *[whole[at : at + 1] for at in range(len(whole))])
    _, body = await client.call("POST", "/execute", {"code": "x"})
    assert body["stdout"] == "é" * 10


async def test_connection_to_the_agent_is_used_again(client, agent, kit) -> None:
    agent.streams("POST", CELL, kit.frame(START), kit.cell_end())
    for _ in range(3):
        await client.call("POST", "/execute", {"code": "x"})
    assert len({id(seen.live.transport) for seen in agent.seen}) == 1


async def test_rich_results_become_fields(client, agent, kit) -> None:
    agent.streams(
        "POST",
        CELL,
        kit.frame({"type": "display", "data": {"image/png": "UE5H", "text/plain": "<Figure>"}, "metadata": {}}),
        kit.frame({"type": "display", "data": {"text/markdown": "# m", "image/svg+xml": "<svg/>"}}),
        kit.frame({"type": "display", "data": {"application/json": {"n": [1, None]}}}),
        kit.frame({"type": "display", "data": {"text/plain": "shown"}}),
        kit.frame({"type": "result", "data": {"text/html": "<table/>", "text/plain": "   a\n0  1"}}),
        kit.cell_end(),
    )
    _, body = await client.call("POST", "/execute", {"code": "x"})
    assert steady(body) == {
        "success": True,
        "stdout": "shown\n",
        "stderr": "",
        "exit_code": 0,
        "execution_time": 0.5,
        "language": "python",
        "png": "UE5H",
        "html": "<table/>",
        "svg": "<svg/>",
        "markdown": "# m",
        "json": {"n": [1, None]},
        "result": "   a\n0  1",
        "rich_outputs": [
            {"type": mime, "data": {mime: value}}
            for mime, value in (
                ("image/png", "UE5H"),
                ("text/markdown", "# m"),
                ("image/svg+xml", "<svg/>"),
                ("application/json", {"n": [1, None]}),
                ("text/html", "<table/>"),
            )
        ],
    }


async def test_second_figure_is_not_lost(client, agent, kit) -> None:
    figures = [kit.frame({"type": "display", "data": {"image/png": name}}) for name in ("one", "two")]
    agent.streams("POST", CELL, *figures, kit.cell_end())
    _, body = await client.call("POST", "/execute", {"code": "x"})
    assert body["png"] == "two"
    assert [rich["data"]["image/png"] for rich in body["rich_outputs"]] == ["one", "two"]


async def test_nan_in_a_result_is_null_in_json(client, agent, kit) -> None:
    agent.streams(
        "POST", CELL, kit.frame({"type": "result", "data": {"application/json": [float("nan")]}}), kit.cell_end()
    )
    _, body = await client.call("POST", "/execute", {"code": "x"})
    assert body["json"] == [None]


async def test_exception_is_a_result_with_its_traceback(client, agent, kit) -> None:
    error = {"type": "error", "name": "ValueError", "value": "bad", "traceback": "Traceback …\nValueError: bad"}
    agent.streams("POST", CELL, kit.out("before\n"), kit.frame(error), kit.cell_end("error"))
    status, body = await client.call("POST", "/execute", {"code": "x"})
    assert status == 200
    assert (body["success"], body["exit_code"], body["stdout"]) == (False, 1, "before\n")
    assert body["stderr"] == "Traceback …\nValueError: bad\n"


@pytest.mark.parametrize(
    ("sent", "exit_code"), [(3, 3), (255, 255), (0, 1), (None, 1), ("7", 1), (True, 1), ([], 1), (float("nan"), 1)]
)
async def test_an_errors_exit_code_is_the_programs_and_never_0(sent, exit_code, client, agent, kit) -> None:
    agent.streams("POST", CELL, kit.frame({"type": "end", "status": "error", "duration_s": 0.1, "exit_code": sent}))
    _, body = await client.call("POST", "/execute", {"code": "x"})
    assert (body["success"], body["exit_code"]) == (False, exit_code)


async def test_traceback_without_the_name_gets_it(client, agent, kit) -> None:
    error = {"type": "error", "name": "ValueError", "value": "bad", "traceback": "Traceback"}
    agent.streams("POST", CELL, kit.frame(error), kit.cell_end("error"))
    _, body = await client.call("POST", "/execute", {"code": "x"})
    assert body["stderr"] == "Traceback\nValueError: bad\n"


@pytest.mark.parametrize(
    ("ending", "exit_code", "message"),
    [("timed_out", 124, "timed out after 3 seconds"), ("interrupted", 130, "interrupted"), ("died", 137, "")],
)
async def test_cell_that_did_not_end_by_itself(ending, exit_code, message, client, agent, kit) -> None:
    agent.streams("POST", CELL, kit.out("part"), kit.cell_end(ending))
    status, body = await client.call("POST", "/execute", {"code": "x", "timeout": 3})
    assert status == 200
    assert (body["success"], body["exit_code"], body["stdout"]) == (False, exit_code, "part")
    assert message in body["stderr"]


@pytest.mark.parametrize(("spare", "shown"), [(False, "default"), (True, "fresh")])
async def test_the_answer_says_where_a_cell_ran(spare, shown, client, agent, kit) -> None:
    context = "c7" if spare else "default"
    agent.streams("POST", CELL, kit.frame({**START, "context": context, "spare": spare}), kit.cell_end())
    _, body = await client.call("POST", "/execute", {"code": "x"})
    assert body["context"] == shown


async def test_too_many_cells_at_once_is_a_result_that_says_so(client, agent) -> None:
    agent.refuses("POST", CELL, "too_many", 429, "32 cells run beside the context already")
    status, body = await client.call("POST", "/execute", {"code": "x"})
    assert (status, body["success"], body["exit_code"]) == (200, False, 126)
    assert "32 cells run" in body["stderr"]


async def test_output_beyond_the_limit_is_drained_and_said(client, agent, kit) -> None:
    mib = kit.out(b"x" * 1024 * 1024)
    agent.streams("POST", CELL, *[mib] * 9, kit.out("end"), kit.cell_end())
    _, body = await client.call("POST", "/execute", {"code": "x"})
    assert body["stdout"].endswith(f"\n[output truncated: {1024 * 1024 + 3} more bytes]\n")
    assert len(body["stdout"]) < 8 * 1024 * 1024 + 100
    assert body["success"]


@pytest.mark.parametrize(
    ("language", "argv", "file"),
    [
        ("bash", ["bash", "{dir}/main.sh"], "main.sh"),
        ("sh", ["bash", "{dir}/main.sh"], "main.sh"),
        ("JavaScript", ["node", "--require", "{dir}/atoll.cjs", "{dir}/main.js"], "main.js"),
        ("nodejs", ["node", "--require", "{dir}/atoll.cjs", "{dir}/main.js"], "main.js"),
        ("go", ["{dir}/main"], "main.go"),
    ],
)
async def test_other_languages_are_processes(language, argv, file, client, agent, kit) -> None:
    agent.streams("POST", "/processes", kit.process_start(), kit.out("hi\n"), kit.process_end())
    _, body = await client.call("POST", "/execute", {"language": language, "code": "C", "workdir": "/workspace"})
    assert (body["success"], body["stdout"], body["execution_time"]) == (True, "hi\n", 0.25)
    sent = agent.seen[0].json
    assert (sent["argv"], sent["files"][file]) == (argv, "C")
    assert (sent["cwd"], sent["timeout_s"], sent["user"]) == ("/workspace", 120.0, "user")
    assert (sent["attach"], sent["kill_on_disconnect"], sent["record"]) == (True, True, False)


@pytest.mark.parametrize(("language", "compiler"), [("go", "go"), ("golang", "go"), ("bash", None), ("js", None)])
async def test_the_agent_is_told_what_to_compile(language, compiler, client, agent, kit) -> None:
    agent.streams("POST", "/processes", kit.process_start(), kit.process_end())
    await client.call("POST", "/execute", {"language": language, "code": "C", "env": {"GO111MODULE": "on"}})
    sent = agent.seen[0].json
    assert (sent["compile"], sent["env"]) == (compiler, {"GO111MODULE": "on"})


async def test_unknown_language_is_400(client, agent) -> None:
    status, body = await client.call("POST", "/execute", {"language": "cobol", "code": "C"})
    assert (status, body["code"]) == (400, "INVALID_REQUEST")
    assert not agent.seen


async def test_language_missing_from_the_template_is_a_result(client, agent) -> None:
    agent.refuses("POST", "/processes", "not_found", 404, "no such program")
    status, body = await client.call("POST", "/execute", {"language": "go", "code": "C"})
    assert (status, body["success"], body["exit_code"]) == (200, False, 127)
    assert body["stderr"] == "go: not found: this template has no go\n"


async def test_bash_falls_back_to_sh(client, agent, kit) -> None:
    agent.refuses("POST", "/processes", "not_found", 404)
    agent.streams("POST", "/processes", kit.process_start(), kit.out("sh"), kit.process_end())
    _, body = await client.call("POST", "/execute", {"language": "bash", "code": "C"})
    assert body["stdout"] == "sh"
    assert agent.seen[1].json["argv"] == ["sh", "{dir}/main.sh"]


async def test_python_of_a_template_without_our_interpreter_is_a_process(client, agent, kit, server) -> None:
    server.routes[kit.OTHER] = kit.route(kit.OTHER, agent.socket, python=False)
    client.sandbox, client.token = kit.OTHER, kit.token_for(kit.OTHER)
    agent.refuses("POST", "/processes", "not_found", 404)
    status, body = await client.call("POST", "/execute", {"code": "1"})
    assert (status, body["exit_code"]) == (200, 127)
    assert body["stderr"] == "python3: not found: this template has no python\n"


async def test_fork_bomb_next_door_is_no_reason_to_repeat_the_call(client, agent) -> None:
    agent.refuses("POST", "/processes", "too_many", 429, "no more processes")
    status, body = await client.call("POST", "/execute", {"language": "bash", "code": "C"})
    assert (status, body["success"], body["exit_code"]) == (200, False, 126)
    assert "no more processes" in body["stderr"]


async def test_template_workdir_stands_for_workspace(client, agent, kit, server) -> None:
    server.routes[kit.OTHER] = kit.route(kit.OTHER, agent.socket, workdir="/app")
    client.sandbox, client.token = kit.OTHER, kit.token_for(kit.OTHER)
    agent.streams("POST", CELL, kit.cell_end())
    for sent, cwd in [
        ({"workdir": "/workspace"}, "/app"),
        ({"working_dir": "/x"}, "/x"),
        ({"workdir": "sub"}, "/app/sub"),
    ]:
        await client.call("POST", "/execute", {"code": "1", **sent})
        assert agent.seen[-1].json["cwd"] == cwd


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "INVALID_JSON"),
        (b"[1]", "INVALID_JSON"),
        (b"[" * 100_000, "INVALID_JSON"),
        (b"\xff", "INVALID_JSON"),
        (b"{}", "MISSING_PARAMETER"),
        (b'{"code": 5}', "INVALID_REQUEST"),
        (b'{"code": "x", "timeout": 0}', "INVALID_REQUEST"),
        (b'{"code": "x", "timeout": -1}', "INVALID_REQUEST"),
        (b'{"code": "x", "timeout": "9"}', "INVALID_REQUEST"),
        (b'{"code": "x", "timeout": true}', "INVALID_REQUEST"),
        (b'{"code": "x", "timeout": NaN}', "INVALID_REQUEST"),
        (b'{"code": "x", "env": []}', "INVALID_REQUEST"),
        (b'{"code": "x", "env": {"A": 1}}', "INVALID_REQUEST"),
        (b'{"code": "x", "env": {"A=B": "1"}}', "INVALID_REQUEST"),
        (b'{"code": "x", "env": {"A": "a\\u0000"}}', "INVALID_REQUEST"),
        (b'{"code": "x", "workdir": 7}', "INVALID_REQUEST"),
        (b'{"code": "x", "workdir": "/a\\u0000"}', "INVALID_PATH"),
        (b'{"code": "x", "language": 7}', "INVALID_REQUEST"),
    ],
)
async def test_bad_request_is_400_and_nothing_runs(body, code, client, agent) -> None:
    async with client.session.post(client.url("/execute"), data=body, headers=client.headers(None)) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, code)
    assert not agent.seen


async def test_client_that_leaves_ends_the_cell(client, agent, kit) -> None:
    begun = asyncio.Event()

    async def hang(seen: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    agent.on("POST", CELL, hang)
    call = asyncio.create_task(client.call("POST", "/execute", {"code": "while True: pass"}))
    await begun.wait()
    call.cancel()
    await agent.left.wait()


async def test_ipython_is_python_whatever_it_says(client, agent, kit) -> None:
    agent.streams("POST", CELL, kit.out("p"), kit.cell_end())
    _, body = await client.call("POST", "/execute/ipython", {"code": "1", "language": "go"})
    assert (body["language"], body["stdout"]) == ("python", "p")


async def test_a_call_back_of_a_sandbox_without_internet_is_refused_before_anything_runs(client, agent) -> None:
    status, body = await client.call("POST", "/execute/async", {"code": "1", "callback_url": "http://example.com/"})
    assert (status, body["code"]) == (403, "FORBIDDEN")
    assert "internet access" in body["message"]
    assert not agent.seen


# Commands


async def test_command_with_args_is_a_program(client, agent, kit) -> None:
    agent.streams("POST", "/processes", kit.process_start(), kit.out("o"), kit.err("e"), kit.process_end(3))
    asked = {"command": "bash", "args": ["-c", "exit 3"], "timeout": 120, "workdir": "/workspace"}
    status, body = await client.call("POST", "/commands/run", asked)
    assert status == 200
    assert steady(body) == {
        "success": False,
        "stdout": "o",
        "stderr": "e",
        "exit_code": 3,
        "execution_time": 0.25,
        "command": "bash",
        "pid": 42,
    }
    assert agent.seen[0].json["argv"] == ["bash", "-c", "exit 3"]


async def test_command_without_args_is_a_line_for_the_shell(client, agent, kit) -> None:
    agent.refuses("POST", "/processes", "not_found", 404)
    agent.streams("POST", "/processes", kit.process_start(), kit.process_end())
    await client.call("POST", "/commands/run", {"command": "echo $A | wc", "working_dir": "/tmp"})
    assert [seen.json["argv"] for seen in agent.seen] == [
        ["bash", "-c", "echo $A | wc"],
        ["sh", "-c", "echo $A | wc"],
    ]
    assert agent.seen[0].json["cwd"] == "/tmp"


@pytest.mark.parametrize(
    ("kind", "status", "exit_code"), [("not_found", 404, 127), ("permission", 403, 126), ("too_many", 429, 126)]
)
async def test_program_that_cannot_start_is_a_result(kind, status, exit_code, client, agent) -> None:
    agent.refuses("POST", "/processes", kind, status)
    got, body = await client.call("POST", "/commands/run", {"command": "nope", "args": ["x"]})
    assert (got, body["success"], body["exit_code"]) == (200, False, exit_code)
    assert body["stderr"].startswith("nope: ")


async def test_command_at_its_time_limit_is_124(client, agent, kit) -> None:
    agent.streams("POST", "/processes", kit.process_start(), kit.process_end(124, "timed_out"))
    status, body = await client.call("POST", "/commands/run", {"command": "sleep 9", "timeout": 0.5})
    assert (status, body["exit_code"], body["success"]) == (200, 124, False)
    assert "timed out after 0.5 seconds" in body["stderr"]


async def test_killed_program_has_an_exit_code(client, agent, kit) -> None:
    agent.streams("POST", "/processes", kit.process_start(), kit.process_end(None, "killed"))
    _, body = await client.call("POST", "/commands/run", {"command": "x"})
    assert body["exit_code"] == 137


@pytest.mark.parametrize(
    "bad", [{"command": ""}, {"command": "a\0b"}, {"command": "x", "args": "y"}, {"command": "x", "args": [1]}]
)
async def test_bad_command_is_400(bad, client, agent) -> None:
    status, body = await client.call("POST", "/commands/run", bad)
    assert (status, body["code"]) == (400, "INVALID_REQUEST")
    assert not agent.seen
