"""What a sandbox may reach, as its creator says it, and the verdict on one destination. Pure.

A policy is checked once, when it is given (`parse`); from then on it is data. `judge` is the whole rule: the kernel's
sets, the proxy and the resolver are made from the same fields and are compared with it in tests.

Order: never reachable, then the operator's block list, then allow, then deny, then allowed. `0.0.0.0/0` means every
destination, IPv6 too. An IPv6 address that carries an IPv4 one is judged as that one, and denied as itself too.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from .blocklist import NOTHING_BLOCKED, BlockList
from .errors import InvalidInput
from .names import Pattern, normal, parse_pattern, patterns_of
from .prefixes import Prefixes
from .reach import NEVER_REACHABLE, Address, Network, is_never_reachable, parse_network, plain
from .secrets import SecretValue, by_name, check_references, check_uses, filled, references

ALL_TRAFFIC = "0.0.0.0/0"
EVERYWHERE = ipaddress.ip_network(ALL_TRAFFIC)
DEFAULT_DNS = ("8.8.8.8", "1.1.1.1")
"""What a sandbox sees that names no servers of its own; who is asked for it is the installation's choice."""
MAX_ENTRIES = 1000
"""Of one list; a policy is copied into the kernel and into each answer about its sandbox."""
MAX_DNS_SERVERS = 10
MAX_RULE_DOMAINS, MAX_RULE_DOMAIN, MAX_HEADERS, MAX_HEADER_NAME, MAX_HEADER_VALUE = 10, 128, 20, 64, 2048
MAX_PROXY_TEXT, MAX_CA = 255, 64 * 1024

Wire = dict[str, Any]  # Any: JSON values


class Dns(StrEnum):
    AUTO = "auto"
    """With allowed names, these names."""
    OPEN = "open"
    """With allowed names, every name, so that address rules on other ports can be used by name."""


class Ech(StrEnum):
    OUTER = "outer"
    """A hello with an encrypted inner name is judged by its outer one, to whose servers it goes."""
    REFUSE = "refuse"


@dataclass(frozen=True)
class EgressProxy:
    """A SOCKS5 server that carries all TCP of a sandbox."""

    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    server_name: str = ""
    ca_cert: str = field(default="", repr=False)

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Transform:
    """What is done to the headers of each request for one name."""

    name: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    """Those that are set."""
    swaps: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Placeholders of the sandbox's own, and the values that they stand for here."""
    missing: tuple[str, ...] = ()
    """Secrets that the headers refer to and that may not go there, or are not there: no request leaves."""


@dataclass(frozen=True)
class Policy:
    internet_access: bool = True
    """False is as good as `0.0.0.0/0` in `deny_out`."""
    allow_networks: tuple[Network, ...] = ()
    allow_names: tuple[Pattern, ...] = ()
    deny_networks: tuple[Network, ...] = ()
    dns: Dns = Dns.AUTO
    dns_servers: tuple[str, ...] | None = None
    """What the sandbox sees and who is asked for it; None: the installation's. Empty: nobody."""
    ech: Ech = Ech.OUTER
    inspect: bool = False
    """Names are read on 80 and 443 although no rule needs them, for the log."""
    transforms: tuple[Transform, ...] = ()
    """As given: what they say of secrets is a reference. `treatments` is what is done."""
    secrets: tuple[SecretValue, ...] = ()
    """By name. Only on the way to the egress daemon and there."""
    proxy: EgressProxy | None = None
    allow_order: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """The allowed entries as they were given, which no verdict depends on: callers get them back like that."""

    @property
    def resolvers(self) -> tuple[str, ...]:
        """Those that the sandbox sees."""
        return DEFAULT_DNS if self.dns_servers is None else self.dns_servers

    @property
    def denies_all(self) -> bool:
        return not self.internet_access or EVERYWHERE in self.deny_networks

    @property
    def reads_names(self) -> bool:
        """Whether connections to 80 and 443 that no address rule allows have to show a name first."""
        return bool(self.allow_names or self.treatments or self.inspect)

    @cached_property
    def treatments(self) -> Mapping[str, Transform]:
        """By name: what is done to requests for it. Their TLS ends in the daemon. By pattern, too, where a secret's
        host is one: `treatment` knows what that means for a name."""
        hosts = (host for secret in self.secrets if secret.placeholders for host in secret.hosts)
        given = {each.name: each.headers for each in self.transforms}
        return {name: _treatment(name, given.get(name, ()), self.secrets) for name in dict.fromkeys((*given, *hosts))}

    def treatment(self, name: str) -> Transform | None:
        """What is done to requests for that name, which is in its normal form."""
        if (found := self.treatments.get(name)) is not None:
            return found
        covered = any(pattern in self.treatments for pattern in patterns_of(name))
        return _treatment(name, (), self.secrets) if covered else None

    @cached_property
    def allowed_prefixes(self) -> Prefixes:
        return Prefixes(self.allow_networks, EVERYWHERE)

    @cached_property
    def denied_prefixes(self) -> Prefixes:
        return Prefixes(self.deny_networks, EVERYWHERE)

    @cached_property
    def places_of_names(self) -> Mapping[Pattern, int]:
        return {pattern: place for place, pattern in reversed(list(enumerate(self.allow_names)))}


