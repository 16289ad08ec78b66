from __future__ import annotations

import ipaddress
import json

import pytest

from atoll.core.blocklist import DEFAULT_BLOCKLIST, parse_blocklist
from atoll.core.errors import InvalidInput
from atoll.core.policy import (
    CLOSED,
    MAX_CA,
    MAX_ENTRIES,
    OPEN,
    UNSETTABLE,
    Dns,
    Ech,
    EgressProxy,
    Policy,
    Transform,
    Verdict,
    from_wire,
    given_form,
    judge,
    judge_name,
    judge_question,
    parse,
    to_wire,
)
from atoll.core.reach import EMBEDDINGS, NEVER_REACHABLE

ALL = "0.0.0.0/0"
NEEDS_DENY_ALL = (
    "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny out to block all other "
    "traffic."
)


def given(*allow: str, deny: tuple[str, ...] = (), access: bool = True, **others: object) -> Policy:
    return parse({"allow_out": list(allow), "deny_out": list(deny), **others}, access)


def refusal(access: bool = True, **given: object) -> str:
    with pytest.raises(InvalidInput) as raised:
        parse(given, access)
    return str(raised.value)


def allowed(policy: Policy, address: str, port: int = 443, protocol: str = "tcp", name: str | None = None) -> bool:
    return judge(policy, ipaddress.ip_address(address), protocol, port, name).allowed


# ---- 11.2: the order


@pytest.mark.parametrize(
    "policy",
    [OPEN, given(ALL), given("10.0.0.0/8", "fc00::/7", "169.254.169.254"), given(ALL, "*", deny=(ALL,))],
    ids=["open", "all allowed", "private allowed", "all and every name allowed"],
)
@pytest.mark.parametrize("each", NEVER_REACHABLE, ids=lambda each: str(each.network))
def test_1_never_reachable_is_denied_whatever_the_lists_say(policy, each):
    for address in (each.network.network_address, each.network.broadcast_address):
        verdict = judge(policy, address, "tcp", 443, "example.com")
        assert not verdict.allowed
        assert verdict.rule.startswith("never: ")


@pytest.mark.parametrize("embedding", EMBEDDINGS, ids=lambda each: str(each.prefix))
@pytest.mark.parametrize(
    "each", [each for each in NEVER_REACHABLE if each.network.version == 4], ids=lambda each: str(each.network)
)
def test_1_nor_is_it_reached_by_an_address_that_carries_it(embedding, each):
    carrier = embedding.around(each.network).network_address
    assert not judge(given(ALL), carrier, "tcp", 80).allowed


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ("203.0.113.7", "203.0.113.7", "203.0.113.8"),
        ("203.0.113.0/24", "203.0.113.255", "203.0.114.0"),
        ("203.0.113.9/24", "203.0.113.255", "203.0.114.0"),
        ("2001:db8:1::7", "2001:db8:1::7", "2001:db8:1::8"),
        ("2001:db8:1::/48", "2001:db8:1:ffff::", "2001:db8:2::"),
        ("::ffff:203.0.113.7", "203.0.113.7", "203.0.113.8"),
        ("64:ff9b::203.0.113.0/120", "203.0.113.1", "203.0.114.0"),
        ("203.0.113.7", "::ffff:203.0.113.7", "::ffff:203.0.113.8"),
        (ALL, "2001:db8::1", None),
        ("ALL_TRAFFIC", "2001:db8::1", None),
    ],
)
def test_2_an_allowed_address_is_allowed_on_any_port_and_protocol(entry, inside, outside):
    policy = given(entry, deny=(ALL,))
    for protocol, port in (("tcp", 443), ("tcp", 5432), ("udp", 53), ("icmp", 0)):
        assert allowed(policy, inside, port, protocol)
        assert outside is None or not allowed(policy, outside, port, protocol)


