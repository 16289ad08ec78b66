"""A small internet in two network namespaces: names, web servers, and places that nobody should reach. Needs root.

    with Internet() as net, Installation(data, "--uplink", net.uplink) as atoll:
        ...                     # sandboxes reach http://example.com and https://api.example.com
        net.requests            # what the web servers were asked
        net.connections         # who was connected to; net.flows: the same with bytes, when it is over
        net.packets(ATTACKER)   # how many packets ever got there: 0 is "not one"
        net.zone.sequence("rebind.test", ATTACKER, METADATA)   # names may be changed at any time
        net.escaped()           # packets for its addresses that left this machine instead: 0

The *gateway* namespace stands for the host that sandboxes go out through; it forwards, whatever this machine does, and
has a public address with a web server of its own, which is no business of a sandbox's. Behind it lies the *far* one
with everything else:

- resolvers (8.8.8.8, 1.1.1.1) on 53, over TLS on 853, over HTTPS at /dns-query, and with a page at /;
- web servers (`WEB`; pages: `web_server`) with TLS, whose authority is in `ca_file`, for the names and the addresses;
- TCP and UDP echoes on `ECHO_PORT`, a stand-in for QUIC on UDP 443, SMTP, SMB, NetBIOS and a mining pool;
- `DEAD` accepts and never says a word, `BLACKHOLE` drops what it gets, every address of the network `CROWD` answers;
- the metadata service of a cloud and an intranet, which no sandbox may reach, and an attacker, whom it may.

Everything has an IPv6 address too (`v6`). There is no route from either namespace to the machine's own network. The
servers are a thread of this process whose sockets were made over there. What a process that was killed left behind is
removed by the next one.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from .certificates import server_context
from .far_servers import Datagram, FarServers, Flow
from .name_server import Zone, over_https
from .web_server import CSV, FILE, Answer, Request, Special, Web

T = TypeVar("T")

NAMESPACES = Path("/run/netns")
PREFIX = "atnet"
CLONE_NEWNET = 0x40000000

RESOLVERS = ("8.8.8.8", "1.1.1.1")
GATEWAY = "198.51.100.1"
"""The public address of what stands for the host."""
FAR = "198.51.100.254"
INTRANET = "10.20.30.40"
METADATA = "169.254.169.254"
ATTACKER = "203.0.113.66"
DEAD = "203.0.113.90"
BLACKHOLE = "203.0.113.91"
MAIL, SMB, POOL = "203.0.113.100", "203.0.113.101", "203.0.113.102"
SOCKS = "203.0.113.110"
BULK = "203.0.113.120"
"""For a server of one's own that has to be fast (`bulk_server`)."""
CROWD = ipaddress.IPv4Network("192.0.2.0/24")
WEB = {
    "example.com": "203.0.113.10",
    "www.example.com": "203.0.113.10",
    "*.example.com": "203.0.113.10",
    "api.example.com": "203.0.113.20",
    "httpbin.org": "203.0.113.30",
    "files.example.com": "203.0.113.40",
    "jsonplaceholder.typicode.com": "203.0.113.50",
    "google.com": "203.0.113.60",
    "www.google.com": "203.0.113.60",
    "attacker.example.net": ATTACKER,
    "github.com": "203.0.113.70",
    "api.github.com": "203.0.113.71",
    "raw.githubusercontent.com": "203.0.113.72",
    "packages.example.org": "203.0.113.73",
    "files.example.org": "203.0.113.74",
    "modules.example.org": "203.0.113.75",
    "ifconfig.me": "203.0.113.76",
    "mydomain.com": "203.0.113.77",
    "*.mydomain.com": "203.0.113.78",
    "httpbin.e2b.team": "203.0.113.79",
    "api.openai.com": "203.0.113.82",
    "sandbox.novita.ai": "203.0.113.83",
}
OTHERS = {
    "dead.example.net": DEAD,
    "blackhole.example.net": BLACKHOLE,
    "mail.example.net": MAIL,
    "smb.example.net": SMB,
    "pool.supportxmr.com": POOL,
    "socks.example.net": SOCKS,
    "bulk.example.net": BULK,
    "one.one.one.one": "1.1.1.1",
    "dns.google": "8.8.8.8",
}
INSIDE = {"intranet.corp.example": INTRANET, "metadata.google.internal": METADATA, "rebind.example.net": METADATA}
NAMES = {**WEB, **OTHERS, **INSIDE}
PUBLIC = sorted({*RESOLVERS, *WEB.values(), *OTHERS.values(), GATEWAY, FAR})
UDP_PORT = ECHO_PORT = 4000
POOL_PORT = 3333
TCP_PORTS = (25, 53, 80, 139, 443, 445, 853, POOL_PORT, ECHO_PORT)
UDP_PORTS = (53, 137, 443, ECHO_PORT)

