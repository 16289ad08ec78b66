"""Code, commands, background runs, variables, figures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import inspect
import json
import os
import secrets
import time
from pathlib import Path

import hopx_ai
import pytest
from package import VERSION
from talk import shell
from waiting import until

covers = pytest.mark.covers
PLACE = json.loads(os.environ["ATOLL_CONFORMANCE"])

READS_A_LIST = "rich_outputs" in inspect.unwrap(hopx_ai.Sandbox.run_code).__code__.co_consts

PROGRAMS = {
    "python": "import os; print(os.getcwd(), os.environ['A'])",
    "javascript": "console.log(process.cwd(), process.env.A)",
    "bash": 'echo "$PWD $A"',
    "go": 'package main\nimport ("fmt"; "os")\nfunc main() { d, _ := os.Getwd(); fmt.Println(d, os.Getenv("A")) }',
}


# ---- run_code


@covers("Sandbox.run_code")
@pytest.mark.parametrize("language", list(PROGRAMS))
def test_code_runs_in_its_language_directory_and_variables(sandbox, language):
    result = sandbox.run_code(
        code=PROGRAMS[language], language=language, env={"A": "b c"}, working_dir="/tmp/made/here", timeout=60
    )
    assert (result.stdout, result.exit_code, result.success) == ("/tmp/made/here b c\n", 0, True)


@covers("Sandbox.run_code")
def test_a_result_says_how_it_went(sandbox):
    good = sandbox.run_code("import sys; print('out'); print('err', file=sys.stderr)")
    assert (good.stdout, good.stderr, good.exit_code, good.success) == ("out\n", "err\n", 0, True)
    assert 0 < good.execution_time < 30
    assert (good.rich_outputs, good.rich_count) == ([], 0)
    bad = sandbox.run_code("1 / 0")
    assert (bad.exit_code, bad.success) == (1, False)
    assert "ZeroDivisionError" in bad.stderr
    assert (good.timestamp, good.language) == (None, None), "no version of the client fills these"


@covers("Sandbox.run_code")
def test_rich_outputs_are_brought_out(sandbox):
    result = sandbox.run_code(
        "import pandas as pd, matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()\npd.DataFrame({'a': [1]})"
    )
    assert result.success, result.stderr
    found = {getattr(each.type, "value", each.type): each for each in result.rich_outputs}
    assert set(found) == {"image/png", "text/html"}
    assert base64.b64decode(found["image/png"].data["image/png"]).startswith(b"\x89PNG")
    assert "<table" in found["text/html"].data["text/html"]
    assert result.rich_count == 2
    for each in found.values():
        assert each.metadata is None


@covers("Sandbox.run_code", "RichOutput.data")
def test_two_outputs_of_a_kind(sandbox):
    """Old versions read a list of all outputs; newer ones one field for each kind, so they have the last."""
    result = sandbox.run_code(
        "import matplotlib.pyplot as plt\nfor n in (1, 2):\n    plt.figure(); plt.plot([n, 2]); plt.show()"
    )
    assert len(result.rich_outputs) == (2 if READS_A_LIST else 1)
    assert [each.format for each in result.rich_outputs if "format" in type(each).model_fields] in (
        [],
        [None],
        [None] * 2,
    )
    for each in result.rich_outputs:
        assert getattr(each.type, "value", each.type) == "image/png"
        assert base64.b64decode(each.data["image/png"]).startswith(b"\x89PNG")
        assert each.metadata is None


@covers("Sandbox.run_code", "ExecutionResult.has_rich_output")
def test_the_newer_fields_of_a_result(sandbox):
    result = sandbox.run_code("import pandas as pd\npd.DataFrame({'a': [1]})")
    assert result.has_rich_output is True
    assert sandbox.run_code("1;").has_rich_output is False
    assert result.rich_outputs[0].format is None
    unused = (result.svg, result.markdown, result.html, result.json_output, result.png, result.result)
    assert unused == (None,) * 6, "the client puts these into rich_outputs, or nowhere"


@covers("Sandbox.run_code")
def test_code_ends_at_its_time_limit(sandbox):
    result = sandbox.run_code("print('begun', flush=True)\nwhile True: pass", timeout=3)
    assert (result.exit_code, result.success, result.stdout) == (124, False, "begun\n")
    assert 2.9 < result.execution_time < 12


@covers("Sandbox.run_code")
def test_state_is_kept_between_cells(sandbox):
    sandbox.run_code("kept = 41")
    assert sandbox.run_code("print(kept + 1)").stdout == "42\n"


@covers("Sandbox.run_code")
def test_a_preflight_asks_for_health(own):
    made = own(template="code-interpreter")
    assert made.run_code("print(1)", preflight=True).stdout == "1\n"
    made.pause()
    with pytest.raises(hopx_ai.HopxError) as caught:
        made.run_code("print(1)", preflight=True)
    assert caught.value.code == "sandbox_unhealthy"


@covers("Sandbox.run_ipython")
def test_ipython_keeps_state(sandbox):
    sandbox.run_ipython(code="x = 10", timeout=30)
    assert sandbox.run_ipython("import os; print(x, os.environ['A'])", env={"A": "1"}).stdout == "10 1\n"
    late = sandbox.run_ipython("while True: pass", timeout=1)
    assert (late.exit_code, late.success) == (124, False)


def test_requests_env_beats_global_env_beats_the_agents(sandbox):
    before = sandbox.env.get_all()
    program = "import os; print(os.environ['LANG'])"
    agents = sandbox.run_code(program).stdout
    sandbox.env.set("LANG", "global")
    assert sandbox.run_code(program).stdout == "global\n"
    assert sandbox.run_code(program, env={"LANG": "request"}).stdout == "request\n"
    sandbox.env.set_all(before)
    assert sandbox.run_code(program).stdout == agents


# ---- run_code_async


def _posted(token):
    """What the program of the caller's, far out, was sent under this path."""
    found = []

    def arrived():
        lines = Path(PLACE["posts"]).read_text().splitlines()
        found[:] = [each for each in map(json.loads, lines) if each["path"] == f"/{token}?a=b"]
        return found

    until(arrived, "the web hook")
    (post,) = found
    return post["headers"], base64.b64decode(post["body"])


