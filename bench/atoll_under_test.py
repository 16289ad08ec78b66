"""An Atoll of our own for a measurement, and a plain keep-alive HTTP client for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

READY_TIMEOUT_S = 900  # the first run builds the templates


@dataclass(frozen=True)
class Atoll:
    url: str
    api_key: str
    data_dir: Path

    def http(self) -> Api:
        return Api(self)

    def template_layers(self, name: str) -> list[Path]:
        described = json.loads((self.data_dir / "node" / "templates" / name / "template.json").read_text())
        return [Path(layer) for layer in described["layers"]]


class Connection:
    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        self.headers = {"Content-Type": "application/json", **headers}

    def call(self, method: str, path: str, body: object = None) -> dict[str, object]:
        data = None if body is None else json.dumps(body)
        self.connection.request(method, path, data, self.headers)
        response = self.connection.getresponse()
        text = response.read()
        if response.status >= 400:
            raise RuntimeError(f"{method} {path}: {response.status} {text[:300]!r}")
        return json.loads(text)


class Api:
    def __init__(self, server: Atoll) -> None:
        self.url = server.url
        self.control = Connection(server.url, {"X-API-Key": server.api_key})
        self.connection: Connection | None = None

    def create(self, template: str) -> SandboxClient:
        return SandboxClient(self, self.control.call("POST", "/v1/sandboxes", {"template_name": template}))


class SandboxClient:
    def __init__(self, api: Api, created: dict[str, object]) -> None:
        self.api = api
        self.id = created["id"]
        self.agent = Connection(api.url, {"Authorization": f"Bearer {created['auth_token']}"})

    def execute(self, code: str) -> dict[str, object]:
        return self.agent.call("POST", f"/s/{self.id}/execute", {"code": code, "language": "python", "timeout": 60})

    def command(self, command: str) -> dict[str, object]:
        body = {"command": "bash", "args": ["-c", command], "timeout": 60, "workdir": "/workspace"}
        return self.agent.call("POST", f"/s/{self.id}/commands/run", body)

    def kill(self) -> None:
        self.api.control.call("DELETE", f"/v1/sandboxes/{self.id}")


@contextlib.contextmanager
def atoll() -> Iterator[Atoll]:
    data_dir = Path(os.environ.get("ATOLL_DATA_DIR") or Path.home() / ".cache" / "atoll" / "bench")
    with tempfile.TemporaryDirectory() as scratch:
        env_file = Path(scratch) / "env"
        read, write = os.pipe()
        argv = [sys.executable, "-m", "atoll.cli.main", "up", "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(
            [*argv, "--data-dir", str(data_dir), "--print-env", str(env_file)], stdout=write, stdin=subprocess.DEVNULL
        )
        os.close(write)
        try:
            with open(read) as output:
                for line in output:
                    if env_file.exists():
                        break
                    print(line, end="", flush=True)
                values = dict(line.removeprefix("export ").split("=", 1) for line in env_file.read_text().splitlines())
                values = {name: value.strip("'\"") for name, value in values.items()}
                yield Atoll(values["ATOLL_BASE_URL"], values["ATOLL_API_KEY"], data_dir)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
