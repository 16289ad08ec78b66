"""Listening ports, and a connection to one as a descriptor."""

from __future__ import annotations

from atoll.agent import ports
from atoll.agent.http_server import Descriptor, JsonObject, Request
from atoll.agent.services import Services


async def listing(services: Services, request: Request) -> JsonObject:
    """Of programs: the agent's own are no programs'."""
    del request
    reachable = filter(ports.is_service, ports.listeners())
    theirs = [each for each in reachable if not services.doors.owns(each.port, each.address)]
    return {"ports": [{"port": each.port, "address": each.address} for each in theirs]}


async def connect(services: Services, request: Request) -> Descriptor:
    del services
    port = ports.parse_port(request.parameters["id"])
    return Descriptor(await ports.connect(port), {"port": port})