OPEN = Policy()
CLOSED = Policy(internet_access=False)


# ---- the verdict


@dataclass(frozen=True)
class Verdict:
    allowed: bool
    rule: str
    """Which one, as the log shows it: `allow_out: *.example.com`, `never: link-local and metadata`."""


NAMED_PORTS = {("tcp", 80): "http", ("tcp", 443): "tls"}
"""Where a connection says a name that can be read."""
DEFAULT_VERDICT = Verdict(True, "default")


def judge(
    policy: Policy,
    address: Address,
    protocol: str,
    port: int,
    name: str | None = None,
    opened: Sequence[Network] = (),
    blocked: BlockList = NOTHING_BLOCKED,
) -> Verdict:
    """`name`: what was read on a port of `NAMED_PORTS`; without one the address alone counts."""
    carried = plain(address)
    return (
        _never(carried, opened)
        or _blocked(blocked, address, protocol, port, name)
        or _allowed_address(policy, carried)
        or (judge_name(policy, name) if name is not None and (protocol, port) in NAMED_PORTS else None)
        or _denied(policy, carried)
        or _denied(policy, address)
        or DEFAULT_VERDICT
    )


def judge_name(policy: Policy, name: str) -> Verdict | None:
    """What the allow list says of a name; None when it says nothing."""
    places = policy.places_of_names
    found = min((each for each in patterns_of(name) if each in places), key=places.__getitem__, default=None)
    return Verdict(True, f"allow_out: {found}") if found is not None else None


def judge_question(
    policy: Policy, name: str, resolvers: Sequence[str], blocked: BlockList = NOTHING_BLOCKED
) -> Verdict:
    """Whether a name is resolved for a sandbox whose resolvers these are."""
    if (entry := blocked.name(name)) is not None:
        return Verdict(False, f"blocklist: {entry}")
    if not policy.denies_all:
        return DEFAULT_VERDICT
    if not resolvers:
        return Verdict(False, "dns_servers: none")
    if opener := _opens_dns(policy, resolvers):
        return Verdict(True, f"allow_out: {opener}")
    if policy.allow_names and policy.dns is Dns.OPEN:
        return Verdict(True, "dns: open")
    return judge_name(policy, name) or denied_all(policy)


def _never(address: Address, opened: Sequence[Network]) -> Verdict | None:
    if not is_never_reachable(address, opened):
        return None
    what = next((each.what for each in NEVER_REACHABLE if address in each.network), "not public")
    return Verdict(False, f"never: {what}")


def _blocked(blocked: BlockList, address: Address, protocol: str, port: int, name: str | None) -> Verdict | None:
    entry = blocked.destination(address, protocol, port)
    if entry is None and name is not None:
        entry = blocked.name(name)
    return Verdict(False, f"blocklist: {entry}") if entry is not None else None


def _allowed_address(policy: Policy, address: Address) -> Verdict | None:
    found = policy.allowed_prefixes.first(address)
    return Verdict(True, f"allow_out: {entry_text(found)}") if found is not None else None


def _denied(policy: Policy, address: Address) -> Verdict | None:
    if not policy.internet_access:
        return denied_all(policy)
    found = policy.denied_prefixes.first(address)
    return Verdict(False, f"deny_out: {entry_text(found)}") if found is not None else None


def denied_all(policy: Policy) -> Verdict:
    return Verdict(False, f"deny_out: {ALL_TRAFFIC}" if policy.internet_access else "internet_access: false")


