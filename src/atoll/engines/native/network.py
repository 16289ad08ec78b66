"""A sandbox's network: its own namespace, one veth, its own /32, no neighbour; a way out when it is given one.

The other ends of all veths live in the *fabric*, a network namespace of the installation in which nothing listens.
Where it has an uplink (`uplink.py`) it forwards what its rules (`rules.py`) let pass; without one it forwards nothing.
A sandbox reaches neither another one nor the host, and nobody reaches it. Inside, everything is unreachable until
`open`, whose route root inside cannot make: the namespace is owned by the template's. The fabric is bound at
/run/netns/atoll-INSTALLATION (so that `ip netns exec` can look into it) because it has to outlive the launcher while
sandboxes run.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import logging
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from atoll.core.packet_policy import Fate, KernelPolicy
from atoll.core.uplink import PROXY_ADDRESS

from . import syscalls as sc
from .conntrack import Connection, Conntrack
from .netlink import (
    Netlink,
    default_route,
    del_link,
    link_up,
    new_address,
    new_neighbour,
    new_route,
    new_veth,
    no_default_route,
    no_route,
)
from .nft import Element, Table, add_elements, mark_key
from .policy_rules import Plan
from .rules import FABRIC_TABLE, NOTHING_BLOCKED, PUNISHED, Blocked, Pass, plan_of
from .sandbox_rules import blocked, given, replaced, taken_back

log = logging.getLogger(__name__)

NETNS_DIRECTORY = Path("/run/netns")
FIRST_ADDRESS = int.from_bytes(socket.inet_aton("100.96.0.0"), "big")
"""100.96.0.0/11 of the shared address space (RFC 6598): never a public destination."""
PEER = "eth0"
GATEWAY = "169.254.0.1"
"""Inside; the fabric's end of the link answers to nothing by that name."""
FABRIC_MAC, SANDBOX_MAC = bytes.fromhex("026174000001"), bytes.fromhex("026174000002")
"""Locally administered. The same on every link, each of which has two ends and no more."""
UNROUTED = (("0.0.0.0", 8), ("224.0.0.0", 4), ("255.255.255.255", 32))  # noqa: S104
"""Destinations for which no router answers with a refusal: refused inside."""
SANDBOX_SYSCTLS = {
    f"/proc/sys/net/ipv6/conf/{PEER}/disable_ipv6": "1",
    # A socket bound to the link passes the unreachable route by and would make a neighbour entry for each address it
    # names; their number is one for the whole host. Without probes an entry has failed, and can be dropped, at once.
    f"/proc/sys/net/ipv4/neigh/{PEER}/mcast_solicit": "0",
    "/proc/sys/net/ipv4/ip_unprivileged_port_start": "0",
}
FABRIC_SYSCTLS = {
    "/proc/sys/net/ipv6/conf/all/disable_ipv6": "1",
    "/proc/sys/net/ipv6/conf/default/disable_ipv6": "1",
    # A packet with a source route names another destination than the one that is judged.
    "/proc/sys/net/ipv4/conf/all/accept_source_route": "0",
}


def address_of(slice_index: int) -> str:
    return socket.inet_ntoa((FIRST_ADDRESS + slice_index).to_bytes(4, "big"))


def link_name(slice_index: int) -> str:
    return f"at{slice_index}"


def links() -> list[str]:
    """Of sandboxes and slots, in the current network namespace."""
    return [name for _, name in socket.if_nameindex() if name[:2] == "at" and name[2:].isdigit()]


@dataclass(frozen=True)
class WayOut:
    """What the fabric's table holds for one sandbox."""

    granted: Pass
    plan: Plan


def doomed(policy: KernelPolicy, connections: Iterable[Connection]) -> list[Connection]:
    """What the proxy and the resolver have is theirs to end."""
    decided: dict[tuple[str, bytes, int], bool] = {}
    found = []
    for each in connections:
        if each.translated:
            continue
        key = (each.protocol, each.destination, each.port)
        if key not in decided:
            decided[key] = policy.fate(each.address, each.protocol, each.port) is not Fate.DIRECT
        if decided[key]:
            found.append(each)
    return found


