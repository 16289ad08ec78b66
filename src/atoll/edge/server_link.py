"""The edge's questions to the server, on its Unix socket; docs/architecture.md, "Edge ↔ server"."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from atoll.core.errors import Conflict, Unavailable

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 10.0
RESUME_TIMEOUT_S = 40.0  # longer than the server waits for the node
HEARTBEAT_S = 15.0
SILENCE_LIMIT_S = 3 * HEARTBEAT_S
ORIGIN = "http://server"

_LOST = (aiohttp.ClientError, TimeoutError, OSError, ValueError)


class ServerLink:
    def __init__(self, socket: Path) -> None:
        self.session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(socket), limit=0, keepalive_timeout=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=256 * 1024,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        )

    async def __aenter__(self) -> ServerLink:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.session.close()

    async def stream_routes(self) -> AsyncIterator[dict[str, Any]]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_LIMIT_S)
        try:
            async with self.session.get(f"{ORIGIN}/internal/routes", timeout=timeout) as response:
                if response.status != 200:
                    raise Unavailable(f"the server answers {response.status}")
                async for line in response.content:
                    message = json.loads(line)
                    if isinstance(message, dict):
                        yield message
        except _LOST as error:
            raise Unavailable(f"the server is not reachable: {type(error).__name__}") from error

    async def fetch_route(self, sandbox_id: str) -> dict[str, Any] | None:
        status, body = await self._ask("GET", f"/internal/routes/{sandbox_id}")
        if status == 404:
            return None
        if status != 200:
            raise Unavailable(f"the server answers {status}")
        return body

    async def resume(self, sandbox_id: str) -> dict[str, Any] | None:
        """For traffic; the route of the sandbox, which runs then. `Conflict` with the reason when it does not resume
        by itself."""
        status, body = await self._ask("POST", f"/internal/sandboxes/{sandbox_id}/resume", timeout_s=RESUME_TIMEOUT_S)
        if status == 404:
            return None
        if status == 409:
            raise Conflict(str(body.get("message") or "the sandbox does not resume by itself"))
        if status != 200:
            raise Unavailable(f"the server answers {status}")
        return body

    async def open_volume(self, volume_id: str) -> str | None:
        """The socket of an agent that has the volume's files."""
        status, body = await self._ask("POST", f"/internal/volumes/{volume_id}/open", timeout_s=RESUME_TIMEOUT_S)
        if status == 404:
            return None
        if status != 200 or not isinstance(body.get("socket"), str):
            raise Unavailable(f"the server answers {status}")
        return str(body["socket"])

    async def report_activity(self, activity: list[dict[str, Any]]) -> None:
        status, _ = await self._ask("POST", "/internal/activity", {"activity": activity})
        if status >= 300:
            raise Unavailable(f"the server answers {status}")

    async def authenticate(self, credential: str, sandbox_id: str) -> bool:
        status, body = await self._ask(
            "POST", "/internal/authenticate", {"credential": credential, "sandbox": sandbox_id}
        )
        if status >= 500:
            raise Unavailable(f"the server answers {status}")
        return status == 200 and body.get("allowed") is True

    async def _ask(
        self, method: str, path: str, body: object = None, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> tuple[int, dict[str, Any]]:
        try:
            async with asyncio.timeout(timeout_s):
                async with self.session.request(method, ORIGIN + path, json=body) as response:
                    raw = await response.read()
                    data = json.loads(raw) if raw else {}
        except _LOST as error:
            raise Unavailable("the control plane does not answer; try again") from error
        return response.status, data if isinstance(data, dict) else {}
