from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from atoll.core.errors import AtollError
from atoll.core.ids import new_sandbox_id
from atoll.core.limits import Limits
from atoll.core.settings import Places
from atoll.core.template import Template
from atoll.node.catalogue import Catalogue
from atoll.node.changes import Volumes
from atoll.node.disks import SealedDisks
from atoll.node.egress_process import Outbound
from atoll.node.handles import HandleStore
from atoll.node.native_engine import NativeEngine
from atoll.node.sandboxes import NoVolumes, Order, Sandboxes
from atoll.testing.fake_launcher import VERSION, FakeLauncher

DISK_MIB = 16


class Told:
    """What an egress daemon would have been told; it fails when it is made to."""

    authority: Path | None = None

    def __init__(self) -> None:
        self.known: dict[str, Outbound] = {}
        self.failure: AtollError | None = None

    async def put(self, sandbox: Outbound) -> None:
        if self.failure is not None:
            raise self.failure
        self.known[sandbox.id] = sandbox

    def forget(self, sandbox_id: str) -> None:
        self.known.pop(sandbox_id, None)

    async def ask(self, method: str, params: dict[str, Any], timeout_s: float = 30.0) -> dict[str, Any]:
        raise AssertionError("nobody asks")


@dataclass
class House:
    """A node's parts around a fake launcher in this process; `node()` makes the parts anew, as a restart does."""

    places: Places
    launcher: FakeLauncher = field(default_factory=FakeLauncher)
    egress: Told = field(default_factory=Told)
    volumes: Volumes = field(default_factory=NoVolumes)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)
    nodes: list[tuple[Sandboxes, NativeEngine]] = field(default_factory=list)

    def emit(self, event: str, data: dict[str, Any]) -> None:
        self.events.append((event, data))
        self.told.set()

    @property
    def handles(self) -> HandleStore:
        return HandleStore(self.places.data / "node" / "sandboxes")

    @property
    def disks(self) -> SealedDisks:
        return SealedDisks(self.places.data / "node", b"k" * 32)

    async def node(self, *, recovered: bool = True) -> Sandboxes:
        engine = NativeEngine(
            self.places, VERSION, lambda: (Path("/runtime"), []), lambda *exited: sandboxes.exited(*exited)
        )
        catalogue = Catalogue(self.places.data / "node" / "templates")
        parts = (self.places, engine, self.handles, self.disks, catalogue, self.emit)
        sandboxes = Sandboxes(*parts, egress=self.egress, volumes=self.volumes)
        self.nodes.append((sandboxes, engine))
        await engine.connect()
        if recovered:
            await sandboxes.recover()
        return sandboxes

    async def leave(self) -> None:
        """The node's end: sandboxes are not touched."""
        for sandboxes, engine in self.nodes:
            await sandboxes.close()
            await engine.close()
        self.nodes.clear()


def order(incarnation: int = 1, **changes: Any) -> Order:
    values = {
        "id": new_sandbox_id(),
        "incarnation": incarnation,
        "template": "base",
        "limits": Limits(disk_mib=DISK_MIB),
        "hostname": "box",
    }
    return Order(**(values | changes))


def write_template(places: Places, **changes: Any) -> Template:
    template = Template(**({"name": "base", "digest": "d" * 64, "layers": ("/layer",)} | changes))
    directory = places.data / "node" / "templates" / template.name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "template.json").write_text(json.dumps(template.to_wire()))
    return template


@pytest.fixture
def places(tmp_path: Path) -> Places:
    places = Places.of(tmp_path / "data", tmp_path / "run")
    (places.run / "s").mkdir(parents=True)
    images = places.data / "node" / "images"
    images.mkdir(parents=True)
    (images / f"base-{DISK_MIB}.ext4").write_bytes(b"an empty file system")
    write_template(places)
    return places


@pytest.fixture
async def house(places: Places) -> AsyncIterator[House]:
    house = House(places)
    await house.launcher.listen(places.launcher_socket)
    yield house
    await house.leave()
    await house.launcher.end()


@pytest.fixture
async def sandboxes(house: House) -> Sandboxes:
    return await house.node()


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
