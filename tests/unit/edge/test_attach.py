"""`/processes/connect`: bytes both ways, what waits is bounded, and what a client may and may not say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from atoll.edge.hopx.attach import MAX_WAITING

PATH = "/s/" + "a" * 20 + "/processes/connect"
START = {"type": "start", "id": "p1", "name": "bash"}


class Program:
    """A scripted process: what it takes goes into a queue, what it says comes out of another."""

    def __init__(self, agent: Any, kit: Any, path: str = "/processes", method: str = "POST") -> None:
        self.said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.took: asyncio.Queue[Any] = asyncio.Queue()
        self.kit = kit
        agent.on(method, path, self.start)
        for name in ("stdin", "resize", "signal"):
            agent.on("POST", f"/processes/p1/{name}", self.take)
        agent.on("DELETE", "/processes/p1/stdin", self.take)

    async def start(self, seen: Any) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(seen.live)
        await response.write(self.kit.process_start())
        while (piece := await self.said.get()) is not None:
            await response.write(piece)
        return response

    async def take(self, seen: Any) -> web.StreamResponse:
        end = seen.method == "DELETE"
        self.took.put_nowait("end" if end else seen.body if seen.path.endswith("stdin") else seen.json)
        return web.json_response({})


def connect(client: Any) -> Any:
    return client.session.ws_connect(client.origin + PATH, headers=client.headers(None))


async def rest(ws: Any) -> list[Any]:
    return [each.data if each.type is WSMsgType.BINARY else each.json() async for each in ws]


async def test_a_program_from_its_start_to_its_exit_code(client, agent, kit) -> None:
    program = Program(agent, kit)
    async with connect(client) as ws:
        await ws.send_json({"argv": ["cat"], "stdin": True, "env": {"A": "1"}, "user": "root", "timeout": 5})
        assert await ws.receive_json() == START
        await ws.send_bytes(b"\xff\x00in")
        assert await program.took.get() == b"\xff\x00in"
        assert await ws.receive_json() == {"type": "taken", "bytes": 4}
        program.said.put_nowait(kit.out(b"\xfe\x00out"))
        assert await ws.receive_bytes() == b"O\xfe\x00out"
        program.said.put_nowait(kit.err("err"))
        assert await ws.receive_bytes() == b"Eerr"
        await ws.send_json({"type": "eof"})
        assert await program.took.get() == "end"
        program.said.put_nowait(kit.process_end(7))
        program.said.put_nowait(None)
        assert await rest(ws) == [{"type": "exit", "code": 7, "message": ""}]
        assert ws.close_code == 1000
    sent = agent.seen[0].json
    assert (sent["argv"], sent["env"], sent["user"], sent["timeout_s"]) == (["cat"], {"A": "1"}, "root", 5.0)
    assert (sent["attach"], sent["kill_on_disconnect"], sent["record"], sent["stdin"]) == (True, True, False, True)
    assert (sent["pty"], sent["cwd"]) == (None, "/workspace")


async def test_a_terminal_that_is_kept_has_a_size_and_outlives_its_client(client, agent, kit) -> None:
    program = Program(agent, kit)
    async with connect(client) as ws:
        await ws.send_json({"argv": ["bash", "-l"], "pty": {"cols": 100, "rows": 10**9}, "keep": True})
        await ws.receive_json()
        await ws.send_json({"type": "resize", "cols": -1, "rows": 50})
        assert await program.took.get() == {"cols": 1, "rows": 50}
        await ws.send_json({"type": "signal", "signal": "SIGINT"})
        assert await program.took.get() == {"signal": "SIGINT", "tree": True}
        await ws.send_json({"type": "signal", "signal": "SIGSEGV or so"})
        await ws.send_bytes(b"x")
        assert await program.took.get() == b"x"
    sent = agent.seen[0].json
    assert (sent["pty"], sent["kill_on_disconnect"], sent["record"]) == ({"cols": 100, "rows": 4096}, False, True)


async def test_one_that_runs_is_named_by_its_id(client, agent, kit) -> None:
    program = Program(agent, kit, "/processes/p1/attach", "GET")
    program.said.put_nowait(kit.out("before"))
    async with connect(client) as ws:
        await ws.send_json({"id": "p1"})
        assert await ws.receive_json() == START
        assert await ws.receive_bytes() == b"Obefore"


@pytest.mark.parametrize("name", ["nobody", "../p1", "p1/../../x", ""])
async def test_one_that_is_not_there_is_said(client, agent, kit, name: str) -> None:
    agent.refuses("GET", "/processes/nobody/attach", "not_found", 404)
    async with connect(client) as ws:
        await ws.send_json({"id": name})
        (error,) = await rest(ws)
    assert (error["type"], error["code"]) == ("error", "PROCESS_NOT_FOUND")
    assert [seen.path for seen in agent.seen if seen.path != "/processes/nobody/attach"] == []


@pytest.mark.parametrize(
    ("kind", "status", "code"), [("not_found", 404, 127), ("permission", 403, 126), ("not_a_directory", 409, 126)]
)
async def test_a_program_that_cannot_start_ends_as_in_a_shell(client, agent, kind: str, status: int, code: int) -> None:
    agent.refuses("POST", "/processes", kind, status)
    async with connect(client) as ws:
        await ws.send_json({"argv": ["nonsense"]})
        words, end = await rest(ws)
    assert words.startswith(b"Enonsense: ")
    assert end == {"type": "exit", "code": code, "message": ""}


async def test_the_end_of_its_time_is_said(client, agent, kit) -> None:
    agent.streams("POST", "/processes", kit.process_start(), kit.process_end(124, "timed_out"))
    async with connect(client) as ws:
        await ws.send_json({"argv": ["sleep", "9"], "timeout": 2})
        found = await rest(ws)
    assert found[-1] == {"type": "exit", "code": 124, "message": "Execution timed out after 2 seconds"}


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"argv": []},
        {"argv": "ls"},
        {"argv": [1]},
        {"argv": ["a\0b"]},
        {"argv": ["ls"], "timeout": 0},
        {"argv": ["ls"], "timeout": True},
        {"argv": ["ls"], "env": {"A=": "1"}},
        {"argv": ["ls"], "user": 7},
        {"argv": ["ls"], "workdir": "a\0"},
    ],
)
async def test_an_order_that_is_none_reaches_nobody(client, agent, order: dict[str, Any]) -> None:
    async with connect(client) as ws:
        await ws.send_bytes(b"before the order")
        await ws.send_str("no object")
        await ws.send_json(order)
        (error,) = await rest(ws)
    assert error["type"] == "error"
    assert error["code"] in ("INVALID_REQUEST", "INVALID_PATH")
    assert agent.seen == []


async def test_a_client_that_leaves_leaves_the_agents_stream(client, agent, kit) -> None:
    Program(agent, kit)
    ws = await connect(client)
    await ws.send_json({"argv": ["sleep", "99"]})
    await ws.receive_json()
    await ws.close()
    await agent.left.wait()


async def test_input_that_nobody_takes_is_bounded(client, agent, kit) -> None:
    program = Program(agent, kit)

    async def stuck(seen: Any) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    agent.reactions["POST", "/processes/p1/stdin"] = [stuck]
    async with connect(client) as ws:
        await ws.send_json({"argv": ["sleep", "99"], "stdin": True})
        assert await ws.receive_json() == START
        for _ in range(MAX_WAITING // (512 * 1024) + 2):
            await ws.send_bytes(bytes(512 * 1024))
        (error,) = await rest(ws)
    assert (error["type"], error["code"]) == ("error", "TOO_MANY_REQUESTS")
    await agent.left.wait()
    assert program.took.empty()


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [{"type": "start"}],
        [{"type": "start", "process": {"id": "../../x"}}],
        [{"type": "start", "process": {"id": 7}}],
        [{"type": "odd"}, {"type": "start", "process": {"id": "p1"}}],
        [{"type": "end", "process": {"id": "p1"}}],
    ],
    ids=str,
)
async def test_an_agent_that_says_odd_things_is_survived(client, agent, kit, frames: list[dict[str, Any]]) -> None:
    agent.streams("POST", "/processes", *map(kit.frame, frames))
    async with connect(client) as ws:
        await ws.send_json({"argv": ["ls"]})
        found = await rest(ws)
    assert all(each["type"] in ("start", "error") for each in found)
    assert ws.close_code == 1000
    assert {seen.path for seen in agent.seen} == {"/processes"}


async def test_large_output_is_cut_into_messages(client, agent, kit) -> None:
    program = Program(agent, kit)
    async with connect(client) as ws:
        await ws.send_json({"argv": ["cat"]})
        await ws.receive_json()
        program.said.put_nowait(kit.out(b"x" * 700_000))
        sizes = [len(await ws.receive_bytes()) for _ in range(3)]
    assert sizes == [262_145, 262_145, 175_713]


async def test_input_for_a_program_that_reads_no_more_counts_as_taken(client, agent, kit) -> None:
    Program(agent, kit)
    agent.reactions["POST", "/processes/p1/stdin"] = []
    agent.refuses("POST", "/processes/p1/stdin", "invalid", 400)
    async with connect(client) as ws:
        await ws.send_json({"argv": ["true"], "stdin": True})
        await ws.receive_json()
        await ws.send_bytes(b"x" * 10)
        assert await ws.receive_json() == {"type": "taken", "bytes": 10}
