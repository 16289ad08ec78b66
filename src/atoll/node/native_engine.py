"""The native engine as the node sees it: requests to the launcher."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from atoll.core.engine import EngineHandle, EngineUsage, SandboxSpec, SlotSpec, VolumeSpec
from atoll.core.errors import AtollError, Unavailable
from atoll.core.limits import Limits
from atoll.core.packet_policy import KernelPolicy
from atoll.core.settings import Places
from atoll.core.template import Template
from atoll.rpc import RpcClient

from .launcher_process import kill_listener, start_launcher

log = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 10.0
PREPARE_TIMEOUT_S = 120.0  # importing a scientific stack from a cold disk
CREATE_TIMEOUT_S = 30.0
SWEEP_TIMEOUT_S = 120.0  # births go first, and an unmount may have much to write


class NativeEngine:
    """Implements `core.engine.Engine`, `Pausable`, `Governed` and `Adjustable`."""

    def __init__(
        self,
        places: Places,
        version: str,
        runtime: Callable[[], tuple[Path, list[str]]],
        on_exit: Callable[[str, int], None],
        start: Callable[[Places], Awaitable[subprocess.Popen[bytes]]] = start_launcher,
        on_lost_slot: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._places = places
        self._version = version
        self._runtime = runtime
        self._on_exit = on_exit
        self._on_lost_slot = on_lost_slot
        self._start = start
        self._client: RpcClient | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self._prepared: dict[str, asyncio.Future[None]] = {}

    async def connect(self) -> None:
        """To the launcher that is there, when it is one of ours; else to a new one."""
        await self._disconnect()
        self._reap()
        client = await self._greet()
        if client is None:
            self._started.append(await self._start(self._places))
            client = await self._greet()
        if client is None:
            raise Unavailable("the launcher that was just started is of another version")
        self._client = client

    async def wait_lost(self) -> None:
        await self._connected().wait_closed()

    async def close(self) -> None:
        """The launcher stays."""
        await self._disconnect()

    async def probe(self) -> dict[str, EngineHandle]:
        answer = await self._call("hello", {}, HELLO_TIMEOUT_S)
        return {entry["id"]: entry for entry in answer["sandboxes"]}

    async def prepare(self, template: Template) -> None:
        """Once for each digest and launcher, however many ask at the same time."""
        future = self._prepared.get(template.digest)
        if future is None:
            future = asyncio.ensure_future(self._prepare(template))
            self._prepared[template.digest] = future
            future.add_done_callback(lambda done: self._forget_failure(template.digest, done))
        await asyncio.shield(future)

    async def prepare_slot(self, spec: SlotSpec) -> None:
        await self.prepare(spec.template)
        request = {
            "slot": spec.name,
            "template": _announced(spec.template),
            "disk": str(spec.disk),
            "key": spec.key.hex(),
            "limits": spec.limits.to_wire(),
            "config": dict(spec.config),
        }
        await self._call("prepare", request, CREATE_TIMEOUT_S)

    async def discard_slot(self, name: str) -> None:
        await self._call("discard", {"slot": name})

    async def create(self, spec: SandboxSpec) -> EngineHandle:
        request = {
            "id": spec.id,
            "template": _announced(spec.template),
            "disk": str(spec.disk),
            "key": spec.key.hex(),
            "limits": spec.limits.to_wire(),
            "hostname": spec.hostname,
            "socket": str(spec.socket),
            "config": dict(spec.config),
            "slot": spec.slot,
            "egress": spec.egress.to_wire(),
            "nameservers": list(spec.nameservers),
            "volumes": [_volume(volume) for volume in spec.volumes],
        }
        return await self._call("create", request, CREATE_TIMEOUT_S)

    async def destroy(self, sandbox_id: str, handle: EngineHandle | None, behind: bool = False) -> None:
        await self._call("destroy", {"id": sandbox_id, "handle": handle, "behind": behind})

    async def swept(self, sandbox_id: str) -> None:
        await self._call("swept", {"id": sandbox_id}, SWEEP_TIMEOUT_S)

    async def usage(self, sandbox_id: str, handle: EngineHandle) -> EngineUsage:
        used = await self._call("usage", {"id": sandbox_id, "handle": handle})
        cache = int(used.get("memory_cache_bytes", 0))
        return EngineUsage(float(used["cpu_seconds"]), int(used["memory_bytes"]), int(used["processes"]), cache)

    async def pause(self, sandbox_id: str, handle: EngineHandle) -> None:
        await self._call("pause", {"id": sandbox_id, "handle": handle})

    async def resume(self, sandbox_id: str, handle: EngineHandle) -> None:
        await self._call("resume", {"id": sandbox_id, "handle": handle})

    async def set_memory(self, sandbox_id: str, limits: Limits) -> None:
        await self._call("set_memory", {"id": sandbox_id, "limits": limits.to_wire()})

    async def mount(self, sandbox_id: str, volume: VolumeSpec) -> None:
        await self._call("mount", {"id": sandbox_id, **_volume(volume)})

    async def unmount(self, sandbox_id: str, image: Path, path: str, force: bool, known: int) -> None:
        request = {"id": sandbox_id, "image": str(image), "path": path, "force": force, "known": known}
        await self._call("unmount", request)

    async def mounted(self, sandbox_id: str, image: Path, path: str) -> bool:
        answer = await self._call("mounted", {"id": sandbox_id, "image": str(image), "path": path})
        return bool(answer["mounted"])

    async def attached(self, image: Path) -> bool:
        return bool((await self._call("attached", {"image": str(image)}))["attached"])

    async def set_egress(self, sandbox_id: str, policy: KernelPolicy) -> None:
        await self._call("set_egress", {"id": sandbox_id, "egress": policy.to_wire()})

    async def punish(self, sandbox_id: str, seconds: int) -> None:
        await self._call("punish", {"id": sandbox_id, "seconds": seconds})

    async def blocked(self, networks: Sequence[str], ports: Sequence[str]) -> None:
        await self._call("blocked", {"networks": list(networks), "ports": list(ports)})

    async def refused(self) -> dict[str, int]:
        """Packets, by `core.packet_policy.Refusal`."""
        return dict((await self._call("refused", {}))["packets"])

    async def shutdown(self) -> None:
        client = self._connected()
        await self._shut_down(client)
        await client.wait_closed()
        await asyncio.to_thread(self._wait_started)

    async def _prepare(self, template: Template) -> None:
        runtime, argv = self._runtime()
        request = {
            "name": _announced(template),
            "digest": template.digest,
            "layers": list(template.layers),
            "preload": list(template.preload),
            "python": template.python,
            "runtime": str(runtime),
            "runtime_argv": argv,
        }
        await self._call("template", request, PREPARE_TIMEOUT_S)

    def _forget_failure(self, digest: str, done: asyncio.Future[None]) -> None:
        if (done.cancelled() or done.exception() is not None) and self._prepared.get(digest) is done:
            del self._prepared[digest]

    async def _greet(self) -> RpcClient | None:
        """None: there is none that we can work with, and it no longer holds the socket."""
        try:
            client = await RpcClient.connect(self._places.launcher_socket, self._event)
        except Unavailable:
            return None
        try:
            hello = await client.call("hello", {}, HELLO_TIMEOUT_S)
        except Unavailable:
            await client.close()
            kill_listener(self._places.launcher_socket)
            return None
        if hello["version"] == self._version:
            return client
        log.info("the launcher is of version %s, ours is %s: it is replaced", hello["version"], self._version)
        await self._shut_down(client)
        await client.close()
        return None

    async def _shut_down(self, client: RpcClient) -> None:
        try:
            await client.call("shutdown", {}, HELLO_TIMEOUT_S)
        except Unavailable:
            return  # it may be gone before its answer is
        except AtollError as error:
            log.warning("the launcher does not end in order: %s", error.message)
            kill_listener(self._places.launcher_socket)

    def _event(self, name: str, data: dict[str, Any]) -> None:
        if name == "exited":
            self._on_exit(data["id"], data["pid"])
        elif name == "lost":
            self._on_lost_slot(data["slot"])

    async def _call(self, method: str, params: dict[str, Any], timeout_s: float = 30.0) -> dict[str, Any]:
        return await self._connected().call(method, params, timeout_s)

    def _connected(self) -> RpcClient:
        if self._client is None:
            raise Unavailable("no launcher is connected")
        return self._client

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        self._prepared.clear()
        if client is not None:
            await client.close()

    def _reap(self) -> None:
        self._started = [process for process in self._started if process.poll() is None]

    def _wait_started(self) -> None:
        """Only those that are ours to reap; one that an earlier node started is reaped by init."""
        for process in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        self._reap()


def _volume(volume: VolumeSpec) -> dict[str, str]:
    return {"image": str(volume.image), "key": volume.key.hex(), "path": volume.path}


def _announced(template: Template) -> str:
    """The launcher's name for it. A kept disk is the difference to the layers it was born on, so after a rebuild two
    builds of one template can be in use at the same time."""
    return f"{template.name}.{template.digest[:12]}"
