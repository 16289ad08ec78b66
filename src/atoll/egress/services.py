"""What the parts of the egress daemon are built from."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from atoll.core.blocklist import BlockList
from atoll.core.reach import Network

from .authority import Authority
from .log import Log
from .recent import RecentNames
from .resolver import Resolver
from .sandboxes import Sandboxes


@dataclass
class Services:
    sandboxes: Sandboxes
    resolver: Resolver
    log: Log
    recent: RecentNames
    blocked: Callable[[], BlockList]
    """The list in force now."""
    opened: tuple[Network, ...]
    domain: str | None
    """Of the installation: this name and all below it are its own ingress."""
    ingress_socket: Path | None
    authority: Authority
    upstream_tls: ssl.SSLContext
    """For connections to names with header rules."""
    proxy_tls: ssl.SSLContext
    """For connections to SOCKS5 servers that bring no certificate."""
