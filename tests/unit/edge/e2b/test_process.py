"""`process.Process` over a scripted agent: what it is asked, and what becomes of its answers."""

from __future__ import annotations

import asyncio
import base64

import aiohttp
import pytest

from atoll.edge.e2b import process, rpc
from atoll.wire import connect

LINE = {"process": {"cmd": "/bin/bash", "args": ["-l", "-c", "true"]}, "stdin": False}
PROCESSES = "/processes"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# ---- Start


async def test_a_start_is_asked_of_the_agent_word_for_word(envd, agent, kit):
    agent.streams("POST", PROCESSES, kit.process_start(), kit.process_end())
    config = {"cmd": "/bin/ls", "args": ["-l"], "envs": {"A": "ü"}, "cwd": "below"}
    message = {"process": config, "tag": "mine", "pty": {"size": {"cols": 100, "rows": 30}}, "unknown": 1}
    basic = "Basic " + b64(b"root:")
    events, error = await envd.stream("Start", message, Authorization=basic, **{"Connect-Timeout-Ms": "60000"})
    assert error is None
    assert events == [{"start": {"pid": 42}}, {"end": {"exited": True, "status": "exit status 0"}}]
    assert agent.seen[0].json == {
        "argv": ["/bin/ls", "-l"],
        "env": {"A": "ü"},
        "cwd": "~/below",
        "make_cwd": False,
        "user": "root",
        "timeout_s": 60.0,
        "stdin": True,
        "pty": {"cols": 100, "rows": 30},
        "tag": "mine",
        "attach": True,
        "record": "brief",
        "drain": True,
    }


async def test_what_is_not_said_has_its_usual_value(envd, agent, kit):
    agent.streams("POST", PROCESSES, kit.process_start(), kit.process_end())
    await envd.stream("Start", LINE)
    sent = agent.seen[0].json
    assert (sent["cwd"], sent["make_cwd"], sent["user"], sent["timeout_s"]) == ("~", True, "user", None)
    assert (sent["stdin"], sent["pty"], sent["tag"], sent["env"]) == (False, None, None, {})


async def test_a_template_with_a_work_directory_begins_there(envd, agent, server, kit):
    server.publish(server.routes[kit.SANDBOX] | {"workdir": "/app"})
    agent.streams("POST", PROCESSES, kit.process_start(), kit.process_end())
    await envd.stream("Start", LINE)
    await envd.stream("Start", {"process": {**LINE["process"], "cwd": "x"}})
    assert [seen.json["cwd"] for seen in agent.seen] == ["/app", "/app/x"]


async def test_the_start_is_heard_at_once_and_output_as_it_comes(envd, agent, kit):
    begin, go_on = asyncio.Event(), asyncio.Event()
    agent.streams("POST", PROCESSES, kit.process_start(), begin, kit.out("a"), go_on, kit.process_end())
    headers = {"Content-Type": connect.STREAM_TYPE}
    async with envd.request("POST", "/process.Process/Start", data=connect.message(LINE), headers=headers) as response:
        assert await response.content.readexactly(5 + 30) == connect.message({"event": {"start": {"pid": 42}}})
        begin.set()
        piece = connect.message({"event": {"data": {"stdout": "YQ=="}}})
        assert await response.content.readexactly(len(piece)) == piece
        go_on.set()
        assert (await response.read()).endswith(connect.end())


async def test_output_is_bytes_in_pieces_of_limited_size(envd, agent, kit):
    raw = bytes(range(256)) * 300
    agent.streams(
        "POST", PROCESSES, kit.process_start(), kit.out(raw), kit.err("oops"), kit.out(b""), kit.process_end()
    )
    events, _ = await envd.stream("Start", LINE)
    data = [event["data"] for event in events if "data" in event]
    sizes = [len(base64.b64decode(each["stdout"])) for each in data if "stdout" in each]
    assert sizes == [process.OUTPUT_PIECE, process.OUTPUT_PIECE, len(raw) - 2 * process.OUTPUT_PIECE]
    assert b"".join(base64.b64decode(each["stdout"]) for each in data[:-1]) == raw
    assert data[-1] == {"stderr": b64(b"oops")}