@pytest.mark.parametrize(
    ("protocol", "port", "expected"),
    [("tcp", 80, True), ("tcp", 443, True), ("tcp", 8080, False), ("tcp", 22, False), ("udp", 443, False)],
)
def test_2_a_name_counts_on_tcp_80_and_443_only(protocol, port, expected):
    policy = given("example.com", deny=(ALL,))
    assert allowed(policy, "203.0.113.1", port, protocol, "example.com") is expected


def test_2_without_a_name_only_the_address_counts():
    policy = given("example.com", "203.0.113.7", deny=(ALL,))
    assert allowed(policy, "203.0.113.7")
    assert not allowed(policy, "203.0.113.8")


def test_2_an_allowed_name_does_not_lead_to_what_is_never_reachable():
    assert not allowed(given("*", deny=(ALL,)), "169.254.169.254", 80, name="example.com")


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ("203.0.113.7", "203.0.113.7", "203.0.113.8"),
        ("203.0.113.0/24", "203.0.113.1", "203.0.114.1"),
        ("2001:db8::/32", "2001:db8::1", "2001:db9::1"),
        ("2001:db8::/32", "2001:db8::1", "203.0.113.1"),
        ("2002::/15", "2002:cb00:7107::1", "203.0.113.7"),
        ("203.0.113.0/24", "2002:cb00:7107::1", "2002:cb00:7207::1"),
        (ALL, "2001:db8::1", None),
    ],
)
def test_3_a_denied_address_is_denied(entry, inside, outside):
    policy = given(deny=(entry,))
    assert not allowed(policy, inside)
    assert outside is None or allowed(policy, outside)


def test_4_otherwise_it_is_allowed():
    assert judge(OPEN, ipaddress.ip_address("203.0.113.1"), "udp", 12345) == Verdict(True, "default")


def test_allow_beats_deny():
    policy = given("203.0.113.7", deny=("203.0.113.0/24", ALL))
    assert allowed(policy, "203.0.113.7")
    assert not allowed(policy, "203.0.113.8")


def test_an_allow_list_alone_restricts_nothing():
    assert allowed(given("203.0.113.7"), "198.51.100.1")


def test_no_internet_access_is_as_good_as_all_traffic_denied_and_the_allow_list_still_wins():
    policy = given("203.0.113.7", "example.com", access=False)
    assert allowed(policy, "203.0.113.7")
    assert allowed(policy, "198.51.100.1", name="example.com")
    assert not allowed(policy, "198.51.100.1")
    assert not allowed(CLOSED, "2001:db8::1")


def test_the_block_list_beats_the_allow_list_and_what_is_never_reachable_beats_both():
    blocked = parse_blocklist(["203.0.113.0/24", "tcp/25", "bad.example"])
    policy = given(ALL, "*", deny=(ALL,))

    def rule(address, port, name=None):
        return judge(policy, ipaddress.ip_address(address), "tcp", port, name, blocked=blocked).rule

    assert rule("203.0.113.1", 443) == "blocklist: 203.0.113.0/24"
    assert rule("198.51.100.1", 25) == "blocklist: tcp/25"
    assert rule("198.51.100.1", 443, "www.bad.example") == "blocklist: bad.example"
    assert rule("10.0.0.1", 25) == "never: private"


def test_the_operator_opens_a_range_and_the_lists_rule_there():
    opened = (ipaddress.ip_network("10.1.0.0/16"),)
    inside, beside = ipaddress.ip_address("10.1.2.3"), ipaddress.ip_address("10.2.0.1")
    assert judge(OPEN, inside, "tcp", 5432, opened=opened).allowed
    assert not judge(OPEN, beside, "tcp", 5432, opened=opened).allowed
    assert not judge(given(deny=("10.1.2.3",)), inside, "tcp", 5432, opened=opened).allowed


