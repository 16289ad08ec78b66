"""What the network pages of E2B and Novita show, each line: access on and off, lists, names, precedence, updates.

Reached through the extension fields of HopX's create, by plain HTTP.
"""

from __future__ import annotations

import json
import time

import pytest

from atoll.testing import internet as net
from reaching import ALL, curl, outcomes, status, tcp, trusting, udp

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

NEEDS_DENY_ALL = "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny out"


@pytest.fixture
def made(online, internet):
    """Makes sandboxes of the test's own."""
    boxes = []

    def make(network=None, **more):
        boxes.append(trusting(online.create(network=network, **more), internet))
        return boxes[-1]

    yield make
    for box in boxes:
        box.kill()


def settled(internet, *there):
    """Packets so far, when earlier connections have said their last words."""
    before, seen = [], [internet.packets(*each) for each in there]
    while before != seen:
        time.sleep(0.2)
        before, seen = seen, [internet.packets(*each) for each in there]
    return seen


@pytest.fixture(scope="module")
def named(online, internet):
    """The list of the pages that has everything: names, a wildcard, an address, a network."""
    allow = ["api.example.com", "*.github.com", "google.com", "8.8.8.8", f"{net.WEB['packages.example.org']}/32"]
    with online.box(network={"allow_out": allow, "deny_out": [ALL]}) as box:
        yield trusting(box, internet)


# ---- access on and off


@pytest.mark.parametrize("given", [{}, {"internet_access": True}, {"allow_internet_access": True},
                                   {"allow_internet_access": None}, {"network": None}, {"network": {}},
                                   {"network": {"allow_out": [], "deny_out": []}}])  # fmt: skip
def test_the_internet_is_there_unless_it_is_switched_off(made, given):
    box = made(**given)
    assert status(box, "https://google.com") == 200
    assert status(box, "https://1.1.1.1") == 301


@pytest.mark.parametrize("given", [{"internet_access": False}, {"allow_internet_access": False},
                                   {"internet_access": True, "allow_internet_access": False},
                                   {"network": {"deny_out": [ALL]}},
                                   {"network": {"deny_out": ["ALL_TRAFFIC"]}}])  # fmt: skip
def test_access_off_and_denying_all_traffic_are_the_same(made, internet, given):
    box = made(**given)
    there = ("1.1.1.1",), (net.WEB["google.com"],)
    seen = settled(internet, *there)
    for url in ("https://1.1.1.1", "https://8.8.8.8", "https://google.com", f"http://{net.WEB['google.com']}"):
        assert status(box, url) == 0
    assert seen == [internet.packets(*each) for each in there]


def test_with_access_off_an_allowed_address_is_reached(made):
    box = made({"allow_out": ["1.1.1.1"]}, allow_internet_access=False)
    assert status(box, "https://1.1.1.1") == 301
    assert status(box, "https://8.8.8.8") == 0


# ---- allow and deny lists of addresses


def test_only_listed_addresses(made):
    box = made({"deny_out": [ALL], "allow_out": ["1.1.1.1", "8.8.8.0/24"]})
    assert status(box, "https://1.1.1.1") == 301
    assert status(box, "https://8.8.8.8") == 302
    assert status(box, f"https://{net.WEB['google.com']}") == 0


def test_all_but_listed_addresses(made):
    box = made({"deny_out": ["8.8.8.8"]})
    assert status(box, "https://8.8.8.8") == 0
    assert status(box, "https://1.1.1.1") == 301


def test_a_network_is_denied(made):
    box = made({"deny_out": ["8.8.8.0/24", "203.0.113.60/31"]})
    assert status(box, "https://8.8.8.8") == 0
    assert status(box, "https://google.com") == 0
    assert status(box, "https://1.1.1.1") == 301
    assert status(box, "https://api.example.com") == 200


@pytest.mark.parametrize("denied", [[ALL], ["1.1.1.1", "8.8.8.8"], [ALL, "1.1.1.1"]])
def test_allow_beats_deny(made, denied):
    box = made({"deny_out": denied, "allow_out": ["1.1.1.1", "8.8.8.8"]})
    assert status(box, "https://1.1.1.1") == 301
    assert status(box, "https://8.8.8.8") == 302


