"""The egress daemon without the rest of Atoll: a process of its own in a fabric with little more than its diverts,
namespaces that stand for sandboxes, and the small internet as the way out.

    with Internet() as internet, Stand(internet, data) as stand:
        box = stand.sandbox(allow_out=["example.com"], deny_out=["0.0.0.0/0"])
        sock = box.connect("203.0.113.10", 443)     # an ordinary socket of that namespace
        box.entries()                               # its log
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from atoll.core.policy import parse, to_wire
from atoll.core.uplink import DNS_PORT, PROXY_ADDRESS, PROXY_PORT
from atoll.listening import wait_listening
from atoll.rpc import RpcClient
from atoll.testing.internet import NAMESPACES, Internet, inside

T = TypeVar("T")

INSTALLATION = f"{os.getpid() % 0xFFFFFFFF:08x}"
FABRIC = f"atoll-{INSTALLATION}"
OUTER, INNER = "100.64.255.0", "100.64.255.1"
ROUTER = "100.96.0.1"

RULES = f"""
table inet stand {{
  set plain {{ type ipv4_addr; }}
  set carried {{ type ipv4_addr; }}
  set closed {{ type ipv4_addr; }}
  chain divert {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname != "at*" accept
    meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {PROXY_ADDRESS}:{DNS_PORT}
    ip daddr {PROXY_ADDRESS} meta l4proto tcp dnat ip to {PROXY_ADDRESS}:{PROXY_PORT}
    ip saddr @plain accept
    ip saddr @carried meta l4proto tcp dnat ip to {PROXY_ADDRESS}:{PROXY_PORT}
    tcp dport {{ 80, 443 }} dnat ip to {PROXY_ADDRESS}:{PROXY_PORT}
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    ct state new ip saddr @closed reject with icmpx admin-prohibited
  }}
  chain out {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "uplink0" masquerade
  }}
}}
"""
OUTSIDE = """
table inet stand {
  chain out {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "wan0" ip saddr 100.64.255.0/31 masquerade
  }
}
"""


class Box:
    """What stands for a sandbox."""

    def __init__(self, stand: Stand, number: int) -> None:
        self.stand = stand
        self.id = f"standbox{number:012d}"
        self.address = f"100.96.0.{number}"
        self.namespace = NAMESPACES / f"{FABRIC}-{number}"
        self.kind = ""

    def put(self, internet_access: bool = True, **fields: Any) -> None:
        policy = parse(fields, internet_access)
        kind = "carried" if policy.proxy else ""
        if kind != self.kind:
            self.stand.divert(self, kind)
            self.kind = kind
        self.stand.call("put", id=self.id, address=self.address, policy=to_wire(policy))

    def forget(self) -> None:
        self.stand.call("forget", id=self.id)

    def inside(self, work: Callable[[], T]) -> T:
        return inside(self.namespace, work)

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["ip", "netns", "exec", self.namespace.name, *argv]
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=30)

    def connect(self, address: str, port: int, timeout_s: float = 5.0) -> socket.socket:
        return self.inside(lambda: socket.create_connection((address, port), timeout_s))

    def entries(self, wait_for: Callable[[dict[str, Any]], bool] | None = None) -> list[dict[str, Any]]:
        """All of its log; with `wait_for` not before there is one like that."""
        found: list[dict[str, Any]] = []
        after = 0
        while True:
            page = self.stand.call("log", id=self.id, after=after, limit=1000, wait_s=10 if wait_for else 0)
            found += page["entries"]
            after = page["cursor"]
            if wait_for is None or any(wait_for(each) for each in found):
                return found
            assert page["entries"], f"no such entry among {found}"


class Stand:
    def __init__(self, internet: Internet, data: Path, *flags: str) -> None:
        self.internet = internet
        self.data = data
        self.run = data / "run"
        self.socket = self.run / "egress.sock"
        self._flags = flags
        self._numbers = itertools.count(2)
        self._cleanup = contextlib.ExitStack()
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Stand:
        with contextlib.ExitStack() as undo:
            undo.callback(self._remove)
            self._build()
            self.run.mkdir(mode=0o700)
            self.start()
            undo.callback(self.stop)
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def start(self) -> None:
        words = {
            "socket": self.socket, "run": self.run, "data": self.data, "installation": INSTALLATION,
            "uplink": self.internet.uplink, "version": "of the stand", "egress-ca": self.internet.ca_file,
        }  # fmt: skip
        command = [
            sys.executable,
            "-P",
            "-m",
            "atoll.egress.main",
            *(f"--{name}={word}" for name, word in words.items()),
        ]
        with (self.run / "egress.log").open("ab") as output:
            self.process = subprocess.Popen(
                [*command, *self._flags], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/",
                start_new_session=True,
            )  # fmt: skip
        try:
            asyncio.run(wait_listening(self.socket, 20))
        except BaseException:
            print((self.run / "egress.log").read_text())
            self.stop()
            raise

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise

    @property
    def said(self) -> str:
        return (self.run / "egress.log").read_text()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        async def ask() -> dict[str, Any]:
            client = await RpcClient.connect(self.socket)
            try:
                return await client.call(method, params)
            finally:
                await client.close()

        return asyncio.run(ask())

    def fabric(self, work: Callable[[], T]) -> T:
        return inside(NAMESPACES / FABRIC, work)

    def sandbox(self, internet_access: bool = True, **fields: Any) -> Box:
        """A new one; known to the daemon with this policy."""
        box = self.stranger()
        box.put(internet_access, **fields)
        return box

    def stranger(self) -> Box:
        """A new one of which the daemon was not told."""
        number = next(self._numbers)
        box, link = Box(self, number), f"at{number}"
        _ip("netns", "add", box.namespace.name)
        self._cleanup.callback(_ip, "netns", "del", box.namespace.name)
        _batch(
            FABRIC,
            f"link add {link} type veth peer name eth0 netns {box.namespace.name}",
            f"address add {ROUTER}/32 dev {link}",
            f"link set {link} up",
            f"route add {box.address}/32 dev {link}",
        )
        _batch(
            box.namespace.name,
            "link set lo up",
            f"address add {box.address}/32 dev eth0",
            "link set eth0 up",
            f"route add {ROUTER} dev eth0",
            f"route add default via {ROUTER}",
        )
        return box

    def divert(self, box: Box, kind: str) -> None:
        """`plain`: nothing but DNS comes to the daemon; `carried`: all TCP; else 80 and 443."""
        for each in ("plain", "carried"):
            verb = "add" if each == kind else "destroy"
            self._nft(f"{verb} element inet stand {each} {{ {box.address} }}")

    def _nft(self, text: str) -> None:
        verb, _, rest = text.partition(" ")
        if verb == "destroy":
            text = f"add {rest}\ndelete {rest}"
        self.fabric(lambda: subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True))

    def _build(self) -> None:
        _ip("netns", "add", FABRIC)
        gateway = self.internet.name
        _batch(
            FABRIC,
            "link set lo up",
            f"address add {PROXY_ADDRESS}/32 dev lo",
            f"link add uplink0 type veth peer name stand0 netns {gateway}",
            f"address add {INNER}/31 dev uplink0",
            "link set uplink0 up",
        )
        _batch(gateway, f"address add {OUTER}/31 dev stand0", "link set stand0 up")
        _batch(FABRIC, f"route add default via {OUTER}")
        self.fabric(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
        self._nft(RULES)
        self.internet.gateway(lambda: subprocess.run(["nft", "-f", "-"], input=OUTSIDE, text=True, check=True))

    def _remove(self) -> None:
        for command in (
            ["ip", "netns", "del", FABRIC],
            ["ip", "-netns", self.internet.name, "link", "del", "stand0"],
            ["ip", "netns", "exec", self.internet.name, "nft", "delete", "table", "inet", "stand"],
        ):
            subprocess.run(command, capture_output=True, check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _batch(namespace: str, *lines: str) -> None:
    subprocess.run(["ip", "-netns", namespace, "-batch", "-"], input="\n".join(lines), text=True, check=True)
