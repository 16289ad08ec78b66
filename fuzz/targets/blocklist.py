"""A block list says InvalidInput with a line or blocks every line that it took, and what is below it."""

from __future__ import annotations

import ipaddress

from atoll.core.blocklist import DEFAULT_BLOCKLIST, parse_blocklist
from atoll.core.errors import InvalidInput
from atoll.core.names import normal
from atoll.core.reach import EMBEDDINGS

ANYWHERE = ipaddress.ip_address("198.51.100.77")


def check(data: bytes) -> None:
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    try:
        blocked = parse_blocklist(lines)
    except InvalidInput as error:
        assert error.message.startswith("line ")
        return
    both = DEFAULT_BLOCKLIST | blocked
    words = {word for line in lines if (word := line.partition("#")[0].strip())}
    assert len(words) >= len(blocked.names) + len(blocked.networks) + len(blocked.ports)
    for name in blocked.names:
        assert normal(name) == name
        assert blocked.name(name) and both.name(f"below.{name}")
        assert blocked.name(f"x{name}") in (None, *blocked.names - {name})
    for protocol, port in blocked.ports:
        assert both.destination(ANYWHERE, protocol, port) == f"{protocol}/{port}"
    for network in blocked.networks:
        for address in (network.network_address, network.broadcast_address):
            assert both.destination(address, "tcp", 443)
            if isinstance(address, ipaddress.IPv4Address):
                for embedding in EMBEDDINGS:
                    assert both.destination(
                        embedding.around(ipaddress.IPv4Network(address)).network_address, "tcp", 443
                    )
    assert both.names >= DEFAULT_BLOCKLIST.names
    assert both.ports >= DEFAULT_BLOCKLIST.ports
