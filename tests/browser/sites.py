"""What a browser visits: programs in sandboxes, and their URLs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from names import DOMAIN
from stack import Box, Stack, until

PROGRAM = """
import base64, hashlib, http.server, json, pathlib

class Told(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.partition("?")[0]
        arrived = {"method": self.command, "target": self.path, "headers": self.headers.items()}
        with open("arrived.jsonl", "a") as log:
            log.write(json.dumps(arrived) + "\\n")
        if "Upgrade" in self.headers:
            self.switch()
        else:
            self.answer(path)

    def answer(self, path):
        page = json.loads(pathlib.Path("pages.json").read_text()).get(path)
        body = (page or {"body": ""})["body"].encode()
        self.send_response(200 if page else 404)
        self.send_header("Content-Length", str(len(body)))
        for name, value in page["fields"] if page else ():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def switch(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.wfile.write(b"\\x81\\x05hello")
        self.close_connection = True

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Told).serve_forever()
"""


@dataclass
class Site:
    """A program at port 8000 of a sandbox that answers as it is told, says hello to each WebSocket, and writes
    down what arrives."""

    box: Box
    pages: dict[str, dict[str, Any]] = field(default_factory=dict)

    def start(self) -> None:
        self._store()
        write(self.box, "told.py", PROGRAM)
        start(self.box, "python3 told.py", 8000)

    def put(self, path: str, body: str, *fields: tuple[str, str], kind: str = "text/html") -> None:
        self.pages[path] = {"body": body, "fields": [("Content-Type", kind), *fields]}
        self._store()

    def _store(self) -> None:
        write(self.box, "pages.json", json.dumps(self.pages))

    def by_name(self, path: str = "/") -> str:
        return by_name(self.box, path)

    def by_path(self, path: str = "/") -> str:
        return f"{origin(self.box.stack)}/s/{self.box.id}/8000{path}"

    def log(self) -> str:
        """All that arrived, a request a line."""
        said = self.box.agent("GET", "/files/read", params={"path": "/workspace/arrived.jsonl"})
        return str(said.raise_for_status().json()["content"])

    def arrived(self, path: str) -> list[dict[str, str]]:
        """The headers of each request for this path, names in lower case."""
        lines = map(json.loads, self.log().splitlines())
        found = [line["headers"] for line in lines if line["target"].partition("?")[0] == path]
        return [{name.lower(): value for name, value in headers} for headers in found]


def origin(stack: Stack) -> str:
    """Of the API, and of all that is reached by path."""
    return stack.installation.url


def by_name(box: Box, path: str = "/", port: int = 8000) -> str:
    return f"https://{port}-{box.id}.{DOMAIN}:{box.stack.port}{path}"


def write(box: Box, name: str, content: str) -> None:
    box.agent("POST", "/files/write", json={"path": f"/workspace/{name}", "content": content}).raise_for_status()


def run(box: Box, command: str) -> None:
    """In the background."""
    body = {"command": command, "workdir": "/workspace", "timeout": 600}
    box.agent("POST", "/commands/background", json=body).raise_for_status()


def start(box: Box, command: str, port: int) -> None:
    """Returns when it listens."""
    run(box, command)
    key = {"X-API-Key": box.stack.installation.api_key}
    until(lambda: box.stack.client.get(f"/s/{box.id}/{port}/", headers=key).status_code != 502, f"port {port} listens")