def _opens_dns(policy: Policy, resolvers: Sequence[str]) -> str | None:
    for resolver in resolvers:
        found = policy.allowed_prefixes.first(ipaddress.ip_address(resolver))
        if found is not None:
            return entry_text(found)
    return None


def entry_text(network: Network) -> str:
    """As it was written, or nearly: one address has no prefix."""
    single = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if single else str(network)


# ---- reading what a caller gives


FIELDS = ("allow_out", "deny_out", "rules", "egress_proxy", "dns_servers", "dns", "ech", "inspect")


def parse(given: Mapping[str, Any], internet_access: bool = True) -> Policy:
    """`given` has our own field names (`FIELDS`; a dialect translates its own). Absent and None are the same; others
    are not looked at.

    Raises InvalidInput; the messages are those that clients match on.
    """
    allow_networks, allow_names, allow_order = _parse_allowed(_list(given, "allow_out"))
    deny_networks = _parse_denied(_list(given, "deny_out"))
    policy = Policy(
        internet_access=internet_access,
        allow_networks=allow_networks,
        allow_names=allow_names,
        allow_order=allow_order,
        deny_networks=deny_networks,
        dns=_choice(given, "dns", Dns, Dns.AUTO),
        dns_servers=_parse_dns_servers(given.get("dns_servers")),
        ech=_choice(given, "ech", Ech, Ech.OUTER),
        inspect=_flag(given, "inspect"),
        transforms=_parse_rules(given.get("rules")),
        proxy=_parse_proxy(given.get("egress_proxy")),
    )
    if policy.allow_names and not policy.denies_all:
        raise InvalidInput(
            "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny out to block all "
            "other traffic.",
            field="allow_out",
        )
    return policy


def to_wire(policy: Policy) -> Wire:
    """Everything, secrets too; `from_wire` reads it back. For the node's own keeping."""
    form = {"internet_access": policy.internet_access, **given_form(policy, secrets=True)}
    return with_secrets(form, policy.secrets)


def from_wire(data: Mapping[str, Any]) -> Policy:
    policy = parse(data, data.get("internet_access") is not False)
    return replace(policy, secrets=by_name(map(SecretValue.from_wire, data.get("secrets") or ())))


def with_secrets(form: Mapping[str, Any], values: Sequence[SecretValue]) -> Wire:
    """The form of `to_wire`, from one that has no values yet."""
    return {**form, "secrets": [each.to_wire() for each in by_name(values)]} if values else dict(form)


