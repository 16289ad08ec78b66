"""Output arrives as it is printed, slow readers cost no memory, and a machine carries hundreds of terminals."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from stack import Box, Stack, until

pytestmark = pytest.mark.root

LINES = 100
PYTHON = f"import time\nfor _ in range({LINES}):\n    print('T', time.time()); time.sleep(0.01)\n"
PRINTED = re.compile(r"T (\d+\.\d+)")
BASH = f"for i in $(seq {LINES}); do echo T $EPOCHREALTIME; sleep 0.01; done"
PROGRAMS = {"python": PYTHON, "bash": BASH}
MAX_MESSAGE = 1 << 20
TERMINALS, BOXES = 200, 4


@pytest.fixture(scope="module")
def box(stack) -> Iterator[Box]:
    with stack.box() as made:
        yield made


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as made:
        yield made


@contextlib.asynccontextmanager
async def socket_of(session: Any, box: Box, path: str, **more: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    headers = {"Authorization": f"Bearer {box.token}"}
    url = box.stack.installation.url + path
    async with session.ws_connect(url, headers=headers, max_msg_size=MAX_MESSAGE, **more) as ws:
        yield ws


async def delays_ms(ws: aiohttp.ClientWebSocketResponse) -> list[float]:
    """Between the time that was printed and the time at which it came, of lines `T <seconds>`."""
    found: list[float] = []
    rest = ""
    while len(found) < LINES:
        rest += (await ws.receive_json(timeout=30)).get("data", "")
        now = time.time()
        *lines, rest = rest.split("\n")
        found += [(now - float(printed[1])) * 1000 for line in lines if (printed := PRINTED.search(line))]
    return found


def assert_prompt(delays: list[float], p99_ms: float) -> None:
    ordered = sorted(delays)
    assert len(ordered) == LINES
    assert ordered[0] >= 0
    assert statistics.median(ordered) < 10, ordered
    assert ordered[round(0.99 * LINES) - 1] < p99_ms, ordered


BOUNDS = [pytest.param(250, id="anywhere"), pytest.param(10, id="quiet", marks=pytest.mark.long)]


@pytest.mark.parametrize("p99_ms", BOUNDS)
@pytest.mark.parametrize("language", PROGRAMS)
async def test_output_of_a_run_arrives_when_it_is_printed(language, p99_ms, box, session) -> None:
    async with socket_of(session, box, "/execute/stream") as ws:
        await ws.send_json({"type": "execute", "code": PROGRAMS[language], "language": language, "timeout": 60})
        assert_prompt(await delays_ms(ws), p99_ms)


@pytest.mark.parametrize("p99_ms", BOUNDS)
async def test_output_of_a_terminal_arrives_when_it_is_printed(p99_ms, box, session) -> None:
    async with socket_of(session, box, "/terminal") as ws:
        await ws.send_json({"type": "input", "data": f"stty -echo; {BASH}\n"})
        assert_prompt(await delays_ms(ws), p99_ms)


# Terminals


class Terminal:
    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.seen = ""

    async def until(self, text: str) -> str:
        while text not in self.seen:
            message = await self.ws.receive(timeout=60)
            assert message.type is aiohttp.WSMsgType.TEXT, (message, self.seen[-500:])
            self.seen += message.json().get("data", "")
        before, _, self.seen = self.seen.partition(text)
        return before

    async def type(self, data: str) -> None:
        await self.ws.send_json({"type": "input", "data": data})


@pytest.mark.parametrize("prefix", [False, True])
async def test_a_terminal_is_a_login_shell_in_the_workspace_with_a_size(prefix, box, session) -> None:
    async with socket_of(session, box, f"/s/{box.id}/terminal" if prefix else "/terminal") as ws:
        terminal = Terminal(ws)
        await terminal.type("stty -echo; shopt -q login_shell && echo login; pwd; stty size; tty\n")
        assert "login\r\n/workspace\r\n24 80\r\n/dev/pts/" in await terminal.until("/dev/pts/") + "/dev/pts/"
        await ws.send_json({"type": "resize", "cols": 132, "rows": 50})
        await terminal.type("stty size\n")
        await terminal.until("50 132")
        await ws.send_str("no json")
        await ws.send_str("")
        await ws.send_bytes(b"\xff")
        await ws.send_json(["not", "an", "object"])
        await terminal.type("printf '\\xc3'; sleep 0.1; printf '\\xa9\\n'; exit 7\n")
        await terminal.until("é")
        messages = [message.json() async for message in ws if message.type is aiohttp.WSMsgType.TEXT]
        assert messages[-1] == {"type": "exit", "code": 7}
        assert ws.close_code == 1000


async def test_leaving_a_terminal_ends_what_it_ran(box, session) -> None:
    async with socket_of(session, box, "/terminal") as ws:
        await Terminal(ws).type("sleep 8642\n")
        await asyncio.to_thread(until, lambda: running(box, "sleep 8642"), "it runs")
    await asyncio.to_thread(until, lambda: not running(box, "sleep 8642"), "it has ended")


def running(box: Box, command: str) -> bool:
    return any(command in found["command"] for found in box.agent("GET", "/processes").json()["processes"])


async def test_a_client_that_closes_one_way_only_is_let_go(box, session) -> None:
    """Its side of the connection ends without a closing message."""
    async with socket_of(session, box, "/terminal") as ws:
        await Terminal(ws).type("sleep 7531\n")
        await asyncio.to_thread(until, lambda: running(box, "sleep 7531"), "it runs")
        transport = ws._response.connection.transport
        transport.write_eof()
        await asyncio.to_thread(until, lambda: not running(box, "sleep 7531"), "it has ended")


def test_a_reader_that_does_not_read_stops_the_writer_and_costs_no_memory(box, stack) -> None:
    edge = stack.installation.pids("edge")[0]
    before = {pid: anonymous_mib(pid) for pid in (edge, stack.host_pid(box))}
    with raw_socket(box, "/execute/stream") as client:
        client.sendall(text_frame({"type": "execute", "language": "bash", "code": "echo go; yes | tee /dev/stderr"}))
        assert client.recv(2).startswith(b"HT")
        until(lambda: running(box, "yes"), "it writes")
        written = [0]

        def stands() -> bool:
            written.append(bytes_written(box))
            return written[-1] > 100_000 and written[-1] == written[-2]

        until(stands, "the writer stands still")
        for pid, mib in before.items():
            assert anonymous_mib(pid) - mib < 32
    until(lambda: not running(box, "yes"), "it has ended with its client")


def bytes_written(box: Box) -> int:
    return int(box.sh("cat /proc/$(pgrep -x tee | head -1)/io | sed -n 's/^wchar: //p'") or 0)


def anonymous_mib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon"))


@contextlib.contextmanager
def raw_socket(box: Box, path: str) -> Iterator[socket.socket]:
    address = urlsplit(box.stack.installation.url)
    with socket.create_connection((address.hostname, address.port)) as client:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {box.token}\r\nUpgrade: websocket\r\n"
        head += (
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        client.sendall(head.encode())
        yield client


def text_frame(value: object) -> bytes:
    data = json.dumps(value).encode()
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2)
    return b"\x81" + length + b"\0\0\0\0" + data


async def test_200_terminals_at_once_answer_what_they_are_asked(stack: Stack, session) -> None:
    async def one(number: int, box: Box, opened: asyncio.Barrier, stack_: contextlib.AsyncExitStack) -> float:
        terminal = Terminal(await stack_.enter_async_context(socket_of(session, box, "/terminal")))
        await terminal.type("stty -echo; echo re''ady\n")
        await terminal.until("ready")
        await opened.wait()
        begun = time.perf_counter()
        await terminal.type(f"echo $(({number} * 1000003))\n")
        await terminal.until(str(number * 1000003))
        return (time.perf_counter() - begun) * 1000

    edge = stack.installation.pids("edge")[0]
    before = anonymous_mib(edge)
    async with contextlib.AsyncExitStack() as opened:
        boxes = [opened.enter_context(stack.box()) for _ in range(BOXES)]
        barrier = asyncio.Barrier(TERMINALS)
        work = (one(number, boxes[number % BOXES], barrier, opened) for number in range(1, TERMINALS + 1))
        answers = await asyncio.wait_for(asyncio.gather(*work), 50)
        assert len(answers) == TERMINALS
        assert max(answers) < 10_000
        assert anonymous_mib(edge) - before < 64
        for box in boxes:
            assert anonymous_mib(stack.host_pid(box)) < 64
