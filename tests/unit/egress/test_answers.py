"""The verdict on each question, and what becomes of an answer that was asked for."""

from __future__ import annotations

import ipaddress
import struct

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.blocklist import DEFAULT_BLOCKLIST, NOTHING_BLOCKED, parse_blocklist
from atoll.core.egress import Outcome
from atoll.core.policy import Dns, Policy, judge_question, parse
from atoll.egress import answers
from atoll.egress.answers import Ask, Reply, Rules, Stored
from atoll.wire import dns_message as message
from atoll.wire.dns_message import Malformed, Query, Rcode, Type

DENY = {"deny_out": ["0.0.0.0/0"]}
VIP = ipaddress.IPv4Address("192.0.0.8")
OWN = ("sandboxes.example.org", VIP)
SERVERS = ("8.8.8.8", "1.1.1.1")


def query(name: str = "example.com", rdtype: int | str = "A", rdclass: int | str = "IN", **options) -> Query:
    found = message.parse_query(dns.message.make_query(name, rdtype, rdclass, id=7, **options).to_wire())
    assert isinstance(found, Query)
    return found


def decided(
    policy: dict, name: str, rdtype: int | str = "A", access=True, blocked=NOTHING_BLOCKED, servers=SERVERS, **more
):
    asked = query(name, rdtype, **more)
    rules = Rules(parse(policy, access), blocked)
    return answers.decide(asked, message.name_text(asked.name), rules, servers, OWN)


def refused(rule: str) -> Reply:
    return Reply(Outcome.DENIED, rule, Rcode.REFUSED)


NAMES = {"allow_out": ["example.com", "*.example.net"], **DENY}

