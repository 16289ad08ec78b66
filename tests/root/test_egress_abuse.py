"""What a sandbox must not do with its way out: each kind is blocked, logged and counted."""

from __future__ import annotations

import json

import pytest

from atoll.testing import internet as net
from reaching import (
    ALL,
    NARROW_MBIT,
    REFUSED,
    assert_refused,
    logged,
    outcomes,
    status,
    tcp,
    totals,
    trusting,
    udp,
)
from stack import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

EXAMPLE = net.WEB["example.com"]


@pytest.fixture(scope="module")
def box(online, internet):
    with online.box() as made:
        yield trusting(made, internet)


@pytest.fixture
def own(online, internet):
    """For what others would be punished for, too."""
    with online.box() as made:
        yield trusting(made, internet)


def denied(box, rule: str) -> int:
    return sum(count for name, count in totals(box)["by_rule"].items() if name.startswith(rule))


# ---- the block list


PORTS = [
    pytest.param(tcp(net.MAIL, 25), "tcp/25", id="SMTP"),
    pytest.param(tcp(net.SMB, 445), "tcp/445", id="SMB"),
    pytest.param(tcp(net.SMB, 139), "tcp/139", id="NetBIOS session"),
    pytest.param(udp(net.SMB, 137), "udp/137", id="NetBIOS names"),
]


@pytest.mark.parametrize("network", [{}, {"allow_out": ["203.0.113.0/24", "*"], "deny_out": [ALL]}],
                         ids=["open", "allowed"])  # fmt: skip
@pytest.mark.parametrize(("attempt", "entry"), PORTS)
def test_a_blocked_port_is_refused_logged_and_counted(online, internet, network, attempt, entry):
    seen = internet.packets(attempt.address, attempt.port)
    with online.box(network=network) as box:
        assert_refused(outcomes(box, attempt))
        told = logged(box, verdict="denied", address=attempt.address, port=attempt.port, rule="blocklist…")
        assert f"{told['protocol']}/{told['port']}" == entry
        until(lambda: denied(box, "blocklist") == 1, "it is counted")
    assert internet.packets(attempt.address, attempt.port) == seen


@pytest.mark.parametrize("name", ["metadata.google.internal", "pool.supportxmr.com"])
def test_a_blocked_name_is_not_resolved(own, internet, name):
    internet.queries.clear()
    assert own.run(f"getent ahostsv4 {name}")["exit_code"] != 0
    told = logged(own, kind="question", name=name)
    assert told["verdict"] == "denied"
    assert told["rule"].startswith("blocklist: ")
    assert denied(own, "blocklist") >= 1
    assert not [asked for _, asked, _ in internet.queries if asked == name]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_blocked_name_is_not_dialled_where_names_are_read(online, internet, scheme):
    seen = internet.packets(net.POOL)
    with online.box(network={"allow_out": ["*"], "deny_out": [ALL]}) as box:
        trusting(box, internet)
        port = {"http": 80, "https": 443}[scheme]
        url = f"{scheme}://pool.supportxmr.com/"
        assert status(box, url, "--resolve", f"pool.supportxmr.com:{port}:{net.POOL}") == 0
        told = logged(box, verdict="denied", name="pool.supportxmr.com")
        assert told["rule"].startswith("blocklist: ")
    assert internet.packets(net.POOL) == seen


def test_the_operators_file_adds_and_is_read_again_while_it_runs(online, box, internet):
    """A line that makes no sense changes nothing: the last good file stays."""
    listed = online.installation.places.data / "egress" / "blocklist.txt"
    bad = (net.WEB["ifconfig.me"], net.ECHO_PORT)
    assert outcomes(box, tcp(*bad, "hi"))[0][0] == 0
    try:
        listed.write_text("ifconfig.me\n203.0.113.76\ntcp/8443  # a port\n")
        until(lambda: outcomes(box, tcp(*bad, "hi"))[0][0] in REFUSED, "the network is blocked", timeout_s=10)
        assert outcomes(box, tcp(EXAMPLE, 8443))[0][0] in REFUSED
        logged(box, verdict="denied", address=EXAMPLE, port=8443, rule="blocklist…")
        until(lambda: box.run("getent ahostsv4 ifconfig.me")["exit_code"] != 0, "the name is blocked", timeout_s=10)

        listed.write_text("203.0.113.76\nno such thing!\n")
        output = online.installation.output
        until(lambda: _told(online), f"a word about it in {output[-3:]}", timeout_s=10)
        assert outcomes(box, tcp(*bad, "hi"))[0][0] in REFUSED
        assert outcomes(box, tcp(EXAMPLE, 8443))[0][0] in REFUSED
    finally:
        listed.unlink(missing_ok=True)
    until(lambda: outcomes(box, tcp(*bad, "hi"))[0][0] == 0, "nothing is blocked", timeout_s=10)


