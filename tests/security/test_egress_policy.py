"""Lists open nothing that is never reachable, and names lead nowhere else: one promise a test."""

from __future__ import annotations

import errno
import ipaddress

import pytest

from atoll.core.reach import EMBEDDINGS, NEVER_REACHABLE
from atoll.testing import internet as net
from reaching import (
    ALL,
    CLOSED,
    REFUSED,
    assert_refused,
    logged,
    outcomes,
    status,
    tcp,
    trusting,
    udp,
)

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

LISTED = [str(each.network) for each in NEVER_REACHABLE]
MIDDLES = sorted({str(each.network[each.network.num_addresses // 2]) for each in NEVER_REACHABLE
                  if not each.network.network_address.is_loopback})  # fmt: skip
KNOWN = [net.METADATA, net.INTRANET, "100.96.0.1", "100.64.0.1"]
FORMS = sorted(
    str(ipaddress.IPv6Address(int(form.prefix.network_address) | int(ipaddress.IPv4Address(address)) << form.shift))
    for form in EMBEDDINGS
    for address in (net.METADATA, net.INTRANET, "127.0.0.1")
)
SIX = [net.v6(net.METADATA), net.v6(net.INTRANET), "fe80::1", "::7f00:1", "fd00:ec2::254"]
TARGETS = list(dict.fromkeys([*MIDDLES, *KNOWN, *FORMS, *SIX]))
UNREACHABLE = REFUSED | {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""Also: no such address, no such family."""

ALLOWED = {
    "everything": {"allow_out": [ALL]},
    "each of them": {"allow_out": [*LISTED, net.METADATA, net.INTRANET], "deny_out": [ALL]},
    "every name": {"allow_out": ["*", *LISTED], "deny_out": [ALL]},
    "inspected": {"allow_out": [ALL, *LISTED], "inspect": True},
}


@pytest.fixture(scope="module", params=ALLOWED)
def tried(request, online):
    """Each target by TCP on 80, 443 and another port, and by UDP."""
    attempts = [
        make(address, port)
        for address in TARGETS
        for make, port in ((tcp, 80), (tcp, 443), (tcp, net.ECHO_PORT), (udp, net.ECHO_PORT))
    ]
    assert len(TARGETS) < 100, "more would be a scan"
    with online.box(network=ALLOWED[request.param]) as box:
        found = outcomes(box, *attempts)
        yield {address: found[4 * number : 4 * number + 4] for number, address in enumerate(TARGETS)}


@pytest.mark.parametrize("address", TARGETS)
def test_what_is_never_reachable_is_refused_at_once_whatever_the_lists_say(tried, address):
    assert_refused(tried[address], UNREACHABLE)


@pytest.mark.parametrize("network", ALLOWED.values(), ids=ALLOWED)
def test_the_hosts_own_address_answers_nothing(online, internet, network):
    """It is not in any table of ranges, and may be accepted where a name could follow."""
    ask = f"GET / HTTP/1.1\r\nHost: {net.GATEWAY}\r\n\r\n"
    begun = len(internet.connections)
    with online.box(network=network) as box:
        tried = outcomes(box, tcp(net.GATEWAY, 80, ask), tcp(net.GATEWAY, net.ECHO_PORT, ask), udp(net.GATEWAY, 4000))
    assert_refused(tried, REFUSED | {errno.ECONNRESET, CLOSED})
    assert not [server for server, _ in internet.connections[begun:] if server == net.GATEWAY]


def test_the_servers_that_stand_there_never_heard_a_packet(tried, internet):
    for address in (net.METADATA, net.INTRANET):
        assert internet.packets(address) == internet.packets(net.v6(address)) == 0


@pytest.mark.parametrize("network", [{"allow_out": ["*"], "deny_out": [ALL]}, {"inspect": True}, {}],
                         ids=["every name", "inspected", "open"])  # fmt: skip
@pytest.mark.parametrize("name", ["rebind.example.net", "intranet.corp.example", "flips.example.net"])
def test_a_name_that_leads_there_gains_nothing(online, internet, name, network):
    internet.zone.sequence("flips.example.net", net.ATTACKER, net.METADATA)
    with online.box(network=network) as box:
        trusting(box, internet)
        box.run(f"getent ahostsv4 {name}")
        for scheme, port in (("http", 80), ("https", 443)):
            assert status(box, f"{scheme}://{name}/") == 0
            assert status(box, f"{scheme}://{name}/", "--resolve", f"{name}:{port}:{net.METADATA}") == 0
        assert logged(box, rule="never…", verdict="denied")
    assert internet.packets(net.METADATA) == internet.packets(net.INTRANET) == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_allowed_name_cannot_be_pointed_elsewhere(online, internet, scheme):
    """By /etc/hosts: the proxy asks for itself, so the request goes to the name's own server."""
    seen = internet.packets(net.ATTACKER)
    with online.box(network={"allow_out": ["example.com"], "deny_out": [ALL]}) as box:
        trusting(box, internet)
        box.sh(f"echo {net.ATTACKER} example.com | sudo tee -a /etc/hosts")
        assert box.sh("getent ahostsv4 example.com").startswith(net.ATTACKER)
        assert status(box, f"{scheme}://example.com/get") == 200
    assert internet.packets(net.ATTACKER) == seen
    assert internet.requests[-1].server == net.WEB["example.com"]


def test_nothing_left_this_machine(internet):
    assert internet.escaped() == 0, internet.escapes()
