"""The unmodified `hopx_ai` package, async client, against a real installation. What the sync tests show of the server
is not shown again: here each method of this client is used once, and what only it does."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import pytest_asyncio
from compatibility import covers
from hopx_ai import AsyncSandbox
from hopx_ai.errors import AuthenticationError, FileNotFoundError, HopxError, NotFoundError, TemplateNotFoundError

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="module")]


async def close(sandbox: AsyncSandbox) -> None:
    """It has no close of its own."""
    for client in (sandbox._client, sandbox._agent_client):
        if client is not None:
            await client.close()


@contextlib.asynccontextmanager
async def made(account, **arguments):
    sandbox = await AsyncSandbox.create(**{"template": "base", **account, **arguments})
    try:
        yield sandbox
    finally:
        with contextlib.suppress(NotFoundError):
            await sandbox.kill()
        await close(sandbox)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def sandbox(account):
    async with made(account, template="code-interpreter") as found:
        yield found


@covers("AsyncSandbox.create", "AsyncSandbox.get_info", "AsyncSandbox.kill")
async def test_create_info_and_kill(account):
    async with made(account, timeout_seconds=300, env_vars={"A": "1"}) as sandbox:
        info = await sandbox.get_info()
        assert (info.status, info.template_name, info.timeout_seconds) == ("running", "base", 300)
        assert (await sandbox.commands.run("echo $A")).stdout == "1\n"
        await sandbox.kill()
        with pytest.raises(NotFoundError):
            await sandbox.get_info()


async def test_async_with_kills_at_its_end(account):
    async with AsyncSandbox.create(template="base", **account) as sandbox:
        assert (await sandbox.run_code("echo hei", language="bash")).stdout == "hei\n"
    with pytest.raises(NotFoundError):
        await sandbox.get_info()
    await close(sandbox)


@covers("AsyncSandbox.connect", "AsyncSandbox.list", "AsyncSandbox.iter")
async def test_connect_list_and_iter(sandbox, account):
    again = await AsyncSandbox.connect(sandbox.sandbox_id, **account)
    assert (await again.get_info()).sandbox_id == sandbox.sandbox_id
    listed = await AsyncSandbox.list(**account)
    iterated = [each async for each in AsyncSandbox.iter(status="running", **account)]
    for found in (listed, iterated):
        assert sandbox.sandbox_id in [each.sandbox_id for each in found]
    for each in (again, *listed, *iterated):
        await close(each)


@covers("AsyncSandbox.pause", "AsyncSandbox.resume")
async def test_pause_and_resume(account):
    async with made(account, template="code-interpreter") as sandbox:
        await sandbox.run_code("kept = 42")
        await sandbox.pause()
        assert (await sandbox.get_info()).status == "paused"
        with pytest.raises(HopxError):
            await sandbox.run_code("print(1)")
        await sandbox.resume()
        assert (await sandbox.run_code("print(kept)")).stdout == "42\n"


@covers(
    "AsyncSandbox.set_timeout",
    "AsyncSandbox.get_time_to_expiry",
    "AsyncSandbox.is_expiring_soon",
    "AsyncSandbox.get_expiry_info",
)
async def test_set_timeout(account):
    async with made(account) as sandbox:
        assert await sandbox.get_time_to_expiry() > 0
        await sandbox.set_timeout(200)
        assert 190 <= await sandbox.get_time_to_expiry() <= 200
        assert await sandbox.is_expiring_soon()
        assert (await sandbox.get_expiry_info()).has_timeout


@covers("AsyncSandbox.list_templates", "AsyncSandbox.get_template")
async def test_templates(account):
    assert "base" in [each.name for each in await AsyncSandbox.list_templates(**account)]
    assert (await AsyncSandbox.get_template("base", **account)).is_active
    with pytest.raises(HopxError):
        await AsyncSandbox.delete_template("base", **account)
    with pytest.raises(TemplateNotFoundError) as caught:
        await AsyncSandbox.create(template="bases", **account)
    assert caught.value.suggested_template == "base"
    with pytest.raises(AuthenticationError):
        await AsyncSandbox.create(template="base", api_key="wrong", base_url=account["base_url"])


@covers("AsyncSandbox.health_check", "AsyncSandbox.is_healthy", "AsyncSandbox.ensure_healthy")
async def test_health(sandbox, account):
    assert (await AsyncSandbox.health_check(base_url=account["base_url"]))["status"] == "ok"
    assert await sandbox.is_healthy()
    await sandbox.ensure_healthy()


@covers("AsyncSandbox.refresh_token", "AsyncSandbox.get_token")
async def test_tokens(sandbox):
    before = await sandbox.get_token()
    await sandbox.refresh_token()
    assert await sandbox.get_token() != before
    assert (await sandbox.run_code("print(1)")).success


@covers("AsyncSandbox.run_code")
async def test_run_code(sandbox):
    result = await sandbox.run_code("import pandas as pd\npd.DataFrame({'a': [1]})", preflight=True)
    assert result.success
    assert [each.type.value for each in result.rich_outputs] == ["text/html"]
    failed = await sandbox.run_code("1 / 0", env={"A": "1"})
    assert (failed.success, failed.exit_code) == (False, 1)
    late = await sandbox.run_code("while True: pass", timeout_seconds=1)
    assert late.exit_code == 124


async def test_a_long_run_does_not_hold_up_the_others(sandbox):
    slow = asyncio.create_task(sandbox.run_code("import time; time.sleep(5)", timeout_seconds=1))
    quick = [await sandbox.run_code("print(1)") for _ in range(3)]
    assert not slow.done()
    assert [each.stdout for each in quick] == ["1\n"] * 3
    assert (await slow).exit_code == 124


async def test_twenty_sandboxes_at_once(account):
    async with contextlib.AsyncExitStack() as stack:
        found = await asyncio.gather(*(stack.enter_async_context(made(account)) for _ in range(20)))
        said = await asyncio.gather(*(each.run_code("hostname", language="bash") for each in found))
        assert sorted(each.stdout.strip() for each in said) == sorted(each.sandbox_id for each in found)


@covers("AsyncSandbox.run_code_background", "AsyncSandbox.list_processes", "AsyncSandbox.kill_process")
async def test_background_code(sandbox):
    started = await sandbox.run_code_background("import time; time.sleep(600)", name="job")
    listed = {each["process_id"]: each for each in await sandbox.list_processes()}
    assert listed[started["process_id"]]["name"]
    assert (await sandbox.kill_process(started["process_id"]))["success"]
    assert started["process_id"] not in [each["process_id"] for each in await sandbox.list_processes()]


@covers(
    "AsyncSandbox.get_agent_info",
    "AsyncSandbox.get_agent_metrics",
    "AsyncSandbox.get_metrics_snapshot",
    "AsyncSandbox.list_system_processes",
    "AsyncSandbox.get_jupyter_sessions",
)
async def test_facts(sandbox):
    assert (await sandbox.get_agent_info())["agent"] == "atoll"
    assert (await sandbox.get_agent_metrics())["uptime_seconds"] > 0
    assert (await sandbox.get_metrics_snapshot())["system"]["disk"]["free_bytes"] > 0
    assert isinstance(await sandbox.list_system_processes(), list)
    assert isinstance(await sandbox.get_jupyter_sessions(), list)


@covers("AsyncSandbox.commands", "AsyncCommands.run")
async def test_commands(sandbox):
    failed = await sandbox.commands.run("echo out; exit 4", env={"A": "1"}, working_dir="/tmp")
    assert (failed.exit_code, failed.success, failed.stdout) == (4, False, "out\n")
    started = await sandbox.commands.run("sleep 600", background=True)
    process_id = started.stdout.rpartition(" ")[2]
    assert process_id in [each["process_id"] for each in await sandbox.list_processes()]
    await sandbox.kill_process(process_id)


@covers(
    "AsyncSandbox.files",
    "AsyncFiles.write",
    "AsyncFiles.write_bytes",
    "AsyncFiles.read",
    "AsyncFiles.read_bytes",
    "AsyncFiles.list",
    "AsyncFiles.exists",
    "AsyncFiles.mkdir",
    "AsyncFiles.remove",
)
async def test_files(sandbox):
    files = sandbox.files
    await files.mkdir("/workspace/made")
    await files.write("/workspace/made/a b+c&d%.txt", "hei\n")
    assert await files.read("/workspace/made/a b+c&d%.txt") == "hei\n"
    await files.write_bytes("/workspace/made/test", b"test")
    assert await files.read_bytes("/workspace/made/test") == b"test"
    assert [each.name for each in await files.list("/workspace/made")] == ["a b+c&d%.txt", "test"]
    await files.remove("/workspace/made")
    assert not await files.exists("/workspace/made")
    with pytest.raises(FileNotFoundError):
        await files.read("/workspace/made/test")


@covers("AsyncFiles.watch")
async def test_watch(sandbox):
    await sandbox.files.mkdir("/workspace/watched")
    events = sandbox.files.watch("/workspace/watched")
    waiting = asyncio.ensure_future(anext(events))
    while not waiting.done():  # the protocol has no word for "watching now"
        await sandbox.files.write("/workspace/watched/x", "x")
    event = await waiting
    assert (event["type"], event["path"]) == ("change", "/workspace/watched/x")
    await events.aclose()


@covers(
    "AsyncSandbox.env",
    "AsyncEnvironmentVariables.get",
    "AsyncEnvironmentVariables.set",
    "AsyncEnvironmentVariables.get_all",
    "AsyncEnvironmentVariables.set_all",
    "AsyncEnvironmentVariables.update",
    "AsyncEnvironmentVariables.delete",
)
async def test_variables(sandbox):
    env = sandbox.env
    before = await env.get_all()
    await env.set("A", "1")
    assert await env.get("A") == "1"
    assert (await env.update({"B": "2"})).items() >= {"A": "1", "B": "2"}.items()
    await env.delete("A")
    assert await env.get("A") is None
    await env.set_all(before)
    assert await env.get_all() == before


@covers("AsyncSandbox.cache", "AsyncCache.stats", "AsyncCache.clear")
async def test_the_cache_answers(sandbox):
    assert "cache" in await sandbox.cache.stats()
    await sandbox.cache.clear()


@covers("AsyncSandbox.run_code_stream")
async def test_streams(sandbox):
    found = [m async for m in sandbox.run_code_stream("print('a'); 1/0")]
    assert "".join(m["data"] for m in found if m["type"] == "stdout") == "a\n"
    assert "ZeroDivisionError" in "".join(m["data"] for m in found if m["type"] == "stderr")
    assert found[-1] == {"type": "complete", "success": False}


async def test_a_stream_that_is_left_interrupts_the_code(sandbox):
    code = (
        "import time\nprint('go')\ntry:\n    time.sleep(30)\n"
        "except KeyboardInterrupt:\n    open('/workspace/left', 'w').close()\n    raise"
    )
    stream = sandbox.run_code_stream(code)
    assert (await anext(stream))["data"].startswith("go")
    await stream.aclose()
    async with asyncio.timeout(10):
        while not await sandbox.files.exists("/workspace/left"):
            pass


@covers(
    "AsyncSandbox.terminal",
    "AsyncTerminal.connect",
    "AsyncTerminal.send_input",
    "AsyncTerminal.resize",
    "AsyncTerminal.iter_output",
)
async def test_terminal(sandbox):
    terminal = sandbox.terminal
    async with await terminal.connect() as ws:
        await terminal.resize(ws, 100, 30)
        await terminal.send_input(ws, "stty size; echo $((40+2))é; exit 5\n")
        text, code = "", None
        async for message in terminal.iter_output(ws):
            text += message.get("data", "")
            code = message.get("code", code)
    assert code == 5
    assert "30 100" in text
    assert "42é" in text
