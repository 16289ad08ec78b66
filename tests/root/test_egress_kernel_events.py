"""What the kernel really says of connections and refusals, with a sandbox, a fabric and a server as namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from atoll.core.blocklist import DEFAULT_BLOCKLIST
from atoll.core.policy import Policy, parse
from atoll.core.scan import PORTS
from atoll.egress import kernel_events
from atoll.egress.log import Log
from atoll.egress.traffic import Traffic
from atoll.engines.native.closed import ClosedConnections
from atoll.testing.internet import inside
from atoll.wire import ctnetlink, netlink

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

T = TypeVar("T")

SANDBOX, UPLINK, SERVER, OTHER = "100.96.0.2", "100.64.0.1", "203.0.113.10", "203.0.113.11"
ID = "abcdefghij0123456789"
ADDRESS = ipaddress.ip_address(SANDBOX)
Facts = dict[str, Any]
TRANSLATED = "203.0.113.77"
NETNS = Path("/run/netns")
RULES = f"""
table inet test {{
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr {TRANSLATED} tcp dport 80 dnat ip to {SERVER}:7001
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    tcp dport 25 log prefix "blocklist" group 7 reject with tcp reset
    udp dport 9 log prefix "rate" group 7 reject with icmpx admin-prohibited
    ip daddr {OTHER} tcp dport 22 log prefix "deny" group 7 reject with tcp reset
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "uplink0" masquerade
  }}
}}
"""


def run(*argv: str, **more: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True, **more)  # type: ignore[call-overload]


@dataclass
class Place:
    """`client` → `fabric` → `far`."""

    name: str

    def at(self, where: str, work: Callable[[], T]) -> T:
        return inside(NETNS / f"{self.name}-{where}", work)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    name = f"atlog-{os.getpid()}"
    with contextlib.ExitStack() as undo:
        for where in ("client", "fabric", "far"):
            run("ip", "netns", "add", f"{name}-{where}")
            undo.callback(run, "ip", "netns", "del", f"{name}-{where}")
            run("ip", "-n", f"{name}-{where}", "link", "set", "lo", "up")
        for where, link in (("client", "at5x"), ("far", "uplink0")):
            peer = ["peer", "name", "eth0", "netns", f"{name}-{where}"]
            run("ip", "-n", f"{name}-fabric", "link", "add", link, "type", "veth", *peer)
            run("ip", "-n", f"{name}-fabric", "link", "set", link, "up")
            run("ip", "-n", f"{name}-{where}", "link", "set", "eth0", "up")
        run("ip", "-n", f"{name}-client", "address", "add", f"{SANDBOX}/31", "dev", "eth0")
        run("ip", "-n", f"{name}-client", "route", "add", "default", "via", "100.96.0.3")
        run("ip", "-n", f"{name}-fabric", "address", "add", "100.96.0.3/31", "dev", "at5x")
        run("ip", "-n", f"{name}-fabric", "address", "add", f"{UPLINK}/31", "dev", "uplink0")
        run("ip", "-n", f"{name}-fabric", "route", "add", "203.0.113.0/24", "via", "100.64.0.0")
        run("ip", "-n", f"{name}-far", "address", "add", "100.64.0.0/31", "dev", "eth0")
        for address in (SERVER, OTHER):
            run("ip", "-n", f"{name}-far", "address", "add", f"{address}/32", "dev", "lo")
        made = Place(name)
        run("ip", "netns", "exec", f"{name}-fabric", "nft", "-f", "-", input=RULES)
        made.at("fabric", lambda: _sysctls("net/ipv4/ip_forward", "net/netfilter/nf_conntrack_acct",
                                           "net/netfilter/nf_conntrack_timestamp"))  # fmt: skip
        yield made


def _sysctls(*names: str) -> None:
    for name in names:
        Path("/proc/sys", name).write_text("1")


class Server:
    """Reads all, then writes so many bytes."""

    def __init__(self, place: Place, answers: int) -> None:
        self.received = 0
        self._answers = answers
        self._peers: list[socket.socket] = []
        self._listening = place.at("far", lambda: socket.create_server((SERVER, 7001)))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listening.accept()
                self._peers.append(peer)
                while data := peer.recv(1 << 20):
                    self.received += len(data)
                peer.sendall(bytes(self._answers))
                peer.shutdown(socket.SHUT_WR)

    @property
    def sent_again(self) -> int:
        return sum(map(sent_again, self._peers))

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        for peer in self._peers:
            peer.close()


@dataclass
class Watched:
    place: Place
    log: Log
    traffic: Traffic
    punished: list[tuple[str, str, int, str]]
    cursor: int = 0

    async def entries(self, number: int = 1) -> list[Facts]:
        """The next so many; waits for each."""
        found: list[Facts] = []
        while len(found) < number:
            page = await self.log.read(ID, self.cursor, number - len(found), wait_s=10)
            assert page.entries, f"{len(found)} of {number}: {found}"
            found += page.entries
            self.cursor = page.cursor
        return found

    async def client(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(self.place.at, "client", work)


class _Names:
    def name_of(self, sandbox_id: str, address: object) -> str | None:
        return "files.example.com" if str(address) == SERVER else None


@pytest.fixture
async def watched(place, tmp_path) -> AsyncIterator[Watched]:
    punished: list[tuple[str, str, int, str]] = []
    log = Log(tmp_path / "logs")
    running = asyncio.create_task(log.run())
    traffic = Traffic(log=log, names=_Names(), blocked=lambda: DEFAULT_BLOCKLIST, opened=(),
                      punish=lambda *punish: punished.append(punish))  # fmt: skip
    readings = traffic.listen(place.at("fabric", kernel_events.open_sockets))
    loop = asyncio.get_running_loop()
    closed = place.at("fabric", lambda: ClosedConnections(loop, linger_s=0.05))
    policy: Policy = parse({"allow_out": [f"{SERVER}/32"], "deny_out": ["203.0.113.0/28"]})
    traffic.put(ID, (ADDRESS,), policy)
    yield Watched(place, log, traffic, punished)
    closed.close()
    for reading in readings:
        reading.close()
    running.cancel()
    await log.close()


def send(address: str, port: int, upload: int) -> tuple[int, int]:
    """How much came back, and how much of the upload was sent again."""
    with socket.create_connection((address, port), timeout=5) as sock:
        sock.sendall(bytes(upload))
        sock.shutdown(socket.SHUT_WR)
        received = 0
        while data := sock.recv(1 << 20):
            received += len(data)
        return received, sent_again(sock)


def sent_again(sock: socket.socket) -> int:
    """Bytes, as the kernel counts them: `tcpi_bytes_retrans` of `struct tcp_info`."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 216)
    return int.from_bytes(info[208:216], sys.byteorder)