_V6 = {
    "8.8.8.8": "2001:4860:4860::8888",
    "1.1.1.1": "2606:4700:4700::1111",
    INTRANET: "fd00:10:20:30::40",
    METADATA: "fd00:ec2::254",
}
ON_FAR = ("203.0.113.0/24", str(CROWD), *(f"{each}/32" for each in (*RESOLVERS, INTRANET, METADATA)))
ON_FAR_V6 = ("2001:db8:203:0:113::/80", "2001:db8:192:0:2::/80", *(f"{each}/128" for each in _V6.values()))


def v6(address: str) -> str:
    """The IPv6 address of whoever has this one: 203.0.113.10 is 2001:db8:203:0:113::10."""
    first, second, third, last = address.split(".")
    return _V6.get(address) or str(ipaddress.IPv6Address(f"2001:db8:{first}:{second}:{third}::{last}"))


class Internet:
    def __init__(self, suffix: str = "", ipv6: bool = True) -> None:
        """`suffix` tells several of one process apart. Without `ipv6` no name has such an address, nor the gateway."""
        self.name = f"{PREFIX}-{os.getpid()}-{suffix}".rstrip("-")
        self.uplink = f"netns:{self.name}"
        self.ipv6 = ipv6
        self.requests: list[Request] = []
        self.zone = Zone({name: (each, v6(each)) if ipv6 else (each,) for name, each in NAMES.items()})
        self._cleanup = contextlib.ExitStack()

    @property
    def ca_file(self) -> Path:
        return self._directory / "ca.pem"

    @property
    def connections(self) -> list[tuple[str, int]]:
        """Server and port of each TCP connection that was accepted, but those to port 53."""
        return self._servers.connections

    @property
    def flows(self) -> list[Flow]:
        """The connections that are over."""
        return self._servers.flows

    @property
    def datagrams(self) -> list[Datagram]:
        """Each UDP packet that was no question."""
        return self._servers.datagrams

    @property
    def queries(self) -> list[tuple[str, str, str]]:
        """Resolver, name and type of each question."""
        return self._servers.queries

    def __enter__(self) -> Internet:
        sweep()
        with contextlib.ExitStack() as undo:
            self._directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="atoll-internet-")))
            home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            undo.callback(os.close, home)
            self._home = Path(f"/proc/self/fd/{home}")
            undo.callback(inside, self._home, lambda: _remove(self.name))
            _build(self.name, self.ipv6)
            self._servers = self._made_servers()
            self._servers.start()
            undo.callback(self._servers.stop)
            self.far(self._listen)
            self.gateway(self._listen_at_gateway)
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def far(self, work: Callable[[], T]) -> T:
        """The result of `work`, done where the servers are; sockets that it makes stay there."""
        return inside(NAMESPACES / f"{self.name}-far", work)

    def gateway(self, work: Callable[[], T]) -> T:
        """The same, at the gateway."""
        return inside(NAMESPACES / self.name, work)

    def send_late(self, server: str, port: int, content: bytes) -> None:
        """From the echo of a server to a port that it heard from at the gateway, asked or not."""
        self._servers.send_from(server, ECHO_PORT, content, (GATEWAY, port))

    def packets(self, address: str, port: int | None = None) -> int:
        """That came to an address over there, or to one of its ports, since the beginning."""
        family = 6 if ":" in address else 4
        if port is not None:
            return self.far(lambda: _counted("seen", f"ports{family}")).get(f"{address} {port}", 0)
        return self.far(lambda: _counted("seen", f"hosts{family}")).get(address, 0)

    def escaped(self) -> int:
        """Packets for this internet's addresses that this machine sent anywhere else."""
        return sum(self.escapes().values())

    def escapes(self) -> dict[str, int]:
        """The same, by address."""
        return inside(self._home, lambda: _counted(self.name, "escaped4") | _counted(self.name, "escaped6"))

    def _made_servers(self) -> FarServers:
        special: dict[str, Special] = {METADATA: _credentials, v6(METADATA): _credentials}
        for resolver, home in zip(RESOLVERS, ("https://dns.google/", "https://one.one.one.one/"), strict=True):
            status = 302 if resolver == "8.8.8.8" else 301
            special[resolver] = special[v6(resolver)] = self._resolver_page(status, home)
        special[WEB["ifconfig.me"]] = special[v6(WEB["ifconfig.me"])] = _whats_my_address
        names = sorted({*NAMES, *PUBLIC, *map(v6, PUBLIC), "*.github.com", "*.google.com"})
        tls = server_context(self._directory, names)
        tls.sni_callback = _remember_name
        dead = (DEAD, v6(DEAD), BLACKHOLE, v6(BLACKHOLE))
        return FarServers(
            lambda: _enter(NAMESPACES / f"{self.name}-far"), self.zone, Web(self.requests, special), tls, dead
        )

    def _resolver_page(self, status: int, home: str) -> Special:
        def page(asked: Request) -> Answer | None:
            path, _, query = asked.path.partition("?")
            if path not in ("/dns-query", "/resolve"):
                return Answer(status=status, headers=(("Location", home),)) if path == "/" else None
            told = over_https(self.zone, asked.server, query, asked.body, lambda *each: self.queries.append(each))
            return Answer(told[1], told[0]) if told is not None else Answer(status=400)

        return page

    def _listen(self) -> None:
        for port in TCP_PORTS:
            self._servers.listen(port)
        for port in UDP_PORTS:
            self._servers.listen_udp(port)

    def _listen_at_gateway(self) -> None:
        self._servers.listen(80, GATEWAY)
        self._servers.listen_udp(ECHO_PORT, GATEWAY)