TABLE = [
    ("no rules: everything resolves", {}, True, "anything.test", Ask("default")),
    ("a list of what is denied only", {"deny_out": ["203.0.113.0/24"]}, True, "anything.test", Ask("default")),
    ("a list of what is allowed only", {"allow_out": ["203.0.113.0/24"]}, True, "anything.test", Ask("default")),
    ("access off", {}, False, "example.com", refused("internet_access: false")),
    ("all denied", DENY, True, "example.com", refused("deny_out: 0.0.0.0/0")),
    ("addresses allowed", {"allow_out": ["203.0.113.0/24"], **DENY}, True, "example.com",
     refused("deny_out: 0.0.0.0/0")),
    ("an allowed name", NAMES, True, "example.com", Ask("allow_out: example.com")),
    ("in another case, with a dot", NAMES, True, "EXAMPLE.com.", Ask("allow_out: example.com")),
    ("not what is below it", NAMES, True, "www.example.com", refused("deny_out: 0.0.0.0/0")),
    ("below a wildcard", NAMES, True, "a.b.example.net", Ask("allow_out: *.example.net")),
    ("not the wildcard's own name", NAMES, True, "example.net", refused("deny_out: 0.0.0.0/0")),
    ("not what only ends like it", NAMES, True, "badexample.com", refused("deny_out: 0.0.0.0/0")),
    ("every name, by a star", {"allow_out": ["*"], **DENY}, True, "anything.test", Ask("allow_out: *")),
    ("a name allowed although access is off", {"allow_out": ["example.com"]}, False, "example.com",
     Ask("allow_out: example.com")),
    ("dns: open with names", {**NAMES, "dns": "open"}, True, "anything.test", Ask("dns: open")),
    ("dns: open without names", {**DENY, "dns": "open"}, True, "anything.test", refused("deny_out: 0.0.0.0/0")),
    ("its resolver's address allowed", {"allow_out": ["8.8.8.8"], **DENY}, True, "anything.test",
     Ask("allow_out: 8.8.8.8")),
    ("its second resolver's", {"allow_out": ["1.1.1.0/24"], **DENY}, True, "anything.test",
     Ask("allow_out: 1.1.1.0/24")),
    ("another resolver's", {"allow_out": ["9.9.9.9"], **DENY}, True, "anything.test", refused("deny_out: 0.0.0.0/0")),
    ("the one it named itself", {"allow_out": ["9.9.9.9"], "dns_servers": ["9.9.9.9"], **DENY}, True, "anything.test",
     Ask("allow_out: 9.9.9.9")),
    ("a name seen backwards", DENY, True, "8.8.8.8.in-addr.arpa", refused("deny_out: 0.0.0.0/0")),
    ("own names", {}, True, "8080-box.sandboxes.example.org", Reply(Outcome.ALLOWED, "own domain", Rcode.NOERROR, VIP)),
    ("the own domain itself", {}, True, "sandboxes.example.org",
     Reply(Outcome.ALLOWED, "own domain", Rcode.NOERROR, VIP)),
    ("own names when all is denied", DENY, True, "8080-box.sandboxes.example.org", refused("deny_out: 0.0.0.0/0")),
    ("own names that are allowed", {"allow_out": ["*.sandboxes.example.org"], **DENY}, True,
     "8080-box.sandboxes.example.org", Reply(Outcome.ALLOWED, "own domain", Rcode.NOERROR, VIP)),
    ("not what only ends like the own domain", {}, True, "evilsandboxes.example.org", Ask("default")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "access", "name", "found"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_the_verdict_on_a_question(policy, access, name, found):
    assert decided(policy, name, access=access) == found


@pytest.mark.parametrize("rdtype", ["AAAA", "HTTPS", "TXT", "MX"])
def test_own_names_have_an_ipv4_address_and_nothing_else(rdtype):
    found = decided({}, "sandboxes.example.org", rdtype)
    assert found == Reply(Outcome.ALLOWED, "own domain", Rcode.NOERROR)
    made = dns.message.from_wire(answers.render(query(rdtype=rdtype), found, 512))
    assert (made.rcode(), made.answer) == (dns.rcode.NOERROR, [])


def test_an_own_name_is_answered_by_its_address():
    asked = query("box.sandboxes.example.org")
    made = dns.message.from_wire(answers.render(asked, decided({}, "box.sandboxes.example.org"), 512))
    assert made.answer[0].to_text() == "box.sandboxes.example.org. 60 IN A 192.0.0.8"


def test_a_blocked_name_is_refused_before_all_else():
    blocked = DEFAULT_BLOCKLIST | parse_blocklist(["box.sandboxes.example.org"])
    for name, entry in (("eu.nicehash.com", "nicehash.com"), ("box.sandboxes.example.org",) * 2):
        assert decided({"allow_out": ["*"], **DENY}, name, blocked=blocked) == refused(f"blocklist: {entry}")


@pytest.mark.parametrize("access", [True, False])
def test_with_nobody_to_ask_it_is_refused(access):
    found = decided({"dns_servers": []}, "example.com", access=access, servers=())
    assert found == refused("dns_servers: none")


@pytest.mark.parametrize(("rdtype", "rcode"), [("ANY", Rcode.NOTIMP), ("AXFR", Rcode.REFUSED), ("IXFR", Rcode.REFUSED),
                                               ("TSIG", Rcode.NOTIMP), (41, Rcode.NOTIMP)])  # fmt: skip
def test_what_is_no_type_of_a_record_is_not_asked_for(rdtype, rcode):
    assert decided({}, "example.com", rdtype) == Reply(Outcome.DENIED, "not supported", rcode)


def test_other_classes_and_versions_are_not_answered():
    assert decided({}, "version.bind", "TXT", rdclass="CH") == Reply(Outcome.DENIED, "not supported", Rcode.REFUSED)
    assert decided({}, "example.com", use_edns=1) == Reply(Outcome.DENIED, "not supported", Rcode.BADVERS)


def test_an_escaped_dot_matches_no_pattern():
    asked = message.parse_query(message.query(1, b"\x09x.example\3com\0", Type.A))
    name = message.name_text(asked.name)
    rules = Rules(parse({"allow_out": ["*.example.com", "x.example.com"], **DENY}), NOTHING_BLOCKED)
    assert answers.decide(asked, name, rules, SERVERS) == refused("deny_out: 0.0.0.0/0")


PATTERNS = st.sampled_from(["a.b", "b", "*.b", "*.a.b", "*", "c.a.b", "a.c"])
NETWORKS = st.sampled_from(["0.0.0.0/0", "8.8.8.0/24", "1.1.1.1", "9.9.9.9", "203.0.113.0/24"]).map(
    ipaddress.ip_network
)
POLICIES = st.builds(
    Policy,
    internet_access=st.booleans(),
    allow_networks=st.lists(NETWORKS, max_size=2).map(tuple),
    allow_names=st.lists(PATTERNS, max_size=4).map(tuple),
    deny_networks=st.lists(NETWORKS, max_size=2).map(tuple),
    dns=st.sampled_from(Dns),
    dns_servers=st.sampled_from([None, (), ("9.9.9.9",)]),
)


@given(policy=POLICIES, name=st.sampled_from(["", "b", "a.b", "c.a.b", "d.c.a.b", "ab", "xa.b", "a.c", "bad.a.b"]))
def test_prepared_rules_judge_as_the_policy_does(policy, name):
    blocked = parse_blocklist(["bad.a.b"])
    wanted = judge_question(policy, name, policy.resolvers, blocked)
    assert Rules(policy, blocked).judge(name) == wanted


def test_a_policys_resolver_is_asked_only_where_the_sandbox_might_go_itself():
    servers = ("10.0.0.53", "169.254.169.253", "192.0.0.8", "127.0.0.1", "100.96.0.1", "203.0.113.5", "198.51.100.5")
    blocked = parse_blocklist(["198.51.100.0/24"])
    assert answers.usable(servers, (), blocked) == ("203.0.113.5",)
    opened = (ipaddress.ip_network("10.0.0.0/24"),)
    assert answers.usable(servers, opened, blocked) == ("10.0.0.53", "203.0.113.5")


# ---- answers that were asked for


def kept(
    *records: str, rcode: int = 0, authority: str = "", additional: str = "", name="example.com", rdtype="A"
) -> Stored:
    made = dns.message.make_response(dns.message.make_query(name, rdtype, id=7), recursion_available=True)
    made.set_rcode(dns.rcode.Rcode(rcode))
    for section, lines in ((made.answer, records), (made.authority, [authority]), (made.additional, [additional])):
        for line in filter(None, lines):
            owner, *rest = line.split(maxsplit=4)
            section.append(dns.rrset.from_text(f"{owner}.", *rest))
    wire = made.to_wire()
    found = message.parse_response(wire)
    stored = answers.store(wire, found, at=100.0)
    assert isinstance(stored, Stored)
    return stored


def rendered(asked: Query, stored: Stored, now: float = 100.0, limit: int = 65_535) -> dns.message.Message:
    return dns.message.from_wire(answers.render_stored(asked, stored, now, limit))


def test_the_answer_comes_in_the_case_of_the_question():
    stored = kept("example.com 60 IN CNAME www.example.com.", "www.example.com 60 IN A 192.0.2.1")
    made = rendered(query("ExAmPle.cOm"), stored)
    assert [each.to_text() for each in made.answer] == [
        "ExAmPle.cOm. 60 IN CNAME www.ExAmPle.cOm.", "www.ExAmPle.cOm. 60 IN A 192.0.2.1"]  # fmt: skip
    assert made.id == 7


def test_ttls_count_down_to_nothing():
    stored = kept("example.com 60 IN A 192.0.2.1", "example.com 300 IN A 192.0.2.2",
                  authority="example.com 900 IN NS ns.example.com.")  # fmt: skip
    assert [each.ttl for each in rendered(query(), stored, now=161.5).answer] == [0]  # one set has one TTL, the least
    assert rendered(query(), stored, now=130.5).authority[0].ttl == 870
    assert rendered(query(), stored, now=99.0).authority[0].ttl == 900


def test_additional_records_are_not_handed_on():
    stored = kept("example.com 60 IN MX 5 mx.example.com.", additional="mx.example.com 60 IN A 10.0.0.1", rdtype="MX")
    assert rendered(query(rdtype="MX"), stored).additional == []


def test_an_answer_that_does_not_fit_says_so():
    stored = kept(*(f"example.com 60 IN A 192.0.2.{last}" for last in range(100)))
    assert rendered(query(use_edns=False), stored, limit=512).flags & dns.flags.TC
    assert len(rendered(query(), stored).answer[0]) == 100


def test_only_who_asks_is_told_that_it_is_authentic():
    wire = bytearray(dns.message.make_response(dns.message.make_query("example.com", "A")).to_wire())
    wire[3] |= 0x20
    stored = answers.store(bytes(wire), message.parse_response(bytes(wire)), 0.0)
    assert not rendered(query(use_edns=False), stored).flags & dns.flags.AD
    assert rendered(query(want_dnssec=True), stored).flags & dns.flags.AD


def test_addresses_are_those_of_the_type_that_was_asked_for():
    stored = kept("example.com 60 IN CNAME a.example.", "a.example 60 IN A 192.0.2.1", "a.example 60 IN A 192.0.2.1",
                  "a.example 60 IN AAAA 2001:db8::1", authority="b.example 60 IN A 192.0.2.9")  # fmt: skip
    assert stored.addresses == (ipaddress.ip_address("192.0.2.1"),)


ECH = "AEn+DQBFKwAgACABWIHUGj4u+PIggYXcR5JF0gYk3dCRioBW8uJq9H4mKAAIAAEAAQABAANAEnB1YmxpYy50bHMtZWNoLmRldgAA"


@pytest.mark.parametrize("rdtype", ["HTTPS", "SVCB"])
def test_keys_for_encrypted_hellos_are_taken_out(rdtype):
    stored = kept(f'example.com 60 IN {rdtype} 1 . mandatory="alpn,ech" alpn="h2,h3" ech="{ECH}" ipv4hint=192.0.2.1',
                  f'example.com 60 IN {rdtype} 2 other.example. mandatory="ech" ech="{ECH}"',
                  rdtype=rdtype)  # fmt: skip
    made = rendered(query("EXAMPLE.com", rdtype), stored)
    assert sorted(record.to_text() for record in made.answer[0]) == [
        '1 . mandatory="alpn" alpn="h2,h3" ipv4hint="192.0.2.1"', "2 other.example."]  # fmt: skip
    assert made.answer[0].ttl == 60
    assert stored.lifetime == 60


def test_a_service_without_such_keys_stays_as_it_is():
    record = '1 . alpn="h2" ipv4hint="192.0.2.1"'
    stored = kept(f"example.com 60 IN HTTPS {record}", rdtype="HTTPS")
    assert rendered(query(rdtype="HTTPS"), stored).answer[0][0].to_text() == record


def test_they_are_taken_out_of_an_alias_chain_too():
    stored = kept("example.com 60 IN CNAME a.example.", f'a.example 9 IN HTTPS 1 . ech="{ECH}"', rdtype="HTTPS")
    made = rendered(query(rdtype="HTTPS"), stored)
    assert [each.to_text() for each in made.answer] == [
        "example.com. 60 IN CNAME a.example.", "a.example. 9 IN HTTPS 1 ."]  # fmt: skip
    assert stored.lifetime == 9


def test_a_record_of_another_class_is_no_answer():
    head = message.HEADER.pack(7, 0x8180, 1, 1, 0, 0) + b"\7example\3com\0\0\x41\0\1"
    wire = head + b"\xc0\x0c" + message.RECORD.pack(Type.HTTPS, 3, 60, 3) + b"\0\1\0"
    assert isinstance(answers.store(wire, message.parse_response(wire), 0.0), Malformed)


@pytest.mark.parametrize("data", [b"", b"\0\1", b"\0\1\0\0\5\xff\xff", b"\0\1\0\0\5\0\2x"])
def test_a_service_that_is_malformed_is_no_answer(data):
    head = message.HEADER.pack(7, 0x8180, 1, 1, 0, 0) + b"\7example\3com\0\0\x41\0\1"
    wire = head + b"\xc0\x0c" + message.RECORD.pack(Type.HTTPS, 1, 60, len(data)) + data
    assert isinstance(answers.store(wire, message.parse_response(wire), 0.0), Malformed)


@pytest.mark.parametrize(("rdtype", "rcode", "said"), [(1, 0, "A NOERROR"), (65, 3, "HTTPS NXDOMAIN"),
                                                       (12345, 23, "TYPE12345 RCODE23")])  # fmt: skip
def test_what_the_log_says(rdtype, rcode, said):
    assert answers.detail(rdtype, rcode) == said


def _answer_of(rdtype: int, *records: bytes, name: bytes = b"\x01a\x07example\x00") -> bytes:
    head = struct.pack("!6H", 1, 0x8180, 1, len(records), 0, 0)
    return head + name + struct.pack("!2H", rdtype, 1) + b"".join(records)


def _record(rdtype: int, data: bytes) -> bytes:
    return b"\xc0\x0c" + struct.pack("!2HIH", rdtype, 1, 60, len(data)) + data


SERVICE = b"\0\1\0"
KEYS = SERVICE + b"\0\5\0\4\0\2\1\1"


@pytest.mark.parametrize(
    "wire",
    [
        _answer_of(65, *[_record(65, KEYS)] * 17),
        _answer_of(65, _record(65, KEYS), *[_record(65280, b"")] * 16),
        _answer_of(65, _record(65, KEYS + b"\xff\0\x08\0" + bytes(2048))),
        _answer_of(1, _record(1, b"\1\2\3\4"), _record(65, SERVICE)),
        _answer_of(65, _record(65, b"\0\1\xc0\x0c")),
        _answer_of(65, _record(65, SERVICE + b"\0\1\0\4h")),
        _answer_of(65, _record(65, b"\0\1")),
        _answer_of(65, _record(65, SERVICE + b"\0")),
    ],
    ids=["many services", "many others", "long", "not asked for", "pointer", "cut", "no target", "half a key"],
)
def test_services_are_read_in_full_only_where_that_is_little_work(wire, monkeypatch):
    monkeypatch.setattr(answers, "without_ech", lambda _: pytest.fail("read in full"))
    assert isinstance(answers.store(wire, message.parse_response(wire), 0.0), Malformed)


def test_services_without_keys_are_handed_on_as_they_are(monkeypatch):
    monkeypatch.setattr(answers, "without_ech", lambda _: pytest.fail("read in full"))
    wire = _answer_of(65, *[_record(65, SERVICE + b"\0\1\0\3\2h2")] * 40)
    assert answers.store(wire, message.parse_response(wire), 0.0).counts == (40, 0)


def test_what_follows_the_authority_is_not_read_for_services():
    plain = _answer_of(65, _record(65, KEYS))
    wire = plain[:10] + struct.pack("!H", 500) + plain[12:] + _record(65280, b"") * 500
    stored = answers.store(wire, message.parse_response(wire), 0.0)
    assert stored == answers.store(plain, message.parse_response(plain), 0.0)


def test_an_answer_with_very_many_records_is_none():
    assert isinstance(message.parse_response(_answer_of(1, *[_record(1, b"\1\2\3\4")] * 257)), Malformed)


@pytest.mark.parametrize(
    ("wire", "cost"),
    [
        (_answer_of(1, _record(1, b"\1\2\3\4")), 0),
        (_answer_of(1, *[_record(1, b"\1\2\3\4")] * 256), 256 * 16 // 1232 + 32),
        (_answer_of(65, _record(65, SERVICE)), 0),
        (_answer_of(65, _record(65, SERVICE + b"\xff\0\x03\xe8" + bytes(1000))), 7),
    ],
)
def test_an_answer_costs_by_the_work_that_it_was(wire, cost):
    stored = answers.store(wire, message.parse_response(wire), 0.0)
    assert answers.cost(message.parse_response(wire).rdtype, stored) == cost
