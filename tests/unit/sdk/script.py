"""A server that says what it is told to say, and both forms of the SDK to call it with."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import atoll


@dataclass(frozen=True)
class Said:
    """One answer. `broken`: the connection is closed in its place."""

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    broken: bool = False


@dataclass(frozen=True)
class Heard:
    method: str
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw) if self.raw else None


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # of the usual 5 the sixth at once is asked to come again after a second
    daemon_threads = True


class Script:
    """A loopback server. Answers are taken from `answers` in turn; then it answers `{}` with `otherwise`'s status."""

    def __init__(self) -> None:
        self.answers: list[Said] = []
        self.otherwise = Said({"auth_token": "t", "token_expires_at": "2999-01-01T00:00:00Z"})
        self.heard: list[Heard] = []
        self.connections: set[tuple[str, int]] = set()
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_one_request(self) -> None:
                script.connections.add(self.client_address)
                super().handle_one_request()

            def do(self) -> None:
                script._answer(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do

            def log_message(self, *args: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        raw = self._body(request, headers)
        self.heard.append(Heard(request.command, request.path, headers, raw))
        said = self.answers.pop(0) if self.answers else self.otherwise
        if said.broken:
            request.close_connection = True
            return
        body = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
        request.send_response(said.status)
        for name, value in {"Content-Length": str(len(body)), **said.headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    @staticmethod
    def _body(request: BaseHTTPRequestHandler, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            pieces = []
            while size := int(request.rfile.readline(), 16):
                pieces.append(request.rfile.read(size))
                request.rfile.readline()
            request.rfile.readline()
            return b"".join(pieces)
        return request.rfile.read(int(headers.get("content-length", "0")))

    @property
    def last(self) -> Heard:
        return self.heard[-1]

    @property
    def lines(self) -> list[str]:
        return [f"{each.method} {each.path}" for each in self.heard]

    def __enter__(self) -> Script:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass(frozen=True)
class Form:
    """One of the two forms, called in the same words."""

    name: str
    sandbox: type[Any]
    secrets: type[Any]

    def run(self, action: Callable[[], Any]) -> Any:
        """What `action` returns, awaited where that is the form; a generator's items as a list."""

        async def run() -> Any:
            value = action()
            if inspect.isasyncgen(value):
                return [item async for item in value]
            return await value if inspect.isawaitable(value) else value

        if self.name == "async":
            return asyncio.run(run())
        value = action()
        return list(value) if inspect.isgenerator(value) else value


FORMS = (Form("sync", atoll.Sandbox, atoll.Secrets), Form("async", atoll.AsyncSandbox, atoll.AsyncSecrets))