@pytest.mark.parametrize(
    ("policy", "address", "name", "rule"),
    [
        (given("1.1.1.0/24", deny=(ALL,)), "1.1.1.1", None, "allow_out: 1.1.1.0/24"),
        (given("1.1.1.1", deny=(ALL,)), "1.1.1.1", None, "allow_out: 1.1.1.1"),
        (given("*.example.com", deny=(ALL,)), "1.1.1.1", "a.example.com", "allow_out: *.example.com"),
        (given(deny=("1.1.1.1",)), "1.1.1.1", None, "deny_out: 1.1.1.1"),
        (given("8.8.8.8", deny=(ALL,)), "1.1.1.1", None, "deny_out: 0.0.0.0/0"),
        (CLOSED, "1.1.1.1", None, "internet_access: false"),
        (OPEN, "127.0.0.1", None, "never: loopback"),
        (OPEN, "169.254.169.254", None, "never: link-local and metadata"),
        (OPEN, "1.1.1.1", None, "default"),
    ],
)
def test_a_verdict_says_which_rule_it_was(policy, address, name, rule):
    assert judge(policy, ipaddress.ip_address(address), "tcp", 443, name).rule == rule


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("example.com", "example.com", True),
        ("example.com", "www.example.com", False),
        ("example.com", "notexample.com", False),
        ("*.example.com", "www.example.com", True),
        ("*.example.com", "a.b.c.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "notexample.com", False),
        ("*", "anything.at.all", True),
        ("EXAMPLE.com.", "example.com", True),
        ("bücher.example", "xn--bcher-kva.example", True),
    ],
)
def test_names_match_as_the_pages_say(pattern, name, expected):
    assert (judge_name(given(pattern, deny=(ALL,)), name) is not None) is expected


# ---- names in questions: the table of the issue

RESOLVERS = ("8.8.8.8",)
QUESTIONS = {
    "no rules: everything": (OPEN, RESOLVERS, "any.example", "default"),
    "addresses denied: everything": (given(deny=("203.0.113.0/24",)), RESOLVERS, "any.example", "default"),
    "allow list alone: everything": (given("1.1.1.1"), RESOLVERS, "any.example", "default"),
    "access off: refused": (CLOSED, RESOLVERS, "any.example", None),
    "all denied: refused": (given(deny=(ALL,)), RESOLVERS, "any.example", None),
    "all denied, an address allowed: refused": (given("1.1.1.1", deny=(ALL,)), RESOLVERS, "any.example", None),
    "names: these": (given("ok.example", deny=(ALL,)), RESOLVERS, "ok.example", "allow_out: ok.example"),
    "names: not others": (given("ok.example", deny=(ALL,)), RESOLVERS, "any.example", None),
    "names with access off: these": (
        given("ok.example", access=False),
        RESOLVERS,
        "ok.example",
        "allow_out: ok.example",
    ),
    "wildcard: below": (given("*.ok.example", deny=(ALL,)), RESOLVERS, "a.ok.example", "allow_out: *.ok.example"),
    "wildcard: not itself": (given("*.ok.example", deny=(ALL,)), RESOLVERS, "ok.example", None),
    "dns open: every name": (given("ok.example", deny=(ALL,), dns="open"), RESOLVERS, "any.example", "dns: open"),
    "dns open without names: refused": (given(deny=(ALL,), dns="open"), RESOLVERS, "any.example", None),
    "resolver allowed: everything": (given("8.8.8.8", deny=(ALL,)), RESOLVERS, "any.example", "allow_out: 8.8.8.8"),
    "resolver's network allowed": (given("8.8.0.0/16", deny=(ALL,)), RESOLVERS, "any.example", "allow_out: 8.8.0.0/16"),
    "second resolver allowed": (given("1.1.1.1", deny=(ALL,)), ("8.8.8.8", "1.1.1.1"), "a.b", "allow_out: 1.1.1.1"),
    "everything allowed": (given(ALL, deny=(ALL,)), RESOLVERS, "any.example", "allow_out: 0.0.0.0/0"),
    "names, nobody to ask": (given("ok.example", deny=(ALL,), dns_servers=[]), (), "ok.example", None),
}


