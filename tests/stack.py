"""The whole of Atoll for tests as root: one installation for the session, plain HTTP to it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from atoll.testing.installation import Installation


def templates_dir() -> Path:
    """Kept between runs: building the templates takes minutes, and they change rarely."""
    chosen = os.environ.get("ATOLL_TEST_DATA_DIR")
    return Path(chosen) if chosen else Path.home() / ".cache" / "atoll" / "test"


@dataclass
class Box:
    """A sandbox, driven as the SDK drives it."""

    stack: Stack
    id: str
    token: str

    def agent(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.stack.client.request(method, f"/s/{self.id}{path}", headers=headers, **arguments)

    def python(self, code: str, timeout: float = 60, **more: Any) -> dict[str, Any]:
        body = {"code": code, "language": "python", "timeout": timeout, "workdir": "/workspace", **more}
        return self._ok(self.agent("POST", "/execute", json=body, timeout=timeout + 30))

    def run(self, command: str, timeout: float = 60) -> dict[str, Any]:
        body = {"command": "bash", "args": ["-c", command], "timeout": timeout, "workdir": "/workspace"}
        return self._ok(self.agent("POST", "/commands/run", json=body, timeout=timeout + 30))

    def sh(self, command: str) -> str:
        """Standard output of a command that must succeed."""
        result = self.run(command)
        assert result["exit_code"] == 0, result
        return str(result["stdout"]).strip()

    def control(self, method: str, path: str = "", **arguments: Any) -> httpx.Response:
        return self.stack.api(method, f"/v1/sandboxes/{self.id}{path}", **arguments)

    def state(self) -> str:
        return str(self._ok(self.control("GET"))["status"])

    def kill(self) -> None:
        self.control("DELETE")

    @staticmethod
    def _ok(response: httpx.Response) -> dict[str, Any]:
        assert response.status_code < 300, (response.status_code, response.text)
        return dict(response.json())


class Stack:
    def __init__(self, installation: Installation, by_address: bool = False) -> None:
        """`by_address`: at 127.0.0.1 and without TLS, whatever its name is."""
        self.installation = installation
        self.port = int(installation.url.rpartition(":")[2])
        self.url = f"http://127.0.0.1:{self.port}" if by_address else installation.url
        self.client = httpx.Client(base_url=self.url, timeout=90)

    def api(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return self.client.request(method, path, headers={"X-API-Key": self.installation.api_key}, **arguments)

    def create(self, template: str = "code-interpreter", **more: Any) -> Box:
        response = self.api("POST", "/v1/sandboxes", json={"template_name": template, **more})
        assert response.status_code == 201, (response.status_code, response.text)
        made = response.json()
        return Box(self, made["id"], made["auth_token"])

    @contextlib.contextmanager
    def box(self, template: str = "code-interpreter", **more: Any) -> Iterator[Box]:
        made = self.create(template, **more)
        try:
            yield made
        finally:
            made.kill()

    def host_pid(self, box: Box) -> int:
        """PID 1 of a sandbox, as the host counts."""
        return int(self.record(box)["pid"])

    def record(self, box: Box) -> dict[str, Any]:
        """The launcher's."""
        return dict(json.loads((self.installation.places.run / "launcher" / f"{box.id}.json").read_text()))


def content(path: Path) -> bytes:
    """Nothing, if the file or the process is gone: others come and go meanwhile."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return path.read_bytes()
    return b""


def until(condition: Callable[[], object], what: str, timeout_s: float = 20) -> None:
    """For facts that the kernel or another process brings about and nobody announces."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)