async def test_a_terminals_output_is_its_own_kind(envd, agent, kit):
    agent.streams("POST", PROCESSES, kit.process_start(pty=True), kit.out(b"x" * 20_000), kit.process_end())
    events, _ = await envd.stream("Start", {**LINE, "pty": {}})
    assert [len(base64.b64decode(event["data"]["pty"])) for event in events[1:-1]] == [process.TERMINAL_PIECE, 3616]
    assert agent.seen[0].json["pty"] == {"cols": 80, "rows": 24}


@pytest.mark.parametrize(
    ("record", "end"),
    [
        ({"status": "exited", "exit_code": 0}, {"exited": True, "status": "exit status 0"}),
        (
            {"status": "exited", "exit_code": 3},
            {"exitCode": 3, "exited": True, "status": "exit status 3", "error": "exit status 3"},
        ),
        (
            {"status": "killed", "exit_code": 137, "signal": "SIGKILL"},
            {"exitCode": -1, "status": "signal: killed", "error": "signal: killed"},
        ),
        (
            {"status": "killed", "exit_code": 139, "signal": "SIGSEGV"},
            {"exitCode": -1, "status": "signal: segmentation fault", "error": "signal: segmentation fault"},
        ),
        (
            {"status": "killed", "signal": "SIG64"},
            {"exitCode": -1, "status": "signal: sig64", "error": "signal: sig64"},
        ),
        (
            {"status": "exited", "exit_code": 10**9},
            {"exitCode": 255, "exited": True, "status": "exit status 255", "error": "exit status 255"},
        ),
        ({"status": "exited", "exit_code": "x"}, {"exited": True, "status": "exit status 0"}),
    ],
)
def test_ends_are_told_in_the_words_clients_know(record, end):
    assert process.ending(record) == end


async def test_a_program_whose_time_was_over(envd, agent, kit):
    agent.streams("POST", PROCESSES, kit.process_start(), kit.process_end(124, "timed_out"))
    events, error = await envd.stream("Start", LINE)
    assert events == [{"start": {"pid": 42}}]
    assert error["code"] == "deadline_exceeded"


async def test_the_deadline_does_not_depend_on_the_agent(envd, agent, kit):
    agent.streams("POST", PROCESSES, kit.process_start(), asyncio.Event())
    events, error = await envd.stream("Start", LINE, **{"Connect-Timeout-Ms": "1000"})
    assert (len(events), error["code"]) == (1, "deadline_exceeded")


async def test_where_there_is_no_bash_there_is_a_shell(envd, agent, kit):
    agent.refuses("POST", PROCESSES, "not_found", 404, "No such file or directory: /bin/bash")
    agent.streams("POST", PROCESSES, kit.process_start(), kit.process_end())
    _, error = await envd.stream("Start", LINE)
    assert error is None
    assert [seen.json["argv"][0] for seen in agent.seen] == ["/bin/bash", "/bin/sh"]
    assert agent.seen[1].json == {**agent.seen[0].json, "argv": ["/bin/sh", "-l", "-c", "true"]}


@pytest.mark.parametrize(
    ("kind", "text", "code"),
    [
        ("invalid", "cwd '/x' does not exist", "invalid_argument"),
        ("not_found", "no such program", "not_found"),
        ("permission", "no", "permission_denied"),
        ("too_many", "no more", "resource_exhausted"),
        ("unheard of", "?", "internal"),
    ],
)
async def test_a_program_that_cannot_be_started_is_told_in_the_stream(envd, agent, kind, text, code):
    agent.refuses("POST", PROCESSES, kind, 400, text)
    assert await envd.stream("Start", {"process": {"cmd": "x"}}) == ([], {"code": code, "message": text})


async def test_an_unknown_user_is_named(envd, agent):
    agent.refuses("POST", PROCESSES, "no_user", 404)
    agent.refuses("GET", PROCESSES, "no_user", 404)
    basic = {"Authorization": "Basic " + b64(b"eve:secret")}
    _, error = await envd.stream("Start", LINE, **basic)
    assert error == {"code": "unauthenticated", "message": "invalid username: 'eve'"}
    status, said = await envd.unary("List", **basic)
    assert (status, said) == (401, error)


