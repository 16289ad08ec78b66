"""Contexts against a scripted seed: the test itself is the pristine interpreter."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from atoll.agent.contexts import MAX_SPARE
from atoll.agent.interpreter import death
from atoll.wire import frames

PROGRAM = ["sleep", "1000"]


class FakeContext:
    def __init__(self, seed: FakeSeed, request: dict[str, Any], fds: list[int]) -> None:
        self.request = request
        self.env = request["env"] if "env" in request else json.loads(os.pread(fds[3], 1 << 22, 0))
        self.process = subprocess.Popen(PROGRAM, env={**os.environ, **self.env}, start_new_session=True)
        self.stream = socket.socket(fileno=fds[0])
        self.stream.setblocking(False)
        self.stdout, self.stderr = fds[1:3]
        self._seed = seed
        self._decoder = frames.FrameDecoder()
        self._requests: list[Any] = []

    async def receive(self) -> Any:
        loop = asyncio.get_running_loop()
        while not self._requests:
            data = await loop.sock_recv(self.stream, 65536)
            assert data, "the agent closed the stream"
            self._requests += [frame.json() for frame in self._decoder.feed(data)]
        return self._requests.pop(0)

    async def send(self, **value: Any) -> None:
        await asyncio.get_running_loop().sock_sendall(self.stream, frames.encode_json(value))

    def print(self, text: bytes, to: str = "stdout") -> None:
        os.write(getattr(self, to), text)

    async def end(self, status: str = "ok", **more: object) -> None:
        await self.send(type="end", status=status, execution_count=1, **more)

    async def signalled(self) -> int:
        """The signal that ended the process behind this context."""
        return -await asyncio.get_running_loop().run_in_executor(None, self.process.wait)

    def exit(self, wait_status: int) -> None:
        self.stream.close()
        self._seed.send(op="exited", id=self.request["id"], pid=self.process.pid, status=wait_status)

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.stream.close()
        for fd in (self.stdout, self.stderr):
            os.close(fd)


class FakeSeed:
    def __init__(self) -> None:
        self.theirs, self._socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._contexts: list[FakeContext] = []

    async def receive(self) -> tuple[dict[str, Any], list[int]]:
        ready = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._socket, ready.set_result, None)
        try:
            await ready
        finally:
            asyncio.get_running_loop().remove_reader(self._socket)
        data, fds, _, _ = socket.recv_fds(self._socket, 65536, 4)
        return json.loads(data), fds

    def send(self, **message: Any) -> None:
        self._socket.send(json.dumps(message).encode())

    async def fork(self) -> FakeContext:
        request, fds = await self.receive()
        assert request["op"] == "fork"
        context = FakeContext(self, request, fds)
        self._contexts.append(context)
        self.send(op="forked", id=request["id"], pid=context.process.pid)
        return context

    def close(self) -> None:
        self._socket.close()

    def close_all(self) -> None:
        self.close()
        self.theirs.close()
        for context in self._contexts:
            context.close()


@pytest.fixture
def seed():
    fake = FakeSeed()
    yield fake
    fake.close_all()


@pytest.fixture
def python_agent(seed, start_agent):
    return start_agent(seed=seed.theirs)


async def running_cell(agent, seed, **spec):
    """A cell on `default` that the fake context has received."""
    executing = asyncio.create_task(agent.execute("default", "code", **spec))
    context = await seed.fork()
    request = await context.receive()
    return executing, context, request


async def test_without_python_contexts_are_unsupported(agent):
    for method, path, body in [("POST", "/contexts", {}), ("POST", "/contexts/default/execute", {"code": "1"})]:
        reply = await agent.request(method, path, body)
        assert (reply.status, reply.json()["kind"]) == (501, "unsupported")
    assert (await agent.request("GET", "/contexts")).json() == {"contexts": []}


async def test_default_is_made_on_first_use_and_kept(python_agent, seed):
    executing, context, request = await running_cell(python_agent, seed)
    assert request["op"] == "execute"
    assert request["code"] == "code"
    assert context.request["cwd"] == str(python_agent.workdir)
    assert context.env["HOME"]
    await context.end()
    result = await executing
    which = {"context": "default", "language": "python", "spare": False}
    assert result.start == {"type": "start", "execution_count": 1, **which}
    assert result.end.items() >= {"type": "end", "status": "ok", "execution_count": 1}.items()
    (record,) = (await python_agent.request("GET", "/contexts")).json()["contexts"]
    assert record["status"] == "idle"
    assert (record["id"], record["pid"]) == ("default", context.process.pid)
    executing = asyncio.create_task(python_agent.execute("default", "more"))
    await context.receive()
    await context.end("error")
    assert (await executing).end.items() >= {"status": "error", "execution_count": 2}.items()


@pytest.mark.parametrize(
    ("sent", "told"), [(3, 3), (255, 255), (0, 1), (256, 1), (-1, 1), ("3", 1), (None, 1), ([], 1)]
)
async def test_an_errors_exit_code_is_a_programs(sent, told, python_agent, seed):
    executing, context, _ = await running_cell(python_agent, seed)
    await context.end("error", exit_code=sent)
    assert (await executing).end["exit_code"] == told


async def test_output_and_rich_values_keep_their_order(python_agent, seed):
    stream_context = python_agent.stream("POST", "/contexts/default/execute", {"code": "x"})
    async with asyncio.TaskGroup() as group:
        forking = group.create_task(seed.fork())
        stream = await stream_context.__aenter__()
    context = forking.result()
    await context.receive()
    context.print(b"before")
    await context.send(type="display", data={"text/plain": "rich"}, metadata={})
    await stream.next_json()
    kinds = [await stream.next(), await stream.next()]
    assert [frame.type for frame in kinds] == [b"O", b"J"]
    context.print(b"oops", to="stderr")
    context.print(b"after")
    await context.send(type="result", data={"text/plain": "1"}, metadata={})
    await context.end()
    frames_left = await stream.rest()
    assert {frame.type: frame.payload for frame in frames_left[:2]} == {b"O": b"after", b"E": b"oops"}
    assert [frame.json()["type"] for frame in frames_left[2:]] == ["result", "end"]
    await stream_context.__aexit__(None, None, None)


async def test_what_the_pipes_hold_at_the_end_comes_before_the_end(python_agent, seed):
    executing, context, _ = await running_cell(python_agent, seed)
    await context.end()
    await executing
    for _ in range(20):
        executing = asyncio.create_task(python_agent.execute("default", "code"))
        await context.receive()
        context.print(b"x" * 60_000)
        await context.end()
        assert len((await executing).stdout) == 60_000


async def test_output_between_cells_is_dropped(python_agent, seed):
    executing, context, _ = await running_cell(python_agent, seed)
    await context.end()
    await executing
    context.print(b"a thread that was left behind" * 1000)
    await python_agent.request("GET", "/health")
    executing = asyncio.create_task(python_agent.execute("default", "code"))
    await context.receive()
    context.print(b"mine")
    await context.end()
    assert (await executing).stdout == b"mine"


async def test_a_busy_context_refuses_or_queues_when_asked(python_agent, seed):
    executing, context, _ = await running_cell(python_agent, seed)
    reply = await python_agent.request("POST", "/contexts/default/execute", {"code": "second"})
    assert (reply.status, reply.json()["kind"]) == (409, "busy")
    waiting = asyncio.create_task(python_agent.execute("default", "third", wait=True))
    await python_agent.request("GET", "/health")
    await context.end()
    await executing
    assert (await context.receive())["code"] == "third"
    await context.end()
    assert (await waiting).end["execution_count"] == 2


async def test_a_busy_context_has_a_fresh_one_beside_it_when_asked(python_agent, seed):
    first, default, _ = await running_cell(python_agent, seed)
    second = asyncio.create_task(python_agent.execute("default", "beside", spare=True))
    spare = await seed.fork()
    assert (await spare.receive())["code"] == "beside"
    assert spare.process.pid != default.process.pid
    states = (await python_agent.request("GET", "/contexts")).json()["contexts"]
    assert [state["status"] for state in states] == ["busy", "busy"]
    await spare.end()
    result = await second
    assert (result.end["status"], result.start["spare"]) == ("ok", True)
    assert result.start["context"] != "default"
    assert await spare.signalled() == signal.SIGKILL
    left = (await python_agent.request("GET", "/contexts")).json()["contexts"]
    assert [(state["id"], state["pid"]) for state in left] == [("default", default.process.pid)]
    await default.end()
    assert (await first).end["execution_count"] == 1


async def test_an_idle_context_needs_no_other(python_agent, seed):
    for count in (1, 2):
        executing = asyncio.create_task(python_agent.execute("default", "code", spare=True))
        if count == 1:
            context = await seed.fork()
        await context.receive()
        await context.end()
        start = (await executing).start
        assert (start["context"], start["execution_count"], start["spare"]) == ("default", count, False)


async def test_spare_contexts_are_bounded_and_a_refusal_leaves_nothing(python_agent, seed):
    first, default, _ = await running_cell(python_agent, seed)
    beside, spares = [], []
    for _ in range(MAX_SPARE):
        beside.append(asyncio.create_task(python_agent.execute("default", "x", spare=True)))
        spares.append(await seed.fork())
    reply = await python_agent.request("POST", "/contexts/default/execute", {"code": "1", "spare": True})
    assert (reply.status, reply.json()["kind"]) == (429, "too_many")
    for context in (default, *spares):
        await context.receive() if context is not default else None
        await context.end()
    for task in (first, *beside):
        assert (await task).end["status"] == "ok"
    assert len((await python_agent.request("GET", "/contexts")).json()["contexts"]) == 1


async def test_a_client_that_leaves_ends_its_spare_context_with_what_it_started(python_agent, seed):
    first, default, _ = await running_cell(python_agent, seed)
    second = asyncio.create_task(python_agent.execute("default", "x", spare=True))
    spare = await seed.fork()
    await spare.receive()
    second.cancel()
    assert await spare.signalled() in (signal.SIGINT, signal.SIGKILL)
    await default.end()
    await first


async def test_a_waiting_client_that_leaves_gives_up_its_turn(python_agent, seed):
    executing, context, _ = await running_cell(python_agent, seed)
    async with python_agent.connect() as connection:
        await connection.send("POST", "/contexts/default/execute", {"code": "second", "wait": True})
    await python_agent.request("GET", "/health")  # by the answer the agent has seen the other client go
    await context.end()
    await executing
    executing = asyncio.create_task(python_agent.execute("default", "third", wait=True))
    assert (await context.receive())["code"] == "third"
    await context.end()
    await executing


async def test_cells_see_what_changed_in_the_environment_since_the_birth(python_agent, seed):
    await python_agent.request("PATCH", "/env", {"env": {"OLD": "1", "GONE": "1"}})
    executing, context, request = await running_cell(python_agent, seed, env={"CELL": "x"})
    assert (context.env["OLD"], request["env"]) == ("1", {"CELL": "x"})
    await context.end()
    await executing
    await python_agent.request("PATCH", "/env", {"env": {"OLD": "2", "GONE": None}})
    executing = asyncio.create_task(python_agent.execute("default", "code"))
    assert (await context.receive())["env"] == {"OLD": "2", "GONE": None}
    await context.end()
    await executing


async def test_a_large_environment_travels_beside_the_packet(python_agent, seed):
    await python_agent.request("PATCH", "/env", {"env": {"LARGE": "x" * 120_000}})
    executing, context, _ = await running_cell(python_agent, seed)
    assert len(context.env["LARGE"]) == 120_000
    await context.end()
    await executing


async def test_at_the_time_limit_the_cell_is_interrupted_and_the_context_lives(python_agent, seed):
    executing, context, _ = await running_cell(python_agent, seed, timeout_s=0.05)
    assert await context.signalled() == signal.SIGINT
    await context.send(type="error", name="KeyboardInterrupt", value="", traceback="")
    await context.end("interrupted")
    result = await executing
    assert result.end["status"] == "timed_out"
    assert result.objects[0]["name"] == "KeyboardInterrupt"
    executing = asyncio.create_task(python_agent.execute("default", "code"))
    await context.receive()
    await context.end()
    assert (await executing).end["execution_count"] == 2


@contextmanager
def deaf_programs():
    """What is started meanwhile ignores SIGINT from its first moment."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