@pytest.mark.parametrize(("policy", "resolvers", "name", "rule"), QUESTIONS.values(), ids=QUESTIONS)
def test_a_question_is_answered_by_policy(policy, resolvers, name, rule):
    verdict = judge_question(policy, name, resolvers)
    assert verdict.allowed == (rule is not None)
    assert rule is None or verdict.rule == rule


def test_a_blocked_name_is_not_resolved_for_anybody():
    verdict = judge_question(OPEN, "metadata.google.internal", RESOLVERS, DEFAULT_BLOCKLIST)
    assert verdict == Verdict(False, "blocklist: metadata.google.internal")


# ---- 11.3: exact messages


@pytest.mark.parametrize(
    "entry",
    [
        *(
            "example.com",
            "*.example.com",
            "*",
            "0.0.0.0",
            "::",
            "",
            " ",
            "1.2.3",
            "1.2.3.4.5",
            "256.1.1.1",
            "1.1.1.1/33",
        ),
        *(
            "1.1.1.1/-1",
            "1.1.1.1/",
            "1.1.1.1/255.255.255.0",
            "1.1.1.1:80",
            "[::1]",
            "fe80::1%eth0",
            "01.1.1.1",
            "::/129",
        ),
        *(
            "0.0.0.0/32",
            "::/128",
            "::ffff:0.0.0.0",
            "64:ff9b::/96",
            "2002::/16",
            "::ffff:0:0/96",
            "１.1.1.1",
            "1.1.1.1 ",
        ),
    ],
)
def test_a_bad_denied_entry(entry):
    assert refusal(deny_out=[entry]) == f"invalid denied CIDR {entry}"


@pytest.mark.parametrize(
    "entry",
    [
        *("", " ", "http://example.com", "example.com/", "example.com:443", "exa mple.com", "-a.example", "a..example"),
        *(".", "..", ".example.com", "*.", "*.*", "**", "a*.example", "*example.com", "a.*", "1.2.3", "1.1.1.1/33"),
        *("127.1", "0x7f000001", "1.1.1.1:80", "a.0x10", "fe80::1%1", "a" * 64, f"{'a.' * 127}a", "exa\x00mple.com"),
        *("64:ff9b::/96", "1.1.1.1/255.0.0.0", "\ud800.example", "a" * 100_000, "ü" * 5000),
    ],
)
def test_an_unusable_allowed_entry(entry):
    assert refusal(allow_out=[entry], deny_out=[ALL]) == f"invalid allowed address {entry[:256]}"


@pytest.mark.parametrize(
    "deny", [[], ["203.0.113.0/24"], ["::/0"], ["0.0.0.0/1", "128.0.0.0/1"]], ids=["none", "other", "v6", "halves"]
)
@pytest.mark.parametrize("name", ["example.com", "*.example.com", "*"])
def test_a_domain_needs_all_other_traffic_denied(name, deny):
    assert refusal(allow_out=[name], deny_out=deny) == NEEDS_DENY_ALL


@pytest.mark.parametrize("word", [ALL, "ALL_TRAFFIC"])
def test_which_either_word_does(word):
    assert given("example.com", deny=(word,)).denies_all


def test_all_traffic_may_be_allowed():
    assert given(ALL).allow_networks == (ipaddress.ip_network(ALL),)


@pytest.mark.parametrize("name", ["allow_out", "deny_out"])
@pytest.mark.parametrize("value", ["1.1.1.1", [1], [None], {"a": 1}, 5, True, [["1.1.1.1"]]])
def test_a_list_is_a_list_of_strings(name, value):
    assert refusal(**{name: value}) == f"{name} is not a list of strings"


