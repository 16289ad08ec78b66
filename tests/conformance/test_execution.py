"""Running code with the unmodified client: call-backs, background runs, cells beside each other, figures, variables."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import hopx_ai
import httpx
import pytest
from packaging.version import Version

from atoll.testing.internet import INTRANET, METADATA, WEB
from stack import until

pytestmark = pytest.mark.root

SECRET = "a-secret-that-shows-nowhere-4711"
TOKEN = "a-token-that-shows-nowhere-0815"
HOOKS = (WEB["api.example.com"], 8080)


# ---- call-backs


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Hooks(ThreadingHTTPServer):
    """A program of the caller's, somewhere on the internet."""

    daemon_threads = True

    def __init__(self) -> None:
        self.received: queue.Queue[Received] = queue.Queue()
        super().__init__(HOOKS, HookHandler)

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)  # without asking the machine's resolver for a name
        self.server_name, self.server_port = HOOKS

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that closes early is no error of ours."""

    def url(self, path: str = "/") -> str:
        return f"http://api.example.com:{HOOKS[1]}{path}"


class HookHandler(BaseHTTPRequestHandler):
    server: Hooks

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.put(Received(self.path, dict(self.headers), body))
        self.send_response(302 if self.path == "/moved" else 200)
        self.send_header("Location", f"http://{METADATA}/latest/meta-data/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def hooks(internet) -> Iterator[Hooks]:
    server = internet.far(Hooks)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def outgoing(online) -> Iterator[hopx_ai.Sandbox]:
    """A sandbox with a way out."""
    installation = online.installation
    made = hopx_ai.Sandbox.create(template="code-interpreter", api_key=installation.api_key, base_url=installation.url)
    yield made
    made.kill()
    for client in (made._client, made._agent_client):
        client.close()


def listed(sandbox: hopx_ai.Sandbox, execution_id: str) -> dict[str, Any]:
    (found,) = [each for each in sandbox.list_processes() if each["process_id"] == execution_id]
    return found


def settled(sandbox: hopx_ai.Sandbox, execution_id: str) -> dict[str, Any]:
    over = ("delivered", "failed", "refused")
    until(lambda: listed(sandbox, execution_id)["callback"]["status"] in over, "the call-back is settled")
    return listed(sandbox, execution_id)["callback"]


ENDS = {
    "completed": ("import os; print('fine', os.environ['A'])", 30, 0, "fine 1\n"),
    "failed": ("print('half'); raise ValueError('bad')", 30, 1, "half\n"),
    "timeout": ("import time; print('begun', flush=True); time.sleep(60)", 3, 124, "begun\n"),
}


def test_every_end_of_a_run_is_told_signed(outgoing, hooks):
    queued = {}
    for status, (code, timeout, _, _) in ENDS.items():
        answer = outgoing.run_code_async(
            code,
            hooks.url(f"/{status}?q=1"),
            timeout=timeout,
            env={"A": "1"},
            callback_headers={"Authorization": f"Bearer {TOKEN}", "X-Tag": status},
            callback_signature_secret=SECRET,
        )
        assert (answer["status"], answer["callback_url"]) == ("queued", hooks.url(f"/{status}?q=1"))
        assert {"message", "timestamp"} <= answer.keys()
        queued[answer["execution_id"]] = status
    for _ in ENDS:
        got = hooks.received.get(timeout=20)
        told = got.json
        status = queued.pop(told["execution_id"])
        _, _, exit_code, stdout = ENDS[status]
        assert (told["status"], told["exit_code"], told["stdout"]) == (status, exit_code, stdout)
        assert told["success"] is (status == "completed")
        assert ("error" in told) is (status != "completed")
        assert isinstance(told["execution_time"], float)
        assert got.path == f"/{status}?q=1"
        assert (got.headers["Authorization"], got.headers["X-Tag"]) == (f"Bearer {TOKEN}", status)
        assert got.headers["Content-Type"] == "application/json"
        moment = got.headers["X-HOPX-Timestamp"]
        assert abs(time.time() - int(moment)) < 30
        expected = hmac.new(SECRET.encode(), moment.encode() + got.body, hashlib.sha256).hexdigest()
        assert got.headers["X-HOPX-Signature"] == f"sha256={expected}"
        assert settled(outgoing, told["execution_id"]).items() >= {"status": "delivered", "http_status": 200}.items()
    assert not queued


async def test_the_async_client_calls_back_too(online, hooks):
    installation = online.installation
    async with await hopx_ai.AsyncSandbox.create(
        template="code-interpreter", api_key=installation.api_key, base_url=installation.url
    ) as sandbox:
        answer = await sandbox.run_code_async("echo $0", hooks.url("/async"), language="bash", working_dir="/tmp")
        got = await asyncio.to_thread(hooks.received.get, True, 20)
        assert (got.json["execution_id"], got.json["status"]) == (answer["execution_id"], "completed")
        assert "X-HOPX-Signature" not in got.headers
        assert int(got.headers["X-HOPX-Timestamp"])


def test_tls_goes_to_the_name_that_was_asked_for(outgoing, internet):
    mark = "told over tls"
    started = outgoing.run_code_async(f"print({mark!r})", "https://www.example.com/post")
    assert settled(outgoing, started["execution_id"])["status"] == "delivered"
    (got,) = [each for each in internet.requests if each.method == "POST" and mark.encode() in each.body]
    assert (got.server, got.port, got.host) == (WEB["www.example.com"], 443, "www.example.com")


NEVER = {
    "metadata": f"http://{METADATA}/latest/meta-data/",
    "metadata, mapped": "http://[::ffff:a9fe:a9fe]/",
    "private": f"http://{INTRANET}/",
    "private, by a name": "http://intranet.corp.example/",
    "private, NAT64": "http://[64:ff9b::a14:1e28]/",
    "loopback": "http://127.0.0.1/",
    "loopback, IPv6": "http://[::1]:8080/",
    "the way out itself": "http://198.51.100.1/",
}
BLOCKED = {"metadata, by a name": "http://metadata.google.internal/"}


def test_what_is_never_reachable_is_refused_and_recorded(outgoing, internet):
    asked, connected = len(internet.requests), len(internet.connections)
    urls = NEVER | BLOCKED
    started = {why: outgoing.run_code_async("1", url, language="bash")["execution_id"] for why, url in urls.items()}
    for why, execution_id in started.items():
        callback = settled(outgoing, execution_id)
        assert (callback["status"], callback["attempts"]) == ("refused", 1), why
        assert ("blocklist" if why in BLOCKED else "never reached") in callback["error"], why
    assert (len(internet.requests), len(internet.connections)) == (asked, connected)


def test_a_redirect_is_not_followed(outgoing, hooks, internet):
    connected = len(internet.connections)
    started = outgoing.run_code_async("1", hooks.url("/moved"))
    assert hooks.received.get(timeout=20).path == "/moved"
    callback = settled(outgoing, started["execution_id"])
    assert (callback["status"], callback["http_status"]) == ("failed", 302)
    assert not any(server == METADATA for server, _ in internet.connections[connected:])


LOOK = f"""
import os, pathlib
wanted = [part[::-1].encode() for part in ({SECRET[::-1]!r}, {TOKEN[::-1]!r})]
places = [*pathlib.Path('/proc').glob('[0-9]*/environ'), *pathlib.Path('/proc').glob('[0-9]*/cmdline')]
places += [path for path in pathlib.Path('/tmp').rglob('*') if path.is_file()]
seen = 0
for place in places:
    try:
        content = place.read_bytes()
    except OSError:
        continue
    seen += 1
    assert not any(each in content for each in wanted), place