async def test_a_cell_that_ignores_the_interrupt_is_killed_with_its_context(python_agent, seed):
    with deaf_programs():
        executing, context, _ = await running_cell(python_agent, seed, timeout_s=0.05)
    assert await context.signalled() == signal.SIGKILL
    context.exit(signal.SIGKILL)
    result = await executing
    assert (result.end["status"], result.objects) == ("timed_out", [])
    executing, context, _ = await running_cell(python_agent, seed)
    await context.end()
    assert (await executing).end.items() >= {"status": "ok", "execution_count": 1}.items()


async def test_a_client_that_goes_away_interrupts_the_cell(python_agent, seed):
    executing, context, _ = await running_cell(python_agent, seed)
    executing.cancel()
    assert await context.signalled() == signal.SIGINT
    reply = await python_agent.request("POST", "/contexts/default/execute", {"code": "x"})
    assert reply.json()["kind"] == "busy"
    await context.end("interrupted")
    executing = asyncio.create_task(python_agent.execute("default", "next", wait=True))
    assert (await context.receive())["code"] == "next"
    await context.end()
    await executing


async def test_interrupt_is_passed_on_only_to_a_running_cell(python_agent, seed):
    executing, context, _ = await running_cell(python_agent, seed)
    assert (await python_agent.request("POST", "/contexts/default/interrupt")).json() == {}
    assert await context.signalled() == signal.SIGINT
    await context.end("interrupted")
    assert (await executing).end["status"] == "interrupted"
    assert (await python_agent.request("POST", "/contexts/default/interrupt")).status == 200
    assert (await python_agent.request("POST", "/contexts/none/interrupt")).status == 404