class Fabric:
    """The launcher lives in it. `leave` returns to it after a visit to a sandbox's namespace."""

    def __init__(self, installation: str) -> None:
        self.path = NETNS_DIRECTORY / f"atoll-{installation}"
        self.host_fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._ensure()
        self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        sc.setns(self.fd, sc.CLONE_NEWNET)
        for path, value in FABRIC_SYSCTLS.items():
            with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
                Path(path).write_text(value)
        self.has_uplink = False
        """While it is false nobody is given a way out."""
        self._out: dict[int, WayOut] = {}
        self._serials = itertools.count(1)
        self.blocked = NOTHING_BLOCKED
        self._table = Table(FABRIC_TABLE)
        self._conntrack = Conntrack()
        self._netlink = Netlink()
        self._netlink.send(link_up(1))
        with contextlib.suppress(FileExistsError):
            self._netlink.send(new_address(1, PROXY_ADDRESS, 32))

    def close(self) -> None:
        """Of this process's sockets and descriptors; the fabric stays."""
        for each in (self._table, self._conntrack, self._netlink):
            each.close()
        for fd in (self.fd, self.host_fd):
            os.close(fd)

    def _ensure(self) -> None:
        """Must run before the launcher unshares its mounts: the bind belongs to the host's namespace."""
        NETNS_DIRECTORY.mkdir(mode=0o755, exist_ok=True)
        _make_mount_point()
        if self.path.exists() and _is_netns(self.path):
            return
        self.path.touch(mode=0o600)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(read)
                sc.unshare(sc.CLONE_NEWNET)
                forward(False)
                sc.mount("/proc/self/ns/net", str(self.path), None, sc.MS_BIND)
                os.write(write, b"1")
            finally:
                os._exit(0)
        os.close(write)
        done = os.read(read, 1)
        os.close(read)
        os.waitpid(pid, 0)
        if not done:
            raise OSError("the fabric's network namespace could not be made")

    def connect(self, slice_index: int, netns_fd: int) -> None:
        """A veth from the fabric into `netns_fd`, both ends configured."""
        name = link_name(slice_index)
        address = address_of(slice_index)
        with contextlib.suppress(OSError):
            self._netlink.send(del_link(name))
        self._netlink.send(new_veth(name, PEER, netns_fd, (FABRIC_MAC, SANDBOX_MAC)))
        index = socket.if_nametoindex(name)
        self._netlink.send(link_up(index), new_route(address, 32, index), new_neighbour(index, address, SANDBOX_MAC))
        with self.visiting(netns_fd):
            _configure_inside(address)

    def open(self, slice_index: int, netns_fd: int, policy: KernelPolicy) -> int:
        """What the policy allows, for the sandbox; answers the mark of its pass, 0 where there is no uplink."""
        if not self.has_uplink:
            return 0
        way = self._way(Pass(link_name(slice_index), address_of(slice_index), _fresh_mark(), policy))
        self._table.commit(given(way.granted, way.plan))
        self._out[slice_index] = way
        with self.visiting(netns_fd):
            _route_out()
        return way.granted.mark

    def adopt(self, slice_index: int, mark: int, policy: KernelPolicy) -> None:
        """The pass that an earlier launcher gave; it is in force again when the uplink is set up."""
        if mark:
            granted = Pass(link_name(slice_index), address_of(slice_index), mark, policy)
            self._out[slice_index] = WayOut(granted, plan_of(granted))

    def passes(self) -> list[Pass]:
        return [way.granted for way in self._out.values()]

    def govern(self, slice_index: int, netns_fd: int, policy: KernelPolicy) -> int:
        """Another policy in the place of the one that holds; what it forbids or hands to the proxy is cut."""
        old = self._out.get(slice_index)
        if old is None:
            return self.open(slice_index, netns_fd, policy)
        new = self._way(replace(old.granted, policy=policy))
        if self.has_uplink:
            self._table.commit(replaced(new.granted.mark, old.plan, new.plan))
        self._out[slice_index] = new
        self.cut_forbidden(slice_index, netns_fd, new.granted.mark)
        return new.granted.mark

    def cut_forbidden(self, slice_index: int, netns_fd: int, mark: int) -> None:
        """Open connections that the policy in force forbids; of another birth (`mark`) none. Of those that cannot be
        told apart all are forgotten, and judged anew with their next packet."""
        way = self._out.get(slice_index)
        if way is None or way.granted.mark != mark or not self.has_uplink:
            return
        try:
            forbidden = doomed(way.granted.policy, self._conntrack.of(mark))
            self._conntrack.cut(forbidden, lambda: self.visiting(netns_fd))
        except OSError:
            log.exception("connections on %s are judged anew", way.granted.link)
            self._conntrack.forget(mark)

    def punish(self, slice_index: int, seconds: int) -> None:
        way = self._out.get(slice_index)
        if way is not None and self.has_uplink:
            self._table.commit(add_elements(PUNISHED, [Element(mark_key(way.granted.mark), timeout_s=seconds)]))

    def block(self, wanted: Blocked) -> None:
        if self.has_uplink:
            self._table.commit(blocked(wanted))
        self.blocked = wanted

    def _way(self, granted: Pass) -> WayOut:
        return WayOut(granted, plan_of(granted, str(next(self._serials))))

    @contextlib.contextmanager
    def visiting(self, netns_fd: int) -> Iterator[None]:
        sc.setns(netns_fd, sc.CLONE_NEWNET)
        try:
            yield
        finally:
            sc.setns(self.fd, sc.CLONE_NEWNET)

    def forget_connections(self) -> None:
        """Of everybody: what goes on is judged anew."""
        self._conntrack.forget(None)

    def close_out(self, slice_index: int) -> None:
        """Nothing more of it gets out, nor an answer in: also not what the kernel would still send for programs that
        have ended."""
        way = self._out.get(slice_index)
        if way and self.has_uplink:
            self._take_back(way)
            self._conntrack.forget(way.granted.mark)
        self._out.pop(slice_index, None)

    def disconnect(self, slice_index: int) -> None:
        """Its pass first: what was allowed to it is over before anybody else can have its address."""
        self.close_out(slice_index)
        with contextlib.suppress(OSError):
            self._netlink.send(del_link(link_name(slice_index)))

    def _take_back(self, way: WayOut) -> None:
        changes = taken_back(way.granted, way.plan)
        try:
            self._table.commit(changes)
        except FileNotFoundError:  # all or nothing: the rest of it has to go all the same
            for change in changes:
                with contextlib.suppress(OSError):
                    self._table.commit([change])


