"""`atoll mcp` as an agent host runs it: a process, the library's own client, real sandboxes."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, ImageContent

import atoll
from atoll.mcp import server
from atoll.mcp.sandboxes import METADATA, Order

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

COMMAND = [sys.executable, "-m", "atoll.cli.main", "mcp"]
PLOT = """
import matplotlib.pyplot as plt
plt.plot([1, 4, 9])
plt.show()
print("plotted")
6 * 7
"""
SERVER = "cd /workspace && exec python3 -m http.server 8000 --bind 127.0.0.1"


def environment(stack, **more: str) -> dict[str, str]:
    account = {"ATOLL_BASE_URL": stack.url, "ATOLL_API_KEY": stack.installation.api_key}
    package = {"PYTHONPATH": str(Path(atoll.__file__).parents[1]), "PATH": os.environ["PATH"], "HOME": str(Path.home())}
    return {**package, **account, **more}


@asynccontextmanager
async def host(stack, *flags: str, mode: str = "auto") -> AsyncIterator[Client]:
    started = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], *flags], env=environment(stack))
    async with Client(started, mode=mode, read_timeout_seconds=60) as client:
        yield client


@asynccontextmanager
async def inside(stack, **order: Any) -> AsyncIterator[Client]:
    """The same server in this process, where it is about sandboxes and not about processes: a second less."""
    account = {"base_url": stack.url, "api_key": stack.installation.api_key}
    async with Client(server.build(Order(account=account, **order))) as client:
        yield client


def text(result: CallToolResult) -> str:
    return "\n".join(each.text for each in result.content if each.type == "text")


async def said(client: Client, name: str, **arguments: Any) -> str:
    result = await client.call_tool(name, arguments)
    assert not result.is_error, text(result)
    return text(result)


def living(stack) -> set[str]:
    return {each["id"] for each in stack.api("GET", "/v1/sandboxes").json()["data"]}


async def test_an_agent_host_works_in_a_sandbox_that_is_gone_afterwards(stack):
    before = living(stack)
    async with host(stack) as client:
        assert {"run_code", "run_command", "get_url"} <= {tool.name for tool in (await client.list_tools()).tools}
        assert living(stack) <= before  # nothing is made before it is needed

        run = await client.call_tool("run_code", {"code": PLOT})
        assert text(run).startswith("stdout:\nplotted\n\nresult:\n42\n\nexit code 0")
        (figure,) = (each for each in run.content if isinstance(each, ImageContent))
        assert base64.b64decode(figure.data).startswith(b"\x89PNG")
        (own,) = living(stack) - before
        assert stack.api("GET", f"/v1/sandboxes/{own}").json()["metadata"] == METADATA

        await said(client, "run_code", code="kept = 'between calls'")
        assert "between calls" in await said(client, "run_code", code="kept")

        await said(client, "write_file", path="/workspace/deep/page.html", content="<h1>hällo</h1>\n")
        assert await said(client, "read_file", path="/workspace/deep/page.html") == "<h1>hällo</h1>\n"
        assert "page.html" in await said(client, "list_files", path="/workspace/deep")
        assert "hällo" in await said(client, "run_command", command="cat deep/*.html")
        assert "exit code 3" in await said(client, "run_command", command="exit 3")

        started = await said(client, "run_command", command=SERVER, background=True, timeout=600)
        process_id = started.split()[2].rstrip(";")
        url = (await said(client, "get_url", port=8000)).splitlines()[0]
        async with httpx.AsyncClient(follow_redirects=True) as browser:
            page = await browser.get(url)
        assert (page.status_code, "deep/" in page.text) == (200, True)
        assert process_id in await said(client, "list_processes")
        assert "GET / " in await said(client, "get_process_output", process_id=process_id)
        await said(client, "kill_process", process_id=process_id)
        assert "still runs" not in await said(client, "get_process_output", process_id=process_id)

        await said(client, "pause_sandbox")
        assert f"{own}  paused" in await said(client, "list_sandboxes")
        await said(client, "resume_sandbox")
        assert "between calls" in await said(client, "run_code", code="kept")

        await said(client, "delete_file", path="/workspace/deep")
        gone = await client.call_tool("read_file", {"path": "/workspace/deep/page.html"})
        assert gone.is_error
        assert "no such file" in text(gone)
    assert living(stack) <= before


async def test_files_that_a_sandbox_makes_to_hurt_a_reader_hurt_nobody(stack):
    traps = (
        "mkfifo pipe; ln -s /dev/zero zero; truncate -s 3G huge; head -c 9000000 /dev/zero | tr '\\0' a > line; mkdir d"
    )
    async with inside(stack, template="busybox") as client:
        await said(client, "run_command", command=traps)
        for name, answer in (("pipe", "not an ordinary file"), ("zero", "not an ordinary file"), ("d", "directory")):
            result = await client.call_tool("read_file", {"path": f"/workspace/{name}"})
            assert result.is_error
            assert answer in text(result)
        assert "are no text" in await said(client, "read_file", path="/workspace/huge")
        shown = await said(client, "read_file", path="/workspace/line")
        assert len(shown) < 31_000
        assert "9,000,000 bytes" in shown
        await said(client, "write_file", path="/workspace/lines", content="".join(f"{n}\n" for n in range(5000)))
        assert await said(client, "read_file", path="/workspace/lines", start_line=4_001, max_lines=2) == "4000\n4001\n"


async def test_a_given_sandbox_is_used_by_hosts_of_the_older_protocol_and_stays(stack, tmp_path):
    (tmp_path / "in.bin").write_bytes(bytes(range(256)))
    with stack.box("busybox") as box:
        async with host(stack, "--sandbox", box.id, "--share", str(tmp_path), mode="legacy") as client:
            await said(client, "upload_file", local_path="in.bin", path="/workspace/in.bin")
            await said(client, "run_command", command="cat in.bin in.bin > out.bin; echo $HERE", env={"HERE": "x"})
            await said(client, "download_file", local_path="out.bin", path="/workspace/out.bin")
        assert (tmp_path / "out.bin").read_bytes() == bytes(range(256)) * 2
        assert box.state() == "running"


async def test_the_operators_policy_holds_in_the_sandbox_and_its_log_shows_it(online):
    before = living(online)
    asked = "for name in example.com github.com; do curl -s -m 5 -o /dev/null -w '%{http_code} ' http://$name/get; done"
    policy = {"allow_out": ["example.com"], "deny_out": ["0.0.0.0/0"]}
    async with inside(online, create={"network": policy, "timeout_seconds": 600}) as client:
        assert "200 000" in await said(client, "run_command", command=asked)
        (own,) = living(online) - before
        made = online.api("GET", f"/v1/sandboxes/{own}").json()
        assert (made["timeout_seconds"], made["network"]["allow_out"]) == (600, ["example.com"])
        log: list[dict[str, Any]] = []
        while not {"example.com", "github.com"} <= {
            entry.get("name") for entry in log
        }:  # it is written soon, not at once
            log = [json.loads(line) for line in (await said(client, "get_network_log", limit=100)).splitlines()]
        assert {entry["verdict"] for entry in log if entry.get("name") == "github.com"} == {"denied"}
        assert {entry["verdict"] for entry in log if entry.get("name") == "example.com"} == {"allowed"}
        assert len((await said(client, "get_network_log", limit=2)).splitlines()) == 2


async def test_a_call_that_the_host_gives_up_ends_its_program(stack):
    async with host(stack, "--template", "busybox") as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "run_command", {"command": "touch begun; sleep 4321"})
            await said(client, "run_command", command="until [ -e begun ]; do :; done")
            assert "sleep 4321" in await said(client, "run_command", command="ps")
            tasks.cancel_scope.cancel()
        ended = "while ps | grep -q '[s]leep 4321'; do :; done"
        assert "exit code 0" in await said(client, "run_command", command=ended, timeout=20)


async def test_a_host_that_is_stopped_by_a_signal_leaves_no_sandbox(stack):
    before = living(stack)
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("--template", "busybox"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(stack),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    call = {"name": "run_command", "arguments": {"command": "true"}}
    for number, (method, params) in enumerate(
        (("initialize", hello), ("notifications/initialized", None), ("tools/call", call))
    ):
        message = {"jsonrpc": "2.0", "method": method, **({"id": number, "params": params} if params else {})}
        process.stdin.write(httpx.Request("POST", "http://x", json=message).content + b"\n")
        if params:
            assert b'"result"' in await process.stdout.readline()
    assert len(living(stack) - before) == 1
    process.send_signal(signal.SIGTERM)  # its standard input stays open
    assert await process.wait() == -signal.SIGTERM
    assert living(stack) <= before


async def test_over_http_with_a_token_each_session_has_a_sandbox(stack):
    before = living(stack)
    flags = ("--http", "127.0.0.1:0", "--template", "busybox")
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *flags, stderr=subprocess.PIPE, env=environment(stack, ATOLL_MCP_TOKEN="t0ken")
    )
    try:
        assert process.stderr is not None
        url = (await process.stderr.readline()).decode().split()[-1]
        async with httpx.AsyncClient() as nobody:
            assert (await nobody.post(url, json={})).status_code == 401
        async with (
            httpx2.AsyncClient(headers={"Authorization": "Bearer t0ken"}, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http), mode="legacy") as one,
            Client(streamable_http_client(url, http_client=http), mode="legacy") as other,
        ):
            await said(one, "run_command", command="echo one > mine")
            assert "No such file" in await said(other, "run_command", command="cat mine")
            assert len(living(stack) - before) == 2
        assert living(stack) <= before  # both said that they go
        async with (
            httpx2.AsyncClient(headers={"Authorization": "Bearer t0ken"}, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http)) as newest,
        ):
            assert "exit code 0" in await said(newest, "run_command", command="true")
        assert len(living(stack) - before) == 1
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert living(stack) <= before