async def test_a_context_that_dies_ends_the_stream_once_and_says_why(python_agent, seed):
    executing, context, _ = await running_cell(python_agent, seed)
    context.print(b"last words")
    context.exit(7 << 8)
    result = await executing
    assert result.stdout == b"last words"
    assert [value["type"] for value in result.objects] == ["error"]
    assert "code 7" in result.objects[0]["value"]
    assert result.end["status"] == "died"
    executing, context, _ = await running_cell(python_agent, seed)
    await context.end()
    assert (await executing).end["status"] == "ok"


async def test_a_late_word_of_an_old_end_does_not_hit_the_new_interpreter(python_agent, seed):
    executing, old, _ = await running_cell(python_agent, seed)
    old.stream.close()
    assert (await executing).end["status"] == "died"
    executing, context, _ = await running_cell(python_agent, seed)
    old.exit(0)
    await python_agent.request("GET", "/health")
    await context.end()
    assert (await executing).end["status"] == "ok"


async def test_a_context_that_talks_nonsense_is_killed(python_agent, seed):
    executing, context, _ = await running_cell(python_agent, seed)
    context.stream.send(b"\xff" * 100)
    assert await context.signalled() == signal.SIGKILL
    context.exit(signal.SIGKILL)
    assert (await executing).end["status"] == "died"


