"""A node without a machine: it keeps the states a real one would keep, and fails or waits when told to.

`FakeNode` is a `core.ports.Node`; its `handle` speaks the node's RPC (`atoll.rpc.serve(path, node.handle)`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from atoll.core.errors import AtollError, Conflict, InvalidInput, NotFound, Unavailable
from atoll.core.lifecycle import State
from atoll.core.limits import Limits
from atoll.core.order import check_region
from atoll.core.policy import fingerprint
from atoll.core.ports import Birth, Capacity, EgressPage, Node, NodeHello, NodeSandbox
from atoll.core.template import Template, Unbuilt
from atoll.core.volumes import VolumeMount
from atoll.rpc import Connection

ROOMY = Capacity(
    memory_available_mib=16_000,
    memory_reserve_mib=1024,
    memory_total_mib=24_000,
    disk_available_mib=200_000,
    disk_reserve_mib=20_000,
    disk_total_mib=400_000,
)

TEMPLATES = (
    Template(
        name="base", digest="b0", layers=("/base",), display_name="Base", language="bash", python="/usr/bin/python3"
    ),
    Template(
        name="code-interpreter",
        digest="c0",
        layers=("/code", "/base"),
        display_name="Code Interpreter",
        category="development",
        language="python",
        features=("python", "pandas"),
        python="/usr/bin/python3",
        created_at=1_700_000_000.0,
    ),
    Template(name="busybox", digest="x0", layers=("/busybox",), workdir="/"),
)


class FakeNode:
    def __init__(
        self, node_id: str = "node-1", region: str = "local", templates: Sequence[Template] = TEMPLATES
    ) -> None:
        self._node_id = node_id
        self._region = region
        self.templates = list(templates)
        self.sandboxes: dict[str, NodeSandbox] = {}
        self.births: list[Birth] = []
        self.logged: dict[str, list[dict[str, Any]]] = {}  # Any: JSON values
        """`core.egress.Entry.to_wire` of each sandbox; stays when that goes."""
        self.totals: dict[str, Any] = {}
        self.calls: list[tuple[str, str]] = []
        self.room = ROOMY
        self.unbuilt: list[Unbuilt] = []
        self.policies: dict[str, dict[str, Any]] = {}  # Any: JSON values
        """What holds for each, in the form of `core.policy.to_wire`."""
        self.volumes: dict[str, int] = {}
        """Their sizes in MiB."""
        self.memory: dict[str, int] = {}
        """Of those that were given other than they were born with."""
        self.mounts: dict[str, dict[str, str]] = {}
        """Made at run time: path → volume."""
        self.running: dict[str, int] = {}
        """What `live` answers."""
        self.cpu_seconds: dict[str, float] = {}
        """What `usage` says of it."""
        self._failures: dict[str, AtollError] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self.entered = asyncio.Event()
        """Set when a held method has been reached."""

    # ---- the script

    def fail(self, method: str, error: AtollError | None = None) -> None:
        """Every call of `method` fails until `mend`; what it would have done is not done."""
        self._failures[method] = error or Unavailable("the node does not answer")

    def mend(self, method: str) -> None:
        self._failures.pop(method, None)

    def hold(self, method: str) -> asyncio.Event:
        """Calls of `method` wait until the event is set."""
        self.entered.clear()
        return self._gates.setdefault(method, asyncio.Event())

    async def _enter(self, method: str, sandbox_id: str = "") -> None:
        self.calls.append((method, sandbox_id))
        if (gate := self._gates.get(method)) is not None:
            self.entered.set()
            await gate.wait()
        if (error := self._failures.get(method)) is not None:
            raise error

    # ---- Node

    @property
    def node_id(self) -> str:
        return self._node_id

    @property
    def region(self) -> str:
        return self._region

    async def hello(self) -> NodeHello:
        await self._enter("hello")
        return NodeHello(self._node_id, self._region, "fake", tuple(self.templates), tuple(self.unbuilt))

    async def create(self, birth: Birth) -> str:
        await self._enter("create", birth.id)
        return self._bear(birth)

    async def start(self, birth: Birth) -> str:
        await self._enter("start", birth.id)
        if birth.incarnation < self._known(birth.id).incarnation:
            raise Conflict("another incarnation")
        return self._bear(birth)

    async def stop(self, sandbox_id: str, incarnation: int) -> None:
        await self._enter("stop", sandbox_id)
        self._set(sandbox_id, incarnation, State.STOPPED)

    async def destroy(self, sandbox_id: str, incarnation: int) -> None:
        await self._enter("destroy", sandbox_id)
        if sandbox_id in self.sandboxes:
            self._expect(sandbox_id, incarnation)
            del self.sandboxes[sandbox_id]

    async def pause(self, sandbox_id: str, incarnation: int) -> None:
        await self._enter("pause", sandbox_id)
        self._set(sandbox_id, incarnation, State.PAUSED)

    async def resume(self, sandbox_id: str, incarnation: int) -> None:
        await self._enter("resume", sandbox_id)
        self._set(sandbox_id, incarnation, State.RUNNING)

    async def set_network(
        self,
        sandbox_id: str,
        incarnation: int,
        policy: Mapping[str, Any],  # Any: JSON values
    ) -> None:
        await self._enter("set_network", sandbox_id)
        if self._expect(sandbox_id, incarnation).state is State.STOPPED:
            raise Conflict("the sandbox is stopped")
        self.policies[sandbox_id] = dict(policy)

    async def egress_log(self, sandbox_id: str, after: int, limit: int, wait_s: float) -> EgressPage:
        """`wait_s` is only looked at; what is not there yet does not come."""
        await self._enter("egress_log", sandbox_id)
        logged = self.logged.get(sandbox_id, [])
        after = max(0, len(logged) + after) if after < 0 else min(after, len(logged))
        found = [{"seq": seq, **entry} for seq, entry in enumerate(logged, 1) if seq > after][:limit]
        return EgressPage(found, found[-1]["seq"] if found else after)

    async def egress_totals(self, sandbox_id: str | None) -> dict[str, Any]:  # Any: JSON values
        await self._enter("egress_totals", sandbox_id or "")
        return dict(self.totals)

    async def list(self) -> Sequence[NodeSandbox]:
        await self._enter("list")
        return [replace(found, policy=self._fingerprint(found.id)) for found in self.sandboxes.values()]

    def _fingerprint(self, sandbox_id: str) -> str:
        return fingerprint(self.policies.get(sandbox_id, {"internet_access": True}))

    async def usage(self, sandbox_id: str) -> dict[str, Any]:  # Any: JSON values
        await self._enter("usage", sandbox_id)
        self._known(sandbox_id)
        spent = self.cpu_seconds.get(sandbox_id, 0.0)
        return {"cpu_seconds": spent, "memory_bytes": 0, "memory_limit_bytes": 0, "processes": 1, "disk_bytes": 0}

    async def set_memory(self, sandbox_id: str, incarnation: int, memory_mib: int) -> None:
        await self._enter("set_memory", sandbox_id)
        self._running(sandbox_id, incarnation)
        self.memory[sandbox_id] = memory_mib

    async def mount_volume(self, sandbox_id: str, incarnation: int, mount: VolumeMount) -> None:
        await self._enter("volume_mount", sandbox_id)
        self._running(sandbox_id, incarnation)
        self.mounts.setdefault(sandbox_id, {})[mount.path] = mount.volume_id

    async def unmount_volume(self, sandbox_id: str, incarnation: int, path: str, force: bool) -> None:
        await self._enter("volume_unmount", sandbox_id)
        self._running(sandbox_id, incarnation)
        self.mounts.get(sandbox_id, {}).pop(path, None)

    async def make_volume(self, volume_id: str, size_mib: int, inodes: int) -> None:
        await self._enter("volume_make", volume_id)
        self.volumes[volume_id] = size_mib

    async def grow_volume(self, volume_id: str, size_mib: int) -> None:
        await self._enter("volume_grow", volume_id)
        self.volumes[volume_id] = max(size_mib, self.volumes[volume_id])

    async def volume_usage(self) -> Mapping[str, int]:
        await self._enter("volumes")
        return dict.fromkeys(self.volumes, 4096)

    async def remove_volume(self, volume_id: str) -> None:
        await self._enter("volume_remove", volume_id)
        users = [birth for birth in self.births if any(each.volume_id == volume_id for each in birth.volumes)]
        if any(birth.id in self.sandboxes for birth in users):
            raise Conflict("the volume is mounted")
        self.volumes.pop(volume_id, None)

    async def open_volume(self, volume_id: str) -> str:
        await self._enter("volume_open", volume_id)
        return f"/run/fake/v/{volume_id}.sock"

    async def live(self, sandbox_id: str) -> int:
        await self._enter("activity", sandbox_id)
        return self.running.get(sandbox_id, 0)

    async def capacity(self) -> Capacity:
        await self._enter("capacity")
        return self.room

    def _bear(self, birth: Birth) -> str:
        self.births.append(birth)
        self.policies[birth.id] = {"internet_access": birth.internet_access, **birth.network}
        self.sandboxes[birth.id] = NodeSandbox(birth.id, birth.incarnation, State.RUNNING)
        return f"/run/fake/s/{birth.id}.sock"

    def _known(self, sandbox_id: str) -> NodeSandbox:
        try:
            return self.sandboxes[sandbox_id]
        except KeyError:
            raise NotFound("no such sandbox") from None

    def _expect(self, sandbox_id: str, incarnation: int) -> NodeSandbox:
        found = self._known(sandbox_id)
        if found.incarnation != incarnation:
            raise Conflict("another incarnation")
        return found

    def _running(self, sandbox_id: str, incarnation: int) -> None:
        if self._expect(sandbox_id, incarnation).state is not State.RUNNING:
            raise Conflict("the sandbox does not run")

    def _set(self, sandbox_id: str, incarnation: int, state: State) -> None:
        self.sandboxes[sandbox_id] = replace(self._expect(sandbox_id, incarnation), state=state)

    # ---- RPC

    async def handle(self, method: str, params: dict[str, Any], connection: Connection) -> dict[str, Any]:
        match method:
            case "hello":
                hello = await self.hello()
                templates = [template.to_wire() for template in hello.templates]
                return {**asdict(hello), "templates": templates}
            case "create":
                return {"socket": await self.create(_birth(params)), "pid": 1}
            case "start":
                return {"socket": await self.start(_birth(params)), "pid": 1}
            case "stop" | "destroy" | "pause" | "resume":
                await getattr(self, method)(params["id"], params["incarnation"])
                return {}
            case "set_network":
                await self.set_network(params["id"], params["incarnation"], params["policy"])
                return {}
            case "egress_log":
                return asdict(await self.egress_log(*(params[name] for name in ("id", "after", "limit", "wait_s"))))
            case "egress_totals":
                return await self.egress_totals(params["id"])
            case "list":
                return {"sandboxes": [asdict(found) for found in await self.list()]}
            case "usage":
                return await self.usage(params["id"])
            case "volume_make":
                await self.make_volume(params["id"], params["size_mib"], params["inodes"])
                return {}
            case "volume_grow":
                await self.grow_volume(params["id"], params["size_mib"])
                return {}
            case "volumes":
                found = await self.volume_usage()
                return {"volumes": [{"id": each, "used_bytes": used} for each, used in found.items()]}
            case "set_memory":
                await self.set_memory(params["id"], params["incarnation"], params["memory_mib"])
                return {}
            case "volume_mount":
                mount = VolumeMount.from_wire(params["mount"])
                await self.mount_volume(params["id"], params["incarnation"], mount)
                return {}
            case "volume_unmount":
                await self.unmount_volume(*(params[name] for name in ("id", "incarnation", "path", "force")))
                return {}
            case "volume_remove":
                await self.remove_volume(params["id"])
                return {}
            case "volume_open":
                return {"socket": await self.open_volume(params["id"])}
            case "activity":
                return {"live": await self.live(params["id"])}
            case "capacity":
                return asdict(await self.capacity())
        raise InvalidInput(f"no method {method!r}")


def _birth(params: dict[str, Any]) -> Birth:  # Any: JSON values
    return Birth(
        id=params["id"],
        incarnation=params["incarnation"],
        template=params["template"],
        limits=Limits.from_wire(params["limits"]),
        env=params["env"],
        internet_access=params["policy"]["internet_access"],
        network={name: value for name, value in params["policy"].items() if name != "internet_access"},
        volumes=tuple(map(VolumeMount.from_wire, params.get("volumes", ()))),
    )


class FakePlacement:
    """One node, connected or not."""

    def __init__(self, node: FakeNode) -> None:
        self._node = node
        self.connected = True
        self._templates = {template.name: template for template in node.templates}
        self._unbuilt = {template.name: template for template in node.unbuilt}

    def place(self, template: str, region: str | None) -> Node:
        node = self.node(self._node.node_id)
        check_region(region, {node.region})
        return node

    def node(self, node_id: str) -> Node:
        if not self.connected:
            raise Unavailable("the node is not connected")
        return self._node

    def nodes(self) -> Sequence[Node]:
        return [self._node] if self.connected else []

    def templates(self) -> Mapping[str, Template]:
        return self._templates

    def unbuilt(self) -> Mapping[str, Unbuilt]:
        return self._unbuilt

    async def refresh_templates(self) -> None:
        if not self.connected:
            raise Unavailable("the node is not connected")
        hello = await self._node.hello()
        self._templates = {template.name: template for template in hello.templates}
        self._unbuilt = {template.name: template for template in hello.unbuilt}