def _credentials(asked: Request) -> Answer:
    return Answer(b'{"AccessKeyId": "AKIAFAKE", "SecretAccessKey": "not-a-secret"}', "application/json")


def _whats_my_address(asked: Request) -> Answer | None:
    return Answer(asked.client.encode()) if asked.path == "/" else None


def _remember_name(connection: Any, name: str | None, context: object) -> None:  # Any: ssl has no type for it
    connection.server_asked = name


def _counted(table: str, name: str) -> dict[str, int]:
    """Packets by element of a set of counters; parts of one are separated by spaces."""
    listed = json.loads(_run("nft", "--json", "list", "set", "inet", table, name))["nftables"]
    elements = [each["elem"] for entry in listed if "set" in entry for each in entry["set"].get("elem", [])]
    return {_key(each["val"]): int(each["counter"]["packets"]) for each in elements}


def _key(value: Any) -> str:  # Any: JSON values
    return " ".join(str(part) for part in value["concat"]) if isinstance(value, dict) else str(value)


def inside(namespace: Path, work: Callable[[], T]) -> T:
    """In a thread of its own, which ends there: a thread that has entered a namespace is not brought back."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            _enter(namespace)
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _enter(namespace: Path) -> None:
    """With the calling thread, for good."""
    fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    finally:
        os.close(fd)


# ---- namespaces


def _build(name: str, ipv6: bool) -> None:
    far = f"{name}-far"
    _run("ip", "netns", "add", name)
    _run("ip", "netns", "add", far)
    _batch(name, "link set lo up", f"link add wan0 type veth peer name wan0 netns {far}")
    _batch(far, "link set lo up", *(f"route add local {each} dev lo" for each in (*ON_FAR, *ON_FAR_V6)))
    _batch(far, f"address add {FAR}/24 dev wan0", f"address add {v6(FAR)}/64 dev wan0 nodad", "link set wan0 up")
    _batch(name, f"address add {GATEWAY}/24 dev wan0", "link set wan0 up", f"route add default via {FAR}")
    if ipv6:
        _batch(name, f"address add {v6(GATEWAY)}/64 dev wan0 nodad", f"route add default via {v6(FAR)}")
    inside(NAMESPACES / name, lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
    inside(NAMESPACES / far, lambda: _run("nft", "-f", "-", input=SEEN))
    _run("nft", "-f", "-", input=_watch(name))


HOSTS = "type ipv{family}_addr; size 65535; flags dynamic; counter;"
PORTS = "type ipv{family}_addr . inet_service; size 65535; flags dynamic; counter;"
SEEN = f"""
table inet seen {{
  set hosts4 {{ {HOSTS.format(family=4)} }}
  set hosts6 {{ {HOSTS.format(family=6)} }}
  set ports4 {{ {PORTS.format(family=4)} }}
  set ports6 {{ {PORTS.format(family=6)} }}
  chain in {{
    type filter hook prerouting priority -300; policy accept;
    iifname "lo" accept
    update @hosts4 {{ ip daddr }}
    update @hosts6 {{ ip6 daddr }}
    meta l4proto {{ tcp, udp }} update @ports4 {{ ip daddr . th dport }}
    meta l4proto {{ tcp, udp }} update @ports6 {{ ip6 daddr . th dport }}
    ip daddr {BLACKHOLE} drop
    ip6 daddr {v6(BLACKHOLE)} drop
  }}
}}
"""


def _watch(name: str) -> str:
    """Counts on the machine's own side; nothing there is held up. Single addresses: a machine may use others of these
    networks for something of its own."""
    used = sorted({*PUBLIC, METADATA, INTRANET, *map(str, CROWD)})
    return f"""