async def test_unknown_messages_and_a_second_end_are_not_passed_on(python_agent, seed):
    executing, context, _ = await running_cell(python_agent, seed)
    await context.send(type="start", execution_count=99)
    await context.send(type="unknown")
    await context.end("made up")
    await context.end()
    result = await executing
    assert (result.objects, result.end["status"]) == ([], "error")


async def test_large_values_pass_and_are_not_read(python_agent, seed):
    executing, context, _ = await running_cell(python_agent, seed)
    await context.send(type="display", data={"image/png": "x" * 8_000_000}, metadata={})
    await context.end()
    assert len((await executing).objects[0]["data"]["image/png"]) == 8_000_000


async def test_a_slow_reader_of_a_cell_costs_no_memory(python_agent, seed):
    await python_agent.request("GET", "/health")
    before = python_agent.memory_kib()
    executing, context, _ = await running_cell(python_agent, seed)

    def flood() -> None:
        for _ in range(1000):
            os.write(context.stdout, b"x" * 65536)

    await asyncio.get_running_loop().run_in_executor(None, flood)
    await context.end()
    assert len((await executing).stdout) == 65_536_000
    assert python_agent.memory_kib() - before < 8192


async def test_contexts_are_made_listed_restarted_and_deleted(python_agent, seed):
    async def answered(method: str, path: str, body: Any = None) -> Any:
        task = asyncio.create_task(python_agent.request(method, path, body))
        context = await seed.fork()
        return context, (await task).json()["context"]

    body = {"id": "mine", "env": {"A": "1"}, "cwd": str(python_agent.workdir / "sub")}
    first, record = await answered("POST", "/contexts", body)
    assert record == {
        "id": "mine",
        "language": "python",
        "cwd": body["cwd"],
        "status": "idle",
        "pid": first.process.pid,
    }
    assert first.env["A"] == "1"
    assert (await python_agent.request("POST", "/contexts", body)).json()["kind"] == "exists"
    restarting = asyncio.create_task(python_agent.request("POST", "/contexts/mine/restart"))
    assert await first.signalled() == signal.SIGKILL
    first.exit(signal.SIGKILL)
    second = await seed.fork()
    assert (await restarting).json()["context"]["pid"] == second.process.pid
    deleting = asyncio.create_task(python_agent.request("DELETE", "/contexts/mine"))
    assert await second.signalled() == signal.SIGKILL
    second.exit(signal.SIGKILL)
    assert (await deleting).json() == {}
    for method, path in [("DELETE", "/contexts/mine"), ("POST", "/contexts/mine/restart")]:
        assert (await python_agent.request(method, path)).status == 404


