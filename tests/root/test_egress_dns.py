"""Questions of real sandboxes: who gets which answer, and who outside ever hears of the question."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest

from atoll.testing import internet as net
from egress_stand import Stand
from stack import Box, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

ASK = """
import json, socket, struct, time
def over_udp(server, query):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.connect((server, 53))
        s.send(query)
        return s.recv(65535)
def over_tcp(server, query):
    with socket.create_connection((server, 53), 5) as s:
        s.sendall(struct.pack('!H', len(query)) + query)
        f = s.makefile('rb')
        return f.read(struct.unpack('!H', f.read(2))[0])
answers = []
for server, tcp, query in json.loads(GIVEN):
    started = time.monotonic()
    try:
        answer = (over_tcp if tcp else over_udp)(server, bytes.fromhex(query)).hex()
    except OSError as error:
        answer = ''
    answers.append([answer, time.monotonic() - started])
print(json.dumps(answers))
"""


@dataclass(frozen=True)
class Answer:
    message: dns.message.Message | None
    took_s: float

    @property
    def rcode(self) -> str:
        return dns.rcode.to_text(self.message.rcode()) if self.message is not None else "nothing"

    @property
    def addresses(self) -> list[str]:
        assert self.message is not None
        return [record.address for rrset in self.message.answer for record in rrset if hasattr(record, "address")]


class OfStand:
    """The daemon alone, asked from a namespace."""

    def __init__(self, stand: Stand) -> None:
        self._box = stand.sandbox()

    def govern(self, network: dict[str, Any]) -> None:
        fields = dict(network)
        self._box.put(fields.pop("allow_internet_access", True), **fields)

    def run(self, program: str) -> str:
        return self._box.run(sys.executable, "-c", program).stdout


class OfAtoll:
    """A sandbox."""

    def __init__(self, box: Box) -> None:
        self._box = box

    def govern(self, network: dict[str, Any]) -> None:
        govern(self._box, network)

    def run(self, program: str) -> str:
        done = self._box.python(program)
        assert done["success"], done
        return str(done["stdout"])


def ask(box: OfStand | OfAtoll, *questions: tuple[str, bool, dns.message.Message]) -> list[Answer]:
    """Each to that server, over TCP or UDP."""
    given = json.dumps([(server, tcp, query.to_wire().hex()) for server, tcp, query in questions])
    return [Answer(dns.message.from_wire(bytes.fromhex(wire)) if wire else None, took)
            for wire, took in json.loads(box.run(f"GIVEN = {given!r}\n{ASK}"))]  # fmt: skip


def both_ways(box: OfStand | OfAtoll, name: str, kind: str = "A", server: str = "8.8.8.8") -> list[Answer]:
    query = dns.message.make_query(name, kind)
    return ask(box, (server, False, query), (server, True, query))


def govern(box: Box, network: dict[str, Any]) -> None:
    answered = box.control("PUT", "/network", json=network)
    assert answered.status_code == 200, answered.text


@pytest.fixture(scope="module")
def sandbox(online) -> Iterator[Box]:
    with online.box() as made:
        yield made


@pytest.fixture(scope="module", params=["stand", "sandbox"])
def box(request) -> OfStand | OfAtoll:
    """Whoever asks."""
    made = request.getfixturevalue(request.param)
    return OfStand(made) if request.param == "stand" else OfAtoll(made)


DENY = {"deny_out": ["0.0.0.0/0"]}
NAMES = {"allow_out": ["example.com", "*.mydomain.com"], **DENY}
RESOLVES, REFUSED = "NOERROR", "REFUSED"
AT_ONCE_S = 0.5
"""What is asked of nobody; where nobody answers, the wait is longer."""
TABLE = {
    "no rules": ({}, "api.example.com", RESOLVES),
    "addresses denied": ({"deny_out": ["203.0.113.0/24"]}, "api.example.com", RESOLVES),
    "addresses allowed, nothing denied": ({"allow_out": ["203.0.113.10"]}, "api.example.com", RESOLVES),
    "access off": ({"allow_internet_access": False}, "api.example.com", REFUSED),
    "all denied": (DENY, "api.example.com", REFUSED),
    "all denied but addresses": ({"allow_out": ["203.0.113.20"], **DENY}, "api.example.com", REFUSED),
    "an allowed name": (NAMES, "example.com", RESOLVES),
    "an allowed name in capitals": (NAMES, "EXAMPLE.COM", RESOLVES),
    "a name below an allowed one": (NAMES, "api.example.com", REFUSED),
    "a name below a wildcard": (NAMES, "any.mydomain.com", RESOLVES),
    "the name of a wildcard itself": (NAMES, "mydomain.com", REFUSED),
    "another name": (NAMES, "attacker.example.net", REFUSED),
    "dns: open with names": ({**NAMES, "dns": "open"}, "attacker.example.net", RESOLVES),
    "dns: open without names": ({**DENY, "dns": "open"}, "api.example.com", REFUSED),
    "the resolver's address allowed": ({"allow_out": ["8.8.8.8"], **DENY}, "api.example.com", RESOLVES),
    "the resolver's network allowed": ({"allow_out": ["8.8.8.0/24"], **DENY}, "api.example.com", RESOLVES),
    "another resolver's address allowed": ({"allow_out": ["9.9.9.9"], **DENY}, "api.example.com", REFUSED),
    "its own resolver's address allowed": ({"allow_out": ["1.1.1.1"], "dns_servers": ["1.1.1.1"], **DENY},
                                           "api.example.com", RESOLVES),
    "no resolvers": ({"dns_servers": []}, "api.example.com", REFUSED),
    "a blocked name": ({}, "pool.supportxmr.com", REFUSED),
    "a metadata service by name": ({}, "metadata.google.internal", REFUSED),
}  # fmt: skip


@pytest.mark.parametrize(("network", "name", "rcode"), TABLE.values(), ids=TABLE)
def test_the_table_of_dns(box, internet, network, name, rcode):
    """The same over UDP and TCP; of what is refused nobody outside hears, and it is refused at once."""
    box.govern(network)
    heard = len(internet.queries)
    over_udp, over_tcp = both_ways(box, name)
    assert (over_udp.rcode, over_tcp.rcode) == (rcode, rcode)
    if rcode == REFUSED:
        assert internet.queries[heard:] == []
        assert max(over_udp.took_s, over_tcp.took_s) < AT_ONCE_S
    else:
        wanted = internet.zone.find(name.lower(), "A")[0]
        assert over_udp.addresses == over_tcp.addresses == wanted


@pytest.mark.parametrize("server", ["8.8.8.8", "1.1.1.1", "9.9.9.9", "203.0.113.99"])
def test_whatever_resolver_is_asked_ours_answers(box, internet, server):
    box.govern(NAMES)
    query, forbidden = (dns.message.make_query(name, "A") for name in ("example.com", "attacker.example.net"))
    heard = internet.packets(server)
    found = ask(box, *((server, tcp, asked) for tcp in (False, True) for asked in (query, forbidden)))
    assert [each.rcode for each in found] == [RESOLVES, REFUSED] * 2
    if server not in net.RESOLVERS:
        assert internet.packets(server) == heard == 0


@pytest.mark.parametrize("server", ["127.0.0.2", "169.254.169.253", "10.20.30.40", "100.96.0.1"])
def test_a_resolver_that_is_never_reachable_does_not_answer(sandbox, server):
    govern(sandbox, {})
    assert [each.rcode for each in both_ways(OfAtoll(sandbox), "example.com", server=server)] == ["nothing"] * 2


def test_questions_go_to_the_servers_that_a_policy_names(box, internet):
    box.govern({"dns_servers": ["1.1.1.1"]})
    heard = len(internet.queries)
    assert {each.rcode for each in both_ways(box, "files.example.com")} == {RESOLVES}
    assert {resolver for resolver, name, _ in internet.queries[heard:] if name == "files.example.com"} == {"1.1.1.1"}


def test_a_server_that_is_never_reachable_is_not_asked_for_a_policy(box, internet):
    box.govern({"dns_servers": [net.INTRANET]})
    found = both_ways(box, "example.com")
    assert [each.rcode for each in found] == [REFUSED, REFUSED]
    assert internet.packets(net.INTRANET) == 0


def test_servers_are_those_of_resolv_conf(online):
    with online.box(network={"dns_servers": ["1.1.1.1", "9.9.9.9"]}) as made:
        assert made.sh("cat /etc/resolv.conf").split() == ["nameserver", "1.1.1.1", "nameserver", "9.9.9.9"]
    with online.box(network={"dns_servers": []}) as made:
        assert made.sh("cat /etc/resolv.conf") == ""


def test_an_answer_is_kept_and_the_next_one_asks_nobody(box, internet):
    box.govern({})
    both_ways(box, "raw.githubusercontent.com")
    heard = len(internet.queries)
    assert both_ways(box, "raw.githubusercontent.com")[0].addresses == [net.WEB["raw.githubusercontent.com"]]
    assert [name for _, name, _ in internet.queries[heard:]].count("raw.githubusercontent.com") == 0


def test_aliases_addresses_of_ipv6_and_what_there_is_not(box, internet):
    box.govern({})
    internet.zone.record("alias.example.net", "CNAME", "example.com.")
    alias, six, missing, empty = ask(box, *(
        ("8.8.8.8", False, dns.message.make_query(name, kind)) for name, kind in (
            ("alias.example.net", "A"), ("example.com", "AAAA"), ("nobody.example.org", "A"), ("example.com", "MX"))
    ))  # fmt: skip
    assert alias.addresses == [net.WEB["example.com"]]
    assert six.addresses == [net.v6(net.WEB["example.com"])]
    assert missing.rcode == "NXDOMAIN"
    assert (empty.rcode, empty.message.answer) == ("NOERROR", [])


def test_a_name_backwards_is_a_name(box, internet):
    internet.zone.record("10.113.0.203.in-addr.arpa", "PTR", "example.com.")
    box.govern({})
    assert {each.rcode for each in both_ways(box, "10.113.0.203.in-addr.arpa", "PTR")} == {RESOLVES}
    box.govern(NAMES)
    assert {each.rcode for each in both_ways(box, "10.113.0.203.in-addr.arpa", "PTR")} == {REFUSED}


def test_keys_for_encrypted_hellos_do_not_come_in(box, internet):
    key = "AEn+DQBFKwAgACABWIHUGj4u+PIggYXcR5JF0gYk3dCRioBW8uJq9H4mKAAIAAEAAQABAANAEnB1YmxpYy50bHMtZWNoLmRldgAA"
    internet.zone.record("ech.example.net", "HTTPS", f'1 . alpn="h2" ech="{key}" ipv4hint="203.0.113.10"')
    box.govern({})
    for each in both_ways(box, "ech.example.net", "HTTPS"):
        assert each.message.answer[0][0].to_text() == '1 . alpn="h2" ipv4hint="203.0.113.10"'


def test_a_long_answer_is_cut_over_udp_and_whole_over_tcp(box, internet):
    internet.zone.set("many.example.net", *(f"192.0.2.{last}" for last in range(1, 101)))
    box.govern({})
    over_udp, over_tcp = both_ways(box, "many.example.net")
    assert over_udp.message.flags & dns.flags.TC
    assert len(over_tcp.addresses) == 100


ODD = {
    "any type": (dns.message.make_query("example.com", "ANY"), "NOTIMP"),
    "a transfer": (dns.message.make_query("example.com", "AXFR"), "REFUSED"),
    "another class": (dns.message.make_query("version.bind", "TXT", "CH"), "REFUSED"),
    "another EDNS": (dns.message.make_query("example.com", "A", use_edns=1), "BADVERS"),
}


@pytest.mark.parametrize(("query", "rcode"), ODD.values(), ids=ODD)
def test_odd_questions_have_their_answer_and_go_nowhere(box, internet, query, rcode):
    box.govern({})
    heard = len(internet.queries)
    assert [each.rcode for each in ask(box, ("8.8.8.8", False, query), ("8.8.8.8", True, query))] == [rcode] * 2
    assert internet.queries[heard:] == []


def test_programs_use_it_unawares(sandbox, internet):
    govern(sandbox, NAMES)
    found = sandbox.python("import socket; print(socket.getaddrinfo('example.com', 80, socket.AF_INET)[0][4][0])")
    assert found["stdout"].strip() == net.WEB["example.com"]
    assert sandbox.run("curl -sS -m 5 -o /dev/null http://example.com/get")["exit_code"] == 0
    heard = len(internet.queries)
    refused = sandbox.run("curl -sS -m 5 -o /dev/null http://attacker.example.net/")
    assert refused["exit_code"] == 6  # could not resolve
    assert internet.queries[heard:] == []


@pytest.mark.parametrize(("port", "what"), [(853, "DNS over TLS"), (443, "DNS over HTTPS")])
def test_a_resolver_is_no_side_door_unless_it_is_allowed(sandbox, internet, port, what):
    opening = f"""
