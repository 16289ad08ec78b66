from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from atoll.agent import processes
from atoll.agent.env import Environment
from atoll.agent.errors import AgentError
from atoll.agent.plumbing import unbuffered
from atoll.agent.process_spec import Keep, Spec, timeout
from atoll.agent.processes import ProcessTable, Status, outcome
from atoll.agent.signals import signal_number
from atoll.agent.users import Users

gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


async def gone(pid: int) -> None:
    """Returns when the process has ended; a pidfd is readable then."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)


async def wait_for_end(agent, process_id: str):
    return (await agent.outcome("GET", f"/processes/{process_id}/attach")).end["process"]


async def test_output_exit_code_and_record_of_a_program(agent):
    result = await agent.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")
    assert result.start["process"]["status"] == "running"
    record = result.end["process"]
    assert (record["status"], record["exit_code"], record["signal"]) == ("exited", 3, None)
    assert record["started_at"] <= record["ended_at"]
    assert 0 < result.end["duration_s"] < 10


async def test_a_program_ended_by_a_signal_says_which(agent):
    record = (await agent.run("sh", "-c", "kill -SEGV $$")).end["process"]
    assert (record["status"], record["exit_code"], record["signal"]) == ("killed", 139, "SIGSEGV")


async def test_a_program_that_cannot_be_started_is_an_error_before_any_stream(agent, tmp_path):
    (tmp_path / "plain").write_text("text")
    (tmp_path / "noexec").write_text("\0\0\0\0")
    (tmp_path / "noexec").chmod(0o755)
    for argv, status, kind in [
        (["no-such-program"], 404, "not_found"),
        ([str(tmp_path / "plain")], 403, "permission"),
        ([str(tmp_path / "noexec")], 400, "invalid"),
        (["true", "x" * 200_000], 413, "too_large"),
    ]:
        reply = await agent.request("POST", "/processes", {"argv": argv})
        assert (reply.status, reply.json()["kind"]) == (status, kind), argv


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"argv": []},
        {"argv": "true"},
        {"argv": [""]},
        {"argv": ["a\0b"]},
        {"argv": [1]},
        {"argv": ["true"], "env": {"A=B": "x"}},
        {"argv": ["true"], "env": {"A": 1}},
        {"argv": ["true"], "cwd": "relative"},
        {"argv": ["{dir}/main"], "compile": "go"},
        {"argv": ["{dir}/main"], "compile": "go", "files": {"other.go": ""}},
        {"argv": ["{dir}/main"], "compile": "c", "files": {"main.go": ""}},
        {"argv": ["{dir}/main"], "compile": True, "files": {"main.go": ""}},
        {"argv": ["true"], "cwd": "/a\0b"},
        {"argv": ["true"], "timeout_s": 0},
        {"argv": ["true"], "timeout_s": -1},
        {"argv": ["true"], "timeout_s": "1"},
        {"argv": ["true"], "timeout_s": True},
        {"argv": ["true"], "pty": {"cols": 0, "rows": 1}},
        {"argv": ["true"], "pty": 1},
        {"argv": ["true"], "files": {"../x": ""}},
        {"argv": ["true"], "files": {"/x": ""}},
        {"argv": ["true"], "files": {"a//b": ""}},
        {"argv": ["true"], "attach": "yes"},
        {"argv": ["true"], "user": 1000},
        {"argv": ["true"], "cwd": "~user"},
        {"argv": ["true"], "record": "long"},
        {"argv": ["true"], "record": 1.5},
        {"argv": ["true"], "tag": 1},
        {"argv": ["true"], "tag": "x" * 1025},
        {"argv": ["true"], "drain": 1},
    ],
)
def test_a_malformed_specification_is_invalid(spec):
    with pytest.raises(AgentError) as error:
        Spec.of(spec, "/workspace")
    assert error.value.kind == "invalid"


async def test_a_lone_surrogate_in_argv_is_a_byte(agent):
    result = await agent.run("printf", "%s", "\udcff")
    assert result.stdout == b"\xff"


async def test_text_that_is_no_text_is_invalid(agent):
    reply = await agent.request("POST", "/processes", {"argv": ["true", "\ud800"]})
    assert (reply.status, reply.json()["kind"]) == (400, "invalid")


async def test_output_arrives_while_the_program_runs_and_in_the_order_of_the_two_streams(agent):
    script = "for i in 1 2 3; do echo out$i; read x; echo err$i >&2; read x; done"
    spec = {"argv": ["sh", "-c", script], "stdin": True}
    seen = b""
    async with agent.stream("POST", "/processes", spec) as stream:
        process_id = (await stream.next_json())["process"]["id"]
        for _ in range(6):
            frame = await stream.next()
            seen += frame.type + frame.payload
            await agent.request("POST", f"/processes/{process_id}/stdin", b"\n")
        await stream.rest()
    assert seen == b"Oout1\nEerr1\nOout2\nEerr2\nOout3\nEerr3\n"


async def test_python_that_does_not_flush_is_seen_at_once(agent):
    spec = {"argv": ["python3", "-c", "print('waiting'); input()"], "stdin": True}
    async with agent.stream("POST", "/processes", spec) as stream:
        process_id = (await stream.next_json())["process"]["id"]
        await stream.until(b"waiting\n")
        await agent.request("DELETE", f"/processes/{process_id}/stdin")
        await stream.rest()


@gcc
async def test_a_c_program_that_does_not_flush_is_seen_at_once(agent, c_program):
    spec = {"argv": [c_program('puts("waiting"); getchar(); _exit(0);')], "stdin": True}
    async with agent.stream("POST", "/processes", spec) as stream:
        process_id = (await stream.next_json())["process"]["id"]
        await stream.until(b"waiting\n")
        await agent.request("DELETE", f"/processes/{process_id}/stdin")
        await stream.rest()


@gcc
async def test_the_last_program_of_a_pipeline_is_line_buffered(agent):
    spec = {"argv": ["sh", "-c", "cat | grep a"], "stdin": True}
    async with agent.stream("POST", "/processes", spec) as stream:
        process_id = (await stream.next_json())["process"]["id"]
        await agent.request("POST", f"/processes/{process_id}/stdin", b"a line\nno\n")
        await stream.until(b"a line\n")
        await agent.request("DELETE", f"/processes/{process_id}/stdin")
        await stream.rest()


@gcc
async def test_a_program_that_writes_to_another_pipe_keeps_its_buffer(agent, c_program):
    program = c_program('puts("kept"); _exit(0);')
    assert (await agent.run(program)).stdout == b"kept\n"
    assert (await agent.run("sh", "-c", f"{program} | cat")).stdout == b""


def test_the_callers_own_preload_comes_first(tmp_path):
    added = unbuffered({"LD_PRELOAD": "mine.so"}, 1, "/x/lineflush.so")
    assert added["LD_PRELOAD"] == "mine.so:/x/lineflush.so"
    assert unbuffered({"PYTHONUNBUFFERED": ""}, 1, None) == {"PYTHONUNBUFFERED": ""}


async def test_the_time_limit_kills_the_group_and_what_left_it(agent):
    script = "setsid sleep 1000 & echo $!; sleep 1000 & echo $!; wait"
    async with agent.stream("POST", "/processes", {"argv": ["bash", "-c", script], "timeout_s": 2}) as stream:
        await stream.next_json()
        children = (await stream.until(b"\n")).split()
        if len(children) < 2:
            children += (await stream.until(b"\n")).split()
        end = (await stream.rest())[-1].json()["process"]
    assert (end["status"], end["exit_code"]) == ("timed_out", 124)
    await asyncio.gather(*(gone(int(pid)) for pid in children))


async def test_a_double_forked_daemon_is_reached_by_its_mark(agent):
    os.mkfifo(agent.workdir / "said")  # what it says must be there before the end of the program
    script = f"cd {agent.workdir}; (setsid sh -c 'echo $$; echo >said; exec sleep 1000' &) ; read x <said; exit 0"
    async with agent.stream("POST", "/processes", {"argv": ["bash", "-c", script]}) as stream:
        process_id = (await stream.next_json())["process"]["id"]
        pid = int(await stream.until(b"\n"))
        end = (await stream.rest())[-1].json()
    assert end["process"]["status"] == "exited"
    assert end["duration_s"] >= 0.2
    os.kill(pid, 0)
    reply = await agent.request("POST", f"/processes/{process_id}/signal", {"signal": "SIGKILL"})
    assert reply.json()["process"]["status"] == "exited"
    await gone(pid)


async def test_who_is_told_that_it_was_killed_finds_it_gone(agent):
    """Not even its remains: nobody has to look twice."""
    for _ in range(20):
        reply = await agent.request("POST", "/processes", {"argv": ["sleep", "1000"], "attach": False})
        process = reply.json()["process"]
        await agent.request("POST", f"/processes/{process['id']}/signal", {"signal": "SIGKILL"})
        assert not os.path.exists(f"/proc/{process['pid']}")


async def test_a_background_child_may_go_on_printing_after_the_end(agent):
    script = "(for i in 1 2 3; do echo tick; read x </proc/self/fd/3; done; echo survived >&4) & echo $!"
    reading, writing = agent.workdir / "in", agent.workdir / "out"
    os.mkfifo(reading)
    os.mkfifo(writing)
    out = os.open(writing, os.O_RDWR | os.O_NONBLOCK)
    feed = os.open(reading, os.O_RDWR)
    arrived = asyncio.Event()
    asyncio.get_running_loop().add_reader(out, arrived.set)
    result = await agent.run("bash", "-c", script.join((f"exec 3<>{reading} 4>{writing}; ", "")))
    assert result.end["process"]["status"] == "exited"
    os.write(feed, b"\n\n\n")
    await arrived.wait()
    asyncio.get_running_loop().remove_reader(out)
    assert os.read(out, 100) == b"survived\n"
    os.close(out)
    os.close(feed)


async def test_a_program_that_closes_its_output_early_still_ends_with_its_own_exit(agent):
    result = await agent.run("sh", "-c", "exec >&- 2>&-; sleep 0.05; exit 7")
    assert result.end["process"]["exit_code"] == 7


async def test_without_attachment_output_goes_to_the_ring(agent):
    reply = await agent.request("POST", "/processes", {"argv": ["sh", "-c", "echo a; echo b >&2"], "attach": False})
    process_id = reply.json()["process"]["id"]
    await wait_for_end(agent, process_id)
    shown = (await agent.request("GET", f"/processes/{process_id}")).json()
    assert (shown["stdout"], shown["stderr"], shown["truncated"]) == ("a\n", "b\n", 0)
    listed = (await agent.request("GET", "/processes")).json()["processes"]
    assert process_id in {record["id"] for record in listed}


async def test_a_question_that_waits_is_answered_at_the_end(agent):
    body = {"argv": ["sh", "-c", "read line < fifo; echo $line; exit 3"], "attach": False, "cwd": str(agent.workdir)}
    os.mkfifo(agent.workdir / "fifo")
    started = (await agent.request("POST", "/processes", body)).json()["process"]
    waiting = asyncio.create_task(agent.request("GET", f"/processes/{started['id']}", query={"wait": "1"}))
    before = (await agent.request("GET", f"/processes/{started['id']}")).json()
    assert before["process"]["status"] == "running"
    (agent.workdir / "fifo").write_text("now\n")
    told = (await waiting).json()
    assert (told["process"]["status"], told["process"]["exit_code"], told["stdout"]) == ("exited", 3, "now\n")
    again = (await agent.request("GET", f"/processes/{started['id']}", query={"wait": "1"})).json()
    assert again == told


async def test_a_list_shows_the_end_of_each_output_when_asked(agent):
    started = (await agent.request("POST", "/processes", {"argv": ["printf", "aüb"], "attach": False})).json()
    process_id = started["process"]["id"]
    await agent.request("GET", f"/processes/{process_id}", query={"wait": "1"})
    for size, shown in (("64", "aüb"), ("3", "üb"), ("2", "b"), ("1", "b")):
        listed = (await agent.request("GET", "/processes", query={"output": size})).json()["processes"]
        (found,) = [each for each in listed if each["id"] == process_id]
        assert (found["stdout"], found["stderr"]) == (shown, "")
    for bad in ("0", "x", "65537"):
        assert (await agent.request("GET", "/processes", query={"output": bad})).status == 400


async def test_failing_programs_are_counted_and_running_ones_seen(start_agent):
    agent = start_agent()
    before = (await agent.request("GET", "/stats")).json()
    assert (before["executing"], before["failures_total"]) == (0, 0)
    async with agent.stream("POST", "/processes", {"argv": ["cat"], "stdin": True}) as stream:
        start = await stream.next_json()
        assert (await agent.request("GET", "/stats")).json()["executing"] == 1
        await agent.request("DELETE", f"/processes/{start['process']['id']}/stdin")
        await stream.rest()
    for argv in (["false"], ["sh", "-c", "kill -9 $$"], ["true"]):
        await agent.run(*argv, record=False)
    await agent.run("sh", "-c", "exit 9", pty={"cols": 80, "rows": 24})
    after = (await agent.request("GET", "/stats")).json()
    assert (after["executing"], after["failures_total"]) == (0, 2)


async def test_the_ring_keeps_the_last_mebibyte(agent):
    script = "yes | head -c 3000000; echo; echo the end"
    reply = await agent.request("POST", "/processes", {"argv": ["sh", "-c", script], "attach": False})
    process_id = reply.json()["process"]["id"]
    await wait_for_end(agent, process_id)
    shown = (await agent.request("GET", f"/processes/{process_id}")).json()
    assert len(shown["stdout"]) == 1024 * 1024
    assert shown["stdout"].endswith("the end\n")
    assert shown["truncated"] == 3000009 - 1024 * 1024


async def test_attaching_gives_the_ring_first_and_then_what_comes(agent):
    spec = {"argv": ["sh", "-c", "echo early; read x; echo late"], "stdin": True, "attach": False}
    process_id = (await agent.request("POST", "/processes", spec)).json()["process"]["id"]
    async with agent.stream("GET", f"/processes/{process_id}/attach") as first:
        await first.next_json()
        await first.until(b"early\n")
        async with agent.stream("GET", f"/processes/{process_id}/attach") as second:
            await second.next_json()
            await second.until(b"early\n")
            await agent.request("POST", f"/processes/{process_id}/stdin", b"\n")
            for stream in (first, second):
                assert await stream.until(b"late\n") == b"late\n"
                await stream.rest()


async def test_a_slow_reader_slows_the_program_and_costs_no_memory(agent):
    before = agent.memory_kib()
    async with agent.stream("POST", "/processes", {"argv": ["head", "-c", "150000000", "/dev/zero"]}) as stream:
        frames = size = 0
        async for frame in stream._frames:
            frames += 1
            size += len(frame.payload) if frame.type == b"O" else 0
            if frames % 500 == 0:
                assert agent.memory_kib() - before < 8192
    assert size == 150_000_000


async def test_output_nobody_reads_costs_no_memory(agent):
    spec = {"argv": ["head", "-c", "150000000", "/dev/zero"], "attach": False}
    before = agent.memory_kib()
    process_id = (await agent.request("POST", "/processes", spec)).json()["process"]["id"]
    assert (await wait_for_end(agent, process_id))["exit_code"] == 0
    assert agent.memory_kib() - before < 8192


async def test_a_client_that_goes_away_ends_the_program_when_it_said_so(agent):
    spec = {"argv": ["sh", "-c", "echo $$; exec sleep 1000"], "kill_on_disconnect": True}
    async with agent.stream("POST", "/processes", spec) as stream:
        await stream.next_json()
        pid = int(await stream.until(b"\n"))
    await gone(pid)


async def test_a_client_that_goes_away_leaves_the_program_running_otherwise(agent):
    spec = {"argv": ["sh", "-c", "echo $$; read x; echo still here"], "stdin": True}
    async with agent.stream("POST", "/processes", spec) as stream:
        process_id = (await stream.next_json())["process"]["id"]
        await stream.until(b"\n")
    await agent.request("POST", f"/processes/{process_id}/stdin", b"\n")
    result = await agent.outcome("GET", f"/processes/{process_id}/attach")
    assert result.stdout.endswith(b"still here\n")


async def test_signals_by_name(agent):
    spec = {"argv": ["sh", "-c", "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.01; done"]}
    async with agent.stream("POST", "/processes", spec) as stream:
        process_id = (await stream.next_json())["process"]["id"]
        await stream.until(b"ready\n")
        reply = await agent.request("POST", f"/processes/{process_id}/signal", {"signal": "SIGTERM", "tree": False})
        assert reply.status == 200
        await stream.until(b"got it\n")
        assert (await stream.rest())[-1].json()["process"]["exit_code"] == 5
    reply = await agent.request("POST", f"/processes/{process_id}/signal", {"signal": "SIGTERM"})
    assert reply.json()["process"]["exit_code"] == 5
    assert (await agent.request("POST", f"/processes/{process_id}/signal", {"signal": "SIGNO"})).status == 400
    assert (await agent.request("POST", "/processes/nobody/signal", {})).status == 404


def test_signal_numbers():
    assert signal_number("SIGKILL") == signal_number("kill") == signal_number(9) == signal.SIGKILL
    for wrong in ("", "SIG_DFL", 0, 1000, None, True):
        with pytest.raises(AgentError):
            signal_number(wrong)


async def test_stdin_is_delivered_and_closed(agent):
    async with agent.stream("POST", "/processes", {"argv": ["wc", "-c"], "stdin": True}) as stream:
        process_id = (await stream.next_json())["process"]["id"]
        for _ in range(3):
            await agent.request("POST", f"/processes/{process_id}/stdin", b"x" * 300_000)
        await agent.request("DELETE", f"/processes/{process_id}/stdin")
        assert await stream.until(b"\n") == b"900000\n"
        await stream.rest()


async def test_stdin_that_nobody_reads_ends_with_the_program(agent):
    async with agent.stream("POST", "/processes", {"argv": ["sleep", "1000"], "stdin": True}) as stream:
        process_id = (await stream.next_json())["process"]["id"]
        path = f"/processes/{process_id}"
        writing = asyncio.create_task(agent.request("POST", f"{path}/stdin", b"x" * 1_000_000))
        await agent.request("POST", f"{path}/signal", {"signal": "SIGKILL"})
        assert (await writing).status == 400
        await stream.rest()
    assert (await agent.request("POST", f"{path}/stdin", b"x")).status == 400


async def test_stdin_of_a_program_without_one_is_invalid(agent):
    process_id = (await agent.run("true")).end["process"]["id"]
    assert (await agent.request("POST", f"/processes/{process_id}/stdin", b"x")).status == 400


async def test_files_are_put_where_argv_says_and_removed_at_the_end(agent):
    files = {"main.sh": "echo $0; cat $(dirname $0)/sub/data", "sub/data": "é\n"}
    result = await agent.run("sh", "{dir}/main.sh", files=files)
    path, text = result.stdout.decode().splitlines()
    assert text == "é"
    # the removal is a task of its own; a second program's start comes after it
    await agent.run("true")
    assert not Path(path).parent.exists()


async def test_a_missing_directory_is_made_with_its_parents(agent, tmp_path):
    assert (await agent.run("pwd", cwd=str(tmp_path / "new"))).stdout == f"{tmp_path}/new\n".encode()
    assert (await agent.run("pwd", cwd=str(tmp_path / "a/b"))).stdout == f"{tmp_path}/a/b\n".encode()
    (tmp_path / "file").write_text("")
    for wrong in ("file", "file/below"):
        reply = await agent.request("POST", "/processes", {"argv": ["true"], "cwd": str(tmp_path / wrong)})
        assert (reply.status, reply.json()["kind"]) == (409, "not_a_directory")


async def test_a_program_that_is_not_to_be_recorded_leaves_no_record(agent):
    process_id = (await agent.run("true", record=False)).end["process"]["id"]
    assert (await agent.request("GET", f"/processes/{process_id}")).status == 404


async def test_a_terminal_echoes_and_is_the_controlling_one(agent):
    spec = {"argv": ["sh", "-c", "tty </dev/tty; read x; echo got $x"], "pty": {"cols": 80, "rows": 24}}
    async with agent.stream("POST", "/processes", spec) as stream:
        process_id = (await stream.next_json())["process"]["id"]
        assert b"/dev/" in await stream.until(b"\n")
        await agent.request("POST", f"/processes/{process_id}/stdin", b"typed\n")
        seen = await stream.until(b"got typed")
        assert seen.startswith(b"typed\r\n")
        frames = await stream.rest()
    assert {frame.type for frame in frames} <= {b"O", b"J"}
    assert frames[-1].json()["process"]["pty"] is True


async def test_a_terminal_has_its_size_and_can_be_resized(agent):
    script = "stty size; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done"
    async with agent.stream(
        "POST", "/processes", {"argv": ["sh", "-c", script], "pty": {"cols": 100, "rows": 30}}
    ) as stream:
        process_id = (await stream.next_json())["process"]["id"]
        assert b"30 100" in await stream.until(b"ready\r\n")
        await agent.request("POST", f"/processes/{process_id}/resize", {"cols": 90, "rows": 20})
        await stream.until(b"20 90")
        await stream.rest()
    process_id = (await agent.run("true")).end["process"]["id"]
    assert (await agent.request("POST", f"/processes/{process_id}/resize", {"cols": 1, "rows": 1})).status == 400


async def test_control_c_in_a_terminal_interrupts(agent):
    spec = {"argv": ["sh", "-c", "echo ready; exec sleep 1000"], "pty": {"cols": 80, "rows": 24}}
    async with agent.stream("POST", "/processes", spec) as stream:
        process_id = (await stream.next_json())["process"]["id"]
        await stream.until(b"ready")
        await agent.request("POST", f"/processes/{process_id}/stdin", b"\x03")
        assert (await stream.rest())[-1].json()["process"]["signal"] == "SIGINT"


async def test_programs_have_default_signals_and_no_descriptor_of_ours(agent):
    result = await agent.run("sh", "-c", "grep -E 'SigIgn|SigBlk' /proc/self/status; ls /proc/self/fd")
    lines = result.stdout.split()
    assert lines[1] == lines[3] == b"0" * 16
    assert {int(fd) for fd in lines[4:]} <= {0, 1, 2, 3}  # 3 is ls's own


async def test_a_program_is_preferred_as_the_oom_victim(agent):
    spec = {"argv": ["sh", "-c", "read x; cat /proc/self/oom_score_adj"], "stdin": True}
    async with agent.stream("POST", "/processes", spec) as stream:
        process_id = (await stream.next_json())["process"]["id"]
        await agent.request("POST", f"/processes/{process_id}/stdin", b"\n")
        assert await stream.until(b"\n") == b"400\n"
        await stream.rest()


async def test_orphans_are_reaped(agent):
    os.mkfifo(agent.workdir / "said")  # what it says must be there before the end of the program
    script = f"cd {agent.workdir}; (sh -c 'echo $$; echo >said; read x' <&0 &) ; read x <said"
    result = await agent.run("bash", "-c", script, stdin=True)
    pid = int(result.stdout)
    await gone(pid)
    await agent.run("true")
    assert not Path(f"/proc/{pid}").exists()


async def test_many_programs_at_once(agent):
    results = await asyncio.gather(*(agent.run("sh", "-c", f"exit {number}") for number in range(50)))
    assert [result.end["process"]["exit_code"] for result in results] == list(range(50))


@pytest.mark.parametrize(
    ("wait_status", "timed_out", "expected"),
    [
        (0, False, (Status.EXITED, 0, None)),
        (3 << 8, False, (Status.EXITED, 3, None)),
        (signal.SIGKILL, False, (Status.KILLED, 137, "SIGKILL")),
        (signal.SIGKILL, True, (Status.TIMED_OUT, 124, "SIGKILL")),
        (0, True, (Status.TIMED_OUT, 124, None)),
        (34, False, (Status.KILLED, 162, "SIGRTMIN")),
        (36, False, (Status.KILLED, 164, "SIG36")),
    ],
)
def test_outcomes(wait_status, timed_out, expected):
    assert outcome(wait_status, timed_out) == expected


def test_time_limits():
    assert timeout(None) is None
    assert timeout(1) == 1.0


@pytest.fixture
def c_program(tmp_path):
    def build(body: str) -> str:
        source = tmp_path / "program.c"
        source.write_text(f"#include <stdio.h>\n#include <unistd.h>\nint main(void) {{ {body} }}\n")
        target = tmp_path / "program"
        subprocess.run(["gcc", "-o", str(target), str(source)], check=True)
        return str(target)

    return build


async def test_with_drain_the_end_waits_for_who_holds_the_output(agent):
    body = {"argv": ["sh", "-c", "(sleep 0.5; echo late) & echo early"], "drain": True}
    async with agent.stream("POST", "/processes", body) as stream:
        await stream.next_json()
        *output, end = await stream.rest()
    assert b"".join(frame.payload for frame in output) == b"early\nlate\n"
    assert end.json()["duration_s"] >= 0.5


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGTERM"])
async def test_with_drain_nobody_waits_for_the_output_of_what_is_ended(agent, signal):
    # What holds the output is no child any more and has lost the mark, so that no signal reaches it.
    script = "env -i setsid sh -c 'echo $$; exec sleep 1000' & wait"
    async with agent.stream("POST", "/processes", {"argv": ["bash", "-c", script], "drain": True}) as stream:
        process_id = (await stream.next_json())["process"]["id"]
        holder = int(await stream.until(b"\n"))
        await agent.request("POST", f"/processes/{process_id}/signal", {"signal": signal, "tree": False})
        end = (await stream.rest())[-1].json()["process"]
    os.kill(holder, 9)
    assert (end["status"], end["signal"]) == ("killed", signal)


async def test_with_drain_the_time_limit_ends_the_wait_too(agent):
    body = {"argv": ["sh", "-c", "sleep 1000 & echo $!"], "drain": True, "timeout_s": 2}
    async with agent.stream("POST", "/processes", body) as stream:
        await stream.next_json()
        holder = int(await stream.until(b"\n"))
        end = (await stream.rest())[-1].json()["process"]
    os.kill(holder, 9)
    assert (end["status"], end["exit_code"]) == ("exited", 0)


async def test_a_process_is_named_by_its_pid_or_its_tag(agent):
    body = {"argv": ["cat"], "stdin": True, "attach": False, "record": "brief", "tag": "a/b ü", "env": {"A": "b"}}
    record = (await agent.request("POST", "/processes", body)).json()["process"]
    assert record["tag"] == "a/b ü"
    for name in (f"pid:{record['pid']}", "tag:a%252Fb%2520%25C3%25BC"):
        assert (await agent.request("GET", f"/processes/{name}")).json()["process"]["id"] == record["id"]
    listed = (await agent.request("GET", "/processes", query={"env": "1"})).json()["processes"]
    assert [each["env"] for each in listed if each["id"] == record["id"]] == [{"A": "b"}]
    assert (await agent.request("DELETE", f"/processes/pid:{record['pid']}/stdin")).status == 200
    ended = (await agent.request("GET", f"/processes/pid:{record['pid']}", query={"wait": "1"})).json()
    assert (ended["process"]["status"], ended["stdout"]) == ("exited", "")
    for name in ("pid:999999", "pid:", "tag:other", "other:x"):
        assert (await agent.request("GET", f"/processes/{name}")).status == 404


async def test_one_who_comes_late_may_hear_only_what_is_new(agent):
    body = {"argv": ["sh", "-c", "echo old; read x; echo new"], "stdin": True, "attach": False}
    process_id = (await agent.request("POST", "/processes", body)).json()["process"]["id"]
    async with agent.stream("GET", f"/processes/{process_id}/attach") as first:
        await first.next_json()
        assert await first.until(b"\n") == b"old\n"
        async with agent.stream("GET", f"/processes/{process_id}/attach", query={"from": "now"}) as second:
            await second.next_json()
            await agent.request("POST", f"/processes/{process_id}/stdin", b"\n")
            assert await second.until(b"\n") == b"new\n"
            assert (await second.rest())[-1].json()["process"]["status"] == "exited"


class Reaping:
    """Of a table in this process: who ends is told by hand."""

    def __init__(self):
        self.watched = {}

    def watch(self, pid, on_exit):
        self.watched[pid] = on_exit

    def reap(self, process):
        self.watched.pop(process.pid)(os.waitpid(process.pid, 0)[1])


async def ended_briefly(reaping, tmp_path):
    users = Users(False)
    table = ProcessTable(users, Environment(users.lookup(), str(tmp_path), {}), reaping, str(tmp_path))
    started = [table.start(Spec.of({"argv": ["true"], "record": "brief"}, str(tmp_path))) for _ in range(2)]
    for process in started:
        reaping.reap(process)
        await process.ended.wait()
    return table, started


async def test_brief_records_are_few(tmp_path, monkeypatch):
    monkeypatch.setitem(processes.KEPT, Keep.BRIEF, (30, 1))
    table, (first, second) = await ended_briefly(Reaping(), tmp_path)
    assert table.get(second.id) is table.get(f"pid:{second.pid}") is second
    with pytest.raises(AgentError):
        table.get(first.id)


async def test_brief_records_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setitem(processes.KEPT, Keep.BRIEF, (0, 100))
    table, _ = await ended_briefly(Reaping(), tmp_path)
    for _ in range(3):
        await asyncio.sleep(0)
    assert list(table) == []


async def test_a_pid_is_no_name_for_what_ended_long_ago(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "KEEP_BRIEFLY_S", -1)
    table, (first, _) = await ended_briefly(Reaping(), tmp_path)
    assert table.get(first.id) is first
    with pytest.raises(AgentError):
        table.get(f"pid:{first.pid}")


async def test_input_of_the_wrong_kind_is_refused(agent):
    body = {"argv": ["cat"], "stdin": True, "attach": False}
    process_id = (await agent.request("POST", "/processes", body)).json()["process"]["id"]
    for kind, status in (("terminal", 400), ("other", 400), ("pipe", 200)):
        reply = await agent.request("POST", f"/processes/{process_id}/stdin", b"x", query={"to": kind})
        assert reply.status == status
    assert (await agent.request("DELETE", f"/processes/{process_id}/stdin", query={"to": "pipe"})).status == 200
    shown = (await agent.request("GET", f"/processes/{process_id}", query={"wait": "1"})).json()
    assert shown["stdout"] == "x"


async def test_a_directory_that_is_missing_is_made_or_refused(agent):
    missing = str(agent.workdir / "not" / "there")
    reply = await agent.request("POST", "/processes", {"argv": ["true"], "cwd": missing, "make_cwd": False})
    assert (reply.status, reply.json()) == (400, {"kind": "invalid", "message": f"cwd '{missing}' does not exist"})
    assert (await agent.run("pwd", cwd=missing)).stdout.decode().strip() == missing


async def test_a_directory_may_begin_at_home(agent):
    home = (await agent.run("sh", "-c", "echo $HOME")).stdout.decode().strip()
    assert (await agent.run("pwd", cwd="~")).stdout.decode().strip() == home
    assert (await agent.run("pwd", cwd="~/..", make_cwd=False)).stdout.decode().strip() == os.path.dirname(home)
