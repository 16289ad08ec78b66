"""Small words that many tests use."""

from __future__ import annotations

import http.client
import importlib
import inspect
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import e2b
import package
import pytest
from packaging.version import Version
from place import PLACE

URL = PLACE["url"]
IMPOSSIBLE_ID = "izzzzzzzzzzzzzzzzzzzz"
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


NO_SUCH_SANDBOX = getattr(e2b, "SandboxNotFoundException", e2b.NotFoundException)
"""Older versions have no class of its own for it."""


def since(version: str) -> pytest.MarkDecorator:
    """For what older versions of the client do otherwise."""
    return pytest.mark.skipif(Version(package.VERSION) < Version(version), reason=f"as it is since {version}")


def option_names(table: str) -> frozenset[str]:
    """The keys of the client's typed dictionary of this name: none in versions without it."""
    places = map(importlib.import_module, ("e2b", "e2b.connection_config", "e2b.sandbox.sandbox_api"))
    found = [getattr(place, table, None) for place in places]
    return frozenset(key for each in found for key in getattr(each, "__annotations__", ()))


def said(sandbox: Any, command: str, **more: Any) -> str:
    """Standard output of a command that must succeed."""
    return str(sandbox.commands.run(command, **more).stdout).strip()


def has(driven: Any, name: str) -> bool:
    """Whether this version's object has such a member."""
    return hasattr(type(driven._subject), name)


def accepted(function: Any) -> set[str]:
    """The names of its parameters, in this version."""
    return set(inspect.signature(function).parameters)


def pause(sandbox: Any) -> object:
    """By the name that the version has for it."""
    return sandbox.pause() if has(sandbox, "pause") else sandbox.beta_pause()


def pages(paginator: Any) -> Iterator[Any]:
    while paginator.has_next:
        yield from paginator.next_items()


def routed(sandbox: Any, port: int) -> dict[str, str]:
    """Headers that lead to a port of a sandbox, where there are no names."""
    return {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": str(port)}


class Proxy(BaseHTTPRequestHandler):
    """Forwards what names a whole address."""

    asked: list[str]

    def _forward(self) -> None:
        parts = urlsplit(self.path)
        self.asked.append(f"{self.command} {parts.path}")
        body = b"".join(self._body())
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(self.command, target, body or None, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    def _body(self) -> Iterator[bytes]:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            yield self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return
        del self.headers["Transfer-Encoding"]
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()

    do_GET = do_POST = do_DELETE = do_PUT = _forward

    def log_message(self, format: str, *args: Any) -> None:
        pass