@pytest.mark.parametrize(
    "message",
    [
        {"process": {"cmd": 5}},
        {"process": {"cmd": "x", "args": "y"}},
        {"process": {"cmd": "x", "envs": {"A": 1}}},
        {"process": {"cmd": "x", "cwd": "a\0b"}},
        {"process": {"cmd": "x", "cwd": "~eve"}},
        {"process": {"cmd": "x", "cwd": "/" + "x" * 5000}},
        {"process": "x"},
        {"process": {"cmd": "x"}, "pty": {"size": {"cols": -1}}},
        {"process": {"cmd": "x"}, "stdin": "yes"},
    ],
)
async def test_what_makes_no_sense_never_reaches_the_agent(envd, agent, message):
    events, error = await envd.stream("Start", message)
    assert (events, error["code"]) == ([], "invalid_argument")
    assert agent.seen == []


async def test_a_sandbox_that_goes_breaks_the_stream_off(envd, agent, kit):
    agent.streams("POST", PROCESSES, kit.process_start(), kit.out("half"))
    with pytest.raises(aiohttp.ClientPayloadError):
        await envd.stream("Start", LINE)


async def test_an_agent_that_lies_ends_the_stream_with_an_error(envd, agent, kit):
    agent.streams("POST", PROCESSES, kit.process_start(pid=-5), b"?\0\0\0\1x")
    events, error = await envd.stream("Start", LINE)
    assert (events, error["code"]) == ([{"start": {"pid": 0}}], "internal")


async def test_a_client_that_leaves_is_noticed_and_asks_for_no_end(envd, agent, kit):
    agent.streams("POST", PROCESSES, kit.process_start(), asyncio.Event())
    headers = {"Content-Type": connect.STREAM_TYPE}
    async with envd.request("POST", "/process.Process/Start", data=connect.message(LINE), headers=headers) as response:
        await response.content.readexactly(5)
        response.close()
        await asyncio.wait_for(agent.left.wait(), 5)
    assert "kill_on_disconnect" not in agent.seen[0].json


async def test_a_silent_stream_says_that_it_lives_once_it_has_begun(envd, agent, kit, monkeypatch):
    """The packages refuse a stream whose first message is no start."""
    monkeypatch.setattr(rpc, "keepalive_of", lambda text: 0.05 if text == "50" else None)
    go = asyncio.Event()
    agent.streams("POST", PROCESSES, go, kit.process_start(), asyncio.Event())
    headers = {"Content-Type": connect.STREAM_TYPE, "Keepalive-Ping-Interval": "50"}
    alive, start = connect.message({"event": {"keepalive": {}}}), connect.message({"event": {"start": {"pid": 42}}})
    asyncio.get_running_loop().call_later(0.2, go.set)
    async with envd.request("POST", "/process.Process/Start", data=connect.message(LINE), headers=headers) as response:
        assert await response.content.readexactly(len(start) + 2 * len(alive)) == start + 2 * alive


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, 90), ("", 90), ("x", 90), ("-1", 90), ("0", 1), ("50", 50), ("999999", 3600), ("9999999", 90)],
)
def test_how_often_a_stream_says_that_it_lives(text, seconds):
    assert rpc.keepalive_of(text) == seconds


# ---- the stream's form


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_argument"),
        (connect.message(LINE) * 2, "invalid_argument"),
        (connect.message(LINE)[:-1], "invalid_argument"),
        (connect.envelope(b"{"), "invalid_argument"),
        (connect.envelope(b"[]"), "invalid_argument"),
        (connect.end(), "invalid_argument"),
        (connect.envelope(b"x", connect.COMPRESSED), "unimplemented"),
        (connect.HEADER.pack(0, 1 << 31), "resource_exhausted"),
    ],
)
async def test_a_request_that_is_no_stream_of_one_message(envd, agent, body, code):
    events, error = await envd.stream("Start", body=body)
    assert (events, error["code"]) == ([], code)
    assert agent.seen == []