@covers("Sandbox.run_code_async")
def test_a_web_hook_follows_the_run(sandbox):
    token = secrets.token_hex(8)
    url = f"{PLACE['hook']}/{token}?a=b"
    started = sandbox.run_code_async(
        code="import os; print(os.getcwd(), os.environ['A'])",
        callback_url=url,
        language="python",
        timeout=60,
        env={"A": "1"},
        working_dir="/tmp",
        callback_headers={"X-Mine": "yes"},
        callback_signature_secret="a secret",
    )
    assert (started["status"], started["callback_url"]) == ("queued", url)
    headers, body = _posted(token)
    said = json.loads(body)
    assert said["execution_id"] == started["execution_id"]
    assert (said["status"], said["success"], said["stdout"], said["exit_code"]) == ("completed", True, "/tmp 1\n", 0)
    assert headers["X-Mine"] == "yes"
    assert abs(int(headers["X-HOPX-Timestamp"]) - time.time()) < 60
    signed = headers["X-HOPX-Timestamp"].encode() + body
    assert headers["X-HOPX-Signature"] == "sha256=" + hmac.new(b"a secret", signed, hashlib.sha256).hexdigest()


@covers("Sandbox.run_code_async")
def test_a_web_hook_tells_of_failure_and_time_limit(sandbox):
    failing, late = secrets.token_hex(8), secrets.token_hex(8)
    sandbox.run_code_async("exit 3", callback_url=f"{PLACE['hook']}/{failing}?a=b", language="bash")
    sandbox.run_code_async("sleep 60", callback_url=f"{PLACE['hook']}/{late}?a=b", language="bash", timeout=1)
    assert json.loads(_posted(failing)[1])["status"] == "failed"
    said = json.loads(_posted(late)[1])
    assert (said["status"], said["success"]) == ("timeout", False)


# ---- background runs and processes

BUSY = ("running", "sleeping", "disk-sleep")


def _listed(sandbox, process_id):
    return [each for each in sandbox.list_processes() if each.get("process_id") == process_id]


