"""The way out beside a path without Atoll: throughput, time to the first byte, creates under many rules, updates.

Each sandbox gets a second link, to a path of as many links and forwarding hops as its own, with no rules on it, to the
same server. So the same program in the same sandbox measures both, in turns, and what differs is Atoll.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from egress_kernel import bench_kernel, in_a_thread
from plain_client import Api, SandboxClient
from report import Report

from atoll.testing.installation import Installation, borrow_templates
from atoll.testing.internet import BULK, NAMESPACES, Internet, inside

GIB = 1 << 30
BULK_NAME = "bulk.example.net"
ALL = "0.0.0.0/0"
DIRECT = "198.18.2.2"
ROUNDS = 9
CONNECTS = 200
"""Below the burst of connections that a sandbox is allowed by default."""
MANY = 1000
POPULATION = ("base", "busybox", "code-interpreter")
"""In turns: a template has room for 512 sandboxes."""
RULES = 100
UPDATES = 20
WITHIN_MS = 50.0


def rules(count: int) -> list[str]:
    """So many networks, of which the last has the server."""
    others = itertools.islice(ipaddress.ip_network("64.0.0.0/6").subnets(new_prefix=22), 0, None, 7)
    return [*(str(next(others)) for _ in range(count - 1)), f"{BULK}/32"]


def names(count: int) -> list[str]:
    return [*(f"*.service-{number}.example.org" for number in range(count - 1)), BULK_NAME]


MODES: dict[str, tuple[int, dict[str, Any]]] = {  # Any: JSON values
    "no rules": (80, {}),
    f"{RULES} address rules": (80, {"allow_out": rules(RULES), "deny_out": [ALL]}),
    f"{RULES} name rules, by Host": (80, {"allow_out": names(RULES), "deny_out": [ALL]}),
    f"{RULES} name rules, by SNI": (443, {"allow_out": names(RULES), "deny_out": [ALL]}),
}
ADDED_MS = 1.0


def hello(name: str) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


CLIENT = """
import json, socket, time
HELLO = bytes.fromhex('THE_HELLO')
def connect(address, port):
    s = socket.create_connection((address, port), timeout=30)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if port == 443:
        s.sendall(HELLO)
    return s
def head(s):
    got = b''
    while b'\\r\\n\\r\\n' not in got:
        more = s.recv(65536)
        assert more, 'closed'
        got += more
    return got
def ask(s, line, more=''):
    s.sendall(f'{line} HTTP/1.1\\r\\nHost: THE_NAME\\r\\n{more}\\r\\n'.encode())
def first_byte(address, port):
    start = time.perf_counter()
    with connect(address, port) as s:
        ask(s, 'GET /bytes/1')
        s.recv(1)
        return (time.perf_counter() - start) * 1000
def down(address, port, size):
    with connect(address, port) as s:
        ask(s, f'GET /bytes/{size}')
        left = size - len(head(s).partition(b'\\r\\n\\r\\n')[2])
        buffer = bytearray(1 << 20)
        start = time.perf_counter()
        while left:
            got = s.recv_into(buffer)
            assert got, 'closed'
            left -= got
        return size / (time.perf_counter() - start) / 1e9
def up(address, port, size):
    with connect(address, port) as s:
        ask(s, 'PUT /upload', f'Content-Length: {size}\\r\\nExpect: 100-continue\\r\\n')
        head(s)
        buffer = bytes(1 << 20)
        start = time.perf_counter()
        for _ in range(size >> 20):
            s.sendall(buffer)
        told = head(s)
        took = time.perf_counter() - start
        assert told.endswith(str(size).encode()), told
        return size / took / 1e9
def in_turns(what, atoll, direct, port, count, *more):
    def pair(turn):
        order = (atoll, direct) if turn % 2 else (direct, atoll)
        took = {address: what(address, port, *more) for address in order}
        return took[atoll], took[direct]
    pairs = [pair(turn) for turn in range(count + 1)]
    print(json.dumps([list(each) for each in zip(*pairs[1:])]))
