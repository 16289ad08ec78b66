"""A template with one static binary: the agent brings what it needs, and what is missing is said."""

from __future__ import annotations

import asyncio

import pytest
from hopx_ai import Sandbox
from hopx_ai.errors import FileNotFoundError, FileOperationError

from stack import until

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def sandbox(account):
    made = Sandbox.create(template="busybox", **account)
    yield made
    made.kill()
    made._client.close()
    made._agent_client.close()


def test_commands_run_in_its_shell(sandbox):
    result = sandbox.commands.run("echo out; echo err >&2; pwd; id -un; exit 3")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n/workspace\nuser\n", "err\n", 3)
    assert sandbox.commands.run("sleep 60", timeout=1).exit_code == 124
    assert sandbox.commands.run("ls /usr/bin/python3").exit_code != 0


def test_bash_code_runs_in_sh(sandbox):
    result = sandbox.run_code("echo $((6 * 7))", language="bash")
    assert (result.success, result.stdout) == (True, "42\n")


@pytest.mark.parametrize("language", ["python", "javascript", "go"])
def test_a_language_that_is_not_there_is_a_clear_result(sandbox, language):
    result = sandbox.run_code("x", language=language)
    assert (result.success, result.exit_code) == (False, 127)
    assert f"this template has no {language}" in result.stderr


def test_files(sandbox):
    files = sandbox.files
    files.write("/workspace/deep/a.txt", "é\n")
    files.write_bytes("/workspace/deep/b.bin", bytes(range(256)))
    assert files.read("/workspace/deep/a.txt") == "é\n"
    assert files.read_bytes("/workspace/deep/b.bin") == bytes(range(256))
    assert [each.name for each in files.list("/workspace/deep")] == ["a.txt", "b.bin"]
    assert sandbox.commands.run("cat deep/a.txt").stdout == "é\n"
    files.remove("/workspace/deep")
    with pytest.raises(FileNotFoundError):
        files.read("/workspace/deep/a.txt")
    with pytest.raises(FileOperationError):
        files.write("/etc/passwd", "x")


def test_variables(sandbox):
    assert sandbox.env.get("HOME") == "/home/user"
    sandbox.env.set("A", "b c")
    assert sandbox.commands.run('echo "$A"').stdout == "b c\n"


async def test_changes_are_watched(sandbox):
    events = sandbox.files.watch("/workspace")
    waiting = asyncio.ensure_future(anext(events))
    while not waiting.done():
        await asyncio.to_thread(sandbox.files.write, "/workspace/watched.txt", "x")
    assert (await waiting)["path"] == "/workspace/watched.txt"
    await events.aclose()


def test_processes_are_listed_and_killed(sandbox):
    started = sandbox.commands.run("sleep 600", background=True).stdout.rpartition(" ")[2]
    until(lambda: any("sleep 600" in each["command"] for each in sandbox.list_system_processes()), "it is that program")
    sandbox.kill_process(started)
    until(lambda: [each["status"] for each in sandbox.list_processes() if each["process_id"] == started] == ["killed"],
          "its end")  # fmt: skip


async def test_a_terminal(sandbox):
    terminal = await asyncio.to_thread(lambda: sandbox.terminal)
    async with await terminal.connect() as ws:
        await terminal.send_input(ws, "echo $((40+2)); exit 5\n")
        messages = [message async for message in terminal.iter_output(ws)]
    assert messages[-1] == {"type": "exit", "code": 5}
    assert "42" in "".join(message.get("data", "") for message in messages)


def test_it_pauses_and_says_how_it_is(sandbox):
    sandbox.pause()
    sandbox.resume()
    assert sandbox.is_healthy()
    assert sandbox.get_metrics_snapshot()["system"]["memory"]["used_bytes"] > 0
    assert sandbox.get_jupyter_sessions() == []
