"""Connections from the fabric outward: a name is resolved here, its addresses are checked, and a checked one is
connected to. Nobody resolves a second time. The kernel refuses what is never reachable once more, and this host's own
addresses, which are not known in the fabric.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import sys
from collections.abc import Sequence

from atoll.core.errors import PermissionDenied, Unavailable
from atoll.core.policy import OPEN, Policy, judge
from atoll.core.reach import Address

from .answers import usable
from .services import Services

CONNECT_S = 10.0
MAX_ADDRESSES = 4
"""Of one name that are tried; all together have `CONNECT_S`."""
KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4), ("TCP_USER_TIMEOUT", 120_000))
"""A peer that is gone is noticed within two minutes, whether it owes us an answer or we owe it bytes."""

NEAR_US = 1000
"""Round trip within a machine or a rack."""


async def connect_name(
    name: str, port: int, services: Services, servers: Sequence[str] | None = None, policy: Policy = OPEN
) -> tuple[socket.socket, Address]:
    """To a name or an address. `PermissionDenied` (`details["rule"]`): never, by the operator's list, or by `policy`,
    which is given where the name itself was not allowed; `Unavailable`: not now. `servers`: who is asked."""
    found = await _addresses(name, services, servers)
    blocked = services.blocked()
    verdicts = [(each, judge(policy, each, "tcp", port, None, services.opened, blocked)) for each in found]
    allowed = [each for each, verdict in verdicts if verdict.allowed]
    if not allowed:
        address, verdict = verdicts[0]
        raise PermissionDenied(f"{name} is at {address}: {verdict.rule}", rule=verdict.rule, address=str(address))
    return await _connect(allowed[:MAX_ADDRESSES], port)


async def _addresses(name: str, services: Services, servers: Sequence[str] | None) -> list[Address]:
    try:
        return [ipaddress.ip_address(name)]
    except ValueError:
        asked = None if servers is None else usable(servers, services.opened, services.blocked())
        return await services.resolver.addresses(name, asked)


async def _connect(addresses: Sequence[Address], port: int) -> tuple[socket.socket, Address]:
    reason = ""
    for address in addresses:
        family = socket.AF_INET if isinstance(address, ipaddress.IPv4Address) else socket.AF_INET6
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            raise Unavailable(f"no connection can be made: {error.strerror}") from error
        try:
            tune(sock)
            async with asyncio.timeout(CONNECT_S / len(addresses)):
                await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
        except (OSError, TimeoutError) as error:
            sock.close()
            why = os.strerror(error.errno) if error.errno else "no answer"
            reason = f"no connection to {address} port {port}: {why}"
            continue
        except BaseException:
            sock.close()
            raise
        hurry_if_near(sock)
        return sock, address
    raise Unavailable(reason)


def tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def hurry_if_near(sock: socket.socket) -> None:
    """Pacing (BBR's, where that is the host's default) costs a third of the throughput over a link without a length."""
    if _round_trip_us(sock) > NEAR_US:
        return
    for algorithm in (b"cubic", b"reno"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, algorithm)
            return


def _round_trip_us(sock: socket.socket) -> int:
    """As the handshake measured it."""
    return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 72)[68:72], sys.byteorder)
