"""A plain keep-alive HTTP client for an Atoll: what the service costs, without any SDK."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

from atoll.testing.installation import Installation


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
        return json.loads(text) if text else {}


class Api:
    def __init__(self, server: Installation, by_address: bool = False) -> None:
        """`by_address`: at 127.0.0.1 and without TLS, whatever its name is."""
        self.url = f"http://127.0.0.1:{urlsplit(server.url).port}" if by_address else server.url
        self.control = Connection(self.url, {"X-API-Key": server.api_key})
        self.connection: Connection | None = None

    def create(self, template: str, **more: object) -> SandboxClient:
        return SandboxClient(self, self.control.call("POST", "/v1/sandboxes", {"template_name": template, **more}))


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

    def write(self, path: str, content: str) -> None:
        self.agent.call("POST", f"/s/{self.id}/files/write", {"path": path, "content": content})

    def read(self, path: str) -> object:
        return self.agent.call("GET", f"/s/{self.id}/files/read?path={path}")["content"]

    def pause(self) -> None:
        self.api.control.call("POST", f"/v1/sandboxes/{self.id}/pause")

    def resume(self) -> None:
        self.api.control.call("POST", f"/v1/sandboxes/{self.id}/resume")

    def set_network(self, network: dict[str, object]) -> None:
        self.api.control.call("PUT", f"/v1/sandboxes/{self.id}/network", network)

    def kill(self) -> None:
        self.api.control.call("DELETE", f"/v1/sandboxes/{self.id}")
