"""The edge's connections into sandboxes: to its agent, and to its ports."""

from __future__ import annotations

import asyncio

from .agent_link import AgentLink
from .gate.grpc import Connection
from .gate.upstream import Ports, Upstream
from .ports_link import connect
from .routes import Route


class Links:
    """Per sandbox; closed when its route goes or points elsewhere."""

    def __init__(self) -> None:
        self._links: dict[str, AgentLink] = {}
        self._ports: dict[str, Ports] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def to(self, route: Route) -> AgentLink:
        link = self._links.get(route.id)
        if link is None:
            link = self._links[route.id] = AgentLink(route.socket)
        return link

    def to_ports(self, route: Route) -> Ports:
        ports = self._ports.get(route.id)
        if ports is None:
            ports = self._ports[route.id] = _ports_behind(route.socket)
        return ports

    def drop(self, sandbox_id: str) -> None:
        if (ports := self._ports.pop(sandbox_id, None)) is not None:
            ports.close()
        if (link := self._links.pop(sandbox_id, None)) is not None:
            task = asyncio.create_task(link.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        for sandbox_id in self._links.keys() | self._ports.keys():
            self.drop(sandbox_id)
        await asyncio.gather(*self._closing, return_exceptions=True)


def _ports_behind(agent_socket: str) -> Ports:
    async def dial(port: int, protocol: Upstream | Connection, tls: bool) -> None:
        await connect(agent_socket, port, protocol, tls)

    return Ports(dial)