def _configure_inside(address: str) -> None:
    netlink = Netlink()
    try:
        index = socket.if_nametoindex(PEER)
        netlink.send(
            link_up(1),
            new_address(index, address, 32),
            link_up(index),
            no_default_route(),
            *(no_route(destination, prefix) for destination, prefix in UNROUTED),
            new_neighbour(index, GATEWAY, FABRIC_MAC),
        )
    finally:
        netlink.close()
    for path, value in SANDBOX_SYSCTLS.items():
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # a kernel without IPv6
            continue
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)


def forward(on: bool) -> None:
    """In the current namespace, where a new one may have taken over that of the host."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("01"[on])


def _route_out() -> None:
    netlink = Netlink()
    try:
        netlink.send(default_route(GATEWAY, socket.if_nametoindex(PEER)))
    finally:
        netlink.close()


def _fresh_mark() -> int:
    """Random: two births on one address do not meet."""
    return int.from_bytes(os.urandom(4), "big") or 1


def _is_netns(path: Path) -> bool:
    return os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev


def _make_mount_point() -> None:
    """The first `ip netns add` mounts the directory over itself, and what had a name there before could not be removed
    any more. So the first fabric does it as well, in turns with that (and like that, once for all)."""
    directory = str(NETNS_DIRECTORY)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            sc.mount(None, directory, None, sc.MS_SHARED | sc.MS_REC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            sc.mount(directory, directory, None, sc.MS_BIND | sc.MS_REC)  # it was no mount point
            sc.mount(None, directory, None, sc.MS_SHARED | sc.MS_REC)
    finally:
        os.close(fd)


def remove_fabric(installation: str) -> None:
    """From the host's mount namespace, when no sandbox is left. Idempotent."""
    path = NETNS_DIRECTORY / f"atoll-{installation}"
    with contextlib.suppress(OSError):
        sc.umount(str(path))
    with contextlib.suppress(OSError):
        path.unlink()