def _told(online) -> bool:
    log = online.installation.places.run / "egress.log"
    said = "".join(online.installation.output) + (log.read_text() if log.exists() else "")
    return "line 2 of the block list" in said


# ---- scanning


SCAN = """
import json, socket
from concurrent.futures import ThreadPoolExecutor
def attempt(target):
    with socket.socket() as s:
        s.settimeout(3)
        return s.connect_ex(target)
def scan(targets):
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(attempt, targets))
"""


def scan(box, targets: list[tuple[str, int]]) -> None:
    result = box.python(f"{SCAN}\nscan({targets!r})")
    assert result["success"], result


@pytest.mark.parametrize(("first", "more"), [
    pytest.param([(str(net.CROWD[n]), 80) for n in range(1, 91)], [(str(net.CROWD[n]), 80) for n in range(91, 121)],
                 id="addresses"),
    pytest.param([(net.ATTACKER, port) for port in range(20000, 20045)],
                 [(net.ATTACKER, port) for port in range(20045, 20070)], id="ports"),
])  # fmt: skip
def test_who_scans_is_refused_new_connections_and_reported(online, box, own, first, more):
    """Below the limit nothing happens; what is open goes on, and so does everybody else."""
    scan(own, first)
    held = f"import socket; kept = socket.create_connection(('{EXAMPLE}', {net.ECHO_PORT}), timeout=5)"
    assert own.python(held)["success"]
    scan(own, more)
    until(lambda: outcomes(own, tcp(EXAMPLE, 80))[0][0] in REFUSED, "it is punished", timeout_s=10)
    assert own.python("kept.send(b'on'); print(kept.recv(10))")["stdout"] == "b'on'\n"
    assert outcomes(box, tcp(EXAMPLE, 80))[0][0] == 0
    assert logged(own, kind="event", rule="scan")["detail"]
    assert logged(own, verdict="denied", rule="scan", address=EXAMPLE)
    until(lambda: denied(own, "scan") >= 1, "it is counted")


# ---- too much


def test_connections_beyond_the_rate_are_refused_logged_and_counted(box, own):
    tries = 1500
    targets = f"[('{EXAMPLE}', {net.ECHO_PORT})] * {tries}"
    code = f"import time; begun = time.monotonic()\n{SCAN}\nfound = scan({targets})"
    codes, took_s = json.loads(own.python(f"{code}\nprint(json.dumps([found, time.monotonic() - begun]))")["stdout"])
    refused = [code for code in codes if code != 0]
    assert set(refused) <= REFUSED
    assert len(refused) >= tries - 500 - 100 * (took_s + 1), "500 at once, then 100 a second"
    assert refused
    assert outcomes(box, tcp(EXAMPLE, net.ECHO_PORT))[0][0] == 0
    assert logged(own, verdict="denied", rule="rate")["address"] == EXAMPLE
    until(lambda: denied(own, "rate") >= len(refused), "all of them are counted")


A_SECOND = NARROW_MBIT * 1_000_000 // 8


@pytest.mark.parametrize(("network", "url", "more"), [
    ({}, f"http://{EXAMPLE}/bytes/{A_SECOND}", ""),
    ({}, f"http://{EXAMPLE}/upload", "-X POST --data-binary @/tmp/second"),
    ({"allow_out": ["example.com"], "deny_out": [ALL]}, f"http://example.com/bytes/{A_SECOND}", ""),
], ids=["down", "up", "down by name"])  # fmt: skip
def test_bandwidth_has_a_limit_each_way(named_online, network, url, more):
    """After a pause a second's worth goes at once."""
    with named_online.box(network=network) as box:
        box.sh(f"head -c {A_SECOND} /dev/zero >/tmp/second")
        twice = f"-o /dev/null {url} -o /dev/null {url}"
        first, second = map(float, box.sh(f"curl -sS -m 30 -w '%{{time_total}}\n' {more} {twice}").split())
        assert first + second > 0.85  # for two seconds' worth, of which the kernel's bucket holds 1.1 at most
        assert second < 4


def test_nothing_left_this_machine(internet):
    assert internet.escaped() == 0, internet.escapes()
