"""An edge on a free port of 127.0.0.1 between two scripted peers: the server and one sandbox's agent."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web

from atoll.agent.handlers import ports
from atoll.agent.http_server import Counters, Request
from atoll.agent.http_server import listen as agent_listen
from atoll.core.settings import EdgeSettings, Places
from atoll.edge import main
from atoll.edge.gate.gate import Gate
from atoll.edge.main import RunningEdge, serving
from atoll.wire import frames

SANDBOX = "a" * 20
OTHER = "b" * 20
KEY = "5e" * 32
API_KEY = "e2b_" + "0" * 40

Reaction = Callable[["Seen"], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    """A request as it arrived, and the live one for reactions that stream."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    live: web.BaseRequest

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Peer:
    """Answers as told, remembers what it was asked, and says when a client has left."""

    socket: Path
    reactions: dict[tuple[str, str], list[Reaction]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def on(self, method: str, path: str, reaction: Reaction) -> None:
        """The last one told stays; earlier ones are used up in order."""
        self.reactions.setdefault((method, path), []).append(reaction)

    def answers(self, method: str, path: str, value: object, status: int = 200) -> None:
        async def reaction(seen: Seen) -> web.StreamResponse:
            return web.json_response(value, status=status)

        self.on(method, path, reaction)

    def refuses(self, method: str, path: str, kind: str, status: int, message: str = "no") -> None:
        self.answers(method, path, {"kind": kind, "message": message}, status)

    def sends(self, method: str, path: str, body: bytes, status: int = 200, **headers: str) -> None:
        async def reaction(seen: Seen) -> web.StreamResponse:
            return web.Response(body=body, status=status, headers=headers)

        self.on(method, path, reaction)

    def streams(self, method: str, path: str, *parts: bytes | asyncio.Event) -> None:
        """Bytes are written as one piece; at an event the stream waits for it."""

        async def reaction(seen: Seen) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "application/vnd.atoll.frames"})
            await response.prepare(seen.live)
            for part in parts:
                if isinstance(part, asyncio.Event):
                    await part.wait()
                else:
                    await response.write(part)
            await response.write_eof()
            return response

        self.on(method, path, reaction)

    def asked(self, method: str, path: str) -> list[Seen]:
        return [seen for seen in self.seen if (seen.method, seen.path) == (method, path)]

    def __iter__(self) -> Any:
        return iter(self.seen)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await request.content.read()  # whatever its size
        except (asyncio.CancelledError, aiohttp.ClientPayloadError):
            self.left.set()
            raise
        seen = Seen(request.method, request.path, dict(request.query), dict(request.headers), body, request)
        self.seen.append(seen)
        self.arrived.set()
        told = self.reactions.get((request.method, request.path))
        if not told:
            return web.json_response({"kind": "not_found", "message": f"no script for {request.path}"}, status=404)
        reaction = told.pop(0) if len(told) > 1 else told[0]
        try:
            return await reaction(seen)
        except asyncio.CancelledError:
            self.left.set()
            raise


class ScriptedServer(Peer):
    """Speaks `/internal/*`: a route table with its stream, API keys, and the activity it was told."""

    def __init__(self, socket: Path) -> None:
        super().__init__(socket)
        self.routes: dict[str, dict[str, Any]] = {}
        self.streamed: list[asyncio.Queue[dict[str, Any] | None]] = []
        self.activity: asyncio.Queue[list[dict[str, Any]]] = asyncio.Queue()
        self.route_asked, self.tells_routes = asyncio.Event(), asyncio.Event()
        self.tells_routes.set()
        self.on("GET", "/internal/routes", self._stream)
        self.on("POST", "/internal/authenticate", self._authenticate)
        self.on("POST", "/internal/activity", self._activity)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith("/internal/routes/"):
            self.route_asked.set()
            await self.tells_routes.wait()
            return self._route(request.path.rpartition("/")[2])
        return await super().handle(request)

    def _route(self, sandbox_id: str) -> web.Response:
        route = self.routes.get(sandbox_id)
        return web.json_response(route or {"error": "no"}, status=200 if route else 404)

    async def _stream(self, seen: Seen) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(seen.live)
        changes: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.streamed.append(changes)
        for message in [*self.routes.values(), {"ready": True}]:
            await response.write(json.dumps(message).encode() + b"\n")
        while (change := await changes.get()) is not None:
            await response.write(json.dumps(change).encode() + b"\n")
        return response

    async def _authenticate(self, seen: Seen) -> web.StreamResponse:
        return web.json_response({"allowed": seen.json["credential"] == API_KEY})

    async def _activity(self, seen: Seen) -> web.StreamResponse:
        self.activity.put_nowait(seen.json["activity"])
        return web.json_response({})

    def publish(self, message: dict[str, Any]) -> None:
        if message.get("removed"):
            self.routes.pop(message["id"], None)
        else:
            self.routes[message["id"]] = message
        for changes in self.streamed:
            changes.put_nowait(message)


