"""A real seed in a process of its own, real contexts, real pipes: the agent's part is played by the test."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from atoll.wire import frames

SOURCE = Path(__file__).parents[3] / "src"
WITHOUT_IPYTHON = "import sys; sys.modules['IPython'] = None; from atoll.agent.runner.__main__ import main; main()"
LIMIT_S = 30


@dataclass
class Outcome:
    objects: list[dict] = field(default_factory=list)
    stdout: str = ""
    stderr: str = ""

    def of(self, kind: str) -> list[dict]:
        return [one for one in self.objects if one["type"] == kind]

    @property
    def status(self) -> str:
        assert [one["type"] for one in self.objects].count("end") == 1
        return self.objects[-1]["status"]

    @property
    def count(self) -> int:
        return self.objects[-1]["execution_count"]

    @property
    def error(self) -> dict:
        (error,) = self.of("error")
        return error

    @property
    def result(self) -> dict:
        (result,) = self.of("result")
        return result["data"]

    @property
    def text(self) -> str:
        return self.result["text/plain"]

    @property
    def displays(self) -> list[dict]:
        return [one["data"] for one in self.of("display")]


class Context:
    def __init__(self, name: str, pid: int, stream: socket.socket, stdout: int, stderr: int) -> None:
        self.name, self.pid, self.stream = name, pid, stream
        self.pipes = {stdout: "stdout", stderr: "stderr"}
        self._decoder = frames.FrameDecoder()

    def start(self, code: str, env: dict | None = None, cwd: str | None = None, **more: object) -> None:
        self.stream.sendall(frames.encode_json({"op": "execute", "code": code, "env": env or {}, "cwd": cwd, **more}))

    def finish(self, until: Callable[[Outcome], bool] | None = None, outcome: Outcome | None = None) -> Outcome:
        """Read until the cell ends, the context dies, or `until` holds."""
        outcome = outcome or Outcome()
        while not (until is not None and until(outcome)):
            ready, _, _ = select.select([self.stream, *self.pipes], [], [], LIMIT_S)
            assert ready, f"nothing in {LIMIT_S} s after {outcome}"
            self._read_pipes(outcome, [fd for fd in ready if fd in self.pipes])
            if self.stream not in ready:
                continue
            data = self.stream.recv(1 << 20)
            outcome.objects.extend(frame.json() for frame in self._decoder.feed(data))
            if not data or outcome.of("end"):
                self._drain(outcome)
                break
        return outcome

    def run(self, code: str, env: dict | None = None, cwd: str | None = None, **more: object) -> Outcome:
        self.start(code, env, cwd, **more)
        return self.finish()

    def until_prints(self, text: str, outcome: Outcome | None = None) -> Outcome:
        return self.finish(lambda seen: text in seen.stdout, outcome)

    def interrupt(self) -> None:
        os.kill(self.pid, signal.SIGINT)

    def _drain(self, outcome: Outcome) -> None:
        while ready := select.select(list(self.pipes), [], [], 0)[0]:
            self._read_pipes(outcome, ready)

    def _read_pipes(self, outcome: Outcome, ready: list[int]) -> None:
        for fd in ready:
            data = os.read(fd, 1 << 20).decode()
            name = self.pipes[fd]
            setattr(outcome, name, getattr(outcome, name) + data)
            if not data:
                os.close(fd)
                del self.pipes[fd]

    def close(self) -> None:
        self.stream.close()
        for fd in self.pipes:
            os.close(fd)
        self.pipes.clear()


class Seed:
    def __init__(self, arguments: list[str]) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(LIMIT_S)
        with theirs:
            fd = theirs.fileno()
            command = [sys.executable, *arguments, "--seed-fd", str(fd)]
            self.process = subprocess.Popen(command, pass_fds=[fd], env={**os.environ, "PYTHONPATH": str(SOURCE)})
        self.exits: dict[int, dict] = {}
        self._count = 0

    def ask(self, request: object, descriptors: list[int]) -> dict:
        data = request if isinstance(request, bytes) else json.dumps(request).encode()
        socket.send_fds(self.socket, [data], descriptors)
        return self._next(lambda message: message["op"] != "exited")

    def _next(self, wanted: Callable[[dict], bool]) -> dict:
        while True:
            message = json.loads(self.socket.recv(65536))
            if message["op"] == "exited":
                self.exits[message["pid"]] = message
            if wanted(message):
                return message

    def exit_of(self, pid: int) -> dict:
        if pid not in self.exits:
            self._next(lambda message: message.get("pid") == pid)
        return self.exits.pop(pid)

    def fork(self, cwd: str = "/", env: dict | None = None, extra: tuple[int, ...] = (), **changes: object) -> Context:
        self._count += 1
        name = f"c{self._count}"
        ours, theirs = socket.socketpair()
        (stdout, out), (stderr, err) = os.pipe(), os.pipe()
        identity = {"uid": os.getuid(), "gid": os.getgid(), "home": "/", "cwd": cwd, "env": env or dict(os.environ)}
        request = {"op": "fork", "id": name, **identity, **changes}
        answer = self.ask(request, [theirs.fileno(), out, err, *extra])
        theirs.close()
        os.close(out)
        os.close(err)
        assert answer == {"op": "forked", "id": name, "pid": answer.get("pid")}
        return Context(name, answer["pid"], ours, stdout, stderr)

    def close(self) -> int:
        self.socket.close()
        return self.process.wait(LIMIT_S)


@pytest.fixture(scope="session")
def science_seed() -> Iterator[Seed]:
    seed = Seed(["-m", "atoll.agent.runner", "--preload", "numpy,pandas,matplotlib.pyplot"])
    yield seed
    assert seed.close() == 0


@pytest.fixture(scope="session")
def plain_seed() -> Iterator[Seed]:
    """A template with nothing but Python."""
    seed = Seed(["-c", WITHOUT_IPYTHON])
    yield seed
    assert seed.close() == 0


@pytest.fixture(params=["science", "plain"])
def seed(request: pytest.FixtureRequest) -> Seed:
    return request.getfixturevalue(f"{request.param}_seed")


def _context(seed: Seed, directory: Path) -> Iterator[Context]:
    context = seed.fork(cwd=str(directory))
    yield context
    context.close()
    seed.exit_of(context.pid)


@pytest.fixture
def context(seed: Seed, tmp_path: Path) -> Iterator[Context]:
    yield from _context(seed, tmp_path)


@pytest.fixture
def science(science_seed: Seed, tmp_path: Path) -> Iterator[Context]:
    yield from _context(science_seed, tmp_path)


@pytest.fixture
def plain(plain_seed: Seed, tmp_path: Path) -> Iterator[Context]:
    yield from _context(plain_seed, tmp_path)
