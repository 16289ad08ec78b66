"""`process.Process` of a real sandbox: through the unmodified `e2b` package, and on the wire where that hides it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from e2b import (
    AuthenticationException,
    CommandExitException,
    InvalidArgumentException,
    NotFoundException,
    PtySize,
    Sandbox,
    SandboxException,
    TimeoutException,
)

from atoll.wire import connect
from envd import Envd, Heard, command, headers_of, sdk_of, token_of
from stack import Box, until

pytestmark = pytest.mark.root

START = "process.Process/Start"


@pytest.fixture(scope="module")
def box(stack) -> Iterator[Box]:
    with stack.box("base") as made:
        yield made


@pytest.fixture(scope="module")
def sandbox(box) -> Sandbox:
    return sdk_of(box)


@pytest.fixture
def envd(box) -> Envd:
    return Envd(box)


# ---- run


@pytest.mark.parametrize("user", ["user", "root"])
def test_a_login_shell_starts_no_other_process(sandbox, user):
    ask = "read last < /proc/sys/kernel/ns_last_pid; echo $$ $last"
    seen = [sandbox.commands.run(ask, user=user).stdout.split() for _ in range(5)]
    assert any(mine == last for mine, last in seen), seen  # others start what they like meanwhile


def test_a_command_has_its_output_its_user_and_its_home(sandbox):
    result = sandbox.commands.run('echo "$(id -un) $PWD $HOME $USER $LOGNAME"; echo oops >&2')
    assert (result.stdout, result.stderr, result.exit_code) == (
        "user /home/user /home/user user user\n",
        "oops\n",
        0,
    )
    assert result.error is None


def test_environment_user_and_directory_are_the_callers_choice(sandbox):
    result = sandbox.commands.run('echo "$A $(id -un) $PWD $HOME"', envs={"A": "b c"}, user="root", cwd="/etc")
    assert result.stdout == "b c root /etc /root\n"
    sandbox.commands.run("mkdir -p below")
    assert sandbox.commands.run("pwd", cwd="below").stdout == "/home/user/below\n"
    assert sandbox.commands.run("pwd", cwd="~/below").stdout == "/home/user/below\n"


def test_what_cannot_be_is_refused_in_the_words_clients_know(sandbox):
    with pytest.raises(InvalidArgumentException, match="cwd '/not/there' does not exist"):
        sandbox.commands.run("true", cwd="/not/there")
    with pytest.raises(AuthenticationException, match="invalid username: 'nobody-here'"):
        sandbox.commands.run("true", user="nobody-here")


def test_an_exit_code_is_an_exception(sandbox):
    with pytest.raises(CommandExitException) as failed:
        sandbox.commands.run("echo before; exit 7")
    assert (failed.value.exit_code, failed.value.stdout, failed.value.error) == (7, "before\n", "exit status 7")


def test_output_is_heard_while_it_is_made(sandbox, box):
    """The second word is said when the first one was heard."""
    heard: list[str] = []

    def hear(piece: str) -> None:
        heard.append(piece)
        box.sh("touch /tmp/heard")

    sandbox.commands.run("echo a; until [ -e /tmp/heard ]; do sleep 0.02; done; echo b", on_stdout=hear)
    assert heard == ["a\n", "b\n"]


def test_the_end_waits_for_who_holds_the_output(sandbox):
    assert sandbox.commands.run("(sleep 0.6; echo late) & echo early").stdout == "early\nlate\n"


def test_where_there_is_no_bash_the_shell_takes_its_place(stack):
    with stack.box("busybox") as box:
        result = sdk_of(box).commands.run("echo $0; id -un; pwd; exit 0")
        assert result.stdout.split() == ["/bin/sh", "user", "/home/user"]


# ---- background


def test_a_background_command_is_found_heard_again_and_killed(sandbox, box):
    handle = sandbox.commands.run("echo one; sleep 100", background=True, envs={"WHO": "me"})
    (listed,) = [each for each in sandbox.commands.list() if each.pid == handle.pid]
    assert (listed.cmd, listed.args, listed.envs) == ("/bin/bash", ["-l", "-c", "echo one; sleep 100"], {"WHO": "me"})
    handle.disconnect()
    again = sdk_of(box).commands.connect(handle.pid)
    assert again.pid == handle.pid
    assert again.kill() is True
    with pytest.raises(CommandExitException) as ended:
        again.wait()
    assert (ended.value.exit_code, ended.value.error) == (-1, "signal: killed")
    assert sandbox.commands.kill(handle.pid) is False
    assert sandbox.commands.kill(999_999) is False
    assert handle.pid not in [each.pid for each in sandbox.commands.list()]


def test_a_kill_reaches_what_the_command_has_started(sandbox):
    handle = sandbox.commands.run("sleep 1234 & sleep 1234; true", background=True)
    until(lambda: sandbox.commands.run("pgrep -cx sleep || true").stdout.strip() == "2", "both run")
    assert handle.kill() is True
    with pytest.raises(CommandExitException):
        handle.wait()
    until(lambda: sandbox.commands.run("pgrep -cx sleep || true").stdout.strip() == "0", "none runs", 5)


def test_one_who_comes_after_the_end_hears_the_end(sandbox, box):
    handle = sandbox.commands.run("echo gone; exit 3", background=True)
    with pytest.raises(CommandExitException):
        handle.wait()
    with pytest.raises(CommandExitException) as ended:
        sdk_of(box).commands.connect(handle.pid).wait()
    assert (ended.value.exit_code, ended.value.stdout) == (3, "")


def test_nobody_has_this_pid(sandbox):
    with pytest.raises(NotFoundException, match="process with pid 999999 not found"):
        sandbox.commands.connect(999_999)


def test_all_subscribers_hear_the_same(sandbox, box):
    handle = sandbox.commands.run("read x; for i in $(seq 2000); do echo $i; done", background=True, stdin=True)
    others = [sdk_of(box).commands.connect(handle.pid) for _ in range(3)]
    results: list[str] = []
    waiting = [threading.Thread(target=lambda each=each: results.append(each.wait().stdout)) for each in others]
    for thread in waiting:
        thread.start()
    handle.send_stdin("go\n")
    results.append(handle.wait().stdout)
    for thread in waiting:
        thread.join()
    assert results == ["".join(f"{i}\n" for i in range(1, 2001))] * 4


def test_the_slowest_subscriber_sets_the_pace_and_nothing_is_lost(sandbox, box):
    """Of a background command nobody reads until somebody waits for it: that holds it up, and everybody else."""
    handle = sandbox.commands.run("read x; seq 1 3000000; echo $SECONDS", background=True, stdin=True)
    other = sdk_of(box).commands.connect(handle.pid)
    done = threading.Event()
    results: list[str] = []

    def listen() -> None:
        results.append(other.wait().stdout)
        done.set()

    listening = threading.Thread(target=listen)
    listening.start()
    handle.send_stdin("go\n")
    assert not done.wait(1.5)
    assert handle.pid in [each.pid for each in sandbox.commands.list()]
    handle.disconnect()
    listening.join()
    assert results[0].count("\n") == 3_000_001
    assert results[0].startswith("1\n2\n3\n")


# ---- input


def test_input_and_its_end(sandbox):
    handle = sandbox.commands.run("cat; echo over", background=True, stdin=True)
    handle.send_stdin("a line\n")
    sandbox.commands.send_stdin(handle.pid, "and ümlaut")
    handle.close_stdin()
    handle.close_stdin()
    assert handle.wait().stdout == "a line\nand ümlautover\n"


def test_a_stream_of_input(sandbox):
    handle = sandbox.commands.run("sha256sum", background=True, stdin=True)
    pieces = [bytes([i]) * 50_000 for i in range(100)]
    sandbox.commands.stream_input(handle.pid, iter(pieces))
    handle.close_stdin()
    assert handle.wait().stdout.split()[0] == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_there_is_no_input_unless_it_was_asked_for(sandbox):
    handle = sandbox.commands.run("sleep 100", background=True)
    with pytest.raises(SandboxException, match="stdin not enabled or closed"):
        sandbox.commands.send_stdin(handle.pid, "x")
    handle.kill()


# ---- terminals


def test_a_terminal_takes_keys_and_changes_its_size(sandbox):
    terminal = sandbox.pty.create(PtySize(rows=24, cols=80), cwd="/etc", timeout=30)
    sandbox.pty.send_stdin(terminal.pid, b"stty size; pwd; echo $TERM-$LANG\n")
    seen = bytearray()
    for _, _, data in terminal:
        seen += data
        if b"-C.UTF-8\r\n" in seen:
            break
    assert re.search(rb"24 80\r\n/etc\r\nxterm-256color-C.UTF-8\r\n", seen), seen
    sandbox.pty.resize(terminal.pid, PtySize(rows=50, cols=133))
    sandbox.pty.send_stdin(terminal.pid, b"stty size; exit 5\n")
    with pytest.raises(CommandExitException) as ended:
        terminal.wait(on_pty=lambda data: seen.extend(data))
    assert ended.value.exit_code == 5
    assert b"50 133\r\n" in seen


def test_a_terminal_is_killed(sandbox):
    terminal = sandbox.pty.create(PtySize(rows=24, cols=80))
    assert sandbox.pty.kill(terminal.pid) is True
    assert sandbox.pty.kill(terminal.pid) is False


def test_input_of_the_wrong_kind_is_an_error(envd):
    heard = Heard()
    events = envd.listen(heard, START, {"process": {"cmd": "/bin/cat"}, "pty": {}, "tag": "a/b ü"})
    pid = next(events)["start"]["pid"]
    by_pid, data = {"pid": pid}, base64.b64encode(b"x").decode()
    assert envd.unary("process.Process/SendInput", {"process": by_pid, "input": {"stdin": data}})[0] == 500
    assert envd.unary("process.Process/CloseStdin", {"process": by_pid})[1]["code"] == "internal"
    assert envd.unary("process.Process/SendInput", {"process": by_pid, "input": {}})[0] == 501
    assert envd.unary("process.Process/SendSignal", {"process": by_pid, "signal": 1})[1]["code"] == "unimplemented"
    assert envd.unary("process.Process/SendInput", {"process": {"tag": "a/b ü"}, "input": {"pty": data}}) == (200, {})
    assert envd.unary("process.Process/SendSignal", {"process": {"tag": "no"}, "signal": 9})[0] == 404
    assert envd.unary("process.Process/SendSignal", {"process": {"tag": "a/b ü"}, "signal": "SIGNAL_SIGTERM"})[0] == 200
    *_, last = events
    assert last == {"end": {"exitCode": -1, "status": "signal: terminated", "error": "signal: terminated"}}


# ---- time


def test_a_command_that_takes_too_long_is_killed(sandbox):
    with pytest.raises(TimeoutException):
        sandbox.commands.run("sleep 4321", timeout=0.5)
    until(lambda: sandbox.commands.run("pgrep -cfx 'sleep 4321' || true").stdout.strip() == "0", "it is gone")


def test_its_time_runs_also_when_nobody_listens(sandbox):
    handle = sandbox.commands.run("sleep 5432", background=True, timeout=3)
    handle.disconnect()
    until(lambda: sandbox.commands.run("pgrep -cfx 'sleep 5432' || true").stdout.strip() == "1", "it runs")
    until(lambda: sandbox.commands.run("pgrep -cfx 'sleep 5432' || true").stdout.strip() == "0", "it is gone")


def test_the_end_of_a_subscription_ends_no_program(envd, sandbox):
    handle = sandbox.commands.run("sleep 100", background=True)
    heard = envd.stream("process.Process/Connect", {"process": {"pid": handle.pid}}, **{"Connect-Timeout-Ms": "300"})
    assert heard.error is not None
    assert heard.error["code"] == "deadline_exceeded"
    assert handle.kill() is True


def test_a_silent_stream_says_that_it_lives(envd):
    heard = envd.stream(START, command("sleep 1.5"), **{"Keepalive-Ping-Interval": "1"})
    first, *between, last = (next(iter(event)) for event in heard.events)
    assert (first, set(between), last) == ("start", {"keepalive"}, "end")
    assert len(between) < 5
    assert heard.events[-1] == {"end": {"exited": True, "status": "exit status 0"}}


def test_a_sandbox_that_dies_takes_its_streams_with_it(stack):
    with stack.box("base") as box:
        sandbox = sdk_of(box)
        handle = sandbox.commands.run("sleep 100", background=True)
        box.kill()
        with pytest.raises(TimeoutException, match="killed or reached its end of life"):
            handle.wait()
        assert sandbox.is_running() is False


# ---- the ways there


def test_each_way_to_the_surface_leads_there(box, stack):
    token = {"X-Access-Token": token_of(box)}
    ways: list[tuple[str, dict[str, str]]] = [
        ("", headers_of(box)),
        ("", token),
        ("", {**token, "Host": f"49983-{box.id}.localhost"}),
        (f"/s/{box.id}/49983", token),
        (f"/s/{box.id}/49983", {"X-Access-Token": box.token}),
    ]
    for base, headers in ways:
        response = stack.client.get(f"{base}/envs", headers=headers)
        assert response.status_code == 200, (base, headers, response.text)
        assert response.json()["HOME"] == "/home/user"
    metrics = stack.client.get("/metrics", headers=headers_of(box)).json()
    assert 0 < metrics["mem_used"] < metrics["mem_total"]


def test_without_the_token_there_is_only_health(box, stack):
    named = {"E2b-Sandbox-Id": box.id, "E2b-Sandbox-Port": "49983"}
    assert stack.client.get("/health", headers=named).status_code == 204
    for wrong in (named, {**named, "X-Access-Token": "x"}, {**named, "X-API-Key": stack.installation.api_key}):
        response = stack.client.post(f"/{START}", headers={**wrong, "Content-Type": connect.STREAM_TYPE})
        assert response.status_code == 401
        assert response.json()["message"].startswith("unauthorized access, please provide a valid access token")
        assert response.headers["Access-Control-Allow-Origin"] == "*"


# ---- bytes

BIG = 64 * 1024 * 1024
SIZES = [
    1,
    2,
    3,
    32_767,
    32_768,
    32_769,
    *[4096 * i + 1 for i in range(62)],
    *[1_000_003] * 24,
    *[5_000_011] * 6,
    BIG,
    BIG,
]


async def received(session: aiohttp.ClientSession, box: Box, first: int, size: int) -> bytes:
    line = command(f"seq {first} 99999999 | head -c {size}")
    headers = {**headers_of(box), "Content-Type": connect.STREAM_TYPE}
    reader, output, ended = connect.EnvelopeReader(), bytearray(), False
    async with session.post(f"{box.stack.url}/{START}", data=connect.message(line), headers=headers) as response:
        async for chunk in response.content.iter_any():
            for envelope in reader.feed(chunk):
                value: dict[str, Any] = connect.parse(envelope.payload)
                if envelope.is_end:
                    assert value == {}
                    ended = True
                elif "data" in value["event"]:
                    data = base64.b64decode(value["event"]["data"]["stdout"])
                    assert len(data) <= 32 * 1024
                    output += data
    assert ended
    return bytes(output)


async def test_a_hundred_streams_at_once_lose_and_reorder_nothing(box):
    assert len(SIZES) == 100
    whole = "\n".join(map(str, range(1, 8_700_000))).encode()
    starts = {first: whole.index(b"\n%d\n" % first) + 1 if first > 1 else 0 for first in range(1, 101)}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        streams = [received(session, box, first, size) for first, size in enumerate(SIZES, 1)]
        outputs = await asyncio.gather(*streams)
    for (first, size), output in zip(enumerate(SIZES, 1), outputs, strict=True):
        assert output == whole[starts[first] : starts[first] + size], first


def test_a_command_is_quick(sandbox, record_property):
    sandbox.commands.run("true")
    took: list[float] = []
    for _ in range(50):
        begun = time.perf_counter()
        sandbox.commands.run("true")
        took.append(1000 * (time.perf_counter() - begun))
    record_property("run_true_p50_ms", statistics.median(took))
    assert statistics.median(took) < 250, "something waits for a timer"