@pytest.mark.parametrize("name", ["allow_out", "deny_out"])
def test_a_list_is_bounded(name):
    entries = [f"203.0.{number // 256}.{number % 256}" for number in range(MAX_ENTRIES + 1)]
    assert refusal(**{name: entries}) == f"{name} has more than {MAX_ENTRIES} entries"
    parse({name: entries[:-1]})


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({f"{n}.example": [] for n in range(11)}, "Network rules can have at most 10 domains."),
        *(
            ({key: []}, f'Rule domain "{key}" is not a valid domain name.')
            for key in ("*.example.com", "*", "", "1.1.1.1", "a b", "a/b", "-a.b", "http://a.b")
        ),
        (
            {"a.example": [{"transform": {"headers": {"x": "1"}}}, {"transform": {"headers": {"y": "1"}}}]},
            'Rule domain "a.example" has more than one transform.',
        ),
        (
            {"a.example": [{"transform": {"headers": {f"x{n}": "1" for n in range(21)}}}]},
            "Network transform can have at most 20 headers.",
        ),
        (
            {
                "A.example": [{"transform": {"headers": {"x": "1"}}}],
                "a.example": [{"transform": {"headers": {"x": "2"}}}],
            },
            "rules names a domain twice",
        ),
        (
            {"a.example": [{"transform": {"headers": {"x": "1", "X": "2"}}}]},
            'The headers for "a.example" name one twice.',
        ),
        ([], "rules is an object of domain names"),
        ("a.example", "rules is an object of domain names"),
        ({"a.example": {}}, 'The rules of "a.example" are not a list of objects.'),
        ({"a.example": ["x"]}, 'The rules of "a.example" are not a list of objects.'),
        (
            {"a.example": [{"transform": {"headers": {"x": 1}}}]},
            'The headers for "a.example" are not an object of strings.',
        ),
        ({"a.example": [{"transform": "x"}]}, 'The headers for "a.example" are not an object of strings.'),
    ],
)
def test_rules_that_cannot_be(rules, message):
    assert refusal(rules=rules) == message


def test_a_rule_for_a_name_of_more_than_128_letters_is_not_a_name():
    name = ".".join(["a" * 60, "b" * 60, "c" * 7])
    assert len(name) == 129
    assert refusal(rules={name: []}) == f'Rule domain "{name[:128]}" is not a valid domain name.'
    parse({"rules": {name[1:]: []}})


MALFORMED = "Network transform header contains a malformed E2B placeholder."
MALFORMED_OURS = "Network transform header contains a malformed Atoll placeholder."
NO_IDENTITY = (
    'Network transform header "x" refers to an identity token; this installation gives sandboxes no identity. '
    "Use a secret: ${e2b.secrets.NAME}."
)


@pytest.mark.parametrize(
    ("header", "value", "message"),
    [
        ("x" * 65, "1", f'Network transform header name "{"x" * 64}" is not valid.'),
        ("", "1", 'Network transform header name "" is not valid.'),
        ("x y", "1", 'Network transform header name "x y" is not valid.'),
        ("x:", "1", 'Network transform header name "x:" is not valid.'),
        ("x\r\ny", "1", 'Network transform header name "x\r\ny" is not valid.'),
        ("x", "1" * 2049, 'Network transform header "x" has a value that is not valid.'),
        ("x", "a\r\nb: c", 'Network transform header "x" has a value that is not valid.'),
        ("x", "\x00", 'Network transform header "x" has a value that is not valid.'),
        ("x", "\ud800", 'Network transform header "x" has a value that is not valid.'),
        ("x", "ü" * 1025, 'Network transform header "x" has a value that is not valid.'),
        ("x", "${e2b.secrets.}", MALFORMED),
        ("x", "${e2b.secrets.a", MALFORMED),
        ("x", "${e2b.other.a}", MALFORMED),
        ("x", "${e2b.secrets.a}${e2b.secrets.b c}", MALFORMED),
        ("x", "${e2b.identity.tokens.}", MALFORMED),
        ("x", f"${{e2b.secrets.{'a' * 129}}}", MALFORMED),
        ("x", "${atoll.secrets.a b}", MALFORMED_OURS),
        ("x", "${atoll.identity.tokens.a}", MALFORMED_OURS),
        ("x", "${e2b.identity.tokens.key}", NO_IDENTITY),
        *((name.title(), "1", f'Network transform header "{name.title()}" cannot be set: it frames the request.')
          for name in sorted(UNSETTABLE)),
    ],
)  # fmt: skip
def test_headers_that_cannot_be_set(header, value, message):
    assert refusal(rules={"a.example": [{"transform": {"headers": {header: value}}}]}) == message


