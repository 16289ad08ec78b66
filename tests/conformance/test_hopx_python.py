"""The unmodified `hopx_ai` package, sync client, against a real installation: the main job and the API around it."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta

import pytest
from compatibility import covers
from hopx_ai import AsyncSandbox, Sandbox
from hopx_ai.errors import (
    AgentError,
    APIError,
    AuthenticationError,
    DesktopNotAvailableError,
    FileNotFoundError,
    FileOperationError,
    HopxError,
    NotFoundError,
    TemplateNotFoundError,
    ValidationError,
)

from stack import until

pytestmark = pytest.mark.root

IMPOSSIBLE_ID = "zzzzzzzzzzzzzzzzzzzz"


def shell(sandbox: Sandbox, command: str) -> str:
    result = sandbox.commands.run(command)
    assert result.exit_code == 0, result
    return result.stdout.strip()


def gone(sandbox: Sandbox) -> bool:
    try:
        sandbox.get_info()
    except NotFoundError:
        return True
    return False


# ---- the life of a sandbox


@covers("Sandbox.create", "Sandbox.get_info")
def test_a_new_sandbox_runs_and_says_what_it_is(sandbox):
    info = sandbox.get_info()
    assert info.sandbox_id == sandbox.sandbox_id
    assert info.status == "running"
    assert (info.template_id, info.template_name) == ("code-interpreter", "code-interpreter")
    assert isinstance(info.organization_id, int)
    assert (info.resources.vcpu, info.resources.memory_mb, info.resources.disk_mb) == (2, 2048, 10240)
    assert info.region == "local"
    assert info.node_id
    assert info.public_host == info.direct_url
    assert info.timeout_seconds is None
    assert abs(info.created_at - datetime.now(UTC)) < timedelta(minutes=5)


def test_create_takes_a_template_by_id_and_a_timeout(own, account):
    made = own(template=None, template_id="base", timeout_seconds=300, internet_access=False, region="local")
    info = made.get_info()
    assert (info.template_name, info.timeout_seconds, info.internet_access) == ("base", 300, False)
    assert 280 < made.get_time_to_expiry() <= 300


def test_create_gives_the_variables_to_code_commands_and_terminals(own):
    made = own(template="base", env_vars={"GREETING": "hei", "EMPTY": ""})
    assert made.env.get("GREETING") == "hei"
    assert shell(made, 'echo "$GREETING[$EMPTY]"') == "hei[]"
    assert made.run_code("import os; print(os.environ['GREETING'])").stdout == "hei\n"


@covers("Sandbox.list", "Sandbox.iter")
def test_list_and_iter_find_it_by_status(sandbox, account):
    assert sandbox.sandbox_id in [each.sandbox_id for each in Sandbox.list(**account)]
    assert sandbox.sandbox_id in [each.sandbox_id for each in Sandbox.iter(status="running", **account)]
    assert sandbox.sandbox_id not in [each.sandbox_id for each in Sandbox.list(status="paused", **account)]
    assert len(Sandbox.list(limit=1, **account)) == 1
    assert Sandbox.list(region="elsewhere", **account) == []


@covers("Sandbox.connect")
def test_connect_gives_the_same_sandbox(sandbox, account):
    sandbox.run_code("connected = 'yes'")
    again = Sandbox.connect(sandbox.sandbox_id, **account)
    assert again.run_code("print(connected)").stdout == "yes\n"
    with pytest.raises(NotFoundError):
        Sandbox.connect(IMPOSSIBLE_ID, **account)


@covers("Sandbox.pause", "Sandbox.resume")
def test_pause_freezes_it_and_resume_goes_on(own, account):
    made = own()
    started = made.run_code_background(
        "import itertools, time\n"
        "for n in itertools.count():\n"
        "    open('/workspace/ticks', 'a').write('x')\n"
        "    time.sleep(0.01)"
    )
    made.run_code("kept = 41")
    made.pause()
    assert made.get_info().status == "paused"
    assert not made.is_healthy()
    with pytest.raises(HopxError, match="paused"):
        made.run_code("print(1)")
    made.pause()
    made.resume()
    assert made.get_info().status == "running"
    assert made.run_code("print(kept + 1)").stdout == "42\n"
    (ticker,) = [each for each in made.list_processes() if each["process_id"] == started["process_id"]]
    assert ticker["status"] == "running"
    made.pause()
    assert Sandbox.connect(made.sandbox_id, **account).get_info().status == "running", "connect resumes"


@covers("Sandbox.kill")
def test_kill_is_for_ever(own):
    made = own(template="base")
    made.commands.run("true")
    made.kill()
    for call in (made.get_info, made.pause, made.kill, lambda: made.set_timeout(9)):
        with pytest.raises(NotFoundError):
            call()
    with pytest.raises(HopxError):
        made.run_code("1")


def test_a_with_block_kills_at_its_end(account):
    with Sandbox.create(template="base", **account) as made:
        assert shell(made, "id -un") == "user"
    with pytest.raises(NotFoundError):
        made.get_info()


@covers("Sandbox.set_timeout", "Sandbox.get_time_to_expiry", "Sandbox.is_expiring_soon", "Sandbox.get_expiry_info")
def test_set_timeout_moves_the_end(own):
    made = own(template="base")
    assert made.get_info().timeout_seconds is None
    made.set_timeout(600)
    assert made.get_info().timeout_seconds == 600
    assert 590 <= made.get_time_to_expiry() <= 600
    assert not made.is_expiring_soon()
    assert made.is_expiring_soon(threshold_seconds=700)
    found = made.get_expiry_info()
    assert (found.has_timeout, found.is_expired, found.is_expiring_soon) == (True, False, False)
    for wrong in (0, -1, 10**7):
        with pytest.raises(ValidationError):
            made.set_timeout(wrong)
    assert made.get_info().timeout_seconds == 600


@covers("Sandbox.is_healthy", "Sandbox.ensure_healthy")
def test_it_ends_by_itself_when_its_time_is_over(own):
    made = own(template="base", timeout_seconds=1)
    assert made.is_healthy()
    made.ensure_healthy()
    until(lambda: gone(made), "its end")
    assert not made.is_healthy()


@covers("Sandbox.refresh_token", "Sandbox.get_token")
def test_a_refreshed_token_is_another_and_works(sandbox):
    before = sandbox.get_token()
    sandbox.refresh_token()
    assert sandbox.get_token() != before
    assert sandbox.run_code("print(1)").stdout == "1\n"


@covers("Sandbox.debug")
def test_debug_needs_the_agent_only(sandbox):
    direct = Sandbox.debug(sandbox.get_info().public_host, sandbox.get_token(), sandbox.sandbox_id)
    assert direct.run_code("print('direct')").stdout == "direct\n"


def test_two_sandboxes_see_nothing_of_each_other(sandbox, own):
    other = own()
    shell(sandbox, "echo secret > /workspace/secret.txt; (exec -a hidden-name sleep 30 &)")
    sandbox.run_code("private = 1")
    assert not other.files.exists("/workspace/secret.txt")
    assert "hidden-name" not in shell(other, "ps -ef")
    assert "NameError" in other.run_code("private").stderr
    sandbox.env.set("PRIVATE", "1")
    assert other.env.get("PRIVATE") is None
    with pytest.raises(AgentError):
        Sandbox.debug(other.get_info().public_host, sandbox.get_token()).run_code("1")


# ---- templates, health, errors


@covers("Sandbox.list_templates", "Sandbox.get_template")
def test_templates_are_listed_and_found(account):
    found = {each.name: each for each in Sandbox.list_templates(**account)}
    assert {"base", "code-interpreter", "busybox"} <= set(found)
    assert found["code-interpreter"].is_active
    assert [each.name for each in Sandbox.list_templates(language="python", **account)] == ["code-interpreter"]
    template = Sandbox.get_template("code-interpreter", **account)
    assert (template.id, template.status, template.language) == ("code-interpreter", "active", "python")
    assert template.default_resources.memory_mb == 2048
    with pytest.raises(NotFoundError):
        Sandbox.get_template("no-such-template", **account)


def test_a_stock_template_is_not_deleted(account):
    with pytest.raises(APIError) as caught:
        Sandbox.delete_template("base", **account)
    assert caught.value.status_code == 403


@covers("Sandbox.health_check")
def test_health_needs_no_key(account):
    assert Sandbox.health_check(base_url=account["base_url"])["status"] == "ok"


def test_an_unknown_template_is_answered_with_a_suggestion(account):
    with pytest.raises(TemplateNotFoundError) as caught:
        Sandbox.create(template="code-interpretor", **account)
    assert caught.value.suggested_template == "code-interpreter"
    assert "base" in caught.value.available_templates
    with pytest.raises(NotFoundError):
        Sandbox.create(template_id="291", **account)


@pytest.mark.parametrize("key", ["", "nonsense", "e2b_" + "0" * 40, "hopx_live_" + "0" * 40])
def test_a_wrong_key_is_refused(account, key):
    with pytest.raises((AuthenticationError, ValueError)):
        Sandbox.create(template="base", base_url=account["base_url"], api_key=key)


def test_the_same_digits_are_a_key_in_every_form(account):
    digits = account["api_key"].rpartition("_")[2]
    for prefix in ("e2b_", "hopx_live_", "hopx_test_"):
        assert Sandbox.list_templates(api_key=prefix + digits, base_url=account["base_url"])


@pytest.mark.parametrize("seconds", [0, -5, 10**7])
def test_an_impossible_timeout_is_refused(account, seconds):
    with pytest.raises(ValidationError):
        Sandbox.create(template="base", timeout_seconds=seconds, **account)


def test_without_a_desktop_the_client_says_so(sandbox):
    with pytest.raises(DesktopNotAvailableError):
        sandbox.desktop.screenshot()


def test_a_web_hook_after_the_run_is_refused_at_once(sandbox):
    with pytest.raises(HopxError, match="call-back"):
        sandbox.run_code_async("1", "http://127.0.0.1:9/")


def test_a_preview_url_is_refused_with_an_error_of_the_client(sandbox):
    with pytest.raises(HopxError):
        sandbox.get_preview_url(8080)


# ---- files


@covers(
    "Sandbox.files",
    "Files.read",
    "Files.read_bytes",
    "Files.write",
    "Files.write_bytes",
    "Files.list",
    "Files.exists",
    "Files.mkdir",
    "Files.remove",
)
def test_files_are_written_read_listed_and_removed(sandbox):
    files = sandbox.files
    files.write("/workspace/f/deep/er/a b+c&d%41é.txt", "é\n", mode="0600")
    assert files.read("/workspace/f/deep/er/a b+c&d%41é.txt") == "é\n"
    (entry,) = files.list("/workspace/f/deep/er")
    assert (entry.name, entry.size, entry.permissions, entry.is_file) == ("a b+c&d%41é.txt", 3, "-rw-------", True)
    assert abs(entry.modified_time - datetime.now(UTC)) < timedelta(minutes=5)
    files.mkdir("/workspace/f/new/dir")
    files.mkdir("/workspace/f/new/dir")
    assert [(each.name, each.is_dir) for each in files.list("/workspace/f")] == [("deep", True), ("new", True)]
    files.write("/workspace/f/x", "long text")
    files.write("/workspace/f/x", "short")
    assert shell(sandbox, "cat /workspace/f/x; stat -c %U:%a /workspace/f/x") == "shortuser:644"
    files.remove("/workspace/f")
    assert not files.exists("/workspace/f")


@pytest.mark.parametrize("content", [b"", b"test", bytes(range(256)) * 9000, b"QUJD" * 400_000], ids=len)
def test_bytes_come_back_as_they_were(sandbox, content):
    sandbox.files.write_bytes("/workspace/x.bin", content)
    assert sandbox.files.read_bytes("/workspace/x.bin") == content


@covers("Files.upload", "Files.download")
def test_big_files_go_up_and_down(sandbox, tmp_path):
    local = tmp_path / "local.bin"
    local.write_bytes(os.urandom(1 << 16) * 512)
    sandbox.files.upload(str(local), "/workspace/up/there.bin")
    assert shell(sandbox, "wc -c < /workspace/up/there.bin") == str(32 << 20)
    sandbox.files.download("/workspace/up/there.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == local.read_bytes()


def test_file_errors_are_the_clients_own(sandbox):
    files = sandbox.files
    for call in (files.read, files.read_bytes, files.list):
        with pytest.raises(FileNotFoundError):
            call("/workspace/nope")
    with pytest.raises(FileOperationError):
        files.read("/workspace")
    with pytest.raises(FileOperationError):
        files.read("/etc/shadow")
    with pytest.raises(FileOperationError):
        files.write("/etc/passwd", "x")
    assert not files.exists("/workspace/nope")


@covers("Files.watch")
async def test_changes_are_watched(sandbox):
    seen: list[dict] = []
    sandbox.files.mkdir("/workspace/watched")

    async def watch() -> None:
        async for event in sandbox.files.watch("/workspace/watched"):
            seen.append(event)
            if event["path"].endswith("/deep/two.txt"):
                return

    watching = asyncio.create_task(watch())
    await asyncio.to_thread(_until_watching, sandbox, watching, seen)
    await asyncio.to_thread(
        shell, sandbox, "cd /workspace/watched; mkdir deep; mv here one; rm one; sleep 0.1; echo 2 > deep/two.txt"
    )
    await asyncio.wait_for(watching, 10)
    events = {(event["event"], event["path"].removeprefix("/workspace/watched/")) for event in seen}
    assert {("created", "here"), ("created", "deep"), ("renamed", "one"), ("deleted", "one")} <= events


def _until_watching(sandbox: Sandbox, watching: asyncio.Task[None], seen: list[dict]) -> None:
    """The protocol has no word for "watching now"."""
    while not seen and not watching.done():
        shell(sandbox, "rm -f /workspace/watched/here; echo 1 > /workspace/watched/here")


# ---- commands, variables, processes


@covers("Sandbox.commands", "Commands.run")
def test_a_command_gives_output_and_exit_code(sandbox):
    result = sandbox.commands.run("echo out; echo err >&2; pwd; exit 3")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n/workspace\n", "err\n", 3)
    assert result.is_success is False
    assert shell(sandbox, "sudo -n id -u") == "0"
    assert sandbox.commands.run("echo $A", env={"A": "b c"}).stdout == "b c\n"
    assert sandbox.commands.run("pwd", working_dir="/tmp/made/here").stdout == "/tmp/made/here\n"
    assert "/root/nope" in sandbox.commands.run("pwd", working_dir="/root/nope").stderr
    assert sandbox.commands.run("no-such-program").exit_code == 127
    assert sandbox.commands.run("kill -9 $$").exit_code == 137


def test_a_command_ends_at_its_time_limit_with_its_children(sandbox):
    result = sandbox.commands.run("echo begun; sleep 77 & sleep 77", timeout=1)
    assert (result.exit_code, result.stdout) == (124, "begun\n")
    assert "timed out" in result.stderr
    assert shell(sandbox, "pgrep -fc 'sleep 7[7]' || true") == "0"


def test_a_background_command_is_listed_and_killed(sandbox):
    started = sandbox.commands.run("echo begun; sleep 600", background=True)
    process_id = started.stdout.rpartition(" ")[2]
    assert _status(sandbox, process_id) == "running"
    sandbox.kill_process(process_id)
    assert _status(sandbox, process_id) == "killed"


@covers("Sandbox.run_code_background", "Sandbox.list_processes", "Sandbox.kill_process")
def test_background_code_is_listed_and_killed(sandbox):
    started = sandbox.run_code_background("import time; time.sleep(600)", name="job", env={"A": "1"})
    assert started["status"] == "running"
    (listed,) = [each for each in sandbox.list_processes() if each["process_id"] == started["process_id"]]
    assert (listed["status"], listed["name"], listed["language"]) == ("running", "job", "python")
    sandbox.kill_process(started["process_id"])
    assert _status(sandbox, started["process_id"]) == "killed"
    with pytest.raises(AgentError):
        sandbox.kill_process("no-such-process")


def _status(sandbox: Sandbox, process_id: str) -> str:
    (found,) = [each for each in sandbox.list_processes() if each["process_id"] == process_id]
    return found["status"]


def test_background_code_ends_by_itself(sandbox):
    good = sandbox.run_code_background("print('done')")["process_id"]
    bad = sandbox.run_code_background("exit 3", language="bash")["process_id"]
    late = sandbox.run_code_background("sleep 60", language="bash", timeout=1)["process_id"]
    ends = {good: "completed", bad: "failed", late: "failed"}
    while (found := {each: _status(sandbox, each) for each in ends}) != ends:
        assert "killed" not in found.values()


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
    assert sandbox.env.set("A", "1")["A"] == "1"
    assert sandbox.env.update({"B": "2 ü\nline"}).items() >= {"A": "1", "B": "2 ü\nline"}.items()
    assert sandbox.env.get("B") == "2 ü\nline"
    assert shell(sandbox, 'echo "$A"') == "1"
    assert sandbox.run_code("import os; print(os.environ['B'])").stdout == "2 ü\nline\n"
    assert sandbox.run_code("console.log(process.env.A)", language="javascript").stdout == "1\n"
    assert sandbox.run_code("import os; print(os.environ['A'])", env={"A": "once"}).stdout == "once\n"
    sandbox.env.delete("A")
    assert sandbox.env.get("A", "none") == "none"
    assert sandbox.run_code("import os; print(os.environ.get('A'))").stdout == "None\n"
    assert sandbox.env.set_all(before) == before


@covers("Sandbox.get_agent_info", "Sandbox.get_agent_metrics", "Sandbox.get_metrics_snapshot")
def test_facts_and_figures(sandbox):
    info = sandbox.get_agent_info()
    assert (info["agent"], info["vm_id"]) == ("atoll", sandbox.sandbox_id)
    before = sandbox.get_metrics_snapshot()
    sandbox.run_code("1")
    after = sandbox.get_agent_metrics()
    assert after["total_executions"] > before["total_executions"]
    assert after["uptime_seconds"] >= before["uptime_seconds"] > 0
    assert after["system"]["memory"]["total_bytes"] == 2048 << 20
    assert 0 < after["system"]["memory"]["usage_percent"] <= 100


@covers("Sandbox.list_system_processes", "Sandbox.get_jupyter_sessions")
def test_system_processes_and_sessions(sandbox):
    sandbox.run_code("1")
    sandbox.commands.run("sleep 55", background=True)
    assert any("sleep 55" in each["command"] for each in sandbox.list_system_processes())
    assert [each["execution_state"] for each in sandbox.get_jupyter_sessions()] == ["idle"]


@covers("Sandbox.cache", "Cache.stats", "Cache.clear")
def test_the_cache_answers(sandbox):
    assert sandbox.cache.stats()["cache"]["size"] == 0
    assert "message" in sandbox.cache.clear()


# ---- streams


@covers("Sandbox.run_code_stream")
async def test_output_streams_as_it_comes(sandbox):
    code = "import time\nprint('a', end='')\ntime.sleep(0.4)\nprint('b')\nraise SystemExit(3)"
    loop = asyncio.get_running_loop()
    found = [(loop.time(), message) async for message in sandbox.run_code_stream(code)]
    printed = [(at, message["data"]) for at, message in found if message["type"] == "stdout"]
    assert "".join(data for _, data in printed) == "ab\n"
    assert printed[-1][0] - printed[0][0] > 0.2
    assert [m["type"] for _, m in found][-2:] == ["result", "complete"]
    assert found[-1][1]["success"] is False


@covers("Sandbox.terminal", "Terminal.connect", "Terminal.send_input", "Terminal.resize", "Terminal.iter_output")
async def test_a_terminal_is_a_login_shell_on_a_pty(sandbox):
    terminal = await asyncio.to_thread(lambda: sandbox.terminal)
    async with await terminal.connect() as ws:
        await terminal.resize(ws, 101, 33)
        await terminal.send_input(ws, "tty; stty size; pwd; shopt -q login_shell && echo lo''gin; echo ü; exit 5\n")
        text, code = "", None
        async for message in terminal.iter_output(ws):
            text += message.get("data", "")
            code = message.get("code", code)
    assert code == 5
    for wanted in ("/dev/pts/", "33 101", "/workspace", "login", "ü"):
        assert wanted in text


async def test_ctrl_c_in_a_terminal_interrupts(sandbox):
    terminal = await asyncio.to_thread(lambda: sandbox.terminal)
    async with await terminal.connect() as ws:
        await terminal.send_input(ws, 'python3 -c \'import time; print("be" "gun"); time.sleep(600)\'; exit 9\n')
        text = ""
        async for message in terminal.iter_output(ws):
            text += message.get("data", "")
            if "begun" in text:
                await terminal.send_input(ws, "\x03")
                break
        await terminal.send_input(ws, "exit 4\n")
        codes = [m["code"] async for m in terminal.iter_output(ws) if m["type"] == "exit"]
    assert codes == [4]


async def test_sync_and_async_clients_see_the_same_sandbox(sandbox, account):
    await asyncio.to_thread(sandbox.run_code, "shared = 'both'")
    other = await AsyncSandbox.connect(sandbox.sandbox_id, **account)
    assert (await other.run_code("print(shared)")).stdout == "both\n"
    await other._client.close()
    await other._agent_client.close()
