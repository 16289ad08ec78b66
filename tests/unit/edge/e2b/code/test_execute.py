"""Executions: what the agent is asked, what clients read of it, how it ends, and what cannot begin."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from aiohttp import web

from atoll.edge.e2b.code import execute
from atoll.edge.e2b.code.turns import MAX_IN_LINE, Turns

EXECUTE = "/contexts/default-python/execute"
MADE = "01234567-89ab-cdef-0123-456789abcdef"
END = {"type": "end_of_execution"}
TRACE = "Traceback (most recent call last):\n  KeyErrors\nKeyError: 'a'\n"
SHOWN = "\x1b[0;31mTraceback (most recent call last):\x1b[0m\n  KeyErrors\n\x1b[0;31mKeyError\x1b[0m: 'a'\n"


async def first(response):
    return json.loads(await response.content.readline())


# ---- what is asked


async def test_the_default_context_of_python_is_made_by_the_call_that_uses_it(code, agent, kit):
    agent.streams("POST", EXECUTE, kit.cell_end())
    await code.execute(code="x", context_id=None, language=None, env_vars={"A": "b"})
    (seen,) = agent.seen
    assert seen.json == {
        "code": "x",
        "env": {"A": "b"},
        "wait": True,
        "describe": True,
        "make": {"language": "python", "cwd": "/home/user", "user": "user", "env": {}},
    }


@pytest.mark.parametrize(
    ("given", "language"),
    [("Python", "python"), (" js ", "javascript"), ("ts", "typescript"), ("R", "r"), ("bash", "bash"), ("", "python")],
)
async def test_languages_and_their_aliases(code, agent, kit, given, language):
    path = f"/contexts/default-{language}/execute"
    agent.streams("POST", path, kit.cell_end())
    assert await code.execute(language=given) == [END]
    assert agent.asked("POST", path)[0].json["make"]["language"] == language


async def test_a_context_that_was_made_is_used_as_it_is(code, agent, kit):
    agent.streams("POST", f"/contexts/{MADE}/execute", kit.cell_end())
    assert await code.execute(context_id=MADE) == [END]
    assert "make" not in agent.seen[0].json


async def test_a_default_context_has_a_name_that_uses_it_too(code, agent, kit):
    agent.streams("POST", "/contexts/default-r/execute", kit.cell_end())
    assert await code.execute(context_id="default-r") == [END]
    assert agent.seen[0].json["make"]["language"] == "r"


@pytest.mark.parametrize("context_id", ["default", "x", "../env", "a/b", "default-", MADE.upper(), "default-x\n"])
async def test_contexts_of_others_are_none(code, agent, context_id):
    status, said = await code.asked("POST", "/execute", json={"code": "1", "context_id": context_id})
    assert (status, said) == (404, f"Context {context_id} not found")
    assert agent.seen == []


# ---- what is read


async def test_everything_a_cell_says_in_its_order(code, agent, kit, start):
    figure = {"text/plain": "<Figure>", "image/png": "iVBO", "e2b/chart": {"type": "line"}}
    agent.streams(
        "POST",
        EXECUTE,
        start,
        kit.out("one\n"),
        kit.err("two\n"),
        kit.frame({"type": "display", "data": figure, "metadata": {}}),
        kit.frame({"type": "result", "data": {"text/plain": "'it'"}, "metadata": {}}),
        kit.frame({"type": "error", "name": "KeyError", "value": "'a'", "traceback": TRACE}),
        kit.cell_end("error"),
    )
    events = await code.execute()
    stamps = [event.pop("timestamp") for event in events if event["type"] in ("stdout", "stderr")]
    assert all(stamp.endswith("Z") and "T" in stamp for stamp in stamps)
    assert events == [
        {"type": "number_of_executions", "execution_count": 3},
        {"type": "stdout", "text": "one\n"},
        {"type": "stderr", "text": "two\n"},
        {
            "type": "result",
            "text": "<Figure>",
            "png": "iVBO",
            "chart": {"type": "line"},
            "extra": {},
            "is_main_result": False,
        },
        {"type": "result", "text": "it", "extra": {}, "is_main_result": True},
        {"type": "error", "name": "KeyError", "value": "'a'", "traceback": SHOWN},
        END,
    ]


@pytest.mark.parametrize("word", ["a\n", "half a line"])
async def test_each_word_goes_out_at_once(code, agent, kit, start, word):
    go = asyncio.Event()
    agent.streams("POST", EXECUTE, start, kit.out(word), go, kit.cell_end())
    async with code.request("POST", "/execute", json={"code": "1"}) as response:
        assert (await first(response))["type"] == "number_of_executions"
        assert (await first(response))["text"] == word
        go.set()
        assert await first(response) == END


async def test_halves_of_a_line_of_pythons_are_one_word(code, agent, kit, start, monkeypatch):
    monkeypatch.setattr(execute, "HOLD_S", 60)
    halves = (kit.out("a"), kit.out("\n"), kit.out("b"), kit.err("c"), kit.out("d"), kit.out("\ne"))
    agent.streams("POST", EXECUTE, start, *halves, kit.cell_end())
    _, *events, _ = await code.execute()
    assert [(each["type"], each["text"]) for each in events] == [
        ("stdout", "a\n"),
        ("stdout", "b"),
        ("stderr", "c"),
        ("stdout", "d\ne"),
    ]


async def test_words_of_other_languages_stay_as_they_were_said(code, agent, kit):
    start = kit.frame({"type": "start", "execution_count": 1, "language": "java"})
    agent.streams("POST", EXECUTE, start, kit.out("a"), kit.out("\n"), kit.cell_end())
    _, *events, _ = await code.execute()
    assert [each["text"] for each in events] == ["a", "\n"]


async def test_a_large_figure_passes(code, agent, kit):
    png = "iVBO" * 500_000
    agent.streams("POST", EXECUTE, kit.frame({"type": "display", "data": {"image/png": png}}), kit.cell_end())
    shown, end = await code.execute()
    assert (shown["png"] == png, end) == (True, END)


async def test_a_restart_ends_the_cell_with_its_own_error(code, agent, kit, start):
    said = {"type": "error", "name": "ContextRestarting", "value": "Context was restarted", "traceback": ""}
    agent.streams("POST", EXECUTE, start, kit.frame(said), kit.cell_end("died"))
    assert (await code.execute())[1:] == [said, END]


async def test_a_kernel_that_died_is_an_unexpected_end(code, agent, kit, start):
    value = "the interpreter was killed (SIGKILL)"
    said = {"type": "error", "name": "ContextDied", "value": value, "traceback": f"ContextDied: {value}\n"}
    agent.streams("POST", EXECUTE, start, kit.frame(said), kit.cell_end("died"))
    name = "UnexpectedEndOfExecution"
    wanted = {"type": "error", "name": name, "value": value, "traceback": f"\x1b[0;31m{name}\x1b[0m: {value}\n"}
    assert (await code.execute())[1:] == [wanted, END]


async def test_silence_is_broken_by_a_word_that_means_nothing(code, agent, kit, start, monkeypatch):
    monkeypatch.setattr(execute, "KEEPALIVE_S", 0.02)
    go = asyncio.Event()
    agent.streams("POST", EXECUTE, go, start, kit.cell_end())
    async with code.request("POST", "/execute", json={"code": "1"}) as response:
        for _ in range(3):
            assert await first(response) == {"type": "keepalive"}
        go.set()
        rest = [json.loads(each) async for each in response.content]
    assert [each["type"] for each in rest if each["type"] != "keepalive"] == ["number_of_executions", END["type"]]


# ---- ends


async def test_a_client_that_leaves_ends_the_call_to_the_agent(code, agent, kit, start):
    agent.streams("POST", EXECUTE, start, asyncio.Event())
    async with code.request("POST", "/execute", json={"code": "1"}) as response:
        await first(response)
        response.close()
    await asyncio.wait_for(agent.left.wait(), 5)


async def test_a_client_that_leaves_while_it_waits_gives_its_turn_up(code, agent):
    agent.streams("POST", EXECUTE, asyncio.Event())
    waiting = asyncio.create_task(code.execute())
    await asyncio.wait_for(agent.arrived.wait(), 5)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(agent.left.wait(), 5)


async def test_an_agent_that_goes_in_the_middle_breaks_the_answer_off(code, agent, start):
    agent.streams("POST", EXECUTE, start)
    async with code.request("POST", "/execute", json={"code": "1"}) as response:
        with pytest.raises(Exception, match=r"(?i)payload|transfer|disconnect"):
            await response.read()


# ---- what cannot begin


@pytest.mark.parametrize(
    ("kind", "status"),
    [("unsupported", 500), ("internal", 500), ("too_many", 429), ("invalid", 400), ("odd", 500)],
)
async def test_what_the_agent_refuses_is_a_plain_text(code, agent, kind, status):
    agent.refuses("POST", EXECUTE, kind, 400, "because")
    async with code.request("POST", "/execute", json={"code": "1"}) as response:
        assert (response.status, response.content_type, await response.text()) == (status, "text/plain", "because")


async def test_a_context_that_is_gone(code, agent):
    agent.refuses("POST", f"/contexts/{MADE}/execute", "not_found", 404, "no such context")
    said = await code.asked("POST", "/execute", json={"code": "1", "context_id": MADE})
    assert said == (404, f"Context {MADE} not found")


async def test_a_refusal_that_comes_late_is_an_error_of_the_execution(code, agent, monkeypatch):
    monkeypatch.setattr(execute, "KEEPALIVE_S", 0.02)
    go = asyncio.Event()

    async def refuse(seen):
        await go.wait()
        return web.json_response({"kind": "internal", "message": "java does not start"}, status=500)

    agent.on("POST", EXECUTE, refuse)
    async with code.request("POST", "/execute", json={"code": "1"}) as response:
        assert await first(response) == {"type": "keepalive"}
        go.set()
        rest = [json.loads(each) async for each in response.content]
    error, end = [each for each in rest if each["type"] != "keepalive"]
    assert (error["name"], error["value"], end) == ("UnexpectedEndOfExecution", "java does not start", END)


async def test_both_a_context_and_a_language(code, agent):
    said = await code.asked("POST", "/execute", json={"code": "1", "context_id": MADE, "language": "r"})
    assert said == (400, "Only one of context_id or language can be provided")
    assert agent.seen == []


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", ["body"]),
        (b"{", ["body"]),
        (b"[]", ["body"]),
        (b"{}", ["body", "code"]),
        (b'{"code": 5}', ["body", "code"]),
        (b'{"code": null}', ["body", "code"]),
        (b'{"code": "1", "context_id": 5}', ["body", "context_id"]),
        (b'{"code": "1", "language": []}', ["body", "language"]),
        (b'{"code": "1", "env_vars": []}', ["body", "env_vars"]),
        (b'{"code": "1", "env_vars": {"A": 5}}', ["body", "env_vars"]),
        (b'{"code": "1", "env_vars": {"A=": "b"}}', ["body", "env_vars"]),
        (b'{"code": "1", "env_vars": {"A": "\\u0000"}}', ["body", "env_vars"]),
    ],
)
async def test_bodies_that_do_not_fit(code, agent, body, place):
    status, said = await code.asked("POST", "/execute", data=body)
    (problem,) = json.loads(said)["detail"]
    assert (status, problem["loc"]) == (422, place)
    assert problem.keys() == {"type", "loc", "msg"}
    assert agent.seen == []


async def test_packed_bodies_are_refused(code):
    status, _ = await code.asked("POST", "/execute", data=b"x", headers={"Content-Encoding": "gzip"})
    assert status == 415


async def test_so_many_wait_for_a_context_and_no_more(code, agent, kit):
    agent.streams("POST", EXECUTE, asyncio.Event())
    agent.streams("POST", "/contexts/default-r/execute", kit.cell_end())
    line = [asyncio.create_task(code.execute()) for _ in range(MAX_IN_LINE)]
    while len(agent.seen) < MAX_IN_LINE:
        agent.arrived.clear()
        await asyncio.wait_for(agent.arrived.wait(), 10)
    status, _ = await code.asked("POST", "/execute", json={"code": "1"})
    assert status == 429
    assert await code.execute(language="r") == [END]
    for each in line:
        each.cancel()
    await asyncio.gather(*line, return_exceptions=True)


def test_a_place_in_the_line_is_given_back():
    turns = Turns()
    with turns.taken("a", "b"), turns.taken("a", "b"), contextlib.suppress(ValueError), turns.taken("a", "c"):
        raise ValueError
    assert len(turns) == 0
