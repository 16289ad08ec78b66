"""A sandbox's network: its own namespace, one veth, its own /32, no neighbour, no way out.

The other ends of all veths live in the *fabric*, a network namespace of the installation that
forwards nothing (`ip_forward` off) and in which nothing listens: so a sandbox can reach neither
another one, nor the host, nor anything beyond, and nobody can reach it. The host's own namespace is
never touched. The fabric is bound at /run/netns/atoll-INSTALLATION (so that `ip netns exec` can look
into it) because it has to outlive the launcher while sandboxes run.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from . import syscalls as sc
from .netlink import Netlink, del_link, link_up, new_address, new_route, new_veth, no_default_route

NETNS_DIRECTORY = Path("/run/netns")
FIRST_ADDRESS = int.from_bytes(socket.inet_aton("100.96.0.0"), "big")
"""100.96.0.0/11 of the shared address space (RFC 6598): never a public destination."""
PEER = "eth0"
SANDBOX_SYSCTLS = {
    f"/proc/sys/net/ipv6/conf/{PEER}/disable_ipv6": "1",
    # A socket bound to the link passes the unreachable route by and would make a neighbour entry for each address it
    # names; their number is one for the whole host. Without probes an entry has failed, and can be dropped, at once.
    f"/proc/sys/net/ipv4/neigh/{PEER}/mcast_solicit": "0",
    "/proc/sys/net/ipv4/ip_unprivileged_port_start": "0",
    "/proc/sys/net/ipv4/ping_group_range": "0 2147483647",
}
FABRIC_SYSCTLS = {
    "/proc/sys/net/ipv4/ip_forward": "0",
    "/proc/sys/net/ipv6/conf/all/disable_ipv6": "1",
    "/proc/sys/net/ipv6/conf/default/disable_ipv6": "1",
}


def address_of(slice_index: int) -> str:
    return socket.inet_ntoa((FIRST_ADDRESS + slice_index).to_bytes(4, "big"))


def link_name(slice_index: int) -> str:
    return f"at{slice_index}"


class Fabric:
    """The launcher lives in it. `leave` returns to it after a visit to a sandbox's namespace."""

    def __init__(self, installation: str) -> None:
        self.path = NETNS_DIRECTORY / f"atoll-{installation}"
        self._ensure()
        self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        sc.setns(self.fd, sc.CLONE_NEWNET)
        for path, value in FABRIC_SYSCTLS.items():
            with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
                Path(path).write_text(value)
        self._netlink = Netlink()
        self._netlink.send(link_up(1))

    def _ensure(self) -> None:
        """Must run before the launcher unshares its mounts: the bind belongs to the host's namespace."""
        NETNS_DIRECTORY.mkdir(mode=0o755, exist_ok=True)
        if self.path.exists() and _is_netns(self.path):
            return
        self.path.touch(mode=0o600)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(read)
                sc.unshare(sc.CLONE_NEWNET)
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
        self._netlink.send(new_veth(name, PEER, netns_fd))
        index = socket.if_nametoindex(name)
        self._netlink.send(link_up(index), new_route(address, 32, index))
        sc.setns(netns_fd, sc.CLONE_NEWNET)
        try:
            _configure_inside(address)
        finally:
            sc.setns(self.fd, sc.CLONE_NEWNET)

    def disconnect(self, slice_index: int) -> None:
        with contextlib.suppress(OSError):
            self._netlink.send(del_link(link_name(slice_index)))


def _configure_inside(address: str) -> None:
    netlink = Netlink()
    try:
        index = socket.if_nametoindex(PEER)
        netlink.send(
            link_up(1),
            new_address(index, address, 32),
            link_up(index),
            no_default_route(),
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


def _is_netns(path: Path) -> bool:
    return os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev


def remove_fabric(installation: str) -> None:
    """From the host's mount namespace, when no sandbox is left. Idempotent. `ip netns add` mounts its directory over
    itself, and what was mounted there before can then not be removed: the next fabric takes the name over."""
    path = NETNS_DIRECTORY / f"atoll-{installation}"
    with contextlib.suppress(OSError):
        sc.umount(str(path))
    with contextlib.suppress(OSError):
        path.unlink()