async def test_a_deadline_that_is_none(envd):
    _, error = await envd.stream("Start", LINE, **{"Connect-Timeout-Ms": "soon"})
    assert error["code"] == "invalid_argument"
    status, _ = await envd.unary("List", **{"Connect-Timeout-Ms": "soon"})
    assert status == 400


async def test_compressed_calls_are_refused(envd):
    status, said = await envd.unary("List", **{"Content-Encoding": "gzip"})
    assert (status, said["code"]) == (501, "unimplemented")


async def test_a_unary_call_has_a_deadline(envd, agent):
    async def never(seen):
        await asyncio.Event().wait()

    agent.on("GET", PROCESSES, never)
    status, said = await envd.unary("List", **{"Connect-Timeout-Ms": "1000"})
    assert (status, said["code"]) == (504, "deadline_exceeded")
    await asyncio.wait_for(agent.left.wait(), 5)


# ---- the others


async def test_running_programs_are_listed_as_they_were_asked_for(envd, agent, kit):
    records = [
        kit.record(argv=["/bin/bash", "-c", "x"], env={"A": "b", "C": 1}, tag="mine"),
        kit.record(pid=43, status="exited"),
        kit.record(pid="x", argv="y", cwd=None, env=[]),
        "nothing",
    ]
    agent.answers("GET", PROCESSES, {"processes": records})
    assert await envd.unary("List") == (
        200,
        {
            "processes": [
                {
                    "config": {"cmd": "/bin/bash", "args": ["-c", "x"], "envs": {"A": "b"}, "cwd": "/workspace"},
                    "pid": 42,
                    "tag": "mine",
                },
                {"config": {}, "pid": 0},
            ]
        },
    )
    assert agent.seen[0].query == {"env": "1"}


async def test_a_subscriber_hears_what_comes_from_now_on(envd, agent, kit):
    agent.streams("GET", "/processes/pid:42/attach", kit.process_start(), kit.out("x"), kit.process_end())
    events, error = await envd.stream("Connect", {"process": {"pid": 42}})
    assert error is None
    assert [next(iter(event)) for event in events] == ["start", "data", "end"]
    assert agent.seen[0].query == {"from": "now"}


@pytest.mark.parametrize(
    ("chosen", "path", "text"),
    [
        ({"pid": 7}, "/processes/pid:7/attach", "process with pid 7 not found"),
        ({"tag": "a/b"}, "/processes/tag:a%2Fb/attach", "process with tag a/b not found"),
    ],
)
async def test_a_process_that_is_not_there(envd, agent, chosen, path, text):
    assert await envd.stream("Connect", {"process": chosen}) == ([], {"code": "not_found", "message": text})
    assert agent.seen[0].path == path
    assert await envd.unary("Update", {"process": chosen, "pty": {}}) == (404, {"code": "not_found", "message": text})


@pytest.mark.parametrize("chosen", [{}, None, {"pid": -1}, {"pid": 2**32}, {"pid": "x"}, {"tag": 5}])
async def test_a_process_has_to_be_chosen(envd, agent, chosen):
    status, said = await envd.unary("SendSignal", {"process": chosen, "signal": "SIGNAL_SIGKILL"})
    assert (status, said["code"]) == (400, "invalid_argument")
    assert agent.seen == []


async def test_signals_reach_the_tree_and_no_other_is_known(envd, agent, kit):
    agent.answers("POST", "/processes/pid:42/signal", {"process": kit.record()})
    for signal, number in (("SIGNAL_SIGKILL", 9), ("SIGNAL_SIGTERM", 15), (9, 9)):
        assert await envd.unary("SendSignal", {"process": {"pid": 42}, "signal": signal}) == (200, {})
        assert agent.seen[-1].json == {"signal": number, "tree": True}
    for unknown in (None, 2, "SIGNAL_UNSPECIFIED"):
        status, _ = await envd.unary("SendSignal", {"process": {"pid": 42}, "signal": unknown})
        assert status == 501
    assert len(agent.seen) == 3