table inet {name} {{
  set escaped4 {{ {HOSTS.format(family=4)} }}
  set escaped6 {{ {HOSTS.format(family=6)} }}
  chain out {{
    type filter hook postrouting priority 300; policy accept;
    oifname != "lo" ip daddr {{ {", ".join(used)} }} update @escaped4 {{ ip daddr }}
    oifname != "lo" ip6 daddr {{ {", ".join(map(v6, used))} }} update @escaped6 {{ ip6 daddr }}
  }}
}}
"""


def _remove(name: str) -> None:
    for argv in (("nft", "delete", "table", "inet", name), *(("ip", "netns", "del", f"{name}{end}") for end in ENDS)):
        subprocess.run(argv, capture_output=True, check=False)


ENDS = ("", "-far")


def sweep() -> None:
    """After internets whose process is gone."""
    for path in NAMESPACES.glob(f"{PREFIX}-*"):
        owner = path.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists():
            _remove(path.name.removesuffix("-far"))


def _batch(namespace: str, *lines: str) -> None:
    _run("ip", "-netns", namespace, "-batch", "-", input="\n".join(lines))


def _run(*argv: str, input: str = "") -> str:
    done = subprocess.run(argv, input=input, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


__all__ = [
    "ATTACKER", "BLACKHOLE", "BULK", "CROWD", "CSV", "DEAD", "ECHO_PORT", "FILE", "GATEWAY", "INTRANET", "MAIL",
    "METADATA", "NAMES", "POOL", "POOL_PORT", "PUBLIC", "RESOLVERS", "SMB", "SOCKS", "UDP_PORT", "WEB", "Datagram",
    "Flow", "Internet", "Request", "inside", "v6",
]  # fmt: skip
