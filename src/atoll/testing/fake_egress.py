"""An egress daemon without traffic, for tests that need no root: same requests, same answers.

python -m atoll.testing.fake_egress --socket PATH --version TEXT
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from atoll.core.errors import InternalError, InvalidInput
from atoll.rpc import Connection, RpcServer, serve

VERSION = "fake"

Params = dict[str, Any]  # Any: JSON values of the daemon's requests


class FakeEgress:
    def __init__(self, version: str = VERSION) -> None:
        self.version = version
        self.known: dict[str, Params] = {}
        self.calls: list[str] = []
        self.failing: set[str] = set()
        """Methods that answer with an error."""
        self.silent: dict[str, asyncio.Event] = {}
        """Methods that answer when the event is set."""
        self.blocked: Params = {"networks": ["192.0.2.0/24"], "ports": ["tcp/25"]}
        self.ended = asyncio.Event()
        self._server: RpcServer | None = None

    async def listen(self, path: Path) -> None:
        self._server = await serve(path, self._answer)

    async def close(self) -> None:
        """As if it had been killed: connections drop."""
        assert self._server is not None
        await self._server.close()

    def emit(self, event: str, data: Params) -> None:
        assert self._server is not None
        self._server.broadcast(event, data)

    async def _answer(self, method: str, params: Params, _: Connection) -> Params:
        acts: dict[str, Callable[[Params], Awaitable[Params]]] = {
            "hello": self._hello,
            "put": self._put,
            "forget": self._forget,
            "sync": self._sync,
            "blocklist": self._blocklist,
            "totals": self._totals,
            "log": self._log,
            "shutdown": self._shutdown,
        }
        if method not in acts:
            raise InvalidInput(f"no method {method!r}")
        self.calls.append(method)
        if (gate := self.silent.get(method)) is not None:
            await gate.wait()
        if method in self.failing:
            raise InternalError(f"{method} fails")
        return await acts[method](params)

    async def _hello(self, _: Params) -> Params:
        return {"version": self.version, "pid": os.getpid()}

    async def _put(self, params: Params) -> Params:
        self.known[params["id"]] = params
        return {}

    async def _forget(self, params: Params) -> Params:
        self.known.pop(params["id"], None)
        return {}

    async def _sync(self, params: Params) -> Params:
        self.known = {identity: self.known[identity] for identity in params["ids"] if identity in self.known}
        return {}

    async def _blocklist(self, _: Params) -> Params:
        return self.blocked

    async def _totals(self, params: Params) -> Params:
        return {"connections": len(self.known)}

    async def _log(self, params: Params) -> Params:
        """One entry, which says what was asked."""
        return {"entries": [{"seq": 1, **params}], "cursor": 1}

    async def _shutdown(self, _: Params) -> Params:
        asyncio.get_running_loop().call_soon(self.ended.set)
        return {}


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    parser.add_argument("--version", default=VERSION)
    arguments, _ = parser.parse_known_args()
    daemon = FakeEgress(arguments.version)
    await daemon.listen(Path(arguments.socket))
    await daemon.ended.wait()
    await daemon.close()


if __name__ == "__main__":
    asyncio.run(main())