def referred(form: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Of a `given_form`: each secret that its rules refer to, and the names they are for."""
    found: dict[str, dict[str, None]] = {}
    for name, entries in form.get("rules", {}).items():
        for text in (value for entry in entries for value in entry["transform"]["headers"].values()):
            for secret in references(text):
                found.setdefault(secret, {})[name] = None
    return {secret: tuple(names) for secret, names in found.items()}


def _treatment(name: str, headers: Sequence[tuple[str, str]], secrets: Sequence[SecretValue]) -> Transform:
    here = {each.name: each for each in secrets if each.may_go_to(name)}
    wanted = dict.fromkeys(secret for _, text in headers for secret in references(text))
    if missing := tuple(secret for secret in wanted if secret not in here):
        return Transform(name, (), missing=missing)
    values = {secret: each.value for secret, each in here.items()}
    return Transform(
        name,
        tuple((header, filled(text, values)) for header, text in headers),
        tuple((word, each.value) for each in here.values() if each.is_for(name) for word in each.placeholders),
    )


def given_form(policy: Policy, secrets: bool = False) -> Wire:
    """As it was given, defaults left out. The proxy's password and certificate come back with `secrets` only."""
    form: Wire = {
        "allow_out": _in_order([*map(entry_text, policy.allow_networks), *policy.allow_names], policy.allow_order),
        "deny_out": [entry_text(network) for network in policy.deny_networks],
        "rules": {each.name: [{"transform": {"headers": dict(each.headers)}}] for each in policy.transforms},
        "dns": policy.dns.value if policy.dns is not Dns.AUTO else None,
        "ech": policy.ech.value if policy.ech is not Ech.OUTER else None,
        "inspect": policy.inspect,
        "egress_proxy": _proxy_form(policy.proxy) if policy.proxy else None,
    }
    form = {name: value for name, value in form.items() if value}
    if policy.dns_servers is not None:
        form["dns_servers"] = list(policy.dns_servers)
    return form if secrets else without_secrets(form)


def _in_order(entries: Sequence[str], order: Sequence[str]) -> list[str]:
    places = {entry: place for place, entry in enumerate(order)}
    return sorted(entries, key=lambda entry: places.get(entry, len(places)))


def without_secrets(form: Mapping[str, Any]) -> Wire:
    """Of a form with secrets, what a caller gets to see again."""
    shown = dict(form)
    if proxy := shown.get("egress_proxy"):
        shown["egress_proxy"] = {name: value for name, value in proxy.items() if name != "password"}
        if tls := proxy.get("tls"):
            shown["egress_proxy"]["tls"] = {name: value for name, value in tls.items() if name != "ca_cert"}
    return shown


def has_way_out(internet_access: bool, form: Mapping[str, Any]) -> bool:
    """Whether anything at all is allowed, by what `given_form` says."""
    denies_all = not internet_access or ALL_TRAFFIC in form.get("deny_out", ())
    return not denies_all or bool(form.get("allow_out"))


def fingerprint(wire: Mapping[str, Any]) -> str:
    """Tells two policies apart, in the form of `to_wire`. It is made of secrets too: not for anybody to see."""
    return hashlib.sha256(json.dumps(wire, sort_keys=True).encode()).hexdigest()[:32]


def _proxy_form(proxy: EgressProxy) -> Wire:
    form: Wire = {"address": proxy.address}
    if proxy.username:
        form["username"] = proxy.username
    if proxy.password:
        form["password"] = proxy.password
    if proxy.tls:
        form["tls"] = {"enabled": True, "server_name": proxy.server_name or None}
        if proxy.ca_cert:
            form["tls"]["ca_cert"] = proxy.ca_cert
    return form


def _list(given: Mapping[str, Any], name: str) -> list[str]:
    value = given.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise InvalidInput(f"{name} is not a list of strings", field=name)
    if len(value) > MAX_ENTRIES:
        raise InvalidInput(f"{name} has more than {MAX_ENTRIES} entries", field=name)
    return [ALL_TRAFFIC if entry == "ALL_TRAFFIC" else entry for entry in value]


def _parse_allowed(entries: Sequence[str]) -> tuple[tuple[Network, ...], tuple[Pattern, ...], tuple[str, ...]]:
    """Networks, names, and the texts of both in the order given."""
    networks: dict[Network, None] = {}
    names: dict[Pattern, None] = {}
    order: dict[str, None] = {}
    for entry in entries:
        if (network := parse_network(entry)) is not None:
            networks[network] = None
            text = entry_text(network)
        elif (pattern := parse_pattern(entry)) is not None:
            names[pattern] = None
            text = pattern
        else:
            raise InvalidInput(f"invalid allowed address {entry[:256]}", field="allow_out")
        order[text] = None
    return tuple(networks), tuple(names), tuple(order)


def _parse_denied(entries: Sequence[str]) -> tuple[Network, ...]:
    networks: dict[Network, None] = {}
    for entry in entries:
        network = parse_network(entry)
        if network is None or (network.prefixlen == network.max_prefixlen and int(network.network_address) == 0):
            raise InvalidInput(f"invalid denied CIDR {entry[:256]}", field="deny_out")
        networks[network] = None
    return tuple(networks)


def _choice(given: Mapping[str, Any], name: str, kind: type[StrEnum], default: Any) -> Any:  # Any: a member of `kind`
    value = given.get(name)
    if value is None:
        return default
    try:
        return kind(value)
    except ValueError:
        words = " or ".join(repr(member.value) for member in kind)
        raise InvalidInput(f"{name} is {words}", field=name) from None


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name)
    if value is None or isinstance(value, bool):
        return value is True
    raise InvalidInput(f"{name} is true or false", field=name)


