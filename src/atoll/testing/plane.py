"""A whole control plane over a real store in a directory of your own, a fake node and a clock that stands still."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp

from atoll.control.services import Services, build
from atoll.core.audit import ATOLL, Caller
from atoll.core.keys import Principal
from atoll.core.settings import Clocks
from atoll.server import create_app
from atoll.store.engine import migrate, sqlite
from atoll.store.seal import Seal
from atoll.store.sql import SqlStore

from .clock import FakeClock
from .node import FakeNode, FakePlacement

TOKEN_KEY = bytes(range(32))
SEAL_KEY = bytes(range(32, 64))
PUBLIC_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True)
class Plane:
    services: Services
    store: SqlStore
    node: FakeNode
    placement: FakePlacement
    clock: FakeClock
    app: ASGIApp
    key: str
    """An API key in force."""
    caller: Caller

    def close(self) -> None:
        self.store.close()


def open_store(path: Path) -> SqlStore:
    """A new one is a copy of one that was migrated: a test suite opens hundreds."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(_migrated())
    return SqlStore(sqlite(path), Seal(SEAL_KEY))


@functools.cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "atoll.db"
        engine = sqlite(path)
        migrate(engine)
        engine.dispose()
        return path.read_bytes()


async def open_plane(
    directory: Path, node: FakeNode | None = None, limits: Clocks | None = None, clock: FakeClock | None = None
) -> Plane:
    """Opened again in the same directory with the same node, it is the server after a restart."""
    clock, node = clock or FakeClock(), node or FakeNode()
    store, placement = open_store(directory / "atoll.db"), FakePlacement(node)
    services = build(store, placement, clock, TOKEN_KEY, limits or Clocks())
    key, text = await services.keys.create(ATOLL, "test")
    await services.load()
    return Plane(
        services=services,
        store=store,
        node=node,
        placement=placement,
        clock=clock,
        app=create_app(services, PUBLIC_URL),
        key=text,
        caller=Caller(Principal(key.id, key.organization_id), "req_test", "192.0.2.1"),
    )
