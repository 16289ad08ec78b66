"""The unmodified `hopx-ai` client against edge and real agent (an ordinary process here); the server is scripted."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it still imports the old names of its WebSocket library
    import hopx_ai

pytestmark = [
    pytest.mark.filterwarnings("ignore:websockets.client.WebSocketClientProtocol is deprecated"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """The client leaves connections to the garbage collector; it must come while the filter above holds."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def real_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """(socket, workdir)"""
    place = tmp_path_factory.mktemp("agent")
    workdir, path = place / "work", place / "agent.sock"
    workdir.mkdir()
    ours, seeds = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    seed = start(["atoll.agent.runner", "--seed-fd", str(seeds.fileno())], seeds.fileno())
    config = f'{{"id": "test", "workdir": "{workdir}", "python": true}}'
    passed = (ours.fileno(), listener.fileno())
    arguments = ["--seed-fd", str(passed[0]), "--listen-fd", str(passed[1]), "--config", config]
    agent = start(["atoll.agent", *arguments], *passed)
    for end in (ours, seeds, listener):
        end.close()
    yield path, workdir
    for process in (agent, seed):
        process.terminate()
        process.wait(10)


def start(module: list[str], *passed: int) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-m", *module], pass_fds=passed, env=env)


@pytest.fixture
async def base_url(server, edge, kit, real_agent) -> str:
    """A server that knows one sandbox: enough of the control plane for `create`, `get_info` and tokens."""
    path, workdir = real_agent
    origin = f"http://127.0.0.1:{edge.port}"
    server.publish(kit.route(kit.SANDBOX, path, workdir=str(workdir), incarnation=2))

    def sandbox() -> dict[str, Any]:
        return {
            "id": kit.SANDBOX,
            "status": "running",
            "public_host": f"{origin}/s/{kit.SANDBOX}",
            "organization_id": 1,
            "auth_token": kit.token_for(kit.SANDBOX, 86400 + time.monotonic()),
            "token_expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
        }

    async def answer(seen: Any) -> web.StreamResponse:
        return web.json_response(sandbox(), status=201 if seen.path == "/v1/sandboxes" else 200)

    server.on("POST", "/v1/sandboxes", answer)
    server.on("GET", f"/v1/sandboxes/{kit.SANDBOX}", answer)
    server.on("POST", f"/v1/sandboxes/{kit.SANDBOX}/token/refresh", answer)
    server.on("DELETE", f"/v1/sandboxes/{kit.SANDBOX}", answer)
    hopx_ai._token_cache._token_cache.clear()
    return origin


Sync = Callable[[Callable[[Any], None]], Awaitable[None]]


@pytest.fixture
def sync(base_url: str) -> Sync:
    """Runs a function with a sync Sandbox beside the event loop of edge and server."""

    async def run(use: Callable[[Any], None]) -> None:
        def work() -> None:
            sandbox = hopx_ai.Sandbox.create(template="code-interpreter", api_key="k", base_url=base_url)
            try:
                use(sandbox)
            finally:  # it has no close of its own
                sandbox._client.close()
                if sandbox._agent_client:
                    sandbox._agent_client.close()

        await asyncio.to_thread(work)

    return run


@pytest.fixture
async def sandbox(base_url: str) -> AsyncIterator[Any]:
    sandbox = await hopx_ai.AsyncSandbox.create(template="code-interpreter", api_key="k", base_url=base_url)
    yield sandbox
    await sandbox._client.close()
    if sandbox._agent_client:
        await sandbox._agent_client.close()


async def test_run_code(sync: Sync) -> None:
    def use(sandbox: Any) -> None:
        result = sandbox.run_code("import sys\nprint('out')\nprint('err', file=sys.stderr)\n1 + 1")
        assert (result.success, result.stdout, result.stderr, result.exit_code) == (True, "out\n", "err\n", 0)
        assert sandbox.run_code("x = 41").success
        assert sandbox.run_code("print(x + 1)").stdout == "42\n", "the interpreter keeps its state"
        failed = sandbox.run_code("raise ValueError('bad')")
        assert (failed.success, failed.exit_code) == (False, 1)
        assert "ValueError: bad" in failed.stderr
        late = sandbox.run_code("while True: pass", timeout=1)
        assert (late.success, late.exit_code) == (False, 124)
        assert "timed out" in late.stderr
        assert sandbox.run_code("import os; print(os.environ['A'])", env={"A": "b c"}).stdout == "b c\n"
        bash = sandbox.run_code("echo $0; exit 3", language="bash")
        assert (bash.success, bash.exit_code) == (False, 3)
        missing = sandbox.run_code("x", language="go", env={"PATH": "/nowhere"})
        assert (missing.success, missing.exit_code) == (False, 127)
        with pytest.raises(hopx_ai.HopxError):
            sandbox.run_code("x", language="cobol")

    await sync(use)


async def test_rich_output(sync: Sync) -> None:
    def use(sandbox: Any) -> None:
        code = "class R:\n def _repr_html_(self): return '<b>x</b>'\nR()"
        result = sandbox.run_code(code)
        assert [(rich.type.value, rich.data) for rich in result.rich_outputs] == [
            ("text/html", {"text/html": "<b>x</b>"})
        ]

    await sync(use)


async def test_commands(sync: Sync) -> None:
    def use(sandbox: Any) -> None:
        result = sandbox.commands.run("echo out; echo err >&2; pwd; exit 2")
        assert (result.exit_code, result.stderr, result.is_success) == (2, "err\n", False)
        assert result.stdout.startswith("out\n")
        assert sandbox.commands.run("sleep 9", timeout=1).exit_code == 124
        started = sandbox.commands.run("sleep 60", background=True)
        process_id = started.stdout.rpartition(" ")[2]
        assert process_id in {process["process_id"] for process in sandbox.list_processes()}
        sandbox.kill_process(process_id)

    await sync(use)


async def test_files(sync: Sync, real_agent: tuple[Path, Path], tmp_path: Path) -> None:
    _, workdir = real_agent

    def use(sandbox: Any) -> None:
        files = sandbox.files
        files.write(f"{workdir}/deep/er/a b+c&d%41.txt", "é\n", mode="0600")
        assert files.read(f"{workdir}/deep/er/a b+c&d%41.txt") == "é\n"
        (entry,) = files.list(f"{workdir}/deep/er")
        assert (entry.name, entry.size, entry.permissions) == ("a b+c&d%41.txt", 3, "-rw-------")
        assert entry.modified_time.tzinfo is not None
        for content in (b"test", b"", PNG, bytes(range(256)) * 9000, b"QUJD" * 400_000):
            files.write_bytes(f"{workdir}/x.bin", content)
            assert files.read_bytes(f"{workdir}/x.bin") == content
        local = tmp_path / "local.bin"
        local.write_bytes(os.urandom(3_000_000))
        files.upload(str(local), f"{workdir}/up/there.bin")
        files.download(f"{workdir}/up/there.bin", str(tmp_path / "back.bin"))
        assert (tmp_path / "back.bin").read_bytes() == local.read_bytes()
        assert sandbox.commands.run(f"wc -c < {workdir}/up/there.bin").stdout.strip() == "3000000"
        files.mkdir(f"{workdir}/new/dir")
        assert files.exists(f"{workdir}/new/dir")
        files.remove(f"{workdir}/new")
        assert not files.exists(f"{workdir}/new")
        with pytest.raises(hopx_ai.FileNotFoundError):
            files.read(f"{workdir}/nope")
        with pytest.raises(hopx_ai.FileNotFoundError):
            files.list(f"{workdir}/nope")
        with pytest.raises(hopx_ai.FileOperationError):
            files.read(str(workdir))

    await sync(use)


async def test_environment(sync: Sync) -> None:
    def use(sandbox: Any) -> None:
        before = sandbox.env.get_all()
        assert before["PATH"]
        assert sandbox.env.set_all({**before, "A": "1"})["A"] == "1"
        assert sandbox.env.update({"B": "2"}).items() >= {"A": "1", "B": "2"}.items()
        assert sandbox.commands.run("echo $A$B").stdout == "12\n"
        assert sandbox.run_code("import os; print(os.environ['B'])").stdout == "2\n"
        sandbox.env.delete("A")
        assert sandbox.env.get("A") is None
        sandbox.env.set_all(before)

    await sync(use)


async def test_background_code_is_listed_and_killed(sync: Sync) -> None:
    def use(sandbox: Any) -> None:
        started = sandbox.run_code_background("import time; time.sleep(60)", name="job")
        (listed,) = [p for p in sandbox.list_processes() if p["process_id"] == started["process_id"]]
        assert (listed["status"], listed["name"], listed["language"]) == ("running", "job", "python")
        sandbox.kill_process(started["process_id"])
        (listed,) = [p for p in sandbox.list_processes() if p["process_id"] == started["process_id"]]
        assert listed["status"] == "killed"

    await sync(use)


async def test_foreground_runs_are_not_listed_afterwards(sync: Sync) -> None:
    def use(sandbox: Any) -> None:
        before = len(sandbox.list_processes())
        sandbox.commands.run("true")
        sandbox.run_code("true", language="bash")
        assert len(sandbox.list_processes()) == before

    await sync(use)


async def test_facts(sync: Sync) -> None:
    def use(sandbox: Any) -> None:
        assert sandbox.is_healthy()
        assert sandbox.get_agent_info()["agent"] == "atoll"
        assert sandbox.get_metrics_snapshot()["process"]["count"] >= 0
        assert sandbox.get_agent_metrics()["uptime_seconds"] >= 0
        assert sandbox.cache.stats()["cache"]["size"] == 0
        assert sandbox.cache.clear()["entries_removed"] == 0
        assert isinstance(sandbox.get_jupyter_sessions(), list)
        assert isinstance(sandbox.list_system_processes(), list)
        with pytest.raises(hopx_ai.DesktopNotAvailableError):
            sandbox.desktop.screenshot()

    await sync(use)


async def test_async_client(sandbox: Any, real_agent: tuple[Path, Path]) -> None:
    _, workdir = real_agent
    assert (await sandbox.run_code("print(6 * 7)")).stdout == "42\n"
    failed = await sandbox.commands.run("exit 4")
    assert (failed.exit_code, failed.success) == (4, False)
    path = f"{workdir}/a b+c&d%.txt"
    await sandbox.files.write(path, "x")
    assert await sandbox.files.read(path) == "x"
    assert await sandbox.files.exists(path)
    await sandbox.files.write_bytes(f"{workdir}/t", b"test")
    assert await sandbox.files.read_bytes(f"{workdir}/t") == b"test"
    assert path in [entry.path for entry in await sandbox.files.list(str(workdir))]
    assert (await sandbox.env.get_all())["PATH"]
    started = await sandbox.run_code_background("import time; time.sleep(60)")
    assert started["process_id"] in {process.get("process_id") for process in await sandbox.list_processes()}
    assert (await sandbox.kill_process(started["process_id"]))["success"]
    assert (await sandbox.get_metrics_snapshot())["uptime_seconds"] >= 0


async def test_runs_at_the_same_time_do_not_wait_for_each_other(sandbox: Any, real_agent: tuple[Path, Path]) -> None:
    go_on = real_agent[1] / "go-on"
    code = f"import os, time\nwhile not os.path.exists('{go_on}'):\n    time.sleep(0.01)\nprint('went on')"
    slow = asyncio.create_task(sandbox.run_code(code, timeout_seconds=30))
    quick = [await sandbox.run_code("print(1)") for _ in range(3)]
    assert not slow.done()
    assert [result.stdout for result in quick] == ["1\n"] * 3
    go_on.touch()
    assert (await slow).stdout == "went on\n"


async def test_a_run_that_takes_too_long_is_told(sandbox: Any) -> None:
    assert (await sandbox.run_code("import time; time.sleep(60)", timeout_seconds=1)).exit_code == 124


async def test_streamed_execution(sandbox: Any) -> None:
    found = [m async for m in sandbox.run_code_stream("import time\nprint('a')\ntime.sleep(0.05)\nprint('b')")]
    assert "".join(m["data"] for m in found if m["type"] == "stdout") == "a\nb\n"
    assert [m["type"] for m in found][-2:] == ["result", "complete"]
    assert found[-1]["success"] is True


async def test_streamed_execution_that_is_left_is_interrupted(sandbox: Any, real_agent: tuple[Path, Path]) -> None:
    _, workdir = real_agent
    code = (
        "import time\ntry:\n    print('go')\n    time.sleep(30)\n"
        f"except KeyboardInterrupt:\n    open('{workdir}/left', 'w').close()\n    raise"
    )
    stream = sandbox.run_code_stream(code)
    assert (await anext(stream))["data"].startswith("go")
    await stream.aclose()
    async with asyncio.timeout(10):
        while not await sandbox.files.exists(f"{workdir}/left"):
            pass


async def test_terminal(sandbox: Any) -> None:
    terminal = sandbox.terminal
    if asyncio.iscoroutine(terminal):
        terminal = await terminal
    async with await terminal.connect() as ws:
        await terminal.resize(ws, 100, 30)
        await terminal.send_input(ws, "stty size; echo $((40+2))é; exit 5\n")
        text, code = "", None
        async for message in terminal.iter_output(ws):
            text += message.get("data", "")
            if message["type"] == "exit":
                code = message["code"]
    assert code == 5
    assert "30 100" in text
    assert "42é" in text


async def test_watch(sandbox: Any, real_agent: tuple[Path, Path]) -> None:
    _, workdir = real_agent
    (workdir / "watched").mkdir(exist_ok=True)
    seen: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def watch() -> None:
        async for message in sandbox.files.watch(f"{workdir}/watched"):
            seen.put_nowait(message)

    watching = asyncio.create_task(watch())
    async with asyncio.timeout(10):
        number = 0
        while seen.empty():  # the protocol has no word for "watching now"
            number += 1
            (workdir / "watched" / f"{number}.txt").write_text("x")
            await asyncio.wait((watching,), timeout=0.02)
        message = await seen.get()
    assert message["type"] == "change"
    assert message["path"].startswith(f"{workdir}/watched/")
    assert message["event"] in ("created", "modified")
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
