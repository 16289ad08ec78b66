"""The agent answers as an enemy would: clients read whole lines of JSON, or an answer that breaks off."""

from __future__ import annotations

import json
import struct

import pytest

from atoll.wire.json_in import MAX_VALUES

EXECUTE = "/contexts/default-python/execute"
END = {"type": "end_of_execution"}
DENSE = b'{"type":"result","data":{"application/json":[%s0]}}' % (b"{}," * MAX_VALUES)
"""To read as much of it as a frame holds, everybody else would wait for seconds."""


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (None, {}),
        ([], {}),
        ({"text/plain": 5, "image/png": {}, "text/html": None}, {}),
        ({"e2b/chart": "x", "e2b/data": [1]}, {}),
        ({"application/json": None}, {"json": None}),
        ({"application/json": [1, {"a": 2.5}]}, {"json": [1, {"a": 2.5}]}),
        ({"x/y": "z", "m" * 200: 1, "n": None}, {"extra": {"x/y": "z"}}),
        ({"extra": 5, "type": "end", "is_main_result": 5}, {"extra": {"extra": 5, "type": "end", "is_main_result": 5}}),
        ({"text/html": "a\ud800b", "text/plain": "'\U0001f600'"}, {"html": "a\ufffdb", "text": "\U0001f600"}),
        ({"application/json": {"\udc00": "\ud800"}}, {"json": {"\ufffd": "\ufffd"}}),
        ({"e2b/chart": {"x": float("nan"), "y": [float("inf")]}}, {"chart": {"x": None, "y": [None]}}),
        ({"text/plain": "\u2028\u0085\x0c\x1c\n"}, {"text": "\u2028\u0085\x0c\x1c\n"}),
    ],
)
async def test_a_result_of_odd_types(code, agent, kit, data, shown):
    agent.streams("POST", EXECUTE, kit.frame({"type": "result", "data": data}), kit.cell_end())
    result, end = await code.execute()
    assert result == {"type": "result", "extra": {}, "is_main_result": True, **shown}
    assert end == END


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"type": "error", "name": 5, "value": None, "traceback": []}, [("Error", "", "")]),
        ({"type": "error"}, [("Error", "", "")]),
        ({"type": "unheard-of"}, []),
        ({"type": "end_of_execution"}, []),
    ],
)
async def test_other_frames_of_odd_types(code, agent, kit, odd, said):
    agent.streams("POST", EXECUTE, kit.frame(odd), kit.cell_end())
    *errors, end = await code.execute()
    assert [(each["name"], each["value"], each["traceback"]) for each in errors] == said
    assert end == END


@pytest.mark.parametrize("count", [None, "5", -3, 1e999, 10**400, True])
async def test_a_count_that_is_none(code, agent, kit, count):
    agent.streams("POST", EXECUTE, kit.frame({"type": "start", "execution_count": count}), kit.cell_end())
    assert (await code.execute())[0] == {"type": "number_of_executions", "execution_count": 0}


async def test_a_character_that_comes_in_two_pieces_and_one_that_never_ends(code, agent, kit):
    whole = "ä".encode()
    parts = (kit.out(whole[:1]), kit.err("x"), kit.out(whole), kit.out(b"\xff\xc3"), kit.cell_end())
    agent.streams("POST", EXECUTE, kit.frame({"type": "start", "language": 5}), *parts)
    _, *events = await code.execute()
    assert [(each["type"], each.get("text")) for each in events] == [
        ("stderr", "x"),
        ("stdout", "\ufffdä"),
        ("stdout", "\ufffd"),
        ("stdout", "\ufffd"),
        ("end_of_execution", None),
    ]


@pytest.mark.parametrize(
    "stream",
    [
        b"\xff" * 100,
        struct.pack(">cI", b"O", 0xFFFFFFFF),
        struct.pack(">cI", b"J", 4) + b"nope",
        struct.pack(">cI", b"J", 200_000) + b"[" * 200_000,
        struct.pack(">cI", b"J", len(DENSE)) + DENSE,
    ],
)
async def test_a_stream_that_is_no_frames(code, agent, start, stream):
    """Before anything was said it is a status, afterwards a broken answer."""
    agent.streams("POST", EXECUTE, stream)
    agent.streams("POST", EXECUTE, start, stream)
    assert (await code.asked("POST", "/execute", json={"code": "1"}))[0] == 500
    async with code.request("POST", "/execute", json={"code": "1"}) as response:
        with pytest.raises(Exception, match=r"(?i)payload|transfer|disconnect"):
            await response.read()


async def test_a_value_that_nests_almost_too_deep(code, agent, kit):
    deep = "[" * 900 + "NaN" + "]" * 900
    raw = f'{{"type": "result", "data": {{"application/json": {deep}}}}}'.encode()
    agent.streams("POST", EXECUTE, struct.pack(">cI", b"J", len(raw)) + raw, kit.cell_end())
    status, said = await code.asked("POST", "/execute", json={"code": "1"})
    assert status == 500 or json.loads(said.splitlines()[-1]) == END


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"contexts": 5}', b'{"contexts": [5, [], {"id": {}}]}'])
async def test_a_list_of_another_shape(code, agent, raw):
    agent.sends("GET", "/contexts", raw)
    status, said = await code.asked("GET", "/contexts")
    assert status == 500 or [each["id"] for each in json.loads(said)] == ["default-python", "default-javascript"]
