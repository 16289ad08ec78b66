"""Many calls at once through the unmodified async client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from hopx_ai import AsyncSandbox, NotFoundError, Sandbox

pytestmark = pytest.mark.root


@contextlib.asynccontextmanager
async def made(account: dict[str, str], template: str = "base") -> AsyncIterator[AsyncSandbox]:
    sandbox = await AsyncSandbox.create(template=template, **account)
    try:
        yield sandbox
    finally:
        with contextlib.suppress(NotFoundError):
            await sandbox.kill()
        for client in (sandbox._client, sandbox._agent_client):  # it has no close of its own
            if client is not None:
                await client.close()


async def test_twenty_sandboxes_at_once(account):
    async with contextlib.AsyncExitStack() as stack:
        found = await asyncio.gather(*(stack.enter_async_context(made(account)) for _ in range(20)))
        said = await asyncio.gather(*(each.run_code("hostname", language="bash") for each in found))
        assert sorted(each.stdout.strip() for each in said) == sorted(each.sandbox_id for each in found)


async def test_a_slow_run_does_not_hold_up_quick_ones(account):
    async with made(account, "code-interpreter") as sandbox:
        wait = "import os, time\nwhile not os.path.exists('/tmp/gate'): time.sleep(0.05)"
        slow = asyncio.create_task(sandbox.run_code(wait, timeout_seconds=50))
        quick = [await sandbox.run_code("print(1)") for _ in range(3)]
        assert not slow.done()
        assert [each.stdout for each in quick] == ["1\n"] * 3
        await sandbox.files.write("/tmp/gate", "")
        assert (await slow).exit_code == 0


async def test_the_sync_client_takes_over_what_the_async_one_made(account):
    async with made(account, "code-interpreter") as sandbox:
        await sandbox.run_code("kept = 42")
        other = await asyncio.to_thread(Sandbox.connect, sandbox.sandbox_id, **account)
        result = await asyncio.to_thread(other.run_code, "print(kept)")
        assert result.stdout == "42\n"
        for client in (other._client, other._agent_client):
            if client is not None:
                client.close()
