"""One line of JSON for each request: time, sandbox, port, status, bytes, duration. Written in batches.

    {"time": 1763720000.123, "sandbox": "i…", "port": 8000, "method": "GET", "path": "/", "status": 200,
     "received": 0, "sent": 1024, "ms": 1.5, "remote": "192.0.2.7", "request_id": "req_…"}

The query is left out: it may hold what is nobody's business. `port` is null for the API and the agents' surface,
`status` 499 when the client left first and 502 when the program broke off.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger("atoll.edge.access")

FLUSH_S = 0.5
BATCH = 1000
MAX_BYTES = 64 * 1024 * 1024
"""Of a file; one older is kept beside it."""
MAX_PATH = 2048
MAX_METHOD = 32


class Line(NamedTuple):
    time: float
    sandbox: str | None
    port: int | None
    method: str
    path: str
    status: int
    received: int
    sent: int
    ms: float
    remote: str
    request_id: str


class AccessLog:
    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        """Its directory is there, or nothing is written."""
        self._path = path
        self._max_bytes = max_bytes
        self._lines: list[Line] = []
        self._timer: asyncio.TimerHandle | None = None

    def write(self, line: Line) -> None:
        if len(line.path) > MAX_PATH or len(line.method) > MAX_METHOD:  # a batch of them would be large
            line = line._replace(path=line.path[:MAX_PATH], method=line.method[:MAX_METHOD])
        self._lines.append(line)
        if len(self._lines) >= BATCH:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if not lines:
            return
        data = "".join(map(_written, lines)).encode()
        try:
            self._append(data)
        except OSError as error:
            log.error("%d lines of the access log are lost: %s", len(lines), error)

    def _append(self, data: bytes) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, data)
            full = os.fstat(fd).st_size >= self._max_bytes
        finally:
            os.close(fd)
        if full:
            self._path.replace(self._path.with_name(self._path.name + ".1"))


_PLAIN = re.compile(r"[ !#-\[\]-~]*")


def _written(line: Line) -> str:
    """As JSON; the library takes five times as long for what needs no escape."""
    at, sandbox, port, method, path, status, received, sent, ms, remote, request_id = line
    if _PLAIN.fullmatch(f"{sandbox}{method}{path}{remote}{request_id}") is None:
        sandbox = sandbox and _escaped(sandbox)
        method, path, remote, request_id = map(_escaped, (method, path, remote, request_id))
    name, number = "null" if sandbox is None else f'"{sandbox}"', "null" if port is None else port
    return (
        f'{{"time":{at:.3f},"sandbox":{name},"port":{number},"method":"{method}","path":"{path}","status":{status},'
        f'"received":{received},"sent":{sent},"ms":{ms:.1f},"remote":"{remote}","request_id":"{request_id}"}}\n'
    )


def _escaped(value: str) -> str:
    return json.dumps(value)[1:-1]