def udp(address: str, port: int, *contents: bytes) -> bytes:
    """The answer, or the error, to what was sent last."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect((address, port))
        for content in contents:
            sock.send(content)
        return sock.recv(65536)


SIZES = [(0, 0), (1, 1), (100_000, 37), (37, 300_000), (5_000_000, 5_000_000)]


@pytest.mark.parametrize(("upload", "download"), SIZES)
async def test_bytes_of_a_connection_are_those_that_its_ends_wrote(watched, upload, download):
    server = Server(watched.place, download)
    try:
        received, uploaded_again = await watched.client(lambda: send(SERVER, 7001, upload))
        (entry,) = await watched.entries()
        downloaded_again = server.sent_again
    finally:
        server.close()
    assert (server.received, received) == (upload, download)
    again = uploaded_again + downloaded_again
    acknowledgements = 50_000 if again or max(upload, download) > 1_000_000 else 0  # selective ones are longer
    assert upload <= entry["bytes_out"] <= upload + uploaded_again + acknowledgements
    assert download <= entry["bytes_in"] <= download + downloaded_again + acknowledgements
    assert (entry["verdict"], entry["rule"]) == ("allowed", f"allow_out: {SERVER}")
    assert (entry["protocol"], entry["address"], entry["port"]) == ("tcp", SERVER, 7001)
    assert (entry["name"], entry["name_from"]) == ("files.example.com", "dns")
    assert 0 <= entry["duration_s"] < 1  # what the connection took, not how long the kernel remembered it


async def test_bytes_are_right_without_tcp_timestamps(watched):
    watched.place.at("client", lambda: Path("/proc/sys/net/ipv4/tcp_timestamps").write_text("0"))
    server = Server(watched.place, 300_000)
    try:
        _, uploaded_again = await watched.client(lambda: send(SERVER, 7001, 5))
        (entry,) = await watched.entries()
        downloaded_again = server.sent_again
    finally:
        server.close()
        watched.place.at("client", lambda: Path("/proc/sys/net/ipv4/tcp_timestamps").write_text("1"))
    acknowledgements = 5000 if downloaded_again else 0
    assert 5 <= entry["bytes_out"] <= 5 + uploaded_again + acknowledgements
    assert 300_000 <= entry["bytes_in"] <= 300_000 + downloaded_again


async def test_a_connection_that_nobody_takes_failed(watched):
    with pytest.raises(ConnectionRefusedError):
        await watched.client(lambda: send(SERVER, 7999, 0))
    (entry,) = await watched.entries()
    assert (entry["verdict"], entry["port"], entry["bytes_out"], entry["bytes_in"]) == ("failed", 7999, 0, 0)


async def test_a_udp_exchange_is_logged_when_the_kernel_forgets_it(watched):
    echo = watched.place.at("far", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    echo.bind((SERVER, 7002))

    def answer() -> None:
        for _ in range(2):
            data, peer = echo.recvfrom(65536)
            echo.sendto(data * 2, peer)

    with echo:
        answering = asyncio.to_thread(answer)
        asked = watched.client(lambda: udp(SERVER, 7002, b"seven b", bytes(3000)))
        await asyncio.gather(answering, asked)
    await asyncio.to_thread(forget_all, watched.place)
    (entry,) = await watched.entries()
    assert (entry["protocol"], entry["port"], entry["bytes_out"], entry["bytes_in"]) == ("udp", 7002, 3007, 6014)


def forget_all(place: Place) -> None:
    """As the kernel does in half a minute."""
    request = netlink.netfilter_message(
        ctnetlink.SUBSYSTEM << 8 | ctnetlink.MESSAGE_DELETE, netlink.NLM_F_ACK, 0, 0, b""
    )

    def send_it() -> None:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink.NETLINK_NETFILTER) as sock:
            sock.send(request)
            assert netlink.outcome(sock.recv(65536)) == 0

    place.at("fabric", send_it)


REFUSED = [
    (lambda: send(SERVER, 25, 0), ConnectionRefusedError, SERVER, 25, "tcp", "blocklist: tcp/25"),
    (lambda: send(OTHER, 22, 0), ConnectionRefusedError, OTHER, 22, "tcp", "deny_out: 203.0.113.0/28"),
    (lambda: udp(SERVER, 9, b"x"), OSError, SERVER, 9, "udp", "rate"),
]


@pytest.mark.parametrize(("work", "error", "address", "port", "protocol", "rule"), REFUSED)
async def test_what_the_kernel_refuses_is_logged_with_the_rule(watched, work, error, address, port, protocol, rule):
    with pytest.raises(error):
        await watched.client(work)
    (entry,) = await watched.entries()
    assert (entry["verdict"], entry["rule"]) == ("denied", rule)
    assert (entry["protocol"], entry["address"], entry["port"]) == (protocol, address, port)
    assert "bytes_in" in entry


async def test_what_was_translated_is_left_to_those_who_read_it(watched):
    server = Server(watched.place, 10)
    try:
        await watched.client(lambda: send(TRANSLATED, 80, 10))
        await watched.client(lambda: send(SERVER, 7001, 10))
        (entry,) = await watched.entries()
    finally:
        server.close()
    assert entry["address"] == SERVER
    assert watched.log.totals.to_wire(ID)["connections"] == 1


def knock(address: str, ports: range) -> None:
    for port in ports:
        with contextlib.suppress(ConnectionRefusedError):
            send(address, port, 0)


async def test_many_ports_of_one_address_are_a_scan(watched):
    await watched.client(lambda: knock(SERVER, range(8000, 8000 + PORTS + 1)))
    entries = await watched.entries(PORTS + 2)
    assert [entry["detail"] for entry in entries if entry["rule"] == "scan"] == [
        "more than 50 ports of one address within 10 s; new connections are refused for 60 s"
    ]
    assert watched.punished == [(ID, "scan", 60, "more than 50 ports of one address within 10 s")]


async def test_many_ports_that_are_not_reached_are_a_scan_too(watched):
    """Refused by the kernel: not one packet has left."""
    watched.traffic.put(ID, (ADDRESS,), parse({}, internet_access=False))
    refused = 'ip saddr 100.96.0.2 tcp dport 9000-9100 log prefix "deny" group 7 reject with tcp reset'
    run(
        "ip",
        "netns",
        "exec",
        f"{watched.place.name}-fabric",
        "nft",
        "insert",
        "rule",
        "inet",
        "test",
        "forward",
        refused,
    )
    await watched.client(lambda: knock(SERVER, range(9000, 9000 + PORTS + 1)))
    await watched.entries(PORTS + 2)
    assert [punished[1] for punished in watched.punished] == ["scan"]


async def test_events_that_came_too_fast_are_counted_as_lost(place, tmp_path, caplog):
    sockets = place.at("fabric", kernel_events.open_sockets)
    sockets.connections.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    await asyncio.to_thread(place.at, "client", lambda: knock(SERVER, range(7100, 7140)))
    log = Log(tmp_path / "logs")
    traffic = Traffic(log=log, names=_Names(), blocked=lambda: DEFAULT_BLOCKLIST, opened=(), punish=lambda *_: None)
    readings = traffic.listen(sockets)
    loop = asyncio.get_running_loop()
    while not log.totals.to_wire()["lost"]:
        turned = loop.create_future()
        loop.call_soon(turned.set_result, None)
        await turned
    for reading in readings:
        reading.close()
    await log.close()
    assert "the log of outbound traffic has gaps" in caplog.text