@pytest.mark.parametrize("body", [{"id": "a/b"}, {"id": ""}, {"id": 1}, {"cwd": "x"}, {"env": {"A": None}}])
async def test_a_malformed_context_is_invalid(python_agent, body):
    assert (await python_agent.request("POST", "/contexts", body)).json()["kind"] == "invalid"


@pytest.mark.parametrize(
    "body", [{}, {"code": 1}, {"code": "", "wait": 1}, {"code": "", "spare": 1}, {"code": "", "timeout_s": -1}]
)
async def test_a_malformed_cell_is_invalid(python_agent, body):
    assert (await python_agent.request("POST", "/contexts/default/execute", body)).json()["kind"] == "invalid"


async def test_a_seed_that_cannot_fork_says_so(python_agent, seed):
    executing = asyncio.create_task(python_agent.request("POST", "/contexts/default/execute", {"code": "1"}))
    request, fds = await seed.receive()
    seed.send(op="failed", id=request["id"], message="no memory")
    reply = await executing
    assert (reply.status, reply.json()["kind"]) == (429, "too_many")
    for fd in fds:
        os.close(fd)
    executing, context, _ = await running_cell(python_agent, seed)
    await context.end()
    assert (await executing).end["status"] == "ok"


async def test_a_context_that_ends_while_it_is_made_is_an_error(python_agent, seed):
    executing = asyncio.create_task(python_agent.request("POST", "/contexts/default/execute", {"code": "1"}))
    request, fds = await seed.receive()
    for fd in fds:
        os.close(fd)
    seed.send(op="forked", id=request["id"], pid=2**30)
    seed.send(op="exited", id=request["id"], pid=2**30, status=0)
    assert (await executing).status in (200, 500)
    executing, context, _ = await running_cell(python_agent, seed)
    await context.end()
    assert (await executing).end["status"] == "ok"


async def test_a_context_deleted_while_it_is_made_leaves_nothing(python_agent, seed):
    executing = asyncio.create_task(python_agent.request("POST", "/contexts", {"id": "mine"}))
    request, fds = await seed.receive()
    deleting = asyncio.create_task(python_agent.request("DELETE", "/contexts/mine"))
    await python_agent.request("GET", "/health")
    context = FakeContext(seed, request, fds)
    seed.send(op="forked", id=request["id"], pid=context.process.pid)
    assert await context.signalled() == signal.SIGKILL
    context.exit(signal.SIGKILL)
    assert (await deleting).status == 200
    await executing
    context.close()


async def test_a_seed_that_goes_away_ends_contexts_and_the_agent_lives(python_agent, seed):
    executing, _, _ = await running_cell(python_agent, seed)
    seed.close()
    assert (await executing).end["status"] == "died"
    assert (await python_agent.request("POST", "/contexts/default/execute", {"code": "1"})).status == 500
    assert (await python_agent.request("GET", "/health")).json()["python"] is False