import socket, ssl
context = ssl.create_default_context(cadata={internet.ca_file.read_text()!r})
with context.wrap_socket(socket.create_connection(('8.8.8.8', {port}), 5), server_hostname='dns.google') as s:
    print('open')
"""
    govern(sandbox, NAMES)
    heard = internet.packets("8.8.8.8", port)
    assert "open" not in sandbox.python(opening)["stdout"], what
    assert internet.packets("8.8.8.8", port) == heard
    govern(sandbox, {"allow_out": ["example.com", "8.8.8.8"], **DENY})
    assert sandbox.python(opening)["stdout"].strip() == "open", what


def test_each_question_is_a_line_of_the_log(online):
    with online.box(network=NAMES) as box:
        both_ways(OfAtoll(box), "example.com")
        both_ways(OfAtoll(box), "attacker.example.net", "AAAA")
        until(lambda: len(questions(box)) >= 4, "all of them are written")
        seen = sorted((each["protocol"], each["name"], each["detail"], each["verdict"], each["rule"])
                      for each in questions(box))  # fmt: skip
        assert seen == sorted(
            (protocol, *rest)
            for protocol in ("tcp", "udp")
            for rest in (
                ("example.com", "A NOERROR", "allowed", "allow_out: example.com"),
                ("attacker.example.net", "AAAA REFUSED", "denied", "deny_out: 0.0.0.0/0"),
            )
        )


def questions(box: Box) -> list[dict[str, Any]]:
    entries = box.control("GET", "/egress").json()["entries"]
    return [each for each in entries if each["kind"] == "question"]


def test_a_dead_upstream_is_an_error_in_time_and_delays_nobody_else(stand):
    waiting, other = OfStand(stand), OfStand(stand)
    waiting.govern({"dns_servers": [net.BLACKHOLE]})
    other.govern({})
    query = dns.message.make_query("example.com", "A")
    with ThreadPoolExecutor(1) as pool:
        dead = pool.submit(ask, waiting, (net.BLACKHOLE, False, query))
        assert [each.rcode for each in ask(other, *[("8.8.8.8", False, query)] * 20)] == [RESOLVES] * 20
        assert not dead.done()
        found = dead.result()[0]
    assert found.rcode == "SERVFAIL"
    assert found.took_s < 3.0


def test_the_operators_block_list_counts_within_a_second_of_its_change(stand):
    asking = OfStand(stand)
    asking.govern({})
    path = stand.data / "egress" / "blocklist.txt"
    query = dns.message.make_query("www.github.com", "A")

    took = []

    def rcode() -> str:
        return ask(asking, ("8.8.8.8", False, query))[0].rcode

    def counts(condition: Callable[[], bool], what: str) -> None:
        changed = time.monotonic()
        until(condition, what, timeout_s=5)
        took.append(time.monotonic() - changed)

    assert rcode() != REFUSED
    try:
        path.write_text("github.com\n203.0.113.66\n")
        counts(lambda: rcode() == REFUSED, "a name of the new list is refused")
        assert "203.0.113.66/32" in stand.call("blocklist")["networks"]
        path.write_text("github.com\nnot a name!\n")
        counts(lambda: "line 2" in stand.said, "the bad line is said")
        assert rcode() == REFUSED
    finally:
        path.unlink()
    counts(lambda: rcode() != REFUSED, "the list without the file")
    assert statistics.median(took) < 1.5, took  # a question takes a while, too
    assert stand.said.count("line 2") == 1


FLOOD = """
import socket, threading, time
query = bytes.fromhex('{query}')
def flood():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(('8.8.8.8', 53))
    end = time.monotonic() + {seconds}
    while time.monotonic() < end:
        for _ in range(50):
            s.send(query)
        time.sleep(0.005)
threads = [threading.Thread(target=flood) for _ in range(4)]
[each.start() for each in threads]
print('flooding', flush=True)
"""


def test_one_that_floods_the_resolver_delays_nobody_else(online):
    query = dns.message.make_query("example.com", "A")
    with online.box() as greedy, online.box() as modest:
        ask(OfAtoll(modest), ("8.8.8.8", False, query))
        greedy.run(f"cat > /tmp/flood.py <<'END'\n{FLOOD.format(query=query.to_wire().hex(), seconds=4)}\nEND")
        greedy.run("nohup python3 /tmp/flood.py > /tmp/out 2>&1 & until grep -q flooding /tmp/out; do sleep 0.05; done")
        took = sorted(each.took_s for each in ask(OfAtoll(modest), *[("8.8.8.8", False, query)] * 100))
        assert took[95] < 0.1, took
        totals = greedy.control("GET", "/egress/totals").json()
        assert totals["by_rule"].get("rate", 0) > 0
