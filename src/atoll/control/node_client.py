"""The node as the server sees it: `core.ports.Node` over RUN/node.sock. Answers are our own daemon's, yet checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from atoll.core.errors import InternalError
from atoll.core.lifecycle import State
from atoll.core.ports import Birth, Capacity, EgressPage, NodeHello, NodeSandbox
from atoll.core.template import Template, Unbuilt
from atoll.core.volumes import VolumeMount
from atoll.rpc import RpcClient

T = TypeVar("T")
Answer = dict[str, Any]  # Any: JSON values

# A client gives up on a create after 60 s and then makes another: 45 s here and 10 s for cleaning up come before that.
TIMEOUT_S: dict[str, float] = {
    "hello": 10.0,
    "create": 45.0,
    "start": 45.0,
    "stop": 40.0,
    "destroy": 10.0,
    "pause": 15.0,
    "resume": 15.0,
    "set_network": 15.0,
    "list": 30.0,
    "usage": 5.0,
    "capacity": 5.0,
    "set_memory": 15.0,
    "volume_mount": 15.0,
    "volume_unmount": 15.0,
    "volume_grow": 30.0,
    "volumes": 10.0,
    "volume_make": 30.0,
    "volume_remove": 30.0,
    "volume_open": 30.0,
    "activity": 3.0,
    "egress_log": 5.0,
    "egress_totals": 5.0,
}


class RpcNode:
    def __init__(self, client: RpcClient, hello: NodeHello) -> None:
        self._client = client
        self._hello = hello

    @classmethod
    async def greet(cls, client: RpcClient) -> RpcNode:
        return cls(client, await _call(client, "hello", {}, _hello))

    @property
    def node_id(self) -> str:
        return self._hello.node_id

    @property
    def region(self) -> str:
        return self._hello.region

    @property
    def greeting(self) -> NodeHello:
        return self._hello

    async def hello(self) -> NodeHello:
        self._hello = await self._call("hello", {}, _hello)
        return self._hello

    async def create(self, birth: Birth) -> str:
        return await self._call("create", _birth_params(birth), _socket)

    async def start(self, birth: Birth) -> str:
        return await self._call("start", _birth_params(birth), _socket)

    async def stop(self, sandbox_id: str, incarnation: int) -> None:
        await self._call("stop", _which(sandbox_id, incarnation), _nothing)

    async def destroy(self, sandbox_id: str, incarnation: int) -> None:
        await self._call("destroy", _which(sandbox_id, incarnation), _nothing)

    async def pause(self, sandbox_id: str, incarnation: int) -> None:
        await self._call("pause", _which(sandbox_id, incarnation), _nothing)

    async def resume(self, sandbox_id: str, incarnation: int) -> None:
        await self._call("resume", _which(sandbox_id, incarnation), _nothing)

    async def set_network(
        self,
        sandbox_id: str,
        incarnation: int,
        policy: Mapping[str, Any],  # Any: JSON values
    ) -> None:
        await self._call("set_network", {**_which(sandbox_id, incarnation), "policy": dict(policy)}, _nothing)

    async def egress_log(self, sandbox_id: str, after: int, limit: int, wait_s: float) -> EgressPage:
        params = {"id": sandbox_id, "after": after, "limit": limit, "wait_s": wait_s}
        return await self._call("egress_log", params, _egress_page, wait_s)

    async def egress_totals(self, sandbox_id: str | None) -> Answer:
        return await self._call("egress_totals", {"id": sandbox_id}, dict)

    async def list(self) -> Sequence[NodeSandbox]:
        return await self._call("list", {}, _found)

    async def usage(self, sandbox_id: str) -> Answer:
        return await self._call("usage", {"id": sandbox_id}, dict)

    async def set_memory(self, sandbox_id: str, incarnation: int, memory_mib: int) -> None:
        await self._call("set_memory", {**_which(sandbox_id, incarnation), "memory_mib": memory_mib}, _nothing)

    async def mount_volume(self, sandbox_id: str, incarnation: int, mount: VolumeMount) -> None:
        params = {**_which(sandbox_id, incarnation), "mount": mount.to_wire()}
        await self._call("volume_mount", params, _nothing)

    async def unmount_volume(self, sandbox_id: str, incarnation: int, path: str, force: bool) -> None:
        params = {**_which(sandbox_id, incarnation), "path": path, "force": force}
        await self._call("volume_unmount", params, _nothing)

    async def make_volume(self, volume_id: str, size_mib: int, inodes: int) -> None:
        await self._call("volume_make", {"id": volume_id, "size_mib": size_mib, "inodes": inodes}, _nothing)

    async def grow_volume(self, volume_id: str, size_mib: int) -> None:
        await self._call("volume_grow", {"id": volume_id, "size_mib": size_mib}, _nothing)

    async def volume_usage(self) -> Mapping[str, int]:
        return await self._call("volumes", {}, _used_bytes)

    async def remove_volume(self, volume_id: str) -> None:
        await self._call("volume_remove", {"id": volume_id}, _nothing)

    async def open_volume(self, volume_id: str) -> str:
        return await self._call("volume_open", {"id": volume_id}, _socket)

    async def live(self, sandbox_id: str) -> int:
        return await self._call("activity", {"id": sandbox_id}, lambda answer: max(0, int(answer["live"])))

    async def capacity(self) -> Capacity:
        return await self._call("capacity", {}, _capacity)

    async def _call(self, method: str, params: Answer, read: Callable[[Answer], T], wait_s: float = 0.0) -> T:
        return await _call(self._client, method, params, read, wait_s)


async def _call(client: RpcClient, method: str, params: Answer, read: Callable[[Answer], T], wait_s: float = 0.0) -> T:
    answer = await client.call(method, params, TIMEOUT_S[method] + wait_s)
    try:
        return read(answer)
    except (KeyError, TypeError, ValueError) as error:
        raise InternalError(f"the node's answer to {method} is not what was agreed") from error


def _hello(answer: Answer) -> NodeHello:
    templates = tuple(Template.from_wire(data) for data in answer["templates"])
    unbuilt = tuple(Unbuilt(**data) for data in answer.get("unbuilt", ()))
    return NodeHello(str(answer["node_id"]), str(answer["region"]), str(answer["version"]), templates, unbuilt)


def _egress_page(answer: Answer) -> EgressPage:
    return EgressPage([dict(entry) for entry in answer["entries"]], int(answer["cursor"]))


def _used_bytes(answer: Answer) -> Mapping[str, int]:
    return {str(each["id"]): int(each["used_bytes"]) for each in answer["volumes"]}


def _socket(answer: Answer) -> str:
    return str(answer["socket"])


def _nothing(answer: Answer) -> None:
    return None


def _found(answer: Answer) -> Sequence[NodeSandbox]:
    return [
        NodeSandbox(str(item["id"]), int(item["incarnation"]), State(item["state"]), str(item["policy"]))
        for item in answer["sandboxes"]
    ]


def _capacity(answer: Answer) -> Capacity:
    return Capacity(**{field.name: int(answer[field.name]) for field in fields(Capacity)})


def _which(sandbox_id: str, incarnation: int) -> Answer:
    return {"id": sandbox_id, "incarnation": incarnation}


def _birth_params(birth: Birth) -> Answer:
    return {
        **_which(birth.id, birth.incarnation),
        "template": birth.template,
        "limits": birth.limits.to_wire(),
        "env": dict(birth.env),
        "hostname": birth.id,
        "policy": {"internet_access": birth.internet_access, **birth.network},
        "volumes": [mount.to_wire() for mount in birth.volumes],
    }
