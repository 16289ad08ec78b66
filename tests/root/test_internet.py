"""The internet of the tests is what it says: otherwise silence there would mean nothing."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path

import dns.message
import dns.query
import pytest

from atoll.testing import internet as net
from atoll.testing.internet import Internet
from stack import until

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def place():
    with Internet(suffix="itself") as made:
        yield made
        assert made.escaped() == 0, made.escapes()


def asked(place, name: str, kind: str = "A", resolver: str = "8.8.8.8") -> list[str]:
    query = dns.message.make_query(name, kind)
    answer = place.gateway(lambda: dns.query.udp(query, resolver, timeout=5))
    return [value.to_text() for each in answer.answer if each.rdtype == query.question[0].rdtype for value in each]


def exchange(place, address: str, port: int, content: bytes, tls_name: str = "") -> bytes:
    def work() -> bytes:
        with socket.create_connection((address, port), timeout=5) as plain:
            if not tls_name:
                plain.sendall(content)
                return plain.recv(65536)
            with ssl.create_default_context(cafile=str(place.ca_file)).wrap_socket(
                plain, server_hostname=tls_name
            ) as tls:
                tls.sendall(content)
                return tls.recv(65536)

    return bytes(place.gateway(work))


def curl(place, *words: str) -> str:
    argv = ["curl", "-sS", "-m", "10", "--cacert", str(place.ca_file), *words]
    return place.gateway(lambda: subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


def test_the_gateway_forwards_whatever_the_machine_does(place):
    assert place.gateway(lambda: Path("/proc/sys/net/ipv4/ip_forward").read_text()) == "1\n"


def test_names_have_addresses_of_both_families(place):
    assert asked(place, "example.com") == [net.WEB["example.com"]]
    assert asked(place, "example.com", "AAAA") == [net.v6(net.WEB["example.com"])]
    assert asked(place, "anything.example.com", resolver="1.1.1.1") == [net.WEB["*.example.com"]]
    assert asked(place, "nothing.test") == []


def test_a_rebinding_name_changes_its_answer(place):
    place.zone.sequence("flips.test", net.ATTACKER, net.METADATA)
    assert [asked(place, "flips.test") for _ in range(3)] == [[net.ATTACKER], [net.METADATA], [net.METADATA]]


def test_answers_that_are_too_long_come_by_tcp(place):
    place.zone.record("long.test", "TXT", *(f'"{number}{"x" * 200}"' for number in range(20)))
    query = dns.message.make_query("long.test", "TXT")
    answer, by_tcp = place.gateway(lambda: dns.query.udp_with_fallback(query, "8.8.8.8", timeout=5))
    assert by_tcp
    assert len(answer.answer[0]) == 20


def test_resolvers_answer_over_https_and_tls_too(place):
    place.requests.clear()
    assert net.WEB["example.com"] in curl(place, "https://8.8.8.8/resolve?name=example.com&type=A")
    query = dns.message.make_query("example.com", "A")
    framed = len(query.to_wire()).to_bytes(2) + query.to_wire()
    answered = exchange(place, "1.1.1.1", 853, framed, tls_name="1.1.1.1")
    assert dns.message.from_wire(answered[2:]).answer
    assert curl(place, "-o", "/dev/null", "-w", "%{http_code}", "https://1.1.1.1") == "301"
    assert curl(place, "-o", "/dev/null", "-w", "%{http_code}", "https://8.8.8.8") == "302"


def test_the_web_answers_by_name_and_address_in_both_families(place):
    address = net.WEB["api.example.com"]
    for where in (address, f"[{net.v6(address)}]"):
        told = curl(place, "--connect-to", f"::{where}:443", "https://api.example.com/headers", "-H", "X-Mine: 1")
        assert '"X-Mine": "1"' in told
        assert place.requests[-1].sni == "api.example.com"
    assert curl(place, f"http://{net.WEB['ifconfig.me']}/") == net.GATEWAY


@pytest.mark.parametrize("more", [(), ("-H", "Transfer-Encoding: chunked")], ids=["with a length", "chunked"])
def test_bytes_are_counted_on_both_ways(place, tmp_path, more):
    (tmp_path / "up").write_bytes(bytes(3_000_000))
    begun = len(place.flows)
    assert curl(place, "-T", str(tmp_path / "up"), *more, f"http://{net.ATTACKER}/upload") == '{"received": 3000000}'
    curl(place, "-o", str(tmp_path / "down"), f"http://{net.ATTACKER}/bytes/2000000")
    assert (tmp_path / "down").stat().st_size == 2_000_000

    def ours() -> list[net.Flow]:
        return [each for each in place.flows[begun:] if each.server == net.ATTACKER]

    until(lambda: len(ours()) == 2, "the ends of both")
    up, down = ours()
    assert 3_000_000 < up.received < 3_010_000
    assert 2_000_000 < down.sent < 2_001_000


@pytest.mark.parametrize(("address", "port", "says"), [
    (net.MAIL, 25, b"220 "), (net.POOL, net.POOL_PORT, b'{"id":1'), (net.SMB, 445, b"hi"), (net.SMB, 139, b"hi"),
    (str(net.CROWD[77]), net.ECHO_PORT, b"hi"),
])  # fmt: skip
def test_other_services_answer(place, address, port, says):
    assert exchange(place, address, port, b"hi").startswith(says)


def test_the_dead_are_silent_and_the_black_hole_takes_no_connection(place):
    def attempt(address: str) -> str:
        with socket.socket() as sock:
            sock.settimeout(0.9)
            try:
                sock.connect((address, 80))
            except TimeoutError:
                return "no connection"
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            try:
                return repr(sock.recv(1))
            except TimeoutError:
                return "no answer"

    assert place.gateway(lambda: attempt(net.DEAD)) == "no answer"
    assert place.gateway(lambda: attempt(net.BLACKHOLE)) == "no connection"


def test_every_packet_is_counted(place):
    quiet = str(net.CROWD[99])
    assert place.packets(quiet) == 0
    exchange(place, quiet, net.ECHO_PORT, b"hi")
    before = place.packets(quiet, net.ECHO_PORT)  # the last words of a connection may come between two looks
    assert 3 <= before <= place.packets(quiet) <= place.packets(quiet, net.ECHO_PORT)
    assert place.packets(quiet, 80) == 0