async def listen(peer: Peer) -> web.ServerRunner:
    runner = web.ServerRunner(web.Server(peer.handle, handler_cancellation=True, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(peer.socket)).start()
    return runner


def route(sandbox_id: str, socket: Path, **more: Any) -> dict[str, Any]:
    return {
        "id": sandbox_id,
        "incarnation": 1,
        "state": "running",
        "socket": str(socket),
        "workdir": "/workspace",
        "python": True,
        **more,
    }


def token_for(sandbox_id: str, lifetime_s: float = 3600.0, key: str = KEY) -> str:
    now = time.time()
    claims = {"sub": sandbox_id, "iat": int(now), "exp": now + lifetime_s, "jti": secrets.token_hex(4)}
    return jwt.encode(claims, bytes.fromhex(key), algorithm="HS256")


def frame(value: object) -> bytes:
    return frames.encode_json(value)


def out(text: str | bytes) -> bytes:
    return frames.encode(frames.STDOUT, text if isinstance(text, bytes) else text.encode())


def err(text: str) -> bytes:
    return frames.encode(frames.STDERR, text.encode())


def cell_end(status: str = "ok", duration_s: float = 0.5) -> bytes:
    return frame({"type": "end", "status": status, "duration_s": duration_s, "execution_count": 1})


def record(**more: Any) -> dict[str, Any]:
    return {
        "id": "p1",
        "pid": 42,
        "name": "bash",
        "argv": ["bash", "-c", "true"],
        "cwd": "/workspace",
        "user": "user",
        "status": "running",
        "exit_code": None,
        "signal": None,
        "started_at": 1700000000.0,
        "ended_at": None,
        "pty": False,
        **more,
    }


def process_start(**more: Any) -> bytes:
    return frame({"type": "start", "process": record(**more)})


def process_end(exit_code: int | None = 0, status: str = "exited", duration_s: float = 0.25) -> bytes:
    return frame({"type": "end", "process": record(status=status, exit_code=exit_code), "duration_s": duration_s})


@dataclass
class Client:
    """A client of the edge that holds the sandbox's token."""

    session: aiohttp.ClientSession
    origin: str
    token: str
    sandbox: str = SANDBOX

    def url(self, path: str) -> str:
        return f"{self.origin}/s/{self.sandbox}{path}"

    def headers(self, headers: dict[str, str] | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", **(headers or {})}

    async def call(
        self, method: str, path: str, json: object = None, headers: dict[str, str] | None = None, **more: Any
    ) -> tuple[int, dict[str, Any]]:
        kwargs = {"json": json} if json is not None else {}
        async with self.session.request(
            method, self.url(path), headers=self.headers(headers), **kwargs, **more
        ) as response:
            assert response.headers["X-Request-ID"].startswith("req_")
            assert response.content_type == "application/json", await response.text()
            return response.status, await response.json()

    def ws(self, path: str, *, at_root: bool = True) -> Any:
        url = self.origin + path if at_root else self.url(path)
        return self.session.ws_connect(url, headers=self.headers(None))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    places = Places(data=tmp_path / "d", run=tmp_path / "r")
    places.token_key.parent.mkdir(parents=True)
    places.token_key.write_text(KEY + "\n")
    places.run.mkdir()
    return places


@pytest.fixture
async def agent(places: Places) -> AsyncIterator[Peer]:
    peer = Peer(places.run / "agent.sock")
    runner = await listen(peer)
    yield peer
    await runner.cleanup()


@pytest.fixture
async def ports_socket(places: Places) -> AsyncIterator[str]:
    """Of an agent that only connects to ports: the agent's own handler does."""

    async def dispatch(request: Request) -> object:
        request.parameters = {"id": request.path.split("/")[2]}
        return await ports.connect(None, request)  # type: ignore[arg-type]

    path = str(places.run / "ports.sock")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    listening = await agent_listen(sock, dispatch, Counters())  # type: ignore[arg-type]
    yield path
    listening.close()


@pytest.fixture
async def server(places: Places, agent: Peer) -> AsyncIterator[ScriptedServer]:
    peer = ScriptedServer(places.server_socket)
    peer.routes[SANDBOX] = route(SANDBOX, agent.socket)
    runner = await listen(peer)
    yield peer
    await runner.cleanup()


@pytest.fixture
def gates(monkeypatch) -> list[Gate]:
    """Those of the edges that a test has, to look into."""
    made: list[Gate] = []

    class Kept(Gate):
        def __init__(self, *given) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(main, "Gate", Kept)
    return made


@pytest.fixture
async def edge(places: Places, server: ScriptedServer) -> AsyncIterator[RunningEdge]:
    async with serving(EdgeSettings(places, "127.0.0.1", 0)) as running:
        await running.routes.ready.wait()
        yield running


@pytest.fixture
def origin(edge: RunningEdge) -> str:
    return f"http://127.0.0.1:{edge.port}"


@pytest.fixture
async def session(edge: RunningEdge) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def client(session: aiohttp.ClientSession, origin: str) -> Client:
    return Client(session, origin, token_for(SANDBOX))


@dataclass(frozen=True)
class Kit:
    """The builders above, for tests: conftest modules cannot be imported by name."""

    SANDBOX = SANDBOX
    OTHER = OTHER
    API_KEY = API_KEY
    KEY = KEY
    route = staticmethod(route)
    token_for = staticmethod(token_for)
    frame = staticmethod(frame)
    out = staticmethod(out)
    err = staticmethod(err)
    cell_end = staticmethod(cell_end)
    record = staticmethod(record)
    process_start = staticmethod(process_start)
    process_end = staticmethod(process_end)
    Client = Client
    Peer = Peer
    listen = staticmethod(listen)


@pytest.fixture
def kit() -> Kit:
    return Kit()
