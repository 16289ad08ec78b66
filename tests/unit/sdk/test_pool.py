"""One pool of connections: shared by sandboxes and threads, one for each loop, never by two processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

import atoll

INFO = {"id": "sb1", "status": "running"}


@pytest.fixture(autouse=True)
def _answers(server):
    server.otherwise = type(server.otherwise)(INFO)


def test_all_sandboxes_use_one_connection_in_turn(server, account):
    for number in range(5):
        atoll.Sandbox(f"sb{number}", **account).get_info()
    assert len(server.connections) == 1


def test_all_sandboxes_of_a_loop_use_one_pool(server, account):
    async def run() -> None:
        for number in range(5):
            await atoll.AsyncSandbox(f"sb{number}", **account).get_info()

    asyncio.run(run())
    assert len(server.connections) == 1


def test_each_loop_has_its_own_and_closes_it(server, account):
    """Warnings are errors: what is left open would be one."""
    from atoll.sdk import _aio

    async def run() -> None:
        await atoll.AsyncSandbox("sb1", **account).get_info()
        assert len(_aio._pools) == 1

    for _ in range(3):
        asyncio.run(run())
        assert _aio._pools == {}
    assert len(server.connections) == 3


def test_fifty_calls_at_once_in_one_loop(server, account):
    async def run() -> list[object]:
        boxes = [atoll.AsyncSandbox(f"sb{number}", **account) for number in range(50)]
        return await asyncio.gather(*(box.get_info() for box in boxes))

    assert len(asyncio.run(run())) == 50


def test_threads_share_it(server, account):
    found: list[str] = []

    def ask() -> None:
        for _ in range(10):
            found.append(atoll.Sandbox("sb1", **account).get_info().status)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["running"] * 80
    assert len(server.connections) <= 8


FORK = """
import os, sys
from atoll import Sandbox
box = Sandbox("sb1", api_key="k", base_url=sys.argv[1])
box.get_info()
child = os.fork()
status = box.get_info().status
if child == 0:
    os._exit(0 if status == "running" else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
EXIT = """
import asyncio, sys
from atoll import AsyncSandbox, Sandbox
Sandbox("sb1", api_key="k", base_url=sys.argv[1]).get_info()
asyncio.run(AsyncSandbox("sb1", api_key="k", base_url=sys.argv[1]).get_info())
"""


@pytest.mark.parametrize("code", [FORK, EXIT], ids=["fork", "exit"])
def test_a_program_ends_without_a_word(server, code):
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    # A loop in development mode also says how long a step took, which is a word about the machine.
    program = f"import logging; logging.getLogger('asyncio').setLevel(logging.ERROR)\n{code}"
    command = [sys.executable, "-X", "dev", "-c", program, server.url]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_forked_child_has_connections_of_its_own(server):
    subprocess.run([sys.executable, "-c", FORK, server.url], check=True)
    assert len(server.connections) == 2
    assert len(server.heard) == 3
