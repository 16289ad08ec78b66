from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

CELL = "/contexts/default/execute"
START = {"type": "start", "execution_count": 1}


async def messages(ws: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    found = [message.json() async for message in ws if message.type is WSMsgType.TEXT]
    for message in found:
        if "timestamp" in message:
            assert message.pop("timestamp").endswith("Z")
    return found


@pytest.mark.parametrize("at_root", [True, False])
async def test_stream_of_an_execution(at_root, client, agent, kit) -> None:
    agent.streams("POST", CELL, kit.frame(START), kit.out("a\n"), kit.err("b\n"), kit.cell_end())
    async with client.ws("/execute/stream", at_root=at_root) as ws:
        await ws.send_json({"type": "execute", "code": "x", "language": "python", "timeout": 9, "workdir": "/tmp"})
        assert await messages(ws) == [
            {"type": "stdout", "data": "a\n"},
            {"type": "stderr", "data": "b\n"},
            {"type": "result", "exit_code": 0, "execution_time": 0.5},
            {"type": "complete", "success": True},
        ]
        assert ws.close_code == 1000
    assert agent.seen[0].json == {"code": "x", "env": {}, "cwd": "/tmp", "timeout_s": 9.0, "spare": True}


async def test_output_arrives_while_the_program_runs(client, agent, kit) -> None:
    go_on = asyncio.Event()
    agent.streams("POST", CELL, kit.out("early"), go_on, kit.cell_end())
    async with client.ws("/execute/stream") as ws:
        await ws.send_json({"type": "execute", "code": "x"})
        assert (await ws.receive_json())["data"] == "early"
        go_on.set()
        assert (await messages(ws))[-1] == {"type": "complete", "success": True}


async def test_failure_and_traceback_are_messages(client, agent, kit) -> None:
    error = {"type": "error", "name": "E", "value": "v", "traceback": "T\nE: v"}
    agent.streams("POST", CELL, kit.frame(error), kit.cell_end("error"))
    async with client.ws("/execute/stream") as ws:
        await ws.send_json({"type": "execute", "code": "x"})
        assert await messages(ws) == [
            {"type": "stderr", "data": "T\nE: v\n"},
            {"type": "result", "exit_code": 1, "execution_time": 0.5},
            {"type": "complete", "success": False},
        ]


async def test_missing_language_ends_the_stream_properly(client, agent) -> None:
    agent.refuses("POST", "/processes", "not_found", 404)
    async with client.ws("/execute/stream") as ws:
        await ws.send_json({"type": "execute", "code": "x", "language": "go"})
        found = await messages(ws)
    assert found[0]["type"] == "stderr"
    assert found[1]["exit_code"] == 127
    assert found[2] == {"type": "complete", "success": False}


async def test_no_message_reaches_one_mebibyte(client, agent, kit) -> None:
    agent.streams("POST", CELL, kit.out(b"\x01" * 3_000_000), kit.cell_end())
    async with client.ws("/execute/stream") as ws:
        await ws.send_json({"type": "execute", "code": "x"})
        texts = [message.data async for message in ws if message.type is WSMsgType.TEXT]
    assert max(len(text) for text in texts) < 1024 * 1024
    assert len(texts) > 20


async def test_bad_request_on_a_socket_is_told_and_closed_normally(client) -> None:
    async with client.ws("/execute/stream") as ws:
        await ws.send_str("not json")
        await ws.send_json({"type": "execute", "language": "cobol", "code": "x"})
        (error,) = await messages(ws)
    assert (error["type"], error["code"]) == ("error", "INVALID_REQUEST")
    assert ws.close_code == 1000


@pytest.mark.parametrize("abrupt", [True, False])
async def test_client_that_leaves_ends_the_cell(abrupt, client, agent, kit) -> None:
    async def hang(seen: Any) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(seen.live)
        await response.write(kit.out("begun"))
        await asyncio.Event().wait()
        return response

    agent.on("POST", CELL, hang)
    ws = await client.ws("/execute/stream")
    await ws.send_json({"type": "execute", "code": "x"})
    await ws.receive_json()
    if abrupt:
        ws._response.connection.transport.abort()
    else:
        await ws.close()
    await agent.left.wait()


async def test_socket_needs_a_token_that_names_its_sandbox(session, origin, kit) -> None:
    for headers, code in [
        ({}, "INVALID_TOKEN"),
        ({"Authorization": f"Bearer {kit.API_KEY}"}, "INVALID_TOKEN"),
        ({"Authorization": f"Bearer {kit.token_for(kit.SANDBOX, -1)}"}, "TOKEN_EXPIRED"),
    ]:
        async with session.get(f"{origin}/terminal", headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (401, code)


async def test_plain_request_on_a_socket_path_is_told_to_upgrade(client) -> None:
    status, body = await client.call("GET", "/terminal")
    assert (status, body["code"]) == (426, "UPGRADE_REQUIRED")


# Terminal


class Shell:
    """A scripted pty process: what it takes goes into a queue, what it says comes out of another."""

    def __init__(self, agent: Any, kit: Any) -> None:
        self.said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.took: asyncio.Queue[Any] = asyncio.Queue()
        self.kit = kit
        agent.on("POST", "/processes", self.start)
        agent.on("POST", "/processes/p1/stdin", self.take)
        agent.on("POST", "/processes/p1/resize", self.take)

    async def start(self, seen: Any) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(seen.live)
        await response.write(self.kit.process_start())
        while (piece := await self.said.get()) is not None:
            await response.write(piece)
        return response

    async def take(self, seen: Any) -> web.StreamResponse:
        self.took.put_nowait(seen.json if seen.path.endswith("resize") else seen.body)
        return web.json_response({})


async def test_terminal(client, agent, kit) -> None:
    shell = Shell(agent, kit)
    async with client.ws("/terminal") as ws:
        shell.said.put_nowait(kit.out("$ é"[:3].encode()[:-1]))
        assert await ws.receive_json() == {"type": "output", "data": "$ "}
        shell.said.put_nowait(kit.out("é".encode()[1:]))
        assert await ws.receive_json() == {"type": "output", "data": "é"}
        await ws.send_json({"type": "resize", "cols": 120, "rows": 40})
        assert await shell.took.get() == {"cols": 120, "rows": 40}
        await ws.send_json({"type": "input", "data": "ls\n"})
        assert await shell.took.get() == b"ls\n"
        shell.said.put_nowait(kit.process_end(7))
        shell.said.put_nowait(None)
        assert await messages(ws) == [{"type": "exit", "code": 7}]
        assert ws.close_code == 1000
    sent = agent.seen[0].json
    assert (sent["argv"], sent["cwd"], sent["pty"]) == (["bash", "-l"], "/workspace", {"cols": 80, "rows": 24})
    assert (sent["attach"], sent["kill_on_disconnect"], sent["timeout_s"]) == (True, True, None)


async def test_terminal_falls_back_to_sh(client, agent, kit) -> None:
    agent.refuses("POST", "/processes", "not_found", 404)
    agent.streams("POST", "/processes", kit.process_start(), kit.process_end(0))
    async with client.ws("/terminal") as ws:
        assert await messages(ws) == [{"type": "exit", "code": 0}]
    assert agent.seen[1].json["argv"] == ["sh", "-l"]


async def test_odd_sizes_are_bent_into_range(client, agent, kit) -> None:
    shell = Shell(agent, kit)
    async with client.ws("/terminal") as ws:
        await ws.send_json({"type": "resize", "cols": -5, "rows": 10**9})
        assert await shell.took.get() == {"cols": 1, "rows": 4096}


async def test_pings_are_answered_while_the_terminal_takes_no_input(client, agent, kit) -> None:
    shell = Shell(agent, kit)

    async def stuck(seen: Any) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    agent.reactions["POST", "/processes/p1/stdin"] = [stuck]
    async with client.session.ws_connect(
        client.origin + "/terminal", headers=client.headers(None), autoping=False
    ) as ws:
        await ws.send_json({"type": "input", "data": "x"})
        await ws.ping(b"still there?")
        pong = await ws.receive()
        assert (pong.type, pong.data) == (WSMsgType.PONG, b"still there?")
    await agent.left.wait()
    assert shell.took.empty()


async def test_client_that_leaves_ends_the_terminal(client, agent, kit) -> None:
    Shell(agent, kit)
    ws = await client.ws("/terminal")
    await ws.close()
    await agent.left.wait()


# Watch


async def test_watch_reports_changes_until_the_client_leaves(client, agent, kit) -> None:
    event = {"type": "event", "path": "/workspace/a", "event": "created", "from": None, "is_directory": False}
    held = asyncio.Event()
    agent.streams(
        "GET",
        "/files/watch",
        kit.frame({"type": "ready"}),
        kit.frame(event),
        kit.frame({**event, "event": "odd"}),
        kit.frame({**event, "event": "renamed", "path": "/workspace/b", "from": "/workspace/a"}),
        held,
    )
    async with client.ws("/files/watch") as ws:
        await ws.send_json({"action": "watch", "path": "/workspace"})
        first, second = await ws.receive_json(), await ws.receive_json()
    assert first.pop("timestamp")
    assert first == {"type": "change", "path": "/workspace/a", "event": "created", "from": None, "is_directory": False}
    assert (second["event"], second["from"]) == ("renamed", "/workspace/a")
    await agent.left.wait()
    assert agent.seen[0].query == {"path": "/workspace", "recursive": "1"}


async def test_watch_says_when_it_is_ready_to_who_asks(client, agent, kit) -> None:
    event = {"type": "event", "path": "/workspace/a", "event": "created", "from": None, "is_directory": False}
    agent.streams("GET", "/files/watch", kit.frame({"type": "ready"}), kit.frame(event), asyncio.Event())
    async with client.ws("/files/watch") as ws:
        await ws.send_json({"action": "watch", "path": "/workspace", "ready": True})
        said = [(await ws.receive_json())["type"] for _ in range(2)]
    assert said == ["ready", "change"]


async def test_watch_of_nothing_is_told(client, agent) -> None:
    agent.refuses("GET", "/files/watch", "not_found", 404)
    async with client.ws("/files/watch") as ws:
        await ws.send_json({"action": "watch", "path": "/nope"})
        (error,) = await messages(ws)
    assert (error["type"], error["code"]) == ("error", "FILE_NOT_FOUND")


async def test_open_sockets_are_closed_with_a_word_when_the_edge_goes(places, server, agent, kit) -> None:
    from atoll.core.settings import EdgeSettings
    from atoll.edge.main import serving

    Shell(agent, kit)
    async with aiohttp.ClientSession() as session:
        async with serving(EdgeSettings(places, "127.0.0.1", 0)) as edge:
            client = kit.Client(session, f"http://127.0.0.1:{edge.port}", kit.token_for(kit.SANDBOX))
            ws = await client.ws("/terminal")
            reading = asyncio.create_task(ws.receive())
            await asyncio.sleep(0)
        message = await reading
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        await ws.close()


async def test_what_comes_in_one_piece_with_the_handshake_is_heard(client, agent, kit, edge) -> None:
    agent.streams("POST", CELL, kit.out("early"), kit.cell_end())
    text = b'{"type":"execute","code":"x"}'
    frame = bytes([0x81, 0x80 | len(text)]) + bytes(4) + text
    head = (
        f"GET /execute/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(head.encode() + frame)
    async with asyncio.timeout(10):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        await reader.readuntil(b"early")
    writer.transport.abort()
