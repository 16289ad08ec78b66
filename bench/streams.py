"""How long a printed line is on its way to the client, and 200 terminals at once."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator

import aiohttp
from plain_client import Api, SandboxClient
from report import Report

from atoll.testing.installation import Installation

LINES = 200
PRINTED = re.compile(r"T (\d+\.\d+)")
PYTHON = f"import time\nfor _ in range({LINES}):\n    print('T', time.time()); time.sleep(0.01)\n"
BASH = f"for i in $(seq {LINES}); do echo T $EPOCHREALTIME; sleep 0.01; done"
TERMINALS, SANDBOXES = 200, 4


def bench_streams(report: Report, server: Installation) -> None:
    asyncio.run(_bench(report, server))


async def _bench(report: Report, server: Installation) -> None:
    api = Api(server)
    sandboxes = [api.create("code-interpreter") for _ in range(SANDBOXES)]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for language, code in (("python", PYTHON), ("bash", BASH)):
            async with connected(session, sandboxes[0], "/execute/stream") as ws:
                await ws.send_json({"type": "execute", "code": code, "language": language, "timeout": 60})
                report.add(f"printed → arrived: run_code_stream {language}", await delays_ms(ws))
        async with connected(session, sandboxes[0], "/terminal") as ws:
            await ws.send_json({"type": "input", "data": f"stty -echo; {BASH}\n"})
            report.add("printed → arrived: terminal", await delays_ms(ws))
        await bench_terminals(report, session, sandboxes)
    for sandbox in sandboxes:
        sandbox.kill()


async def bench_terminals(report: Report, session: aiohttp.ClientSession, sandboxes: list[SandboxClient]) -> None:
    all_open = asyncio.Barrier(TERMINALS)

    async def one(number: int) -> tuple[float, float]:
        begun = time.perf_counter()
        async with connected(session, sandboxes[number % SANDBOXES], "/terminal") as ws:
            await ask(ws, "stty -echo; echo re''ady", "ready")
            opened = time.perf_counter()
            await all_open.wait()
            asked = time.perf_counter()
            await ask(ws, f"echo $(({number} * 1000003))", str(number * 1000003))
            answered = time.perf_counter()
            await all_open.wait()
        return (opened - begun) * 1000, (answered - asked) * 1000

    times = await asyncio.gather(*(one(number) for number in range(1, TERMINALS + 1)))
    report.add(f"{TERMINALS} terminals at once: open → prompt", [opened for opened, _ in times])
    report.add(f"{TERMINALS} terminals at once: asked → answered", [answered for _, answered in times])


async def ask(ws: aiohttp.ClientWebSocketResponse, line: str, answer: str) -> None:
    await ws.send_json({"type": "input", "data": f"{line}\n"})
    seen = ""
    while answer not in seen:
        seen += (await ws.receive_json(timeout=60)).get("data", "")


@contextlib.asynccontextmanager
async def connected(
    session: aiohttp.ClientSession, sandbox: SandboxClient, path: str
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    headers = {"Authorization": sandbox.agent.headers["Authorization"]}
    async with session.ws_connect(sandbox.api.url + path, headers=headers) as ws:
        yield ws


async def delays_ms(ws: aiohttp.ClientWebSocketResponse) -> list[float]:
    found: list[float] = []
    rest = ""
    while len(found) < LINES:
        rest += (await ws.receive_json(timeout=30)).get("data", "")
        now = time.time()
        *lines, rest = rest.split("\n")
        found += [(now - float(printed[1])) * 1000 for line in lines if (printed := PRINTED.search(line))]
    return found
