"""Placement on one machine: the answer is always "here", or `Unavailable` while the node is away.

Also keeps the connection to that node. A new connection is used only after reconciliation: until then nobody can create
anything that would look like a leftover.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from atoll.core.errors import AtollError, Unavailable
from atoll.core.order import check_region
from atoll.core.ports import Clock, Node, NodeHello, NodeRecord, Store
from atoll.core.template import Template, Unbuilt
from atoll.rpc import RpcClient

from .node_client import RpcNode

log = logging.getLogger(__name__)

FIRST_RETRY_S = 0.05
LAST_RETRY_S = 1.0
LEASE_S = 60.0
RENEW_S = 20.0

Data = dict[str, Any]  # Any: JSON values of an event
OnConnect = Callable[[Node], Coroutine[Any, Any, None]]
OnExit = Callable[[str, int, str], Coroutine[Any, Any, None]]
OnPunish = Callable[[str, str], Coroutine[Any, Any, None]]


class Here:
    def __init__(self, socket: Path, store: Store, clock: Clock) -> None:
        self._socket = socket
        self._store = store
        self._clock = clock
        self._node: RpcNode | None = None
        self._templates: dict[str, Template] = {}
        self._unbuilt: dict[str, Unbuilt] = {}
        self._ready = asyncio.Event()
        self._told: set[asyncio.Task[None]] = set()

    # ---- Placement

    def place(self, template: str, region: str | None) -> Node:
        node = self._connected()
        check_region(region, {node.region})
        return node

    def node(self, node_id: str) -> Node:
        node = self._connected()
        if node.node_id != node_id:
            raise Unavailable("the machine that has it is not connected")
        return node

    def nodes(self) -> Sequence[Node]:
        return [self._node] if self._node is not None else []

    def templates(self) -> Mapping[str, Template]:
        return self._templates

    def unbuilt(self) -> Mapping[str, Unbuilt]:
        return self._unbuilt

    async def refresh_templates(self) -> None:
        self._learn(await self._connected().hello())

    def _learn(self, hello: NodeHello) -> None:
        self._templates = {template.name: template for template in hello.templates}
        self._unbuilt = {template.name: template for template in hello.unbuilt}

    def _connected(self) -> RpcNode:
        if self._node is None:
            raise Unavailable("the node is not connected; try again in a moment")
        return self._node

    # ---- the connection

    @property
    def connected(self) -> bool:
        return self._node is not None

    async def wait_connected(self) -> None:
        await self._ready.wait()

    async def run(self, on_connect: OnConnect, on_exit: OnExit, on_punish: OnPunish) -> None:
        """Until cancelled."""

        def hear(event: str, data: Data) -> None:
            if event == "exited":
                self._spawn(on_exit(str(data["id"]), int(data["incarnation"]), str(data["reason"])))
            elif event == "punish":
                self._spawn(on_punish(str(data["id"]), str(data["detail"])))

        delay = FIRST_RETRY_S
        while True:
            try:
                await self._stay_connected(on_connect, hear)
                delay = FIRST_RETRY_S
            except AtollError as error:
                log.info("the node: %s", error.message)
            except Exception:
                log.exception("the connection to the node failed")
            await asyncio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY_S)

    async def _stay_connected(self, on_connect: OnConnect, hear: Callable[[str, Data], None]) -> None:
        client = await RpcClient.connect(self._socket, hear)
        try:
            node = await RpcNode.greet(client)
            await self._renew(node)
            await on_connect(node)
            self._learn(node.greeting)
            self._node = node
            self._ready.set()
            log.info("connected to node %s", node.node_id)
            await self._renew_until_lost(client, node)
        finally:
            self._node = None
            self._ready.clear()
            await client.close()

    async def _renew_until_lost(self, client: RpcClient, node: RpcNode) -> None:
        while client.connected:
            try:
                async with asyncio.timeout(RENEW_S):
                    await client.wait_closed()
            except TimeoutError:
                await self._renew(node)
        log.warning("the connection to node %s is lost", node.node_id)

    async def _renew(self, node: RpcNode) -> None:
        now = self._clock.now()
        await self._store.nodes.put(NodeRecord(node.node_id, node.region, now, now + LEASE_S))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._told.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._told.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("what the node told was not recorded: %s", error)
