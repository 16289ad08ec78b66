"""From the fabric out: one veth to where sandboxes go out (the host's namespace or a named one), forwarding, rules.

`set_up` is idempotent and cuts no connection: a launcher that starts finds what an earlier one left, however that
ended. `tear_down` leaves nothing. What was changed is noted first: RUN/uplink.json says where this installation goes
out, and a file beside the installations' directories keeps, for each interface that did not forward before, that it did
not; the last one to go puts that back. Only the uplink's interface is made to forward, and the rules keep it closed for
everybody else.

All changes take turns under one lock of the machine. An installation whose fabric nobody lives in any more (its
launcher was killed and none followed) is swept by the next one; its own next launcher sets everything up again.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import logging
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll.core.errors import Unsupported
from atoll.core.reach import Network
from atoll.core.uplink import NO_UPLINK, Uplink, Way

from . import syscalls as sc
from .netlink import Netlink, default_route, del_link, link_up, new_address, new_veth
from .network import NETNS_DIRECTORY, Fabric, forward
from .rules import FABRIC_TABLE, INSIDE, FabricRules, Limits, no_rules, outer_rules

log = logging.getLogger("atoll.launcher")

PREFIX = "atu"
FIRST_PAIR = int(ipaddress.IPv4Address("100.64.0.0"))
PAIRS = 1 << 20  # /31 links in 100.64.0.0/11; 100.96.0.0/11 is the sandboxes'
CONNTRACK_MAX = Path("/proc/sys/net/netfilter/nf_conntrack_max")
CONNTRACK_DEFAULT = 65_536
ROUTES = "/proc/thread-self/net/route"
NFT_TIMEOUT_S = 30
INNER_SYSCTLS = {
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/all/accept_redirects": "0",
    # Refusals are answered each time, and do not draw on the host's budget for such answers.
    "net/ipv4/icmp_ratemask": "0",
    # The log of outbound traffic says how many bytes and how long.
    "net/netfilter/nf_conntrack_acct": "1",
    "net/netfilter/nf_conntrack_timestamp": "1",
}


def choose(wanted: Uplink) -> Uplink:
    """What `auto` means now, and whether what was named is there. Run where the host's interfaces are."""
    if wanted.way is Way.AUTO:
        found = default_interface()
        return Uplink(Way.INTERFACE, found) if found else NO_UPLINK
    if wanted.way is Way.INTERFACE and wanted.name not in _links():
        raise Unsupported(f"--uplink {wanted}: this machine has no network interface {wanted.name!r}; see `ip link`")
    if wanted.way is Way.NETNS:
        if not (NETNS_DIRECTORY / wanted.name).exists():
            raise Unsupported(f"--uplink {wanted}: there is no network namespace {wanted.name!r}; see `ip netns`")
        with _host() as host_fd, _outer(wanted, host_fd) as outer_fd, _within(outer_fd, host_fd):
            _interface_of(wanted)
    return wanted


def default_interface() -> str | None:
    with open(ROUTES, encoding="ascii") as file:
        return parse_default_interface(file.read())


def parse_default_interface(table: str) -> str | None:
    """Of /proc/net/route: the best of the routes to everywhere."""
    rows = (line.split() for line in table.splitlines()[1:])
    default = [(int(row[6]), row[0]) for row in rows if len(row) > 7 and row[1] == row[7] == "00000000"]
    return min(default)[1] if default else None


@dataclass(frozen=True)
class Note:
    """RUN/uplink.json."""

    uplink: str
    interface: str
    pair: int
    opened: str = ""
    """Which internal ranges were reachable."""


