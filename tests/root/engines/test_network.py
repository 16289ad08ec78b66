"""The kernel decides what `KernelPolicy.fate` says: real packets, from a link and rules as a sandbox has them."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll.core.packet_policy import Fate, compile_policy
from atoll.core.policy import parse
from atoll.core.uplink import PROXY_ADDRESS, parse_uplink
from atoll.engines.native.network import NETNS_DIRECTORY, Fabric, remove_fabric
from atoll.engines.native.rules import Limits
from atoll.engines.native.uplink import UplinkSetup
from atoll.testing import internet as net
from atoll.testing.internet import Internet, inside

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

INSTALLATION = "7e570001"
ALL = "0.0.0.0/0"
ONE, OTHER = net.WEB["example.com"], net.WEB["httpbin.org"]
POLICIES = {
    "open": {},
    "closed": {"deny_out": [ALL]},
    "one allowed": {"allow_out": [ONE], "deny_out": [ALL]},
    "one denied": {"deny_out": [ONE]},
    "allowed within denied": {"allow_out": [ONE], "deny_out": ["203.0.112.0/23"]},
    "names": {"allow_out": ["example.org", ONE], "deny_out": [ALL]},
    "inspect": {"inspect": True, "deny_out": [OTHER]},
    "inspect names": {"inspect": True, "allow_out": ["example.org"], "deny_out": [ALL]},
    "socks": {"egress_proxy": {"address": f"{net.SOCKS}:1080"}, "deny_out": [OTHER]},
    "socks names": {"egress_proxy": {"address": f"{net.SOCKS}:1080"}, "allow_out": ["a.example"], "deny_out": [ALL]},
}
PROBES = [
    (protocol, address, port)
    for address in (ONE, OTHER)
    for protocol, port in (("tcp", 80), ("tcp", 443), ("tcp", net.ECHO_PORT), ("udp", net.ECHO_PORT), ("udp", 443))
]
COUNTED = {"refuse_deny": Fate.DENY, "refuse_mode": Fate.MODE}


@contextlib.contextmanager
def opened_fabric(internet: Internet, run: Path) -> Iterator[tuple[Fabric, int]]:
    name = f"{INSTALLATION}-box"
    with contextlib.ExitStack() as undo:
        subprocess.run(["ip", "netns", "add", name], check=True)
        undo.callback(subprocess.run, ["ip", "netns", "del", name], check=True)
        box = os.open(NETNS_DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
        undo.callback(os.close, box)
        fabric = Fabric(INSTALLATION)
        undo.callback(fabric.close)
        undo.callback(remove_fabric, INSTALLATION)
        uplink = UplinkSetup(fabric, run, parse_uplink(internet.uplink), (), Limits(0, 0, 0))
        undo.callback(uplink.tear_down)
        uplink.set_up()
        fabric.connect(5, box)
        yield fabric, box


def counters() -> dict[str, int]:
    command = ["nft", "-j", "list", "counters", "table", "inet", "egress"]
    listed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["nftables"]
    return {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed if "counter" in entry}


def tried(fabric: Fabric, box: int, protocol: str, address: str, port: int) -> bool:
    with fabric.visiting(box):
        probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    with probe:
        probe.settimeout(5)
        try:
            probe.connect((address, port))
            if protocol == "udp":
                probe.send(b"hello")
                probe.recv(100)
        except OSError:
            return False
        return True


def happened(fabric: Fabric, box: int, probe: tuple[str, str, int]) -> Fate | None:
    before = counters()
    if tried(fabric, box, *probe):
        return Fate.DIRECT
    changed = [name for name, packets in counters().items() if packets != before[name]]
    if not changed:
        return Fate.PROXY  # where nobody listens here
    return COUNTED.get(changed[0]) if len(changed) == 1 else None


@pytest.fixture(scope="module")
def fates(internet, tmp_path_factory):
    """Each policy is put in the place of the one before."""
    run = tmp_path_factory.mktemp("run") / INSTALLATION
    run.mkdir()

    def work() -> dict[str, dict[tuple[str, str, int], Fate | None]]:
        found = {}
        with opened_fabric(internet, run) as (fabric, box):
            fabric.open(5, box, compile_policy(parse({})))
            for name, given in POLICIES.items():
                fabric.govern(5, box, compile_policy(parse(given)))
                found[name] = {probe: happened(fabric, box, probe) for probe in PROBES}
        return found

    return inside(Path(f"/proc/{os.getpid()}/ns/net"), work)


@pytest.mark.parametrize(("name", "probe"), list(itertools.product(POLICIES, PROBES)))
def test_packets_fare_as_the_policy_says(fates, name, probe):
    protocol, address, port = probe
    wanted = compile_policy(parse(POLICIES[name])).fate(ipaddress.ip_address(address), protocol, port)
    assert fates[name][probe] is wanted


def test_who_is_punished_opens_nothing_new_and_goes_on_with_what_is_open(internet, tmp_path):
    run = tmp_path / INSTALLATION
    run.mkdir()

    def work() -> tuple[bool, bytes, bool, bool]:
        with opened_fabric(internet, run) as (fabric, box):
            fabric.open(5, box, compile_policy(parse({})))
            with fabric.visiting(box):
                kept = socket.create_connection((ONE, net.ECHO_PORT), timeout=5)
            fabric.punish(5, 60)
            refused = not tried(fabric, box, "tcp", ONE, net.ECHO_PORT)
            with kept:
                kept.send(b"hello")
                answer = kept.recv(100)
            diverted = tried(fabric, box, "tcp", PROXY_ADDRESS, 80)
            return refused, answer, diverted, counters()["refuse_scan"] == 2

    assert inside(Path(f"/proc/{os.getpid()}/ns/net"), work) == (True, b"hello", False, True)


def test_what_is_left_of_a_pass_goes_when_a_part_of_it_is_gone_already(internet, tmp_path):
    run = tmp_path / INSTALLATION
    run.mkdir()

    def work() -> str:
        with opened_fabric(internet, run) as (fabric, box):
            fabric.open(5, box, compile_policy(parse({"deny_out": [ONE]})))
            subprocess.run(["nft", "flush", "map", "inet", "egress", "verdicts"], check=True)
            fabric.disconnect(5)
            command = ["nft", "list", "table", "inet", "egress"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "at5" not in inside(Path(f"/proc/{os.getpid()}/ns/net"), work)


def test_what_a_failed_cut_leaves_is_judged_by_the_new_policy(internet, tmp_path, monkeypatch):
    run = tmp_path / INSTALLATION
    run.mkdir()

    def fail(*_: object) -> list[object]:
        raise OSError(errno.ENOBUFS, "no room")

    def work() -> list[bool]:
        with opened_fabric(internet, run) as (fabric, box):
            fabric.open(5, box, compile_policy(parse({})))
            with fabric.visiting(box):
                kept = [socket.create_connection((address, net.ECHO_PORT), timeout=5) for address in (ONE, OTHER)]
            with monkeypatch.context() as broken:
                broken.setattr(fabric._conntrack, "of", fail)
                fabric.govern(5, box, compile_policy(parse({"deny_out": [ONE]})))
            subprocess.run(["nft", "flush", "set", "inet", "egress", "rejudged"], check=True)  # as after ten seconds
            with contextlib.ExitStack() as stack:
                return [answers(stack.enter_context(each)) for each in kept]

    def answers(sock: socket.socket) -> bool:
        try:
            sock.send(b"hello")
            return sock.recv(100) == b"hello"
        except OSError:
            return False

    assert inside(Path(f"/proc/{os.getpid()}/ns/net"), work) == [False, True]


def test_what_belongs_to_no_connection_goes_nowhere(internet, tmp_path):
    """An error of ICMP about something that never was, made by hand."""
    run = tmp_path / INSTALLATION
    run.mkdir()
    about = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 1, 0, 64, 17, 0, socket.inet_aton(ONE), bytes(4)) + bytes(8)

    def work() -> tuple[int, int]:
        with opened_fabric(internet, run) as (fabric, box):
            fabric.open(5, box, compile_policy(parse({})))
            before = sent()
            with fabric.visiting(box), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
                for kind in (3, 4, 5, 11, 12):
                    raw.sendto(struct.pack("!BBHI", kind, 1, checksum(kind, about), 0) + about, (OTHER, 0))
            return sent() - before, dropped()

    def sent() -> int:
        shown = subprocess.run(["ip", "-j", "-s", "link", "show", "uplink0"], capture_output=True, check=True).stdout
        return int(json.loads(shown)[0]["stats64"]["tx"]["packets"])

    def dropped() -> int:
        listed = subprocess.run(["nft", "list", "chain", "inet", "egress", "forward"], capture_output=True, text=True)
        line = next(line for line in listed.stdout.splitlines() if "of no connection" in line)
        return int(line.split("packets ")[1].split()[0])

    assert inside(Path(f"/proc/{os.getpid()}/ns/net"), work) == (0, 5)


def checksum(kind: int, content: bytes) -> int:
    words = struct.pack("!BBHI", kind, 1, 0, 0) + content
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


FIRST = """
import subprocess
from pathlib import Path
from atoll.engines.native.network import Fabric, remove_fabric
subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
fabric = Fabric("first")
for name in ("one", "two"):
    subprocess.run(["ip", "netns", "add", name], check=True)
fabric.close()
remove_fabric("first")
names = sorted(path.name for path in Path("/run/netns").iterdir())
print(*names, Path("/proc/self/mounts").read_text().count("atoll-first"))
"""


def test_a_fabric_from_before_the_first_named_namespace_goes_like_any_other() -> None:
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", FIRST]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "one two 0\n"