def test_an_allow_list_alone_restricts_nothing(made):
    assert status(made({"allow_out": ["1.1.1.1"]}), "https://8.8.8.8") == 302


def test_all_traffic_may_be_allowed_too(made):
    box = made({"allow_out": ["ALL_TRAFFIC"], "deny_out": ["ALL_TRAFFIC", "1.1.1.1"]})
    assert status(box, "https://1.1.1.1") == 301
    assert status(box, "https://google.com") == 200


def test_addresses_count_on_every_port_and_protocol(made):
    box = made({"allow_out": [net.ATTACKER], "deny_out": [ALL]})
    ours, others = net.ATTACKER, net.WEB["example.com"]
    worked = outcomes(box, tcp(ours, net.ECHO_PORT, "hi"), udp(ours, net.ECHO_PORT), udp(ours, 443), tcp(ours, 853))
    assert [code for code, _ in worked] == [0] * 4
    refused = outcomes(box, tcp(others, net.ECHO_PORT, "hi"), udp(others, net.ECHO_PORT), udp(others, 443))
    assert all(code not in (0, -1) for code, _ in refused), refused


# ---- names


@pytest.mark.parametrize("url", [
    "https://api.example.com/get", "http://api.example.com/get", "https://API.Example.Com/get",
    "https://google.com", "https://api.github.com", "http://api.github.com",
    "https://8.8.8.8/resolve?name=a.example.com", f"https://{net.WEB['packages.example.org']}", f"http://{net.WEB['packages.example.org']}",
])  # fmt: skip
def test_listed_names_and_addresses_are_reached(named, url):
    assert status(named, url) in (200, 302)


@pytest.mark.parametrize("url", [
    "https://example.com", "http://www.example.com", "https://www.google.com", "https://github.com",
    "https://1.1.1.1", f"https://{net.WEB['google.com']}", f"http://{net.WEB['api.example.com']}",
    "https://api.example.com:853", "http://api.example.com:4000",
])  # fmt: skip
def test_nothing_else_is(named, url):
    assert status(named, url) == 0


def test_a_wildcard_has_names_at_any_depth_and_not_the_domain_itself(made):
    box = made({"allow_out": ["*.mydomain.com"], "deny_out": [ALL]})
    assert status(box, "https://app.mydomain.com") == 200
    assert status(box, "http://a.b.mydomain.com") == 200
    assert status(box, "https://mydomain.com") == 0
    assert status(box, "http://mydomain.com") == 0


def test_a_star_is_every_name(made):
    box = made({"allow_out": ["*"], "deny_out": [ALL]})
    assert status(box, "https://google.com") == 200
    assert status(box, f"http://{net.WEB['google.com']}") == 0


def test_names_hold_on_80_and_443_only_and_not_for_udp(named, internet):
    address = net.WEB["api.example.com"]
    there = (address, net.ECHO_PORT), (address, 443)
    seen = settled(internet, *there)
    refused = outcomes(named, tcp(address, net.ECHO_PORT, "hi"), udp(address, 443), udp(address, net.ECHO_PORT))
    assert all(code not in (0, -1) for code, _ in refused), refused
    assert seen == [internet.packets(*each) for each in there]


def test_a_denied_name_fails_fast_and_its_server_hears_nothing(named, internet):
    address = net.WEB["github.com"]
    (seen,) = settled(internet, (address,))
    for url in ("https://github.com", "http://github.com"):
        result = curl(named, url, "--resolve", f"github.com:443:{address}", "--resolve", f"github.com:80:{address}",
                      "-w", "%{time_total}")  # fmt: skip
        assert result["exit_code"] != 0
        assert float(result["stdout"]) < 1
    assert internet.packets(address) == seen


# ---- what is refused when it is given


