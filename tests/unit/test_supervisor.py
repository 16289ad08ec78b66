"""Children are tiny Python programs that say on a pipe what happens to them: every wait is for an event."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from atoll import compose, supervisor
from atoll.core.errors import Conflict, Unavailable
from atoll.core.settings import Places
from atoll.supervisor import Backoff, ChildSpec, Supervisor

CHILD = """
import os, signal, sys
name, pipe = sys.argv[1], int(sys.argv[2])
def end(*_):
    os.write(pipe, f"{name} stopped\\n".encode())
    os._exit(0)
signal.signal(signal.SIGTERM, end)
os.write(pipe, f"{name} {os.getpid()}\\n".encode())
while True:
    signal.pause()
"""


class Stage:
    """Three children and what they said, in order."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        self.said: list[str] = []
        self.pids: dict[str, asyncio.Queue[int]] = {name: asyncio.Queue() for name in ("node", "server", "edge")}
        self.lives: dict[str, asyncio.Queue[int]] = {name: asyncio.Queue() for name in self.pids}
        self.sandboxes_stopped: list[bool] = []

    def spec(self, name: str) -> ChildSpec:
        async def ready() -> None:
            self.lives[name].put_nowait(await self.pids[name].get())

        command = [sys.executable, "-c", CHILD, name, str(self.pipe)]
        return ChildSpec(name, command, {}, ready, (self.pipe,))

    async def listen(self, reader: asyncio.StreamReader) -> None:
        while line := (await reader.readline()).decode():
            name, word = line.split()
            self.said.append(line.strip() if word == "stopped" else name)
            if word != "stopped":
                self.pids[name].put_nowait(int(word))


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """When the block is left, everything that was said has been heard."""
    read, write = os.pipe()
    reader = asyncio.StreamReader()
    with os.fdopen(read, "rb") as file:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), file
        )
        here = Stage(write)
        listening = asyncio.create_task(here.listen(reader))
        try:
            yield here
        finally:
            os.close(write)
            await listening
            transport.close()


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[Supervisor]:
    async def stop_sandboxes() -> None:
        stage.sandboxes_stopped.append(True)

    async def serving() -> None:
        assert all(not queue.empty() for queue in stage.lives.values())

    it = Supervisor([stage.spec(name) for name in stage.pids], serving, stop_sandboxes)
    announced = asyncio.Event()
    task = asyncio.create_task(it.run(announced.set))
    await announced.wait()
    try:
        yield it
    finally:
        it.request_stop()
        await task


async def test_children_stop_from_the_front_and_sandboxes_before_their_node() -> None:
    async with stage() as here, running(here):
        pass
    assert sorted(here.said[:3]) == ["edge", "node", "server"]
    assert here.said[3:] == ["edge stopped", "server stopped", "node stopped"]
    assert here.sandboxes_stopped == [True]


async def test_a_child_that_dies_is_replaced_at_once_and_the_others_are_left_alone() -> None:
    async with stage() as here, running(here):
        killed = await here.lives["server"].get()
        os.kill(killed, signal.SIGKILL)
        assert await here.lives["server"].get() != killed
    assert sorted(line for line in here.said if "stopped" not in line) == ["edge", "node", "server", "server"]


async def test_an_upgrade_replaces_node_and_server_and_leaves_the_edge() -> None:
    async with stage() as here, running(here) as it:
        first = [await here.lives[name].get() for name in ("node", "server")]
        it.request_upgrade()
        second = [await here.lives[name].get() for name in ("node", "server")]
        assert not set(first) & set(second)
    assert here.said[3:7] == ["node stopped", "node", "server stopped", "server"]
    assert here.said.count("edge") == 1


async def test_a_stop_while_a_child_is_not_ready_yet_ends_it_and_stops_no_sandboxes() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async def unwanted() -> None:
        raise AssertionError("no node was ready to be asked")

    async with stage() as here:
        it = Supervisor([replace(here.spec("node"), ready=never)], never, unwanted)
        task = asyncio.create_task(it.run(lambda: None))
        await here.pids["node"].get()
        it.request_stop()
        await task
    assert here.said == ["node", "node stopped"]


async def test_a_start_that_comes_to_nothing_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "START_TIMEOUT_S", 0.0)

    async def never() -> None:
        await asyncio.Event().wait()

    async with stage() as here:
        with pytest.raises(Unavailable):
            await Supervisor([replace(here.spec("node"), ready=never)], never, never).run(lambda: None)
    assert "node" not in here.said or here.said[-1] == "node stopped"


def test_the_first_restart_is_immediate_then_the_delay_doubles_up_to_a_limit() -> None:
    backoff = Backoff()
    assert [backoff.after(1.0) for _ in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]


def test_half_a_minute_of_life_forgives() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.after(1.0)
    assert (backoff.after(31.0), backoff.after(1.0)) == (0, 1)


