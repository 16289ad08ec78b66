"""Connections outward that are made for somebody: the name is resolved here, the address checked, and exactly the
checked address connected to. A name that answers differently the next time gains nothing: nobody asks a second time.

Resolving and connecting happen where sandboxes go out, which may be another network namespace. A thread that has
entered one is not worth bringing back, so each step has its own, which ends there; sockets stay where they were made.
"""

from __future__ import annotations

import asyncio
import ctypes
import ipaddress
import os
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import dns.exception
import dns.rdatatype
import dns.resolver

from atoll.core.errors import PermissionDenied, Unavailable
from atoll.core.reach import NEVER_REACHABLE, Address, Network, is_never_reachable, plain
from atoll.core.uplink import Uplink, Way

RESOLVE_S = 5.0
CONNECT_S = 10.0
MAX_ADDRESSES = 4  # of one name that are tried
MAX_AT_ONCE = 64
NAMESERVERS = ("8.8.8.8", "1.1.1.1")
"""For another network namespace, where the host's own need not be."""
DNS_PORT = 53
NETNS_DIRECTORY = Path("/run/netns")
CLONE_NEWNET = 0x40000000

T = TypeVar("T")
Allow = Callable[[list[Address]], list[Address]]
"""Which of a host's addresses may be connected to, one at least; raises when there is none."""


def all_of_them(addresses: list[Address]) -> list[Address]:
    return addresses


@dataclass(frozen=True)
class Outside:
    """Where connections start."""

    namespace: Path | None = None
    """None: the host's own."""
    nameservers: tuple[str, ...] = ()
    """Empty: those of the host's resolv.conf."""
    opened: tuple[Network, ...] = ()
    dns_port: int = DNS_PORT

    @classmethod
    def of(cls, uplink: Uplink, opened: tuple[Network, ...]) -> Outside | None:
        if uplink.way is Way.NONE:
            return None
        if uplink.way is Way.NETNS:
            return cls(NETNS_DIRECTORY / uplink.name, NAMESERVERS, opened)
        return cls(opened=opened)


class Dialer:
    def __init__(self, outside: Outside | None) -> None:
        self._outside = outside
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)

    async def dial(self, host: str, port: int, allow: Allow = all_of_them) -> socket.socket:
        """A connected socket that does not block. `PermissionDenied`: never reachable, or not by `allow`;
        `Unavailable`: not now."""
        outside = self._outside
        if outside is None:
            raise PermissionDenied("this installation has no way out: it runs with --uplink none")
        async with self._turns:
            found = await in_namespace(outside.namespace, lambda: resolve(host, outside))
            addresses = allow(reachable(host, found, outside.opened))
            own = set[Address]()
            for namespace in {None, outside.namespace}:
                own |= await in_namespace(namespace, lambda: {each for each in addresses if is_own(each)})
            addresses = without_own(host, addresses, own, outside.opened)
            return await in_namespace(outside.namespace, lambda: connect(addresses[:MAX_ADDRESSES], port))


def reachable(host: str, found: Sequence[Address], opened: Sequence[Network]) -> list[Address]:
    allowed = [each for each in found if not is_never_reachable(each, opened)]
    if not allowed:
        raise PermissionDenied(f"{host} is never reached: {why(found[0])}")
    return allowed


def without_own(
    host: str, addresses: Sequence[Address], own: Collection[Address], opened: Sequence[Network]
) -> list[Address]:
    """Public addresses of this machine are no less the machine itself; what the operator has opened is meant."""
    allowed = [each for each in addresses if each not in own or any(plain(each) in network for network in opened)]
    if not allowed:
        raise PermissionDenied(f"{host} is never reached: this host's own address")
    return allowed


def why(address: Address) -> str:
    return next((each.what for each in NEVER_REACHABLE if plain(address) in each.network), "not public")


# ---- steps; each blocks, and runs where connections start


def resolve(host: str, outside: Outside) -> list[Address]:
    """Never empty. IPv6 addresses are for names that have no other."""
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass
    resolver = dns.resolver.Resolver(configure=not outside.nameservers)
    if outside.nameservers:
        resolver.nameservers = list(outside.nameservers)
        resolver.port = outside.dns_port
    resolver.lifetime = RESOLVE_S
    try:
        for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            answer = resolver.resolve(host, kind, search=False, raise_on_no_answer=False)
            if answer.rrset is not None:
                return [ipaddress.ip_address(record.address) for record in answer.rrset]
    except dns.resolver.NXDOMAIN as error:
        raise Unavailable(f"there is no host {host}") from error
    except (dns.exception.DNSException, OSError) as error:
        raise Unavailable(f"{host} could not be resolved: {type(error).__name__}") from error
    raise Unavailable(f"{host} has no address")


def is_own(address: Address) -> bool:
    """The kernel takes an address of its own as the source towards it. Nothing is sent."""
    family = socket.AF_INET if isinstance(address, ipaddress.IPv4Address) else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), DNS_PORT))
        except OSError:
            return False
        return plain(ipaddress.ip_address(probe.getsockname()[0])) == plain(address)


def connect(addresses: Sequence[Address], port: int) -> socket.socket:
    """The first that answers; all together have `CONNECT_S`."""
    reason = ""
    for address in addresses:
        family = socket.AF_INET if isinstance(address, ipaddress.IPv4Address) else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(CONNECT_S / len(addresses))
            sock.connect((str(address), port))
        except OSError as error:
            sock.close()
            reason = f"no connection to {address} port {port}: {error.strerror or error}"
            continue
        sock.setblocking(False)
        return sock
    raise Unavailable(reason)


async def in_namespace(namespace: Path | None, step: Callable[[], T]) -> T:
    """A caller that leaves waits for nothing; what the step then brings is closed."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            if isinstance(result, socket.socket):
                result.close()
        elif error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]  # T may be None itself

    def run() -> None:
        try:
            if namespace is not None:
                enter_namespace(namespace)
            outcome: tuple[T | None, BaseException | None] = (step(), None)
        except BaseException as error:
            outcome = (None, error)
        loop.call_soon_threadsafe(tell, *outcome)

    threading.Thread(target=run, name="outside", daemon=True).start()
    return await answer


_libc = ctypes.CDLL(None, use_errno=True)


def enter_namespace(namespace: Path) -> None:
    """With the calling thread."""
    try:
        descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Unavailable(f"the way out is gone: there is no network namespace {namespace.name!r}") from error
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"setns: {os.strerror(number)}")
    finally:
        os.close(descriptor)