@covers("Sandbox.run_code_background", "Sandbox.list_processes", "Sandbox.kill_process")
def test_background_code_is_listed_and_killed(sandbox, kind):
    started = sandbox.run_code_background(
        code="open('/workspace/job', 'w').write(__import__('os').environ['A']); __import__('time').sleep(600)",
        language="python",
        name="job",
        env={"A": "1"},
        timeout=300,
    )
    assert started["status"] == "running"
    (listed,) = _listed(sandbox, started["process_id"])
    if kind == "async":  # its client lists processes of the system, in the kernel's words for what they do just now
        assert listed["status"] in BUSY
    else:
        assert (listed["status"], listed["name"]) == ("running", "job")
    until(lambda: sandbox.files.exists("/workspace/job") and sandbox.files.read("/workspace/job") == "1", "its file")
    sandbox.kill_process(process_id=started["process_id"])
    until(lambda: all(each["status"] == "killed" for each in _listed(sandbox, started["process_id"])), "its end")


@covers("Sandbox.run_code_background")
def test_background_code_has_a_working_directory(sandbox):
    sandbox.run_code_background("pwd > /workspace/where", language="bash", working_dir="/tmp")
    until(lambda: sandbox.files.exists("/workspace/where") and sandbox.files.read("/workspace/where"), "its file")
    assert sandbox.files.read("/workspace/where") == "/tmp\n"


@covers("Sandbox.run_code_background", "Sandbox.list_processes")
def test_background_code_ends_by_itself(sandbox, kind):
    if kind == "async":
        pytest.skip("the async client lists what runs, not what has ended")
    good = sandbox.run_code_background("print('done')")["process_id"]
    bad = sandbox.run_code_background("exit 3", language="bash")["process_id"]
    late = sandbox.run_code_background("sleep 60", language="bash", timeout=1)["process_id"]
    ends = {good: ("completed", 0), bad: ("failed", 3), late: ("failed", 124)}

    def found():
        entries = {each["process_id"]: each for each in sandbox.list_processes()}
        return {one: (entries[one]["status"], entries[one].get("exit_code")) for one in ends}

    until(lambda: found() == ends, f"{ends}")


def _running(processes, command):
    return [each for each in processes if each["command"].startswith(command)]


@covers("Sandbox.list_processes")
def test_the_async_client_lists_processes_of_the_system(sandbox, kind):
    if kind == "sync":
        pytest.skip("the sync client lists background runs")
    shell(sandbox, "nohup sleep 56 >/dev/null 2>&1 & true")
    until(lambda: _running(sandbox.list_processes(), "sleep 56"), "its start")


@covers("Sandbox.list_system_processes", "Sandbox.get_jupyter_sessions")
def test_system_processes_and_sessions(sandbox):
    sandbox.run_code("1")
    shell(sandbox, "nohup sleep 55 >/dev/null 2>&1 & true")
    until(lambda: _running(sandbox.list_system_processes(), "sleep 55"), "its start")
    (found,) = _running(sandbox.list_system_processes(), "sleep 55")
    assert (found["name"], found["pid"] > 1) == ("sleep", True)
    assert [each["execution_state"] for each in sandbox.get_jupyter_sessions()] == ["idle"]


# ---- commands


@covers("Sandbox.commands", "Commands.run", "AgentError")
def test_a_command_gives_output_and_exit_code(sandbox):
    result = sandbox.commands.run(command="echo out; echo err >&2; pwd; exit 3")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n/workspace\n", "err\n", 3)
    assert result.execution_time > 0
    assert sandbox.commands.run("echo $A", env={"A": "b c"}).stdout == "b c\n"
    assert sandbox.commands.run("pwd", working_dir="/tmp/made/here").stdout == "/tmp/made/here\n"
    assert sandbox.commands.run("no-such-program").exit_code == 127
    assert sandbox.commands.run("kill -9 $$").exit_code == 137
    assert sandbox.commands.run("sudo -n id -u").stdout == "0\n"


@covers("Commands.run")
def test_a_command_ends_at_its_time_limit_with_its_children(sandbox):
    result = sandbox.commands.run("echo begun; sleep 77 & sleep 77", timeout=3)
    assert (result.exit_code, result.stdout) == (124, "begun\n")
    until(lambda: shell(sandbox, "pgrep -fc 'sleep 7[7]' || true") == "0", "what was killed is gone")