def test_rules_are_kept_by_normal_name_and_those_without_headers_are_none():
    headers = {"Authorization": "Bearer é", "x" * 64: "1" * 2048}
    policy = parse(
        {"rules": {"API.Example.": [{"transform": {"headers": headers}}], "b.example": [], "c.example": [{}]}}
    )
    assert policy.transforms == (Transform("api.example", tuple(headers.items())),)
    assert policy.reads_names
    assert "Bearer" not in repr(policy)


PROXY = "Invalid egress proxy config: "


@pytest.mark.parametrize(
    ("proxy", "why"),
    [
        ("proxy.example:1080", "it is an object with an address"),
        ({}, "the address is not host:port"),
        ({"address": 5}, "the address is not host:port"),
        ({"address": "proxy.example"}, "the address is not host:port"),
        ({"address": ":1080"}, "the address is not host:port"),
        ({"address": "a b:1080"}, "the address is not host:port"),
        ({"address": "*.example:1080"}, "the address is not host:port"),
        ({"address": "*:1080"}, "the address is not host:port"),
        ({"address": "203.0.113.0/24:1080"}, "the address is not host:port"),
        ({"address": "2001:db8::1:1080"}, "the address is not host:port"),
        ({"address": "[203.0.113.1]:1080"}, "the address is not host:port"),
        ({"address": "[proxy.example]:1080"}, "the address is not host:port"),
        ({"address": "socks5://proxy.example:1080"}, "the address is not host:port"),
        *(
            ({"address": f"proxy.example:{port}"}, "the port is not a number from 1 to 65535")
            for port in ("", "0", "65536", "-1", "x", "１", "1 ", "000001")
        ),
        ({"address": "a.b:1", "password": "p"}, "a password needs a username"),
        ({"address": "a.b:1", "username": "u" * 256}, "username is a text of up to 255 bytes"),
        ({"address": "a.b:1", "username": "ü" * 128}, "username is a text of up to 255 bytes"),
        ({"address": "a.b:1", "username": "\ud800"}, "username is a text of up to 255 bytes"),
        ({"address": "a.b:1", "username": 5}, "username is a text of up to 255 bytes"),
        ({"address": "a.b:1", "username": "u", "password": "p" * 256}, "password is a text of up to 255 bytes"),
        ({"address": "a.b:1", "tls": {"ca_cert": "x" * (MAX_CA + 1)}}, f"ca_cert is a text of up to {MAX_CA} bytes"),
        ({"address": "a.b:1", "tls": "yes"}, "tls is an object, and enabled is true or false"),
        ({"address": "a.b:1", "tls": {"enabled": "true"}}, "tls is an object, and enabled is true or false"),
    ],
)
def test_a_proxy_that_cannot_be(proxy, why):
    assert refusal(egress_proxy=proxy) == PROXY + why


@pytest.mark.parametrize(
    ("address", "host", "again"),
    [
        ("Proxy.Example.:1080", "proxy.example", "proxy.example:1080"),
        ("bücher.example:1080", "xn--bcher-kva.example", "xn--bcher-kva.example:1080"),
        ("203.0.113.1:1080", "203.0.113.1", "203.0.113.1:1080"),
        ("[2001:DB8::1]:1080", "2001:db8::1", "[2001:db8::1]:1080"),
        ("[::ffff:203.0.113.1]:1080", "203.0.113.1", "203.0.113.1:1080"),
    ],
)
def test_the_address_of_a_proxy(address, host, again):
    proxy = parse({"egress_proxy": {"address": address}}).proxy
    assert proxy == EgressProxy(host, 1080)
    assert proxy.address == again