@pytest.mark.parametrize(
    ("wait_status", "text"), [(None, "has ended"), (9, "memory"), (11, "SIGSEGV"), (3 << 8, "code 3")]
)
def test_an_end_is_told_in_words(wait_status, text):
    assert text in death(wait_status)["value"]


async def test_a_context_is_made_by_its_first_cell_when_the_caller_says_what_it_is_to_be(python_agent, seed):
    make = {"language": " Python ", "cwd": str(python_agent.workdir / "sub"), "env": {"A": "1"}}
    executing = asyncio.create_task(python_agent.execute("mine", "first", make=make))
    context = await seed.fork()
    assert (context.request["cwd"], context.env["A"]) == (make["cwd"], "1")
    await context.receive()
    await context.end()
    assert (await executing).start["context"] == "mine"
    executing = asyncio.create_task(python_agent.execute("mine", "second", make={"language": "bash"}))
    assert (await context.receive())["code"] == "second"
    await context.end()
    await executing
    (record,) = (await python_agent.request("GET", "/contexts")).json()["contexts"]
    assert (record["id"], record["language"], record["cwd"]) == ("mine", "python", make["cwd"])


@pytest.mark.parametrize(
    "make", [1, {"language": ""}, {"language": 1}, {"language": "x" * 65}, {"language": "a\nb"}, {"cwd": "x"}]
)
async def test_a_malformed_make_is_invalid_and_makes_nothing(make, python_agent):
    reply = await python_agent.request("POST", "/contexts/mine/execute", {"code": "1", "make": make})
    assert reply.json()["kind"] == "invalid"
    assert (await python_agent.request("GET", "/contexts")).json() == {"contexts": []}


async def test_a_caller_says_whether_results_are_described(python_agent, seed):
    executing, context, request = await running_cell(python_agent, seed, describe=True)
    assert request["describe"] is True
    await context.end()
    await executing
    executing = asyncio.create_task(python_agent.execute("default", "code"))
    assert (await context.receive())["describe"] is False
    await context.end()
    await executing


async def test_a_restart_tells_the_cell_that_runs(python_agent, seed):
    executing, first, _ = await running_cell(python_agent, seed)
    restarting = asyncio.create_task(python_agent.request("POST", "/contexts/default/restart"))
    assert await first.signalled() == signal.SIGKILL
    first.exit(signal.SIGKILL)
    second = await seed.fork()
    result = await executing
    (error,) = result.objects
    assert (error["name"], error["value"]) == ("ContextRestarting", "Context was restarted")
    assert result.end["status"] == "died"
    assert (await restarting).json()["context"]["pid"] == second.process.pid


async def test_removing_tells_the_cell_that_runs_and_who_waits_for_a_turn(python_agent, seed):
    executing, context, _ = await running_cell(python_agent, seed)
    body = {"code": "second", "wait": True}
    waiting = asyncio.create_task(python_agent.request("POST", "/contexts/default/execute", body))
    await python_agent.request("GET", "/health")
    deleting = asyncio.create_task(python_agent.request("DELETE", "/contexts/default"))
    assert await context.signalled() == signal.SIGKILL
    context.exit(signal.SIGKILL)
    assert (await deleting).status == 200
    assert (await executing).objects[0]["value"] == "the context was removed"
    assert (await waiting).json()["kind"] == "not_found"
    assert (await python_agent.request("GET", "/contexts")).json() == {"contexts": []}


async def test_a_context_whose_maker_leaves_is_ended(python_agent, seed):
    async with python_agent.connect() as connection:
        await connection.send("POST", "/contexts", {"id": "mine"})
        request, fds = await seed.receive()
    await python_agent.request("GET", "/health")
    context = FakeContext(seed, request, fds)
    seed.send(op="forked", id=request["id"], pid=context.process.pid)
    assert await context.signalled() == signal.SIGKILL
    context.exit(signal.SIGKILL)
    context.close()
    assert (await python_agent.request("GET", "/contexts")).json() == {"contexts": []}


