from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
from contextlib import AsyncExitStack

import aiohttp
import pytest

from atoll.core.settings import EdgeSettings
from atoll.edge.access_log import FLUSH_S, AccessLog, Line
from atoll.edge.main import DRAIN_S, serving


def test_process_serves_and_ends_cleanly_on_sigterm(places) -> None:
    """Also without a server: then its own page is all it has."""
    code = (
        "import sys; from pathlib import Path; from atoll.core.settings import *; from atoll.edge.main import run; "
        "run(EdgeSettings(Places(*map(Path, sys.argv[1:])), '127.0.0.1', 0))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(places.data), str(places.run)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
    try:
        said = next(line for line in process.stderr if "listening on 127.0.0.1:" in line)
        with socket.create_connection(("127.0.0.1", int(said.rpartition(":")[2]))) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
            process.send_signal(signal.SIGTERM)
            process.stderr.read()
            assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


async def test_a_connection_between_two_requests_does_not_hold_up_the_end(places, server) -> None:
    async with AsyncExitStack() as kept:
        async with serving(EdgeSettings(places, "127.0.0.1", 0)) as edge:
            session = await kept.enter_async_context(aiohttp.ClientSession())
            async with session.get(f"http://127.0.0.1:{edge.port}/") as response:
                assert response.status == 200
            ended = time.monotonic()
        assert time.monotonic() - ended < DRAIN_S / 2


async def test_the_access_log_has_one_line_a_request_and_no_query(client, kit, agent, places) -> None:
    places.access_log.parent.mkdir()
    agent.answers("GET", "/files/stat", {"entry": {}})
    await client.call("GET", "/files/exists?path=/secret")
    await client.call("GET", "/nothing/here")
    await asyncio.sleep(FLUSH_S)  # the timer was set before
    await asyncio.sleep(0)
    first, second = map(json.loads, places.access_log.read_text().splitlines())
    assert first.pop("time") == pytest.approx(time.time(), abs=60)
    assert 0 < first.pop("ms") < 60_000
    assert first.pop("request_id").startswith("req_")
    assert first.pop("sent") > 0
    assert first == {
        "sandbox": kit.SANDBOX,
        "port": None,
        "method": "GET",
        "path": f"/s/{kit.SANDBOX}/files/exists",
        "status": 200,
        "received": 0,
        "remote": "127.0.0.1",
    }
    assert second["status"] == 404
    assert places.access_log.stat().st_mode & 0o777 == 0o600


def test_the_access_log_keeps_one_file_beside_the_one_it_fills(tmp_path) -> None:
    (tmp_path / "edge").mkdir()

    async def fill() -> None:
        log = AccessLog(tmp_path / "edge" / "access.jsonl", max_bytes=1000)
        for number in range(40):
            log.write(Line(1.0, None, None, "GET", f"/{number}", 200, 0, 0, 1.0, "192.0.2.1", "req_1"))
            log.flush()

    asyncio.run(fill())
    kept = sorted((tmp_path / "edge").iterdir())
    assert [path.name for path in kept] == ["access.jsonl", "access.jsonl.1"]
    assert sum(path.stat().st_size for path in kept) < 3000
    newest = (tmp_path / "edge" / "access.jsonl").read_text().splitlines()[-1]
    assert json.loads(newest)["path"] == "/39"


def test_the_access_log_keeps_little_of_what_is_long(tmp_path) -> None:
    (tmp_path / "edge").mkdir()
    path = tmp_path / "edge" / "access.jsonl"

    async def fill() -> int:
        log = AccessLog(path)
        tracemalloc.start()
        try:
            for number in range(100):
                long = f"{number:060000}"
                log.write(Line(1.0, None, None, long, "/" + long, 200, 0, 0, 1.0, "192.0.2.1", "req_1"))
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
            log.flush()

    assert asyncio.run(fill()) < 1_000_000
    line = json.loads(path.read_text().splitlines()[-1])
    assert (len(line["path"]), len(line["method"])) == (2048, 32)
