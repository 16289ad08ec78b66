"""A real agent as an ordinary process, spoken to over its Unix socket. Nothing is polled for: the socket listens before
the agent starts, so the first request waits in the kernel's queue until it is there."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from atoll.wire.frames import Frame, FrameDecoder

SOURCE = Path(__file__).parents[3] / "src"
LINEFLUSH_SOURCE = SOURCE / "atoll/agent/native/lineflush.c"


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One keep-alive HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send_head(self, method: str, target: str, headers: dict[str, str]) -> None:
        lines = [f"{method} {target} HTTP/1.1", "Host: agent", *(f"{name}: {value}" for name, value in headers.items())]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())

    async def read_head(self) -> tuple[int, dict[str, str]]:
        raw = await self.reader.readuntil(b"\r\n\r\n")
        status_line, *lines = raw.decode().strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(status_line.split()[1]), headers

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readexactly(2)

    async def read_reply(self) -> Reply:
        status, headers = await self.read_head()
        if "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        else:
            body = b"".join([chunk async for chunk in self.chunks()])
        return Reply(status, headers, body)

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        await self.send(method, path, body, query, headers)
        return await self.read_reply()

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        target = f"{path}?{urlencode(query, errors='surrogateescape')}" if query else path
        self.send_head(method, target, {"Content-Length": str(len(data)), **(headers or {})})
        self.writer.write(data)
        await self.writer.drain()

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


class Stream:
    """The frames of one answer."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._frames = self._decode()

    async def _decode(self) -> AsyncIterator[Frame]:
        decoder = FrameDecoder()
        async for chunk in self._connection.chunks():
            for frame in decoder.feed(chunk):
                yield frame

    async def next(self) -> Frame:
        return await anext(self._frames)

    async def next_json(self) -> Any:
        frame = await self.next()
        assert frame.type == b"J", frame
        return frame.json()

    async def until(self, text: bytes) -> bytes:
        """Output of both streams until `text` is in it."""
        seen = b""
        while text not in seen:
            frame = await self.next()
            assert frame.type != b"J", (seen, frame)
            seen += frame.payload
        return seen

    async def rest(self) -> list[Frame]:
        return [frame async for frame in self._frames]


class Outcome(NamedTuple):
    start: Any
    stdout: bytes
    stderr: bytes
    end: Any
    objects: list[Any]

    @classmethod
    def of(cls, frames: list[Frame]) -> Outcome:
        objects = [frame.json() for frame in frames if frame.type == b"J"]
        out = b"".join(frame.payload for frame in frames if frame.type == b"O")
        err = b"".join(frame.payload for frame in frames if frame.type == b"E")
        return cls(objects[0], out, err, objects[-1], objects[1:-1])


class Agent:
    def __init__(self, path: Path, process: subprocess.Popen[bytes], workdir: Path) -> None:
        self.path = path
        self.process = process
        self.workdir = workdir

    @property
    def pid(self) -> int:
        return self.process.pid

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        connection = Connection(*await asyncio.open_unix_connection(str(self.path)))
        try:
            yield connection
        finally:
            await connection.close()

    async def request(self, method: str, path: str, body: Any = None, **options: Any) -> Reply:
        async with self.connect() as connection:
            return await connection.request(method, path, body, **options)

    @asynccontextmanager
    async def stream(self, method: str, path: str, body: Any = None, **options: Any) -> AsyncIterator[Stream]:
        async with self.connect() as connection:
            await connection.send(method, path, body, **options)
            status, headers = await connection.read_head()
            if "content-length" in headers:
                detail = await connection.reader.readexactly(int(headers["content-length"]))
                raise AssertionError(f"{status}: {detail!r}")
            assert headers["content-type"] == "application/vnd.atoll.frames"
            yield Stream(connection)

    async def outcome(self, method: str, path: str, body: Any = None, **options: Any) -> Outcome:
        async with self.stream(method, path, body, **options) as stream:
            return Outcome.of(await stream.rest())

    async def run(self, *argv: str, **spec: Any) -> Outcome:
        return await self.outcome("POST", "/processes", {"argv": list(argv), **spec})

    async def execute(self, context: str, code: str, **spec: Any) -> Outcome:
        return await self.outcome("POST", f"/contexts/{context}/execute", {"code": code, **spec})

    def memory_kib(self) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    def stop(self) -> None:
        """With what it started: orphans are the agent's children too."""
        for pid in [*descendants(self.pid), self.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [found for child in map(int, children) for found in (*descendants(child), child)]


class StartAgent:
    """Starts agents, and ends them with the fixture."""

    def __init__(self, directory: Path, lineflush: str) -> None:
        self._directory = directory
        self._lineflush = lineflush
        self._agents: list[Agent] = []

    def __call__(self, seed: socket.socket | None = None, prefix: Sequence[str] = (), **config: Any) -> Agent:
        place = self._directory / str(len(self._agents))
        workdir = place / "work"
        workdir.mkdir(parents=True)
        path = place / "agent.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen(512)
            config = {"workdir": str(workdir), "lineflush": self._lineflush, **config}
            argv = ["--listen-fd", str(listener.fileno()), "--config", json.dumps(config)]
            kept = [listener.fileno()]
            if seed is not None:
                argv += ["--seed-fd", str(seed.fileno())]
                kept.append(seed.fileno())
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "atoll.agent", *argv],
                pass_fds=kept,
                cwd=workdir,
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
            )
        agent = Agent(path, process, workdir)
        self._agents.append(agent)
        return agent

    def stop_all(self) -> None:
        for agent in self._agents:
            agent.stop()


@pytest.fixture(scope="session")
def lineflush(tmp_path_factory: pytest.TempPathFactory) -> str:
    if shutil.which("gcc") is None:
        return "/nonexistent"
    target = tmp_path_factory.mktemp("native") / "lineflush.so"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-nostdlib", "-fPIC", "-fno-stack-protector"]
    subprocess.run(["gcc", *flags, "-o", str(target), str(LINEFLUSH_SOURCE)], check=True)
    return str(target)


@pytest.fixture
def start_agent(tmp_path: Path, lineflush: str) -> Iterator[StartAgent]:
    starter = StartAgent(tmp_path, lineflush)
    yield starter
    starter.stop_all()


@pytest.fixture(scope="session")
def start_agents(tmp_path_factory: pytest.TempPathFactory, lineflush: str) -> Iterator[StartAgent]:
    """For agents that several tests share."""
    starter = StartAgent(tmp_path_factory.mktemp("agent"), lineflush)
    yield starter
    starter.stop_all()


@pytest.fixture(scope="session")
def shared_agent(start_agents: StartAgent) -> Agent:
    return start_agents()


@pytest.fixture
def agent(shared_agent: Agent, tmp_path: Path) -> Agent:
    """The session's agent with a directory of the test's own."""
    return Agent(shared_agent.path, shared_agent.process, tmp_path)