@covers("Commands.run")
def test_a_background_command_is_listed_and_killed(sandbox):
    started = sandbox.commands.run("echo begun; sleep 600", background=True)
    process_id = started.stdout.rpartition(" ")[2]
    (listed,) = _listed(sandbox, process_id)
    assert listed["status"] in BUSY, "the async client lists processes of the system"
    sandbox.kill_process(process_id)
    until(lambda: all(each["status"] == "killed" for each in _listed(sandbox, process_id)), "its end")


@covers("Commands.run")
def test_the_fields_of_a_command_result(sandbox, kind):
    if kind == "async":
        pytest.skip("the async client gives an ExecutionResult")
    good, bad = sandbox.commands.run("true"), sandbox.commands.run("false")
    verdict = "is_success" if hasattr(type(good), "is_success") else "success"
    assert (getattr(good, verdict), getattr(bad, verdict)) == (True, False)
    assert (good.command, good.timestamp) == (None, None), "no version of the client fills these"
    if verdict == "is_success":
        assert (good.pid, good.success) == (None, None), "nor these"


# ---- variables


@covers(
    "Sandbox.env",
    "EnvironmentVariables.get",
    "EnvironmentVariables.set",
    "EnvironmentVariables.get_all",
    "EnvironmentVariables.set_all",
    "EnvironmentVariables.update",
    "EnvironmentVariables.delete",
)
def test_variables_reach_everything_that_starts_later(sandbox):
    before = sandbox.env.get_all()
    assert before["HOME"] == "/home/user"
    sandbox.env.set(key="A", value="1")
    assert sandbox.env.update(env_vars={"B": "2 ü\nline"}).items() >= {"A": "1", "B": "2 ü\nline"}.items()
    assert sandbox.env.get(key="B") == "2 ü\nline"
    assert shell(sandbox, 'echo "$A"') == "1"
    assert sandbox.run_code("import os; print(os.environ['B'])").stdout == "2 ü\nline\n"
    sandbox.env.delete(key="A")
    assert sandbox.env.get("A") is None
    assert sandbox.run_code("import os; print(os.environ.get('A'))").stdout == "None\n"
    assert sandbox.env.set_all(env_vars=before) == before
    assert sandbox.env.get_all() == before


@covers("EnvironmentVariables.get")
def test_a_variable_that_is_not_there_has_a_default(sandbox):
    assert sandbox.env.get("NO_SUCH", default="none") == "none"


# ---- figures


@covers("Sandbox.get_agent_info")
def test_facts(sandbox):
    info = sandbox.get_agent_info()
    assert (info["agent"], info["vm_id"]) == ("atoll", sandbox.sandbox_id)
    assert info["os"]
    assert info["arch"]
    assert isinstance(info["features"], dict)


@covers("Sandbox.get_agent_metrics", "Sandbox.get_metrics_snapshot")
def test_figures_move(sandbox):
    before = sandbox.get_metrics_snapshot()
    sandbox.run_code("1")
    sandbox.run_code("1 / 0")
    after = sandbox.get_agent_metrics()
    assert after["total_executions"] == before["total_executions"] + 2
    assert after["error_count"] > before["error_count"]
    assert after["uptime_seconds"] >= before["uptime_seconds"] > 0
    assert after["system"]["memory"]["total_bytes"] == 2048 << 20
    assert 0 < after["system"]["memory"]["usage_percent"] <= 100
    assert after["system"]["disk"]["free_bytes"] > 0


@covers("Sandbox.get_metrics_snapshot")
def test_figures_without_more(sandbox):
    assert sandbox.get_metrics_snapshot()["uptime_seconds"] > 0


@covers("Sandbox.cache", "Cache.stats", "Cache.clear")
def test_the_cache_answers(sandbox):
    assert sandbox.cache.stats()["cache"]["size"] >= 0
    sandbox.cache.clear()
    assert sandbox.cache.stats()["hits"] == 0


def test_the_version_is_the_one_that_was_asked_for():
    assert f"hopx-ai-{VERSION}-" in str(hopx_ai.__file__)