async def test_one_that_has_ended_is_not_there_for_a_signal(envd, agent, kit):
    agent.answers("POST", "/processes/pid:42/signal", {"process": kit.record(status="exited", exit_code=0)})
    status, said = await envd.unary("SendSignal", {"process": {"pid": 42}, "signal": 9})
    assert (status, said["message"]) == (404, "process with pid 42 not found")


async def test_input_goes_where_it_was_meant_to(envd, agent):
    agent.answers("POST", "/processes/pid:42/stdin", {})
    for name, kind in (("stdin", "pipe"), ("pty", "terminal")):
        message = {"process": {"pid": 42}, "input": {name: b64(b"\0\xff x")}}
        assert await envd.unary("SendInput", message) == (200, {})
        assert (agent.seen[-1].query, agent.seen[-1].body) == ({"to": kind}, b"\0\xff x")
    assert (await envd.unary("SendInput", {"process": {"pid": 42}, "input": {}}))[0] == 501
    assert (await envd.unary("SendInput", {"process": {"pid": 42}, "input": {"stdin": "?"}}))[0] == 400
    assert len(agent.seen) == 2


async def test_input_that_nobody_takes_is_an_internal_error(envd, agent):
    agent.refuses("POST", "/processes/pid:42/stdin", "invalid", 400)
    agent.refuses("DELETE", "/processes/pid:42/stdin", "invalid", 400)
    status, said = await envd.unary("SendInput", {"process": {"pid": 42}, "input": {"stdin": ""}})
    assert (status, said) == (
        500,
        {"code": "internal", "message": "error writing to stdin: stdin not enabled or closed"},
    )
    status, said = await envd.unary("CloseStdin", {"process": {"pid": 42}})
    assert (status, said["code"]) == (500, "internal")
    assert agent.seen[-1].query == {"to": "pipe"}


async def test_a_stream_of_input_in_its_order(envd, agent):
    agent.answers("GET", "/processes/tag:t", {})
    agent.answers("POST", "/processes/tag:t/stdin", {})
    start = {"start": {"process": {"tag": "t"}}}
    data = [{"data": {"input": {"stdin": b64(bytes([i]) * 10)}}} for i in range(20)]
    answer = await envd.stream("StreamInput", start, data[0], {"keepalive": {}}, *data[1:])
    assert answer == ([{}], None)
    assert [seen.body for seen in agent.seen[1:]] == [bytes([i]) * 10 for i in range(20)]


async def test_a_stream_of_input_says_first_for_whom(envd, agent):
    _, error = await envd.stream("StreamInput", {"data": {"input": {"stdin": ""}}})
    assert error["code"] == "invalid_argument"
    answer = await envd.stream("StreamInput", {"start": {"process": {"pid": 3}}})
    assert answer == ([], {"code": "not_found", "message": "process with pid 3 not found"})


async def test_a_terminals_size_is_changed_and_without_one_it_is_only_looked_for(envd, agent, kit):
    agent.answers("POST", "/processes/pid:42/resize", {})
    agent.answers("GET", "/processes/pid:42", {"process": kit.record()})
    message = {"process": {"pid": 42}, "pty": {"size": {"cols": 5, "rows": 6}}}
    assert await envd.unary("Update", message) == (200, {})
    assert agent.seen[0].json == {"cols": 5, "rows": 6}
    assert await envd.unary("Update", {"process": {"pid": 42}}) == (200, {})


async def test_messages_that_come_together_hold_up_nobody_else():
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    start = connect.message({"start": {"process": {"pid": 3}}})
    counting = asyncio.create_task(others())
    reader = rpc.read_messages(Sent(start + connect.message({}) * 10 * rpc.AT_ONCE))
    assert len([each async for each in reader]) == 10 * rpc.AT_ONCE + 1
    counting.cancel()
    assert turns >= 10


class Sent:
    """A call, as far as its body goes: all of it has come."""

    def __init__(self, body: bytes) -> None:
        self.request = self.content = self
        self._body = body

    async def iter_any(self):
        yield self._body