class UplinkSetup:
    """Of one installation; used by the launcher, whose thread lives in the fabric."""

    def __init__(
        self,
        fabric: Fabric,
        run: Path,
        wanted: Uplink,
        opened: Sequence[Network],
        limits: Limits,
    ) -> None:
        self._fabric = fabric
        self._wanted = wanted
        self._opened = opened
        self._limits = limits
        self._machine = run.parent
        self._note = run / "uplink.json"
        self._link = PREFIX + run.name
        self._table = f"atoll-{run.name}"

    def set_up(self) -> None:
        with self._turn():
            noted = self._read_note()
            if noted and noted.uplink != str(self._wanted):
                self._take_down(noted)
                noted = None
            if self._wanted.way is Way.NONE:
                return
            with _outer(self._wanted, self._fabric.host_fd) as outer_fd:
                self._connect(outer_fd, noted)
        self._fabric.has_uplink = True

    def tear_down(self) -> None:
        self._fabric.has_uplink = False
        with self._turn():
            noted = self._read_note()
            if noted:
                self._take_down(noted)

    def _connect(self, outer_fd: int, noted: Note | None) -> None:
        """Rules before links, links before forwarding: at no moment is there a way without its rules."""
        total = _connections_in_all()
        with self._fabric.visiting(outer_fd):
            interface = _interface_of(self._wanted)
            self._sweep_dead()
            sealed = self._noted_closed(interface)
            pair = noted.pair if noted else _free_pair(self._link)
            note = Note(str(self._wanted), interface, pair, ",".join(map(str, self._opened)))
            self._write_note(note)
            if noted and noted.interface != interface:
                self._forward_again(noted.interface)
            _load(outer_rules(self._table, self._link, interface, self._opened, total, sealed))
        rules = FabricRules(self._fabric.passes(), self._opened, total, self._limits, self._fabric.blocked)
        _load(rules.text())
        if noted and noted.opened != note.opened:  # open connections are not looked at again for that
            self._fabric.forget_connections()
        self._wire(outer_fd, pair)
        for name, value in INNER_SYSCTLS.items():
            _write_sysctl(name, value)
        forward(True)
        with self._fabric.visiting(outer_fd):
            _write_sysctl(f"net/ipv4/conf/{self._link}/forwarding", "1")
            _write_sysctl(f"net/ipv4/conf/{interface}/forwarding", "1")
        log.info("sandboxes go out by %s (%s)", self._wanted, interface)

    def _wire(self, outer_fd: int, pair: int) -> None:
        outer, inner = addresses(pair)
        with self._fabric.visiting(outer_fd), _netlink() as netlink:
            if self._link not in _links():
                netlink.send(new_veth(self._link, INSIDE, self._fabric.fd))
                with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
                    _write_sysctl(f"net/ipv6/conf/{self._link}/disable_ipv6", "1")
            _configure(netlink, self._link, outer)
        with _netlink() as netlink:
            index = _configure(netlink, INSIDE, inner)
            netlink.send(default_route(outer, index))

    def _take_down(self, noted: Note) -> None:
        forward(False)
        _load(no_rules(FABRIC_TABLE))
        with contextlib.suppress(OSError), _netlink() as netlink:
            netlink.send(del_link(INSIDE))
        with (
            contextlib.suppress(Unsupported),  # a namespace that is gone took everything with it
            _outer(_of(noted.uplink), self._fabric.host_fd) as outer_fd,
            self._fabric.visiting(outer_fd),
        ):
            _load(no_rules(self._table))
            self._forward_again(noted.interface)
        self._note.unlink(missing_ok=True)

    # ---- what the interface did before us

    def _closed_file(self, interface: str) -> Path:
        return self._machine / f"closed-{os.stat('/proc/thread-self/ns/net').st_ino}-{interface}"

    def _noted_closed(self, interface: str) -> bool:
        """Whether it is us who make it forward. Where the whole machine forwards it is not, whatever was noted once."""
        file = self._closed_file(interface)
        if _read_sysctl("net/ipv4/ip_forward") == "1":
            file.unlink(missing_ok=True)
        elif _read_sysctl(f"net/ipv4/conf/{interface}/forwarding") == "0":
            file.touch(mode=0o600)
        return file.exists()

    def _forward_again(self, interface: str) -> None:
        """As it did before, when nobody else of us needs it."""
        file = self._closed_file(interface)
        if file.exists() and not any(name.startswith(PREFIX) and name != self._link for name in _links()):
            if _read_sysctl("net/ipv4/ip_forward") == "0":
                with contextlib.suppress(FileNotFoundError):  # an interface that is gone
                    _write_sysctl(f"net/ipv4/conf/{interface}/forwarding", "0")
            file.unlink()

    # ---- others that are gone

    def _sweep_dead(self) -> None:
        foreign = [name for name in _links() if name.startswith(PREFIX) and name != self._link]
        if not foreign:
            return
        inhabited = _inhabited()
        for name in foreign:
            installation = name.removeprefix(PREFIX)
            if _inode(NETNS_DIRECTORY / f"atoll-{installation}") not in inhabited:
                log.warning("the uplink of installation %s, which is dead, is removed", installation)
                with contextlib.suppress(OSError), _netlink() as netlink:
                    netlink.send(del_link(name))
                _load(no_rules(f"atoll-{installation}"))

    # ---- notes

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        with (self._machine / "uplink.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read_note(self) -> Note | None:
        try:
            return Note(**json.loads(self._note.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _write_note(self, note: Note) -> None:
        """Whole or not at all."""
        draft = self._note.with_suffix(".new")
        draft.write_text(json.dumps(vars(note)))
        draft.rename(self._note)


def addresses(pair: int) -> tuple[str, str]:
    """Of a link's two ends: outside, in the fabric."""
    first = FIRST_PAIR + 2 * pair
    return str(ipaddress.IPv4Address(first)), str(ipaddress.IPv4Address(first + 1))


def _free_pair(link: str) -> int:
    """By the installation's id; the next one where another has it."""
    wanted = int(link.removeprefix(PREFIX), 16) % PAIRS
    return next(
        pair for pair in ((wanted + step) % PAIRS for step in range(PAIRS)) if not _is_local(addresses(pair)[0])
    )


def _is_local(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
        return True


def _configure(netlink: Netlink, link: str, address: str) -> int:
    index = socket.if_nametoindex(link)
    with contextlib.suppress(FileExistsError):
        netlink.send(new_address(index, address, 31))
    netlink.send(link_up(index))
    return index


def _connections_in_all() -> int:
    """Half of what the host can remember: the other half is for everybody else."""
    try:
        return int(CONNTRACK_MAX.read_text()) // 2
    except FileNotFoundError:  # before the first rule that needs connection tracking
        return CONNTRACK_DEFAULT // 2


def _interface_of(wanted: Uplink) -> str:
    if wanted.way is Way.INTERFACE:
        return wanted.name
    interface = default_interface()
    if interface is None:
        raise Unsupported(f"--uplink {wanted}: there is no default route in it")
    return interface


def _load(rules: str) -> None:
    """In the current network namespace, all or nothing."""
    argv = ["nft", "-f", "-"]
    try:
        done = subprocess.run(argv, input=rules, capture_output=True, text=True, timeout=NFT_TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        raise Unsupported("the program nft is missing: apt-get install nftables, or say --uplink none") from error
    if done.returncode != 0:
        raise OSError(f"nft: {done.stderr.strip()[:2000]}")


def _links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


@contextlib.contextmanager
def _netlink() -> Iterator[Netlink]:
    netlink = Netlink()
    try:
        yield netlink
    finally:
        netlink.close()


@contextlib.contextmanager
def _host() -> Iterator[int]:
    fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _outer(wanted: Uplink, host_fd: int) -> Iterator[int]:
    """The network namespace where sandboxes go out."""
    if wanted.way is not Way.NETNS:
        yield host_fd
        return
    try:
        fd = os.open(NETNS_DIRECTORY / wanted.name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Unsupported(f"--uplink {wanted}: there is no network namespace {wanted.name!r}") from error
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _within(netns_fd: int, back_fd: int) -> Iterator[None]:
    try:
        sc.setns(netns_fd, sc.CLONE_NEWNET)
    except OSError as error:
        raise Unsupported(f"not a network namespace: {error}") from error
    try:
        yield
    finally:
        sc.setns(back_fd, sc.CLONE_NEWNET)


def _of(text: str) -> Uplink:
    kind, colon, name = text.partition(":")
    return Uplink(Way.NETNS, name) if colon else Uplink(Way.INTERFACE, kind)


def _inhabited() -> set[int]:
    """Inodes of the network namespaces in which a process lives."""
    return {inode for entry in Path("/proc").glob("[0-9]*") if (inode := _inode(entry / "ns" / "net")) is not None}


def _inode(path: Path) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _read_sysctl(name: str) -> str:
    return Path("/proc/sys", name).read_text().strip()


def _write_sysctl(name: str, value: str) -> None:
    Path("/proc/sys", name).write_text(value)