INVALID = [
    ({"deny_out": ["example.com"]}, "invalid denied CIDR example.com"),
    ({"deny_out": ["0.0.0.0"]}, "invalid denied CIDR 0.0.0.0"),
    ({"deny_out": ["::"]}, "invalid denied CIDR ::"),
    ({"allow_out": ["not a name"]}, "invalid allowed address not a name"),
    ({"allow_out": ["example.com"]}, NEEDS_DENY_ALL),
    ({"allow_out": ["*.example.com"], "deny_out": ["1.1.1.1"]}, NEEDS_DENY_ALL),
    (
        {"rules": {f"a{number}.example.com": [] for number in range(11)}},
        "Network rules can have at most 10 domains.",
    ),
    ({"rules": {"-bad-": []}}, 'Rule domain "-bad-" is not a valid domain name.'),
]


@pytest.mark.parametrize(("network", "message"), INVALID)
def test_what_makes_no_sense_is_refused_with_the_words_that_clients_know(online, network, message):
    answer = online.api("POST", "/v1/sandboxes", json={"template_name": "code-interpreter", "network": network})
    assert answer.status_code == 400
    assert message in answer.text.replace('\\"', '"')


@pytest.mark.parametrize(("network", "message"), INVALID[:5])
def test_an_update_is_checked_likewise_and_changes_nothing_then(named, network, message):
    before = named.control("GET").json()["network"]
    answer = named.control("PUT", "/network", json=network)
    assert answer.status_code == 400
    assert message in answer.text
    assert named.control("GET").json()["network"] == before
    assert status(named, "https://api.example.com/get") == 200


# ---- updates


def test_an_update_applies_restrictions(made):
    box = made()
    assert status(box, "https://8.8.8.8") == 302
    assert box.control("PUT", "/network", json={"deny_out": ["8.8.8.8"]}).status_code == 200
    assert status(box, "https://8.8.8.8") == 0
    assert status(box, "https://1.1.1.1") == 301


def test_an_update_replaces_everything_and_an_empty_one_clears(made):
    box = made({"deny_out": [ALL], "allow_out": ["1.1.1.1"]})
    assert status(box, "https://8.8.8.8") == 0
    assert box.control("PUT", "/network", json={"deny_out": [ALL], "allow_out": ["8.8.8.8"]}).status_code == 200
    assert status(box, "https://1.1.1.1") == 0
    assert status(box, "https://8.8.8.8") == 302
    assert box.control("PUT", "/network", json={}).status_code == 200
    assert status(box, "https://1.1.1.1") == 301
    assert status(box, "https://8.8.8.8") == 302


def test_an_update_switches_access_off_and_on(made):
    box = made()
    assert box.control("PUT", "/network", json={"allow_internet_access": False}).status_code == 200
    assert status(box, "https://google.com") == 0
    assert box.control("PUT", "/network", json={"allow_internet_access": True}).status_code == 200
    assert status(box, "https://google.com") == 200


def test_an_update_survives_pause_and_resume_and_stop_and_start(made):
    box = made()
    allowed = {"allow_out": ["google.com"], "deny_out": [ALL]}
    assert box.control("PUT", "/network", json=allowed).status_code == 200
    for action in ("pause", "resume", "stop", "start"):
        assert box.control("POST", f"/{action}").status_code < 300
    assert box.control("GET").json()["network"] == allowed
    assert status(box, "https://google.com") == 200
    assert status(box, "https://api.example.com") == 0


def test_it_is_shown_as_it_was_given(made):
    given = {"allow_out": ["1.1.1.1", "8.8.8.0/24", "*.example.com"], "deny_out": [ALL], "dns_servers": ["1.1.1.1"]}
    shown = made(given).control("GET").json()
    assert shown["network"] == given
    assert shown["internet_access"] is True


# ---- header transforms


def test_a_rule_sets_a_header_that_the_sandbox_never_sees(made, internet):
    token = "transform-value-123"
    rules = {"httpbin.e2b.team": [{"transform": {"headers": {"X-Test-Token": token}}}]}
    box = made({"rules": rules})
    for url in ("https://httpbin.e2b.team/headers", "http://httpbin.e2b.team/headers"):
        told = curl(box, url, "--cacert", "/etc/ssl/certs/ca-certificates.crt")
        assert told["exit_code"] == 0, told
        assert json.loads(told["stdout"])["headers"]["X-Test-Token"] == token
    assert status(box, "https://1.1.1.1") == 301
    assert "X-Test-Token" not in curl(box, "https://httpbin.org/headers")["stdout"]
