"""A scripted API on loopback, which the commands reach as they reach the real one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from click.testing import CliRunner, Result

from atoll.cli.main import cli

BOX = "abcd" + "0" * 16
KEY = "e2b_" + "0" * 40


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    key: str | None


Answer = tuple[int, Any]


@dataclass
class ScriptedApi:
    """Answers as told, remembers what it was asked."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    _answers: dict[tuple[str, str], Callable[[Asked], Answer]] = field(default_factory=dict)

    def answers(self, method: str, path: str, body: Any, status: int = 200) -> None:
        self._answers[method, path] = lambda asked: (status, body)

    def on(self, method: str, path: str, answer: Callable[[Asked], Answer]) -> None:
        self._answers[method, path] = answer

    def has_sandboxes(self, *rows: dict[str, Any]) -> None:
        self.answers("GET", "/v1/sandboxes", {"data": list(rows), "has_more": False})
        for row in rows:
            self.answers("GET", f"/v1/sandboxes/{row['id']}", row)

    def run(self, *words: object, input: str | bytes | None = None, exit_code: int = 0) -> Result:
        command = [*map(str, words), "--url", self.url, "--key", KEY]
        result = CliRunner().invoke(cli, command, input=input, catch_exceptions=False)
        assert result.exit_code == exit_code, result.output
        return result

    def handle(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        found = self._answers.get((asked.method, asked.path))
        return found(asked) if found else (404, {"message": f"no {asked.path}", "code": "NOT_FOUND"})


@pytest.fixture(scope="session")
def _server() -> Iterator[Any]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            place = urlsplit(self.path)
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            asked = Asked(self.command, place.path, dict(parse_qsl(place.query)), body, self.headers.get("X-API-Key"))
            status, value = self.server.script.handle(asked)  # type: ignore[attr-defined]
            sent = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def api(_server: Any) -> ScriptedApi:
    made = ScriptedApi(f"http://127.0.0.1:{_server.server_address[1]}")
    _server.script = made
    return made


@pytest.fixture
def box() -> dict[str, Any]:
    """A sandbox as the API has it."""
    return {
        "id": BOX,
        "status": "running",
        "template_name": "base",
        "region": "here",
        "created_at": "2026-01-02T03:04:05.678901+00:00",
        "expires_at": None,
        "direct_url": f"http://127.0.0.1:1/s/{BOX}",
        "resources": {"vcpu": 1, "memory_mb": 512, "disk_mb": 1024},
        "internet_access": True,
        "network": {},
        "traffic_access_token": "secret-token",
    }