@pytest.mark.parametrize(
    "servers", ["8.8.8.8", [8], ["::1"], ["example.com"], ["8.8.8.8/32"], ["08.8.8.8"], [None], [{}], ["8.8.8.8"] * 11]
)
def test_dns_servers_that_cannot_be(servers):
    message = refusal(dns_servers=servers)
    assert message.startswith(("invalid DNS server ", "dns_servers is a list of up to 10 IPv4 addresses"))


@pytest.mark.parametrize(
    ("value", "expected"), [(None, None), ([], ()), (["8.8.8.8", "1.1.1.1", "8.8.8.8"], ("8.8.8.8", "1.1.1.1"))]
)
def test_dns_servers(value, expected):
    assert parse({"dns_servers": value}).dns_servers == expected


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dns", "shut", "dns is 'auto' or 'open'"),
        ("dns", [], "dns is 'auto' or 'open'"),
        ("ech", True, "ech is 'outer' or 'refuse'"),
        ("inspect", "yes", "inspect is true or false"),
        ("inspect", 1, "inspect is true or false"),
    ],
)
def test_a_choice_that_is_none(field, value, message):
    assert refusal(**{field: value}) == message


def test_each_refusal_names_its_field():
    for field, value in (("allow_out", [""]), ("deny_out", [""]), ("rules", 1), ("egress_proxy", 1), ("dns", 1)):
        with pytest.raises(InvalidInput) as raised:
            parse({field: value})
        assert raised.value.details["field"] == field


# ---- what comes back

EVERYTHING = {
    "allow_out": ["1.1.1.1", "203.0.113.0/24", "2001:db8::/32", "example.com", "*.example.com"],
    "deny_out": ["0.0.0.0/0", "::/0"],
    "rules": {"api.example.com": [{"transform": {"headers": {"Authorization": "Bearer s3cret"}}}]},
    "dns": "open",
    "ech": "refuse",
    "inspect": True,
    "egress_proxy": {
        "address": "proxy.example:1080",
        "username": "u",
        "password": "s3cret-p",
        "tls": {"enabled": True, "server_name": "proxy", "ca_cert": "s3cret-ca"},
    },
    "dns_servers": ["9.9.9.9"],
}


def test_everything_is_read():
    policy = parse(EVERYTHING)
    assert (policy.dns, policy.ech, policy.inspect, policy.dns_servers) == (Dns.OPEN, Ech.REFUSE, True, ("9.9.9.9",))
    assert policy.proxy == EgressProxy("proxy.example", 1080, "u", "s3cret-p", True, "proxy", "s3cret-ca")


def test_it_comes_back_as_it_was_given_without_the_proxys_secrets():
    form = given_form(parse(EVERYTHING))
    shown = EVERYTHING["egress_proxy"] | {"tls": {"enabled": True, "server_name": "proxy"}}
    shown.pop("password")
    assert form == EVERYTHING | {"egress_proxy": shown}


@pytest.mark.parametrize("policy", [OPEN, CLOSED, parse(EVERYTHING), given(access=False, dns_servers=[])])
def test_a_policy_survives_its_wire_form(policy):
    assert from_wire(json.loads(json.dumps(to_wire(policy)))) == policy


def test_nothing_given_is_an_open_policy():
    assert parse({}) == parse(dict.fromkeys(EVERYTHING)) == OPEN
    assert given_form(OPEN) == {}


def test_secrets_are_not_in_the_representation():
    assert "s3cret" not in repr(parse(EVERYTHING))