async def starting_kernel(agent, seed, **spec):
    """A cell for a bridge that has not said yet whether there is a kernel."""
    executing = asyncio.create_task(agent.request("POST", "/contexts/k/execute", {"code": "code", **spec}))
    return executing, await seed.fork()


async def test_a_kernel_takes_cells_when_its_bridge_says_so(python_agent, seed):
    executing = asyncio.create_task(python_agent.execute("k", "code", make={"language": "Bash"}))
    context = await seed.fork()
    kernel = context.request["kernel"]
    assert kernel["language"] == "bash"
    assert os.stat(kernel["directory"]).st_mode & 0o777 == 0o700
    context.print(b"noise of a start")
    await context.send(type="ready", env=True)
    assert (await context.receive())["code"] == "code"
    await context.send(type="ready", env=True)  # once more is nothing
    await context.end()
    result = await executing
    assert (result.stdout, result.objects, result.end["status"]) == (b"", [], "ok")
    (record,) = (await python_agent.request("GET", "/contexts")).json()["contexts"]
    assert record["language"] == "bash"
    deleting = asyncio.create_task(python_agent.request("DELETE", "/contexts/k"))
    assert await context.signalled() == signal.SIGKILL
    context.exit(signal.SIGKILL)
    await deleting
    assert not os.path.exists(kernel["directory"])


@pytest.mark.parametrize(
    ("kind", "told"),
    [("unsupported", (501, "unsupported")), ("not_found", (500, "internal")), (None, (500, "internal"))],
)
async def test_a_kernel_that_is_not_there_is_refused_and_leaves_nothing(kind, told, python_agent, seed):
    executing, context = await starting_kernel(python_agent, seed, make={"language": "julia"})
    await context.send(type="refused", kind=kind, message="no kernel for julia")
    reply = await executing
    assert (reply.status, reply.json()["kind"], reply.json()["message"]) == (*told, "no kernel for julia")
    assert await context.signalled() == signal.SIGKILL
    context.exit(signal.SIGKILL)
    assert (await python_agent.request("GET", "/contexts")).json() == {"contexts": []}


async def test_a_kernel_that_does_not_start_says_its_last_words(python_agent, seed):
    executing, context = await starting_kernel(python_agent, seed, make={"language": "java"})
    context.print(b"x" * 4000 + b"no memory for the heap", to="stderr")
    context.exit(1 << 8)
    reply = (await executing).json()
    assert reply["kind"] == "internal"
    assert "exited with code 1" in reply["message"]
    assert reply["message"].endswith("no memory for the heap")
    assert len(reply["message"]) < 3000


async def test_what_a_kernel_cannot_do_for_one_execution_is_refused(python_agent, seed):
    executing, context = await starting_kernel(python_agent, seed, make={"language": "cobol"}, env={"A": "1"})
    await context.send(type="ready", env=False)
    reply = await executing
    assert (reply.status, reply.json()["kind"]) == (501, "unsupported")
    reply = await python_agent.request("POST", "/contexts/k/execute", {"code": "1", "cwd": str(python_agent.workdir)})
    assert (reply.status, reply.json()["kind"]) == (400, "invalid")
    await python_agent.request("PATCH", "/env", {"env": {"WIDE": "1"}})
    executing = asyncio.create_task(python_agent.execute("k", "code"))
    assert (await context.receive())["env"] == {}
    await context.end()
    await executing
    deleting = asyncio.create_task(python_agent.request("DELETE", "/contexts/k"))
    assert await context.signalled() == signal.SIGKILL
    context.exit(signal.SIGKILL)
    assert (await deleting).status == 200


async def test_a_kernel_that_is_removed_while_it_starts_is_ended(python_agent, seed):
    executing, context = await starting_kernel(python_agent, seed, make={"language": "r"})
    await python_agent.request("GET", "/health")
    deleting = asyncio.create_task(python_agent.request("DELETE", "/contexts/k"))
    assert await context.signalled() == signal.SIGKILL
    context.exit(signal.SIGKILL)
    assert (await deleting).status == 200
    assert "the context was removed" in (await executing).json()["message"]
    assert not os.path.exists(context.request["kernel"]["directory"])