"""


def client(first: bytes = b"") -> str:
    return CLIENT.replace("THE_HELLO", first.hex()).replace("THE_NAME", BULK_NAME)


def bench_egress(report: Report, templates: Path, size: int = GIB) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    in_a_thread(lambda: bench_kernel(report))
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch, Internet("bench") as net:
        borrow_templates(templates, Path(scratch))
        flags = ("--templates", ",".join(POPULATION), "--uplink", net.uplink)
        with Installation(Path(scratch), *flags) as atoll, bulk_server(net), Direct(net) as direct:
            api = Api(atoll)
            for name, (port, network) in MODES.items():
                bench_mode(report, api, direct, atoll, name, port, network, size)
            bench_updates(report, api)
            bench_creates(report, api)
        if net.escaped():
            raise RuntimeError(f"packets left this machine: {net.escapes()}")


def bench_mode(
    report: Report, api: Api, direct: Direct, atoll: Installation, name: str, port: int, network: Any, size: int
) -> None:
    sandbox = api.create("code-interpreter", network=network)
    direct.join(pid_of(atoll, sandbox))
    told(sandbox, client(hello(BULK_NAME)))
    share = 0.8 if "name rules" in name else 0.95
    for way in ("down", "up"):
        ours, plain = told(sandbox, f"in_turns({way}, '{BULK}', '{DIRECT}', {port}, {ROUNDS}, {size})")
        report.put(f"egress: {name}: {way}", ours, "GB/s", plain, at_least=share)
    ours, plain = told(sandbox, f"in_turns(first_byte, '{BULK}', '{DIRECT}', {port}, {CONNECTS})")
    report.put(f"egress: {name}: connect → first byte", ours, "ms", plain)
    added = statistics.median(ours) - statistics.median(plain)
    report.need(f"egress: {name}: added to the first byte", added, "ms", at_most=ADDED_MS)
    sandbox.kill()


def bench_updates(report: Report, api: Api) -> None:
    """From the call until a connection that is forbidden now has ended, as the sandbox's clock has it."""
    for name, allowed in (("address rules", [f"{BULK}/32"]), ("name rules", [BULK_NAME])):
        network = {"allow_out": allowed, "deny_out": [ALL]}
        sandbox = api.create("code-interpreter", network=network)
        told(sandbox, client())
        told(sandbox, WATCH)
        took: list[float] = []
        for _ in range(UPDATES):
            told(sandbox, f"watching = Watch('{BULK}', 80)")
            before = time.time()
            sandbox.set_network({"deny_out": [ALL]})
            (ended,) = told(sandbox, "print(json.dumps([watching.ended()]))")
            took.append((ended - before) * 1000)
            sandbox.set_network(network)
        report.put(f"egress: update → forbidden connection ended, {name}", took, "ms", at_most=WITHIN_MS)
        sandbox.kill()


WATCH = """
import threading
class Watch(threading.Thread):
    def __init__(self, address, port):
        super().__init__(daemon=True)
        self.connection = connect(address, port)
        ask(self.connection, 'GET /bytes/1')
        assert head(self.connection)
        self.start()
    def run(self):
        try:
            while self.connection.recv(100):
                pass
        except OSError:
            pass
        self.at = time.time()
        self.connection.close()
    def ended(self):
        self.join(10)
        return self.at
"""


def bench_creates(report: Report, api: Api) -> None:
    """Creates with and without rules, in turns, beside a thousand sandboxes that have rules each."""
    network = {"allow_out": rules(RULES), "deny_out": [ALL]}
    report.put("egress: create, no rules, nobody else", creates(api, 50, {}), "ms")
    population = []
    for number in range(MANY):
        population.append(api.create(POPULATION[number % len(POPULATION)], network=network))
    beside = f"beside {MANY:,} sandboxes with {RULES} each"
    pairs = [(creates(api, 1, network)[0], creates(api, 1, {})[0]) for _ in range(50)]
    ruled, free = zip(*pairs, strict=True)
    report.put(f"egress: create, {RULES} rules, {beside}", list(ruled), "ms", list(free), at_most=1.2)
    for sandbox in population:
        sandbox.kill()