def _parse_dns_servers(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_DNS_SERVERS:
        raise InvalidInput(f"dns_servers is a list of up to {MAX_DNS_SERVERS} IPv4 addresses", field="dns_servers")
    return tuple(dict.fromkeys(_dns_server(entry) for entry in value))


def _dns_server(entry: Any) -> str:
    try:
        return str(ipaddress.IPv4Address(entry if isinstance(entry, str) else ""))
    except ValueError:
        raise InvalidInput(f"invalid DNS server {str(entry)[:64]}: an IPv4 address is", field="dns_servers") from None


# ---- header rules

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\ud7ff\ue000-\U0010ffff]*")
UNSETTABLE = {
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
"""Headers that say where a request ends or whom it is for."""


def _parse_rules(value: Any) -> tuple[Transform, ...]:
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise InvalidInput("rules is an object of domain names", field="rules")
    if len(value) > MAX_RULE_DOMAINS:
        raise InvalidInput(f"Network rules can have at most {MAX_RULE_DOMAINS} domains.", field="rules")
    found = (_transform(domain, entries) for domain, entries in value.items())
    transforms = tuple(each for each in found if each.headers)
    if len({each.name for each in transforms}) != len(transforms):
        raise InvalidInput("rules names a domain twice", field="rules")
    check_uses(text for each in transforms for _, text in each.headers)
    return transforms


def _transform(domain: Any, entries: Any) -> Transform:
    name = normal(domain) if isinstance(domain, str) and len(domain) <= MAX_RULE_DOMAIN else None
    if name is None:
        shown = str(domain)[:MAX_RULE_DOMAIN]
        raise InvalidInput(f'Rule domain "{shown}" is not a valid domain name.', field="rules")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidInput(f'The rules of "{name}" are not a list of objects.', field="rules")
    given = [entry["transform"] for entry in entries if entry.get("transform") is not None]
    if len(given) > 1:
        raise InvalidInput(f'Rule domain "{name}" has more than one transform.', field="rules")
    return Transform(name, _headers(name, given[0] if given else {}))


def _headers(name: str, transform: Any) -> tuple[tuple[str, str], ...]:
    headers = transform.get("headers") if isinstance(transform, dict) else transform
    if headers is None:
        return ()
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise InvalidInput(f'The headers for "{name}" are not an object of strings.', field="rules")
    if len(headers) > MAX_HEADERS:
        raise InvalidInput(f"Network transform can have at most {MAX_HEADERS} headers.", field="rules")
    for header, text in headers.items():
        _check_header(header, text)
    if len({header.lower() for header in headers}) != len(headers):
        raise InvalidInput(f'The headers for "{name}" name one twice.', field="rules")
    return tuple(headers.items())


def _check_header(header: str, text: str) -> None:
    if len(header) > MAX_HEADER_NAME or not _TOKEN.fullmatch(header):
        raise InvalidInput(f'Network transform header name "{header[:MAX_HEADER_NAME]}" is not valid.', field="rules")
    if header.lower() in UNSETTABLE:
        raise InvalidInput(f'Network transform header "{header}" cannot be set: it frames the request.', field="rules")
    if len(text.encode(errors="replace")) > MAX_HEADER_VALUE or not _VALUE.fullmatch(text):
        raise InvalidInput(f'Network transform header "{header}" has a value that is not valid.', field="rules")
    check_references(header, text)


# ---- the SOCKS5 server


def _parse_proxy(value: Any) -> EgressProxy | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _bad_proxy("it is an object with an address")
    host, port = _host_and_port(value.get("address"))
    username, password = _proxy_text(value, "username"), _proxy_text(value, "password")
    if password and not username:
        raise _bad_proxy("a password needs a username")
    tls = value.get("tls")
    tls = {} if tls is None else tls
    if not isinstance(tls, dict) or not isinstance(tls.get("enabled", False), bool | None):
        raise _bad_proxy("tls is an object, and enabled is true or false")
    server_name, ca_cert = _proxy_text(tls, "server_name"), _proxy_text(tls, "ca_cert", MAX_CA)
    if tls.get("enabled") is not True:
        return EgressProxy(host, port, username, password)
    return EgressProxy(host, port, username, password, True, server_name, ca_cert)


def _host_and_port(address: Any) -> tuple[str, int]:
    host, colon, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    network = parse_network(host) if "/" not in host else None
    name = str(network.network_address) if network is not None else normal(host)
    if not colon or bracketed != (":" in host) or name is None:
        raise _bad_proxy("the address is not host:port")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise _bad_proxy("the port is not a number from 1 to 65535")
    return name, int(port)


def _proxy_text(value: Mapping[str, Any], name: str, longest: int = MAX_PROXY_TEXT) -> str:
    text = value.get(name)
    if text is None:
        return ""
    if not isinstance(text, str) or not _is_text(text) or len(text.encode()) > longest:
        raise _bad_proxy(f"{name} is a text of up to {longest} bytes")
    return text


def _is_text(text: str) -> bool:
    """JSON can write half of a surrogate pair."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _bad_proxy(why: str) -> InvalidInput:
    return InvalidInput(f"Invalid egress proxy config: {why}", field="egress_proxy")
