"""Creates sandboxes when they are due and asks each for the answer to a cell: one process, one loop, raw HTTP/1.1.

Each sandbox has a connection of its own, opened before the first one is due and kept for all of its requests, so that
nothing but two requests and their answers is measured. Times count from the moment that a sandbox was due, not from the
moment when the client got round to it, and not by uvloop's clock, which knows whole milliseconds only.
Standard input: a JSON object; standard output: another.

    {"url", "api_key", "template", "code" or null, "answer", "due_ms": [0, 200, …] or "in_turn": 50, "kill": true}
    {"created_ms": […], "answered_ms": […], "ids": […], "failed": […], "cpu_ms": 12.5}
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import uvloop


@dataclass
class Outcome:
    created_ms: list[float] = field(default_factory=list)
    answered_ms: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    cpu_ms: float = 0.0


class Kept(asyncio.Protocol):
    """A connection: one request at a time, answers with a Content-Length."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._received = b""
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or self._answer is None or self._answer.done():
            return
        if len(body) >= _length(head):
            self._received = b""
            if head[9:10] == b"2":
                self._answer.set_result(body)
            else:
                self._answer.set_exception(RuntimeError(f"{head[:60]!r} {body[:200]!r}"))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"the server closed the connection: {error}"))

    async def ask(self, method: str, path: str, headers: str, body: object = None) -> Any:
        data = json.dumps(body).encode() if body is not None else b""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\n{headers}Content-Type: application/json\r\n"
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return json.loads(await self._answer or b"null")


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n")[1:]:
        if line.startswith(b"content-length:"):
            return int(line[15:])
    if head[9:12] == b"204":
        return 0
    raise RuntimeError(f"an answer without a length: {head[:200]!r}")


async def main(plan: dict[str, Any]) -> Outcome:
    loop, outcome = asyncio.get_running_loop(), Outcome()
    url, key = urlsplit(plan["url"]), f"X-API-Key: {plan['api_key']}\r\n"

    async def connect() -> Kept:
        return (await loop.create_connection(lambda: Kept(url.netloc), url.hostname, url.port))[1]

    async def one(kept: Kept, due: float) -> None:
        try:
            made = await kept.ask("POST", "/v1/sandboxes", key, {"template_name": plan["template"]})
            created = perf_counter()
            if plan["code"] is not None:
                await _answer(kept, made, plan)
            answered = perf_counter()
            outcome.created_ms.append(1000 * (created - due))
            outcome.answered_ms.append(1000 * (answered - due))
            outcome.ids.append(made["id"])
            if plan["kill"]:
                await kept.ask("DELETE", f"/v1/sandboxes/{made['id']}", key)
        except (RuntimeError, OSError, KeyError) as error:
            outcome.failed.append(f"{type(error).__name__}: {error}")

    if "in_turn" in plan:
        await _in_turn(one, await connect(), plan["in_turn"])
    else:
        connections = [await connect() for _ in plan["due_ms"]]
        await _when_due(one, connections, plan["due_ms"])
    return outcome


async def _answer(kept: Kept, made: dict[str, str], plan: dict[str, Any]) -> None:
    cell = {"code": plan["code"], "language": "python", "timeout": 60}
    said = await kept.ask("POST", f"/s/{made['id']}/execute", f"Authorization: Bearer {made['auth_token']}\r\n", cell)
    if plan["answer"] not in said["stdout"]:
        raise RuntimeError(f"not the answer: {said}")


One = Callable[[Kept, float], Awaitable[None]]


async def _in_turn(one: One, kept: Kept, count: int) -> None:
    for _ in range(count):
        await one(kept, perf_counter())


async def _when_due(one: One, connections: list[Kept], due_ms: list[float]) -> None:
    begin = perf_counter()

    async def later(kept: Kept, due: float) -> None:
        if due > perf_counter():
            await asyncio.sleep(due - perf_counter())
        await one(kept, due)

    pairs = zip(connections, due_ms, strict=True)
    await asyncio.gather(*(later(kept, begin + due / 1000) for kept, due in pairs))


if __name__ == "__main__":
    given = json.load(sys.stdin)
    gc.disable()
    before = resource.getrusage(resource.RUSAGE_SELF)
    found = uvloop.run(main(given))
    after = resource.getrusage(resource.RUSAGE_SELF)
    found.cpu_ms = 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    json.dump(asdict(found), sys.stdout)
