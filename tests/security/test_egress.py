"""What a sandbox with a way out must not reach, and who must not reach it: one promise a test."""

from __future__ import annotations

import errno
import json
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from atoll.core.reach import NEVER_REACHABLE
from atoll.engines.native.rules import PINGS_OF_ONE
from atoll.testing import internet as net
from atoll.testing.internet import inside
from reaching import AT_ONCE_MS, REFUSED, assert_refused
from stack import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

TRY = """
import json, socket, time
def attempt(kind, address, port, device=None):
    with socket.socket(socket.AF_INET, kind) as s:
        s.settimeout(TIMEOUT_S)
        if device:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        before = time.perf_counter()
        try:
            s.connect((address, port))
            if kind == socket.SOCK_DGRAM:
                s.send(b'hello')
                s.recv(100)
            outcome = 0
        except TimeoutError:
            outcome = -1
        except OSError as error:
            outcome = error.errno
        return outcome, (time.perf_counter() - before) * 1000
"""
REPRESENTATIVES = sorted({str(each.network[each.network.num_addresses // 2]) for each in NEVER_REACHABLE
                          if each.network.version == 4 and not each.network.network_address.is_loopback})  # fmt: skip
SPECIAL = [net.METADATA, net.INTRANET, net.GATEWAY, "169.254.0.1", "255.255.255.255", "100.64.0.1", "100.96.0.1"]


@pytest.fixture(scope="module")
def box(online):
    with online.box() as made:
        yield made


@pytest.fixture(scope="module")
def other(online):
    with online.box() as made:
        yield made


@pytest.fixture(scope="module")
def closed(online):
    with online.box(internet_access=False) as made:
        yield made


def attempts(
    box, pairs: list[tuple[str, int]], device: str | None = None, timeout_s: float = 2
) -> dict[str, list[tuple[int, float]]]:
    """For each address: how TCP and UDP ended, and after how many milliseconds."""
    code = f"""{TRY}
TIMEOUT_S = {timeout_s}
told = {{}}
for address, port in {pairs!r}:
    told[address] = [attempt(kind, address, port, {device.encode() if device else None!r})
                     for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
print(json.dumps(told))
"""
    result = box.python(code)
    assert not result["stderr"], result
    return dict(json.loads(result["stdout"]))


def address_of(online, box) -> str:
    record = online.installation.places.run / "launcher" / f"{box.id}.json"
    return str(json.loads(record.read_text())["address"])


def fabric(online) -> Path:
    return Path("/run/netns", f"atoll-{online.installation.places.installation}")


def dropped(online, why: str) -> int:
    return _counted(_output(fabric(online), "nft", "-j", "list", "table", "inet", "egress"), why)


def refused(online) -> int:
    return _counted(_output(fabric(online), "nft", "-j", "list", "chain", "inet", "egress", "refuse"))


def _counted(listed: Any, comment: str | None = None) -> int:
    rules = [entry["rule"] for entry in listed["nftables"] if "rule" in entry]
    counters = [
        part["counter"]
        for rule in rules
        for part in rule["expr"]
        if "counter" in part and comment in (None, rule.get("comment"))
    ]
    assert counters
    return sum(int(counter["packets"]) for counter in counters)


@pytest.fixture(scope="module")
def never_reached(box):
    return attempts(box, [(address, net.UDP_PORT) for address in [*REPRESENTATIVES, *SPECIAL]])


@pytest.mark.parametrize("address", [*REPRESENTATIVES, *SPECIAL])
def test_what_is_never_reachable_is_refused_at_once(never_reached, address):
    assert_refused(never_reached[address])


def test_the_servers_that_stand_there_heard_nothing(online, internet, box):
    """They do answer whoever may ask, so that silence means something."""
    assert "AKIA" in internet.far(lambda: _get(net.METADATA))
    internet.connections.clear()
    internet.datagrams.clear()
    attempts(
        box, [(address, port) for address in (net.METADATA, net.INTRANET, net.GATEWAY) for port in (80, net.UDP_PORT)]
    )
    assert box.run(f"curl -sS -m 5 http://{net.WEB['example.com']}/")["exit_code"] == 0
    assert {server for server, _ in internet.connections} == {net.WEB["example.com"]}
    assert internet.datagrams == []


def _get(address: str) -> str:
    with socket.create_connection((address, 80), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode()


def _listen(box, port: int) -> None:
    answers = f"curl -s -m 1 -o /dev/null http://127.0.0.1:{port}/"
    box.sh(f"(python3 -m http.server {port} >/dev/null 2>&1 &); until {answers}; do :; done")


def test_another_sandbox_is_refused_although_it_listens(online, box, other):
    _listen(other, 8123)
    assert_refused(attempts(box, [(address_of(online, other), 8123)])[address_of(online, other)])


def test_ipv6_leads_nowhere_at_once(box):
    code = """
import socket, time
before = time.perf_counter()
for address in ('2001:db8::1', '::ffff:169.254.169.254', 'fd00:ec2::254', 'fe80::1'):
    with socket.socket(socket.AF_INET6) as s:
        s.settimeout(2)
        print(s.connect_ex((address, 80)))
print((time.perf_counter() - before) * 1000)
"""
    *outcomes, took_ms = box.python(code)["stdout"].split()
    assert {int(outcome) for outcome in outcomes} <= REFUSED | {errno.EADDRNOTAVAIL}
    assert float(took_ms) < AT_ONCE_MS


def test_without_internet_access_everything_is_refused_at_once(closed):
    addresses = [*net.WEB.values(), *net.RESOLVERS, net.METADATA]
    tried = attempts(closed, [(address, net.ECHO_PORT) for address in addresses])
    assert_refused([each for outcomes in tried.values() for each in outcomes])


def test_whoever_is_asked_for_names_it_is_our_resolver_that_hears_it(internet, closed):
    """It answers on port 53 of every address, so that a refusal is heard at once."""
    before = [internet.packets(resolver) for resolver in net.RESOLVERS]
    attempts(closed, [(resolver, 53) for resolver in net.RESOLVERS], timeout_s=0.5)
    assert [internet.packets(resolver) for resolver in net.RESOLVERS] == before


def test_a_socket_bound_to_the_link_is_no_way_around(internet, closed):
    """The kernel takes everything to be on the link then; nobody is there."""
    internet.connections.clear()
    internet.datagrams.clear()
    for outcome, _ in attempts(closed, [(net.ATTACKER, net.UDP_PORT)], device="eth0", timeout_s=0.2)[net.ATTACKER]:
        assert outcome != 0
    assert internet.connections == internet.datagrams == []


def test_without_internet_access_nothing_is_forwarded_even_with_a_route(online, internet, closed):
    """The route inside is a courtesy; what counts is that the fabric lets nothing pass."""
    namespace = Path(f"/proc/{online.host_pid(closed)}/ns/net")
    internet.datagrams.clear()
    route = ["ip", "route", "replace", "default", "via", "169.254.0.1", "dev", "eth0", "onlink"]
    inside(namespace, lambda: subprocess.run(route, check=True))
    try:
        before = refused(online)
        assert_refused(attempts(closed, [(net.ATTACKER, net.UDP_PORT)])[net.ATTACKER])
        assert refused(online) - before == 2
    finally:
        inside(namespace, lambda: subprocess.run(["ip", "route", "replace", "unreachable", "default"], check=True))
    assert internet.datagrams == []


def test_root_inside_cannot_give_itself_a_way_out(closed):
    for command in ("ip route replace default via 169.254.0.1 dev eth0 onlink", "ip route del unreachable default",
                    "ip link add name x type dummy", "nft list ruleset"):  # fmt: skip
        assert closed.run(f"sudo {command}")["exit_code"] != 0
    assert closed.run(f"curl -sS -m 2 http://{net.WEB['example.com']}/")["exit_code"] == 7


def test_a_packet_with_anothers_address_goes_nowhere(online, internet, box, other):
    """Sent with the host's power inside the sandbox's namespace: root in there cannot even make it."""
    namespace = Path(f"/proc/{online.host_pid(box)}/ns/net")
    internet.datagrams.clear()
    before = dropped(online, "not its own address")
    for source in (address_of(online, other), "8.8.8.8", net.GATEWAY, "10.0.0.1"):
        inside(namespace, lambda source=source: _send_raw(_datagram(source, net.ATTACKER, b"spoofed")))
    inside(namespace, lambda: _send_raw(_datagram(address_of(online, box), net.ATTACKER, b"honest")))
    until(lambda: internet.datagrams, "the honest packet")
    assert [content for _, _, content in internet.datagrams] == [b"honest"]
    assert dropped(online, "not its own address") - before == 4


def _datagram(source: str, destination: str, content: bytes, options: bytes = b"") -> tuple[bytes, str]:
    udp = struct.pack("!HHHH", 5555, net.UDP_PORT, 8 + len(content), 0) + content
    size = 20 + len(options)
    ends = socket.inet_aton(source), socket.inet_aton(destination)
    head = struct.pack("!BBHHHBBH4s4s", 0x40 | size // 4, 0, size + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0, *ends)
    return head + options + udp, destination


def _send_raw(packet: tuple[bytes, str]) -> None:
    content, destination = packet
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        raw.sendto(content, (destination, 0))


def test_a_source_route_is_not_followed(online, internet, box):
    """The destination that is judged would be its next hop only."""
    namespace = Path(f"/proc/{online.host_pid(box)}/ns/net")
    internet.datagrams.clear()
    before = dropped(online, "options")
    own = address_of(online, box)
    route = bytes([131, 7, 4]) + socket.inet_aton(net.INTRANET) + bytes([0])
    for next_hop in (net.GATEWAY, net.ATTACKER):
        inside(namespace, lambda hop=next_hop: _send_raw(_datagram(own, hop, b"routed", route)))
    inside(namespace, lambda: _send_raw(_datagram(own, net.ATTACKER, b"plain")))
    until(lambda: internet.datagrams, "the plain packet")
    assert [content for _, _, content in internet.datagrams] == [b"plain"]
    assert dropped(online, "options") - before == 2


def test_root_inside_cannot_make_such_a_packet(box):
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)"
    assert "PermissionError" in box.run(f"sudo python3 -c '{code}'")["stderr"]


def test_nobody_outside_comes_in(online, internet, box):
    """Even where the host's routes lead there: by the sandbox's address, and by the fabric's own."""
    _listen(box, 8124)
    inner = _output(fabric(online), "ip", "-j", "address", "show", "uplink0")[0]["addr_info"][0]["local"]
    _ip(internet, "add", inner)
    try:
        for address in (address_of(online, box), inner):
            before = dropped(online, "nobody comes in")
            with internet.gateway(lambda address=address: _knock(address, 8124)) as knock:
                until(lambda before=before: dropped(online, "nobody comes in") > before, "the fabric's drop")
                assert not _is_connected(knock)
    finally:
        _ip(internet, "del", inner)


def _ip(internet, verb: str, via: str) -> None:
    command = ["ip", "-netns", internet.name, "route", verb, "100.96.0.0/11", "via", via]
    subprocess.run(command, check=True)


def _output(namespace: Path, *argv: str) -> Any:
    """Of a program that answers in JSON, run there."""
    return json.loads(inside(namespace, lambda: subprocess.run(argv, capture_output=True, check=True).stdout))


def _knock(address: str, port: int) -> socket.socket:
    knock = socket.socket()
    knock.setblocking(False)
    assert knock.connect_ex((address, port)) == errno.EINPROGRESS
    return knock


def _is_connected(knock: socket.socket) -> bool:
    try:
        knock.getpeername()
    except OSError:
        return False
    return True


def test_what_was_allowed_to_a_sandbox_ends_with_it(online, internet):
    """Its peer may go on sending: nothing passes, so whoever has the address next inherits nothing."""
    with online.box() as gone:
        attempts(gone, [(net.ATTACKER, net.UDP_PORT)])
        internet.datagrams.clear()
        assert attempts(gone, [(net.ATTACKER, net.UDP_PORT)])[net.ATTACKER][1][0] == 0
        (_, port, _) = internet.datagrams[-1]
    before = dropped(online, "nobody comes in")
    internet.send_late(net.ATTACKER, port, b"late")
    until(lambda: dropped(online, "nobody comes in") > before, "the late packet's end")


def test_a_sandbox_cannot_use_up_the_hosts_memory_of_connections(online, internet):
    code = f"""
import socket
refused = sent = 0
for port in range(20000, 23000):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(('', port))
        s.connect(('{net.ATTACKER}', 9))
        try:
            s.send(b'x'); s.send(b'x')
            sent += 1
        except OSError:
            refused += 1
print(sent, refused)
"""
    with online.box() as greedy, online.box() as modest:
        sent, refused_ones = map(int, greedy.python(code)["stdout"].split())
        assert sent <= 2048 + 64
        assert refused_ones >= 3000 - 2048 - 64
        assert modest.run(f"curl -sS -m 5 http://{net.WEB['example.com']}/")["exit_code"] == 0


PING = f"""
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
s.settimeout(5)
s.sendto(struct.pack('!BBHHH', 8, 0, 0, 0, 1), ('{net.WEB["example.com"]}', 0))
print(s.recv(100)[0])
"""


def test_pings_cannot_use_it_up_either(online, internet):
    code = f"""
import socket
refused = sent = 0
for number in range(1, 1500):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as s:
        s.bind(('', number))
        s.connect(('{net.ATTACKER}', 0))
        try:
            s.send(bytes([8, 0, 0, 0, 0, 0, 0, 1]))
            s.send(bytes([8, 0, 0, 0, 0, 0, 0, 2]))
            sent += 1
        except OSError:
            refused += 1
print(sent, refused)
"""
    before = refused(online)
    with online.box() as greedy, online.box() as modest:
        result = greedy.python(code)
        assert result["success"], result
        assert refused(online) - before >= 1499 - PINGS_OF_ONE
        assert modest.run(f"curl -sS -m 5 http://{net.WEB['example.com']}/")["exit_code"] == 0
        assert modest.python(PING)["stdout"] == "0\n"


def test_nothing_left_this_machine(internet):
    assert internet.escaped() == 0
