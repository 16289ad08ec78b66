from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from atoll.edge.hopx import sockets
from atoll.edge.hopx.outcome import MAX_CHUNK
from atoll.edge.hopx.pacing import ANSWER_S, MARK, MAX_WAITING, Outbox, hears_one_at_a_time

CELL = "/contexts/default/execute"


def out(data: str, kind: str = "stdout") -> dict[str, Any]:
    return {"type": kind, "data": data}


def test_only_a_client_that_does_not_say_who_it_is_hears_one_at_a_time() -> None:
    assert hears_one_at_a_time({"Host": "x"})
    assert not hears_one_at_a_time({"Host": "x", "User-Agent": "Python/3.11 websockets/15.0"})


def test_the_second_message_waits_for_the_answer_to_the_first() -> None:
    box = Outbox()
    box.put(out("a"))
    box.put({"type": "result"})
    assert box.take(0.0) == out("a")
    assert box.take(1.0) is None
    box.answered()
    assert box.take(1.0) == {"type": "result"}
    assert box.empty


def test_a_client_that_never_answers_gets_everything_late() -> None:
    box = Outbox()
    box.put(out("a"))
    box.put({"type": "result"})
    box.take(0.0)
    assert box.take(ANSWER_S - 0.01) is None
    assert box.take(ANSWER_S) == {"type": "result"}


def test_output_of_one_kind_is_joined_up_to_the_size_of_a_message() -> None:
    box = Outbox()
    for message in (
        out("a"),
        out("b"),
        out("c", "stderr"),
        out("d"),
        out("x" * MAX_CHUNK),
        {"type": "r"},
        {"type": "r"},
    ):
        box.put(message)
    sent = []
    while (message := box.take(0.0)) is not None:
        sent.append(message)
        box.answered()
    assert sent == [out("ab"), out("c", "stderr"), out("d"), out("x" * MAX_CHUNK), {"type": "r"}, {"type": "r"}]


def test_what_was_put_is_not_changed() -> None:
    first, box = out("a"), Outbox()
    box.put(first)
    box.put(out("b"))
    assert first == out("a")


def test_it_is_full_at_its_bound() -> None:
    box = Outbox()
    for n in range(MAX_WAITING):
        assert not box.full
        box.put({"type": "change", "n": n})
    assert box.full


@pytest.fixture
async def nameless(client) -> AsyncIterator[Any]:
    """Opens WebSockets as Node's `ws` does: without a User-Agent. Pings are the test's to answer."""
    async with aiohttp.ClientSession(skip_auto_headers={"User-Agent"}) as session:
        yield lambda path: session.ws_connect(client.url(path), headers=client.headers(None), autoping=False)


async def test_each_message_is_followed_by_a_ping_and_the_next_by_its_answer(nameless, client, agent, kit) -> None:
    agent.streams("POST", CELL, kit.out("a"), kit.err("b"), kit.cell_end())
    async with nameless("/execute/stream") as ws:
        await ws.send_json({"type": "execute", "code": "x"})
        kinds = []
        while (message := await ws.receive()).type is WSMsgType.TEXT:
            kinds.append(message.json()["type"])
            if kinds[-1] == "complete":
                break
            ping = await ws.receive()
            assert (ping.type, ping.data) == (WSMsgType.PING, MARK)
            await ws.pong(b"another's")
            await ws.ping(b"ours")
            assert await ws.receive() == (WSMsgType.PONG, b"ours", ""), "nothing came before its turn"
            await ws.pong(ping.data)
        assert kinds == ["stdout", "stderr", "result", "complete"]
        assert [(await ws.receive()).type for _ in range(2)] == [WSMsgType.PING, WSMsgType.CLOSE]


async def test_a_client_that_answers_nothing_gets_the_end_too(nameless, client, agent, kit, monkeypatch) -> None:
    monkeypatch.setattr(sockets, "ANSWER_S", 0.01)
    monkeypatch.setattr("atoll.edge.hopx.pacing.ANSWER_S", 0.01)
    agent.streams("POST", CELL, *(kit.out(f"{n}") for n in range(50)), kit.cell_end())
    async with nameless("/execute/stream") as ws:
        await ws.send_json({"type": "execute", "code": "x"})
        found = [message.json() async for message in ws if message.type is WSMsgType.TEXT]
    assert "".join(each.get("data", "") for each in found) == "".join(map(str, range(50)))
    assert found[-1] == {"type": "complete", "success": True}


async def test_a_client_that_leaves_meanwhile_is_let_go(nameless, client, agent, kit) -> None:
    agent.streams("POST", CELL, kit.out("a"), kit.err("b"), kit.cell_end())
    ws = await nameless("/execute/stream")
    await ws.send_json({"type": "execute", "code": "x"})
    await ws.receive()
    await ws.close()
    assert (await client.call("GET", "/ping"))[0] == 200
