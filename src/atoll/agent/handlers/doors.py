"""Connections of programs inside to the surfaces that are served outside."""

from __future__ import annotations

from atoll.agent.http_server import Descriptor, Request
from atoll.agent.services import Services


async def next_caller(services: Services, request: Request) -> Descriptor:
    """Waits until somebody comes."""
    del request
    port, connection = await services.doors.next()
    return Descriptor(connection, {"port": port})