def creates(api: Api, count: int, network: dict[str, Any]) -> list[float]:
    took = []
    for _ in range(count):
        start = time.perf_counter()
        sandbox = api.create("code-interpreter", network=network)
        took.append((time.perf_counter() - start) * 1000)
        sandbox.kill()
    return took


def told(sandbox: SandboxClient, code: str) -> Any:
    result = sandbox.execute(code)
    if not result["success"]:
        raise RuntimeError(f"in the sandbox: {result['stderr']}")
    return json.loads(str(result["stdout"]) or "[]")


@contextlib.contextmanager
def bulk_server(net: Internet) -> Iterator[None]:
    argv = [sys.executable, "-m", "atoll.testing.bulk_server", "80", "443", "--", BULK, DIRECT]
    addresses = ["ip", "address", "add", f"{DIRECT}/32", "dev", "lo"]
    net.far(lambda: subprocess.run(addresses, check=True))
    server = net.far(lambda: subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    try:
        assert server.stdout is not None
        if server.stdout.readline() != "ready\n":
            raise RuntimeError("the server did not start")
        yield
    finally:
        server.kill()
        server.communicate()


MASQUERADE = """
table ip direct {
  chain out {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "far" masquerade
  }
}
"""


class Direct:
    """sandbox ── hop ── hop ── far: three links and two forwarders, as through fabric and gateway. The second one
    translates addresses, as any way out of private ones does; nothing else is looked at."""

    def __init__(self, net: Internet) -> None:
        self.net, self.hops = net, [f"{net.name}-hop{number}" for number in (1, 2)]
        self._numbers = itertools.count(1)

    def __enter__(self) -> Direct:
        first, second = self.hops
        for hop in self.hops:
            ip("netns", "add", hop)
            inside(NAMESPACES / hop, lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
            ip("-n", hop, "link", "set", "lo", "up")
        self._link(first, "to2", "198.18.1.1/30", second, "to1", "198.18.1.2/30")
        self._link(second, "far", "198.18.2.1/30", f"{self.net.name}-far", "direct", f"{DIRECT}/30")
        inside(NAMESPACES / second, lambda: subprocess.run(["nft", "-f", "-"], input=MASQUERADE, text=True, check=True))
        ip("-n", first, "route", "add", "198.18.2.0/30", "via", "198.18.1.2")
        ip("-n", second, "route", "add", "198.18.8.0/21", "via", "198.18.1.1")
        ip("-n", f"{self.net.name}-far", "route", "add", "198.18.0.0/15", "via", "198.18.2.1")
        return self

    def __exit__(self, *_: object) -> None:
        for hop in self.hops:
            subprocess.run(["ip", "netns", "del", hop], check=False)

    def _link(self, here: str, name: str, address: str, there: str, peer: str, peer_address: str) -> None:
        ip("-n", here, "link", "add", name, "type", "veth", "peer", "name", peer, "netns", there)
        for namespace, end, own in ((here, name, address), (there, peer, peer_address)):
            ip("-n", namespace, "address", "add", own, "dev", end)
            ip("-n", namespace, "link", "set", end, "up")

    def join(self, pid: int) -> None:
        """With the power of the host: no sandbox could."""
        number = next(self._numbers)
        hop, end, net = self.hops[0], f"box{number}", f"198.18.{8 + number}"
        ip("-n", hop, "link", "add", end, "type", "veth", "peer", "name", "direct", "netns", str(pid))
        ip("-n", hop, "address", "add", f"{net}.1/30", "dev", end)
        ip("-n", hop, "link", "set", end, "up")
        commands = (
            ("address", "add", f"{net}.2/30", "dev", "direct"),
            ("link", "set", "direct", "up"),
            ("route", "add", f"{DIRECT}/32", "via", f"{net}.1"),
        )
        inside(Path(f"/proc/{pid}/ns/net"), lambda: [ip(*command) for command in commands])


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def pid_of(atoll: Installation, sandbox: SandboxClient) -> int:
    record = atoll.places.run / "launcher" / f"{sandbox.id}.json"
    return int(json.loads(record.read_text())["pid"])
