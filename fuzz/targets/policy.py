"""Policies of all shapes: `parse` says InvalidInput and nothing else, what it takes survives its wire form, and `judge`
says what a plain reading of the rules says."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from typing import Any  # JSON values

from atoll.core.blocklist import DEFAULT_BLOCKLIST
from atoll.core.errors import InvalidInput
from atoll.core.names import normal
from atoll.core.packet_policy import Fate, KernelPolicy, compile_policy
from atoll.core.policy import (
    Policy,
    fingerprint,
    from_wire,
    given_form,
    has_way_out,
    judge,
    judge_question,
    parse,
    referred,
    to_wire,
    with_secrets,
)
from atoll.core.reach import EMBEDDINGS, is_never_reachable, plain
from atoll.core.secrets import SecretValue
from fuzz.source import Source

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

ENTRIES = (
    *("0.0.0.0/0", "ALL_TRAFFIC", "::/0", "0.0.0.0", "::"),
    *("203.0.113.7", "203.0.113.0/24", "203.0.113.200/25", "8.8.8.8"),
    *("2001:db8::1", "2001:db8::/32", "2000::/3", "10.0.0.0/8", "169.254.169.254", "fc00::/7", "::ffff:203.0.113.7"),
    *("::ffff:0:0/96", "::ffff:203.0.113.0/121", "64:ff9b::cb00:7107"),
    *("64:ff9b::/95", "2002:cb00:7107::/48", "2002::/15"),
    *("1.2.3.4/33", "1.2.3.4/0", "128.0.0.0/1", "example.com", "*.example.com", "*", "*.com", "EXAMPLE.com.", "127.1"),
    *("bücher.example", "a..b", "http://example.com", "", " ", "a" * 64, "\ud800"),
)  # fmt: skip
MINING = "pool.minexmr.com"
NAMES = (
    None,
    "example.com",
    "www.example.com",
    "a.b.example.com",
    "notexample.com",
    "xn--bcher-kva.example",
    MINING,
)
ADDRESSES = (
    *("203.0.113.7", "203.0.113.8", "203.0.113.128", "8.8.8.8"),
    *("127.0.0.1", "10.0.0.1", "169.254.169.254", "100.96.0.1"),
    *("192.168.1.1", "172.31.0.1", "2001:db8::1", "2001:db9::1"),
    *("::1", "fe80::1", "fd00:ec2::254", "::ffff:203.0.113.7"),
    *("::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::cb00:7107", "2002:cb00:7107::1"),
    *("2002:7f00:1::1", "0.0.0.0", "::"),
)  # fmt: skip
HEADERS = ("x-key", "Host", "Authorization", "x y", "", "X-Key")
VALUES = ("1", "Bearer s", "a\r\nb", "${e2b.secrets.a}", "${e2b.", "\ud800", "é")
DOMAINS = ("api.example.com", "*.example.com", "API.example.com", "", "1.1.1.1", "a" * 129)
HOSTS = (
    "proxy.example:1080",
    "203.0.113.1:1080",
    "[2001:db8::1]:1080",
    "bücher.example:1",
    "a:0",
    "a",
    ":1",
    "[a]:1",
    "a:x",
)
ALWAYS_DENIED = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
        *("::1", "fc00::/7", "fe80::/10"),
    )
)
"""As the page has them, not as our table does."""


def check(data: bytes) -> None:
    source = Source(data)
    given = policy_given(source)
    internet_access = source.flag()
    policy = parsed(given, internet_access)
    if policy is None:
        return
    survives(policy)
    kernel = KernelPolicy.from_wire(json.loads(json.dumps(compile_policy(policy).to_wire())))
    assert kernel == compile_policy(policy)
    for _ in range(2):
        address, name = an_address(source, policy), source.pick(NAMES)
        protocol, port = source.pick(("tcp", "tcp", "udp", "icmp")), source.pick((80, 443, 22, 25, 53))
        keeps_its_promises(policy, address, protocol, port, name)
        assert judge(policy, address, protocol, port, name).allowed == plain_reading(
            given, internet_access, address, protocol, port, name
        )
        the_kernel_agrees(policy, kernel, address, protocol, port, name)
    answers_questions(policy)


def parsed(given: Mapping[str, Any], internet_access: bool) -> Policy | None:
    try:
        return parse(given, internet_access)
    except InvalidInput as error:
        assert 0 < len(error.message) < 1000
        json.dumps(error.details)
        return None


def survives(policy: Policy) -> None:
    wire = json.loads(json.dumps(to_wire(policy)))
    assert from_wire(wire) == policy
    assert fingerprint(wire) == fingerprint(to_wire(policy))
    shown = given_form(policy)
    assert has_way_out(policy.internet_access, shown) or not (policy.allow_networks or policy.allow_names)
    if policy.proxy is not None:
        assert not shown["egress_proxy"].keys() & {"password", "ca_cert"}
        assert "ca_cert" not in shown["egress_proxy"].get("tls", {})
        policy.proxy.username.encode(), policy.proxy.password.encode(), policy.proxy.host.encode("ascii")
    whole = with_secrets(wire, [SecretValue(name, "${e2b.secrets.a}") for name in referred(shown)])
    assert to_wire(from_wire(whole)) == whole
    assert not any(each.missing for each in from_wire(whole).treatments.values())
    for transform in policy.transforms:
        assert normal(transform.name) == transform.name
        for name, value in transform.headers:
            name.encode("ascii"), value.encode()
            assert not set(value) & {"\r", "\n", "\0"}


def keeps_its_promises(policy: Policy, address: Address, protocol: str, port: int, name: str | None) -> None:
    verdict = judge(policy, address, protocol, port, name)
    assert verdict.rule
    assert not verdict.allowed or has_way_out(policy.internet_access, given_form(policy))
    carried = plain(address)
    if any(carried in network for network in ALWAYS_DENIED):
        assert not verdict.allowed
    if carried != address and verdict.allowed:
        assert judge(policy, carried, protocol, port, name).allowed
    for embedding in EMBEDDINGS if isinstance(address, ipaddress.IPv4Address) else ():
        carrier = embedding.around(ipaddress.IPv4Network(address)).network_address
        if judge(policy, carrier, protocol, port, name) != verdict:
            assert any(carrier in network for network in policy.deny_networks)
    blocked = judge(policy, address, protocol, port, name, blocked=DEFAULT_BLOCKLIST)
    abused = (protocol, port) == ("tcp", 25) or name == MINING
    assert blocked.allowed == (verdict.allowed and not abused)


def the_kernel_agrees(
    policy: Policy, kernel: KernelPolicy, address: Address, protocol: str, port: int, name: str | None
) -> None:
    """Where both have a say: what is never reachable is refused before these sets are asked."""
    if is_never_reachable(address):
        return
    by_address = judge(policy, address, protocol, port).allowed
    assert kernel.allows(address) == by_address
    fate = kernel.fate(address, protocol, port)
    if fate is Fate.DIRECT:
        assert by_address
        assert not (policy.proxy and protocol == "tcp")
    if fate is Fate.DENY:
        assert not by_address
        ipv4 = isinstance(address, ipaddress.IPv4Address)
        assert not (ipv4 and judge(policy, address, protocol, port, name).allowed)


def plain_reading(
    given: Mapping[str, Any], internet_access: bool, address: Address, protocol: str, port: int, name: str | None
) -> bool:
    """The rules over the texts as they were given, in the plainest words."""
    if is_never_reachable(address):
        return False
    allow, deny = list(given.get("allow_out") or ()), list(given.get("deny_out") or ())
    if any(holds(entry, plain(address)) for entry in allow):
        return True
    if name is not None and protocol == "tcp" and port in (80, 443) and any(fits(entry, name) for entry in allow):
        return True
    return internet_access and not any(holds(entry, each) for entry in deny for each in (address, plain(address)))


def holds(entry: str, address: Address) -> bool:
    try:
        network = ipaddress.ip_network("0.0.0.0/0" if entry == "ALL_TRAFFIC" else entry, strict=False)
    except ValueError:
        return False
    if network == ipaddress.ip_network("0.0.0.0/0"):
        return True
    if isinstance(address, ipaddress.IPv6Address):
        return address in network
    carriers = [embedding.around(ipaddress.IPv4Network(address)) for embedding in EMBEDDINGS]
    narrow = isinstance(network, ipaddress.IPv6Network) and any(network.subnet_of(each.prefix) for each in EMBEDDINGS)
    return address in network or (narrow and any(network.overlaps(carrier) for carrier in carriers))


def fits(entry: str, name: str) -> bool:
    try:
        plain_entry = entry.encode("idna").decode().lower().rstrip(".")
    except UnicodeError:
        return False
    return plain_entry in ("*", name) or (plain_entry.startswith("*.") and name.endswith(plain_entry[1:]))


def answers_questions(policy: Policy) -> None:
    for name in NAMES:
        if name is not None:
            verdict = judge_question(policy, name, policy.resolvers, DEFAULT_BLOCKLIST)
            assert verdict.rule
            if DEFAULT_BLOCKLIST.name(name):
                assert not verdict.allowed
            elif not policy.denies_all:
                assert verdict.allowed


# ---- out of bytes


def policy_given(source: Source) -> dict[str, Any]:
    makers = {
        "allow_out": lambda: source.many(lambda: a_text(source, ENTRIES)),
        "deny_out": lambda: source.many(lambda: a_text(source, ENTRIES)),
        "rules": lambda: {
            a_text(source, DOMAINS): source.many(lambda: a_rule(source), 2) for _ in range(source.number() % 3)
        },
        "egress_proxy": lambda: a_proxy(source),
        "dns_servers": lambda: source.many(lambda: a_text(source, ("8.8.8.8", "1.1.1.1", "::1", "x")), 3),
        "dns": lambda: source.pick(("auto", "open", "x", 1)),
        "ech": lambda: source.pick(("outer", "refuse", "x", [])),
        "inspect": lambda: source.pick((True, False, 1, "x")),
    }
    wanted = source.number()
    chosen = [name for at, name in enumerate(makers) if wanted >> at & 1]
    return {name: odd(source) if source.number() == 255 else makers[name]() for name in chosen}


def odd(source: Source) -> Any:
    return source.pick((None, 5, "x", [5], {"a": 5}, True, [[]], {}, [None]))


def a_text(source: Source, known: tuple[str, ...]) -> str:
    choice = source.number()
    return source.text() if choice >= 224 else known[choice % len(known)]


def a_rule(source: Source) -> Any:
    if source.number() == 255:
        return odd(source)
    headers = {a_text(source, HEADERS): a_text(source, VALUES) for _ in range(source.number() % 4)}
    return source.pick(({"transform": {"headers": headers}}, {"transform": headers}, {}, {"transform": None}))


def a_proxy(source: Source) -> dict[str, Any]:
    tls = {"enabled": source.pick((True, False, None, "x")), "server_name": a_text(source, ("a", "")), "ca_cert": "c"}
    given: dict[str, Any] = {
        "address": a_text(source, HOSTS),
        "username": a_text(source, ("u", "")),
        "password": a_text(source, ("p", "")),
    }
    given["tls"] = tls if source.flag() else source.pick((None, {}, "x", 5))
    return given


def an_address(source: Source, policy: Policy) -> Address:
    """At the edges of what the lists have, just beyond them, or anywhere."""
    networks = policy.allow_networks + policy.deny_networks
    choice = source.number()
    if networks and choice < 96:
        network = source.pick(networks)
        edge = source.pick((network.network_address, network.broadcast_address))
        number = int(edge) + source.pick((0, 1, -1))
        return type(edge)(min(max(number, 0), 2**network.max_prefixlen - 1))
    if choice < 128:
        return ipaddress.IPv4Address(source.number(4))
    if choice < 160:
        return ipaddress.IPv6Address(source.number(16))
    return ipaddress.ip_address(source.pick(ADDRESSES))
