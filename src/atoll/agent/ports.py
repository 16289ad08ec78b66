"""TCP ports inside: who listens, and a connection to one of them.

The connection is handed out as a descriptor, so its bytes never pass through the agent and a server bound to
127.0.0.1 is reached like any other.
"""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from .errors import AgentError, Kind, invalid

WAITS_S = (0.0, 0.2, 0.4, 0.6, 0.7)
"""Before each try: five within 2 s, for a server that was started a moment ago."""
TRY_S = 0.5  # inside one machine a connection stands at once or the queue of the listener is full
MAX_LISTENERS = 256
MAX_TABLE = 4 * 1024 * 1024  # of /proc/net/tcp, whose length is the enemy's choice

_LISTEN = "0A"
_LOOPBACK = ("127.0.0.1", "::1")
_SIOCGIFADDR = 0x8915
_TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))


@dataclass(frozen=True, order=True)
class Listener:
    port: int
    address: str


def parse_port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and text[0] != "0" and int(text) <= 65535):
        raise invalid("a port is a number from 1 to 65535")
    return int(text)


async def connect(port: int) -> socket.socket:
    """To whatever listens there, on any of the sandbox's own addresses."""
    for wait_s in WAITS_S:
        await asyncio.sleep(wait_s)
        for address in chain(_LOOPBACK, own_addresses()):
            sock = await _try(address, port)
            if sock is not None:
                return sock
    raise AgentError(Kind.NOT_FOUND, f"nothing listens at port {port}")


async def _try(address: str, port: int) -> socket.socket | None:
    try:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        if ":" in address:  # a kernel without IPv6
            return None
        raise AgentError(Kind.TOO_MANY, "no more sockets") from error
    try:
        sock.setblocking(False)
        async with asyncio.timeout(TRY_S):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
        if sock.getsockname() != sock.getpeername():  # a port in the range of outgoing ones may have met itself
            return sock
    except (OSError, TimeoutError):
        pass
    except BaseException:
        sock.close()
        raise
    sock.close()
    return None


def own_addresses() -> Iterator[str]:
    for _, name in socket.if_nameindex():
        if name != "lo":
            yield from _address_of(name)


def _address_of(interface: str) -> Iterator[str]:
    request = struct.pack("16sH22x", interface.encode()[:15], socket.AF_INET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(OSError):
        yield socket.inet_ntoa(fcntl.ioctl(sock.fileno(), _SIOCGIFADDR, request)[20:24])


def listeners(tables: Iterable[Path] = _TABLES) -> list[Listener]:
    found: set[Listener] = set()
    for path in tables:
        with suppress(OSError), path.open("rb") as file:
            found.update(parse_table(file.read(MAX_TABLE).decode("ascii", "replace")))
    return sorted(found)[:MAX_LISTENERS]


def is_service(listener: Listener) -> bool:
    """Whether `connect` could ever reach it. Kernels listen elsewhere in 127/8, so that it never does."""
    address = ipaddress.ip_address(listener.address)
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return not address.is_loopback or str(address) in _LOOPBACK


def parse_table(text: str) -> Iterator[Listener]:
    """`/proc/net/tcp`: `sl local_address rem_address st …`, addresses as words of the machine's byte order."""
    for line in text.splitlines()[1:]:
        columns = line.split()
        if len(columns) > 3 and columns[3] == _LISTEN:
            address, _, port = columns[1].partition(":")
            with suppress(ValueError, struct.error):
                yield Listener(int(port, 16), _address(address))


def _address(words: str) -> str:
    raw = bytes.fromhex(words)
    count = len(raw) // 4
    return str(ipaddress.ip_address(struct.pack(f"={count}I", *struct.unpack(f">{count}I", raw))))
