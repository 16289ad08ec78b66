"""Which protocol a client speaks: TLS says it (ALPN); in the clear it is HTTP/1.1."""

from __future__ import annotations

import asyncio
from typing import cast

from .client import Client, Gate
from .h2_client import H2Client


class Arrival(asyncio.Protocol):
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tls = transport.get_extra_info("ssl_object")
        multiplexed = tls is not None and tls.selected_alpn_protocol() == "h2"
        protocol = H2Client(self._gate) if multiplexed else Client(self._gate)
        cast(asyncio.Transport, transport).set_protocol(protocol)
        protocol.connection_made(transport)