assert not any(each in str(os.environ).encode() for each in wanted)
print('looked at', seen > 3)
"""


def test_neither_secret_enters_the_sandbox_or_a_log(outgoing, online, hooks):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    outgoing.run_code_async(LOOK, hooks.url(), callback_headers=headers, callback_signature_secret=SECRET)
    told = hooks.received.get(timeout=20).json
    assert (told["stdout"], told["stderr"]) == ("looked at True\n", "")
    places = online.installation.places
    logs = "".join(online.installation.output) + (places.run / "launcher.log").read_text()
    assert SECRET not in logs
    assert TOKEN not in logs


def test_a_sandbox_without_internet_is_refused_at_once(own, hooks):
    closed = own(internet_access=False)
    with pytest.raises(hopx_ai.HopxError, match="without internet access") as refused:
        closed.run_code_async("open('/workspace/ran', 'w')", hooks.url())
    assert refused.value.status_code in (403, None)
    assert not closed.files.exists("/workspace/ran")


# ---- background runs

HANG = """
import os, subprocess, time
print('begun', flush=True)
subprocess.Popen(['sleep', '7001'])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        subprocess.Popen(['setsid', 'sleep', '7002'])
        time.sleep(7003)
    os._exit(0)
time.sleep(7004)
"""


def sleepers(sandbox: hopx_ai.Sandbox) -> str:
    return sandbox.commands.run("pgrep -af '[s]leep 700' || true").stdout


def test_at_its_time_limit_a_background_run_ends_with_all_its_children(sandbox):
    started = sandbox.run_code_background(HANG, timeout=3, name="hang")
    assert started["name"] == "hang"
    until(lambda: listed(sandbox, started["process_id"])["status"] == "failed", "its time is over")
    found = listed(sandbox, started["process_id"])
    assert (found["exit_code"], found["stdout"], found["name"]) == (124, "begun\n", "hang")
    assert 2.9 < found["duration"] < 7
    assert found["end_time"] > found["start_time"]
    assert isinstance(found["pid"], int)
    assert found["language"] == "python"
    until(lambda: sleepers(sandbox) == "", "what was killed is gone")


def test_how_each_background_run_ended_is_kept(sandbox):
    good = sandbox.run_code_background("print('out'); import sys; print('err', file=sys.stderr)")["process_id"]
    bad = sandbox.run_code_background("exit 3", language="bash")["process_id"]
    command = sandbox.commands.run("echo from a command; sleep 7005", background=True)
    running = command.stdout.rpartition(" ")[2]
    until(lambda: listed(sandbox, good)["status"] == "completed", "the good one is over")
    until(lambda: listed(sandbox, bad)["status"] == "failed", "the bad one is over")
    until(lambda: listed(sandbox, running)["stdout"], "the command has printed")
    assert listed(sandbox, good).items() >= {"exit_code": 0, "stdout": "out\n", "stderr": "err\n"}.items()
    assert listed(sandbox, bad)["exit_code"] == 3
    assert listed(sandbox, running).items() >= {"status": "running", "stdout": "from a command\n"}.items()
    sandbox.kill_process(running)
    assert listed(sandbox, running).items() >= {"status": "killed", "stdout": "from a command\n"}.items()
    until(lambda: sleepers(sandbox) == "", "what was killed is gone")
    for ended in (good, running):
        sandbox.kill_process(ended)  # a success, and what it was it stays
    assert listed(sandbox, good)["status"] == "completed"
    with pytest.raises(hopx_ai.AgentError) as missing:
        sandbox.kill_process("0123456789abcdef")
    assert missing.value.code == "PROCESS_NOT_FOUND"


async def test_the_async_client_lists_and_kills_background_runs_by_its_own_paths(account):
    async with await hopx_ai.AsyncSandbox.create(template="code-interpreter", **account) as sandbox:
        started = await sandbox.run_code_background("import time; time.sleep(7006)", name="mine")
        (found,) = [each for each in await sandbox.list_processes() if each["process_id"] == started["process_id"]]
        assert (found["pid"], found["name"] != "") == (started["pid"], True)
        await sandbox.kill_process(started["process_id"])
        assert not [each for each in await sandbox.list_processes() if each["process_id"] == started["process_id"]]


def test_the_directory_that_the_javascript_client_sends_is_honoured(stack):
    with stack.box() as box:
        started = box.agent(
            "POST", "/execute/background", json={"code": "pwd > here", "language": "bash", "workdir": "/tmp/deep/er"}
        ).json()
        path = f"/execute/processes/{started['process_id']}"
        until(lambda: box.agent("GET", path).json()["status"] == "completed", "it is over")
        assert box.sh("cat /tmp/deep/er/here") == "/tmp/deep/er"


# ---- two cells at once


def test_a_second_cell_runs_beside_the_first_and_the_default_keeps_its_state(sandbox):
    sandbox.run_code("kept = 41")
    token = sandbox.get_token()
    gate = "/tmp/gate"
    sandbox.commands.run(f"rm -f {gate}; mkfifo {gate}")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(sandbox.run_code, f"kept += 1\nopen({gate!r}).read()\nprint(kept)")
        until(lambda: sandbox.get_agent_metrics()["active_executions"] == 1, "the first cell runs")
        beside = sandbox.run_code("print('kept' in globals()); mine = 1; print(__name__)")
        assert beside.stdout == "False\n__main__\n"
        answer = httpx.post(
            f"{sandbox.get_info().public_host}/execute",
            json={"code": "print('mine' in globals())"},
            headers={"Authorization": f"Bearer {token}"},
        ).json()
        assert (answer["stdout"], answer["context"]) == ("False\n", "fresh")
        sandbox.commands.run(f"echo > {gate}")
        assert first.result().stdout == "42\n"
    assert sandbox.run_code("print(kept, 'mine' in globals())").stdout == "42 False\n"
    until(lambda: len(sandbox.get_jupyter_sessions()) == 1, "the fresh interpreters are gone")


def test_twenty_cells_at_once_all_run_and_leave_one_interpreter(own, account):
    """From three clients, as one keeps to ten connections; nobody goes on before all twenty run."""
    made = own()
    clients = [made, *(hopx_ai.Sandbox.connect(made.sandbox_id, **account) for _ in range(2))]
    made.run_code("shared = 'of the default'")
    code = "import os, time\nwhile not os.path.exists('/tmp/gate'): time.sleep(0.05)\n"
    code += "print({n}, os.getpid(), globals().get('shared'))"
    with ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(clients[n % 3].run_code, code.replace("{n}", str(n))) for n in range(20)]
        until(lambda: made.get_agent_metrics()["active_executions"] == 20, "all twenty run", timeout_s=40)
        made.commands.run("touch /tmp/gate")
        words = [call.result().stdout.split(maxsplit=2) for call in calls]
    assert [word[0] for word in words] == [str(n) for n in range(20)]
    assert len({word[1] for word in words}) == 20
    assert sorted(word[2].strip() for word in words) == ["None"] * 19 + ["of the default"]
    assert made.run_code("print(shared)").stdout == "of the default\n"
    until(lambda: len(made.get_jupyter_sessions()) == 1, "the fresh interpreters are gone")
    assert made.get_agent_metrics()["error_count"] == 0
    for client in clients[1:]:
        client._agent_client.close()
        client._client.close()


def test_what_a_fresh_interpreter_started_lives_on_as_it_would_in_the_default_one(own):
    made = own()
    gate = "/tmp/gate"
    made.commands.run(f"mkfifo {gate}")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(made.run_code, f"open({gate!r}).read()")
        until(lambda: made.get_agent_metrics()["active_executions"] == 1, "the first cell runs")
        made.run_code("import subprocess; subprocess.Popen(['sleep', '7007'], start_new_session=True)")
        until(lambda: len(made.get_jupyter_sessions()) == 1, "the fresh interpreter is gone")
        made.commands.run(f"echo > {gate}")
        assert first.result().success
    assert "sleep 7007" in made.commands.run("pgrep -af '[s]leep 7007'").stdout


# ---- figures


def test_figures_move_with_a_good_and_a_failing_program(own):
    made = own()
    before = made.get_metrics_snapshot()
    assert made.run_code("held = bytearray(64_000_000)\nopen('/workspace/big', 'wb').write(b'x' * 40_000_000)").success
    assert not made.run_code("raise SystemExit(3)").success
    after = made.get_metrics_snapshot()

    def moved(*path: str) -> float:
        old, new = before, after
        for name in path:
            old, new = old[name], new[name]
        return new - old

    assert moved("total_executions") == 2
    assert moved("error_count") == 1
    assert moved("total_errors") == 0
    assert moved("total_requests") >= 2
    assert after["requests_total"]["/execute"] == 2
    assert after["avg_duration_ms"]["/execute"] > 0
    assert moved("system", "memory", "used_bytes") > 50_000_000
    assert moved("system", "memory", "usage_percent") > 0
    assert moved("system", "disk", "usage_percent") > 0
    assert -moved("system", "disk", "free_bytes") >= 40_000_000
    assert moved("system", "cpu", "seconds") > 0
    assert moved("uptime_seconds") > 0
    assert (before["active_executions"], after["active_executions"]) == (0, 0)
    assert isinstance(after["cache"]["size"], int)
    assert moved("process", "count") == 1, "the interpreter of the default context"


def test_the_processors_use_is_that_of_now_and_a_running_program_is_seen(own):
    made = own()

    def use() -> float:
        return made.get_agent_metrics()["system"]["cpu"]["usage_percent"]

    until(lambda: use() < 3, "nothing runs")
    busy = made.run_code_background("while True: pass")["process_id"]
    until(lambda: use() > 6, "the loop is seen, on a busy machine too")
    figures = made.get_agent_metrics()
    assert figures["active_executions"] == 1
    assert figures["process"]["count"] >= 1
    made.kill_process(busy)
    until(lambda: use() < 3, "its end is seen")
    assert made.get_agent_metrics()["active_executions"] == 0


def test_both_paths_of_the_figures_answer_in_one_shape(stack):
    with stack.box() as box:

        def shape(value: object) -> object:
            if isinstance(value, dict):
                return {name: shape(each) for name, each in value.items() if not name.startswith("/")}
            return type(value).__name__

        one, other = (box.agent("GET", path).json() for path in ("/metrics", "/metrics/snapshot"))
        assert shape(one) == shape(other)


# ---- variables


def test_a_thousand_variables_and_no_more(own):
    made = own(env_vars={"AT_BIRTH": "1"})
    many = {f"V{number:04}": "x" * 200 for number in range(999)}
    made.env.update(many)
    assert made.env.get_all().items() >= {**many, "AT_BIRTH": "1"}.items()
    assert made.commands.run("env | grep -c '^V[0-9]*='").stdout == "999\n"
    assert made.run_code("import os; print(sum(name.startswith('V0') for name in os.environ))").stdout == "999\n"
    before = made.env.get_all()
    for change in (
        {"ONE": "too many"},
        {"V0000": "x" * 1024 * 1024},
        {"V0000": "x" * 131_072},
        {"": "x"},
        {"A=B": "x"},
    ):
        with pytest.raises(hopx_ai.AgentError):
            made.env.update(change)
    with pytest.raises(hopx_ai.AgentError):
        made.env.set_all({**before, "ONE": "too many"})
    assert made.env.get_all() == before
    made.env.delete("AT_BIRTH")
    made.env.update({"ONE": "fits now"})
    assert made.env.set_all({"ONLY": "y"}) == {"ONLY": "y"}
    assert made.commands.run("echo $ONLY$ONE").stdout == "y\n"


def test_variables_of_one_call_are_bounded_too(sandbox):
    for env in ({f"V{number}": "" for number in range(1001)}, {"A": "x" * 131_072}):
        with pytest.raises(hopx_ai.HopxError):
            sandbox.run_code("1", env=env)


# ---- facts


def test_info_tells_the_truth_about_the_place(sandbox):
    info = sandbox.get_agent_info()
    assert Version(info["agent_version"]) >= Version("3.1.0")
    uname = sandbox.commands.run("uname -m; uname -r; . /etc/os-release; echo $NAME").stdout.split("\n")
    assert [info["arch"], info["kernel"], info["os_name"]] == uname[:3]
    assert info["os"] == "linux"
    assert {"execute", "execute_async", "files", "terminal", "env"} <= info["endpoints"].keys()
    assert info["features"]["background_jobs"] is True
    assert info["features"]["languages"] == ["python", "javascript", "bash", "go"]


def test_system_tells_the_sandboxs_size_and_not_the_hosts(stack):
    with stack.box() as box:
        found = SimpleNamespace(**box.agent("GET", "/system").json())
        assert found.hardware["cpu_cores"] == 2
        assert found.hardware["memory_mb"] == 2048
        assert found.os["hostname"] == box.sh("hostname")
        assert found.environment["user"] == box.sh("id -un")
        assert found.environment["workdir"] == "/workspace"