def test_one_supervisor_for_a_data_directory(tmp_path: Path) -> None:
    places = Places.of(tmp_path / "data", tmp_path / "run")
    with supervisor.data_lock(places), pytest.raises(Conflict, match="running"), supervisor.data_lock(places):
        pass
    with supervisor.data_lock(places):
        pass


def test_the_lock_is_not_inherited(tmp_path: Path) -> None:
    places = Places.of(tmp_path / "data", tmp_path / "run")
    with supervisor.data_lock(places):
        child = subprocess.Popen(["sleep", "600"], close_fds=False)
    try:
        with (places.data / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        child.kill()
        child.wait()


def test_a_port_that_is_taken_is_said() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"127.0.0.1:{port}"):
            supervisor.bind("127.0.0.1", port)


def test_a_wildcard_is_reached_by_loopback() -> None:
    config = compose.read_config({}, {})
    assert config.public_url("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert config.public_url("127.0.0.1", 8080) == "http://127.0.0.1:8080"


def test_private_files_appear_complete_and_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("old")
    path.chmod(0o644)
    supervisor.write_private(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_published_is_what_a_client_needs(tmp_path: Path) -> None:
    variables = tmp_path / "env"
    flags = {"data_dir": str(tmp_path / "data"), "print_env": str(variables)}
    config = compose.read_config(flags, {})
    places = Places.of(tmp_path / "data", tmp_path / "run")
    config = compose.Config(**{**vars(config), "places": places})
    supervisor.make_directories(places)
    places.first_key.write_text("e2b_key\n")
    supervisor.publish(config, "http://127.0.0.1:1", "http://127.0.0.1:1")
    assert variables.read_text() == "ATOLL_BASE_URL=http://127.0.0.1:1\nATOLL_API_KEY=e2b_key\n"
    assert compose.running_url(places) == "http://127.0.0.1:1"
    supervisor.withdraw(places)
    assert compose.running_url(places) is None


def test_with_a_domain_clients_are_told_whom_to_trust_and_this_machine_needs_no_name(tmp_path: Path) -> None:
    variables = tmp_path / "env"
    flags = {"data_dir": str(tmp_path / "data"), "print_env": str(variables), "domain": "d.test"}
    config = compose.read_config(flags, {})
    config = replace(config, places=Places.of(tmp_path / "data", tmp_path / "run"))
    supervisor.make_directories(config.places)
    supervisor.publish(config, config.public_url("0.0.0.0", 1), supervisor.local_url("0.0.0.0", 1))
    told = dict(line.split("=") for line in variables.read_text().splitlines())
    assert told["ATOLL_BASE_URL"] == "https://d.test:1"
    assert told["SSL_CERT_FILE"] == str(config.places.tls / "ca.pem")
    assert compose.running_url(config.places) == "http://127.0.0.1:1"


def test_the_edge_inherits_the_listener_and_roles_get_their_settings(tmp_path: Path) -> None:
    config = compose.read_config({"data_dir": str(tmp_path), "listen": "127.0.0.1:0"}, {})
    with closing(supervisor.bind(config.host, config.port)) as listener:
        node, server, edge = supervisor.installation(config, listener, "INFO")
        assert edge.pass_fds == (listener.fileno(),)
        port = listener.getsockname()[1]
    settings = json.loads(server.environment[compose.SETTINGS_VARIABLE])
    assert compose.decode_server(settings) == config.server(f"http://127.0.0.1:{port}")
    assert compose.decode_node(json.loads(node.environment[compose.SETTINGS_VARIABLE])) == config.node()
    assert compose.decode_edge(json.loads(edge.environment[compose.SETTINGS_VARIABLE])).port == port
    assert {spec.environment[compose.PARENT_VARIABLE] for spec in (node, server, edge)} == {str(os.getpid())}


async def test_it_serves_when_edge_server_and_node_say_so_together() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /health ")
        writer.write(answers.pop(0))
        writer.close()

    answers = [
        b"HTTP/1.1 502 Bad Gateway\r\n\r\n{}",
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\n\r\n{"ready": false}',
        b'HTTP/1.1 200 OK\r\n\r\n{"ready": true}',
        b"too far",
    ]
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        await supervisor.serves(*server.sockets[0].getsockname())
    assert answers == [b"too far"]


def test_the_run_directory_goes_with_a_clean_end_and_stays_while_a_sandbox_lives(tmp_path: Path) -> None:
    places = Places.of(tmp_path / "data", tmp_path / "run")
    (places.run / "launcher").mkdir(parents=True)
    record = places.run / "launcher" / "abc.json"
    record.touch()
    supervisor.withdraw(places)
    assert record.exists()
    record.unlink()
    (places.run / "launcher.log").write_text("")
    supervisor.withdraw(places)
    assert not places.run.exists()


def test_a_log_that_says_something_is_kept(tmp_path: Path) -> None:
    places = Places.of(tmp_path / "data", tmp_path / "run")
    places.run.mkdir(parents=True)
    (places.run / "launcher.log").write_text("why it ended\n")
    supervisor.withdraw(places)
    assert [path.name for path in places.run.iterdir()] == ["launcher.log"]
