"""The packet filter's rules as text for `nft`. Pure.

Two tables, each loaded in one transaction that replaces what was there before:

- `egress` in the fabric decides for each sandbox. A *pass* lets one out: while link, address and mark stand in `passes`
  and `flows`, its new connections get the mark, and packets of both directions pass when link, sandbox's address
  and mark belong together. So nobody speaks for another, and taking a pass back ends all its connections at once:
  the next sandbox on the same address has another mark and inherits nothing. What a sandbox's policy says of a new
  connection is in the chain that `verdicts` leads to by its link (`policy_rules.py`); a link that is not there is
  refused. `diverts` leads to the chain that says what goes to the proxy. A mark in `rejudged` is that of a sandbox
  whose policy was replaced just now: every packet of it is judged as a new connection is, until those that are
  forbidden are cut.
  Nearly all packets belong to open connections: they take the few rules of `known`, since each rule is paid per packet.
- `atoll-INSTALLATION` where the uplink leads (the host, or a named namespace) lets the fabric out through one interface
  and nothing in, and is the second place that refuses what is never reachable.

IP options are dropped: by a source route a packet names another destination than the one that is judged.
Refused means answered: a reset for TCP, "administratively prohibited" for the rest; and told of, as often as each
sandbox may. What comes to the fabric itself is the proxy's and the resolver's, which the kernel translates to them;
they dial out as nobody, without a mark, to nothing that is never reachable.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from atoll.core.packet_policy import LOG_GROUP, REFUSE_ALL, WEB_PORTS, Intervals, KernelPolicy, Refusal
from atoll.core.reach import Network, networks_v4, networks_v6
from atoll.core.uplink import DNS_PORT, PROXY_ADDRESS, PROXY_PORT

from .policy_rules import FAMILIES, REFUSE, Plan, Rule, plan

FABRIC_TABLE = "egress"
PASSES, FLOWS, PASSES6, FLOWS6 = "passes", "flows", "passes6", "flows6"
VERDICTS, DIVERTS, PUNISHED, REJUDGED = "verdicts", "diverts", "punished", "rejudged"
BLOCKED4, BLOCKED6, BLOCKED_PORTS = "blocked4", "blocked6", "blocked_ports"
INSIDE = "uplink0"
"""The fabric's end of the uplink."""

CONNECTIONS = 2048
"""Of one sandbox at a time, in any state that the kernel remembers; a UDP exchange counts for 30 s."""
PINGS, PINGS_OF_ONE = 1024, 32
"""Of all sandboxes together, and of one."""
IDLE_TCP_S = 3600
"""A connection that is silent for longer is forgotten: the kernel's own five days would let the dead add up."""
DNS_S = 5
"""Likewise for questions to our resolver."""
QUESTIONS_RATE, QUESTIONS_BURST = 1000, 2000
"""Packets to the resolver, of one sandbox per second: one UDP flow carries any number of questions."""
LOGGED_RATE, LOGGED_BURST = 100, 1000
"""Refused packets of one sandbox per second that are told of; the counters are exact."""
BARE_RESET = 80
"""Headers of TCP and IPv4 with all options: the other side hears of the end, and of nothing else."""
FORGOTTEN = "1m"
"""When a sandbox that was quiet is dropped from the sets that count."""


@dataclass(frozen=True)
class Limits:
    """Of one sandbox; 0 is no limit."""

    rate: int = 100
    """New connections per second; after a pause up to `burst` at once."""
    burst: int = 500
    mbit: int = 0
    """Each direction."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Blocked:
    """The operator's block list, as far as packets show it."""

    intervals4: Intervals = ()
    intervals6: Intervals = ()
    ports: tuple[tuple[str, int], ...] = ()


NOTHING_BLOCKED = Blocked()


@dataclass(frozen=True)
class Pass:
    link: str
    address: str
    mark: int
    """Anew at each birth, never 0."""
    policy: KernelPolicy = REFUSE_ALL
    address6: str | None = None
    """No sandbox has one yet: without it, what it sends over IPv6 is dropped."""

    def key(self) -> str:
        return f'"{self.link}" . {self.address}'


@dataclass(frozen=True)
class FabricRules:
    """All that the fabric's table is made of."""

    passes: Sequence[Pass] = ()
    opened: Sequence[Network] = ()
    total: int = 65_536
    limits: Limits = DEFAULT_LIMITS
    blocked: Blocked = NOTHING_BLOCKED

    def text(self) -> str:
        plans = [plan_of(each) for each in self.passes]
        with6 = [each for each in self.passes if each.address6]
        return f"""\
table inet {FABRIC_TABLE}
delete table inet {FABRIC_TABLE}
table inet {FABRIC_TABLE} {{
  map {PASSES} {{
    type ifname . ipv4_addr : mark
    {_elements(f"{each.key()} : {each.mark}" for each in self.passes)}
  }}
  set {FLOWS} {{
    type ifname . ipv4_addr . mark
    {_elements(f"{each.key()} . {each.mark}" for each in self.passes)}
  }}
  map {PASSES6} {{
    type ifname . ipv6_addr : mark
    {_elements(f'"{each.link}" . {each.address6} : {each.mark}' for each in with6)}
  }}
  set {FLOWS6} {{
    type ifname . ipv6_addr . mark
    {_elements(f'"{each.link}" . {each.address6} . {each.mark}' for each in with6)}
  }}
  set counted {{
    type mark
    size 65535
    flags dynamic
  }}
  set pinging {{
    type mark
    size 65535
    flags dynamic
  }}
  set {PUNISHED} {{
    type mark
    size 65535
    flags timeout
  }}
  set {REJUDGED} {{
    type mark
    size 65535
    flags timeout
  }}
  {_counting("starts", "mark")}
  {_counting("questions", "ifname")}
  {_counting("told", "ifname")}
  {_counting("bytes_out", "ifname")}
  {_counting("bytes_in", "ifname")}
  {_intervals(BLOCKED4, "ipv4_addr", _shown(self.blocked.intervals4, ipaddress.IPv4Address))}
  {_intervals(BLOCKED6, "ipv6_addr", _shown(self.blocked.intervals6, ipaddress.IPv6Address))}
  set {BLOCKED_PORTS} {{
    type inet_proto . inet_service
    {_elements(f"{protocol} . {port}" for protocol, port in self.blocked.ports)}
  }}
  {_SHARDS}
  {_never(self.opened)}
  {_TIMEOUT}
  ct timeout question {{
    protocol udp
    l3proto ip
    policy = {{ unreplied : {DNS_S}, replied : {DNS_S} }}
  }}
  {_counters()}
  {_refusals()}
  chain limits {{
    meta l4proto {{ tcp, udp }} th dport {DNS_PORT} ip daddr {PROXY_ADDRESS} goto many
    {_rate(self.limits)}
    goto many
  }}
  chain many {{
    add @counted {{ ct mark ct count over {CONNECTIONS} }} {_goto(Refusal.CONNECTIONS)} comment "one sandbox"
    {_all(self.total, Refusal.CONNECTIONS)}
    {_PING} add @pinging {{ ct mark ct count over {PINGS_OF_ONE} }} {_goto(Refusal.CONNECTIONS)}
    {_pings(Refusal.CONNECTIONS)}
    meta l4proto tcp ct timeout set "idle"
  }}
  chain allowed {{
    ct state new jump limits
    meta l4proto {{ tcp, udp, icmp, ipv6-icmp }} accept
    {_goto(Refusal.PROTOCOL)}
  }}
  chain allowed_but_web {{
    meta l4proto {{ tcp, udp }} th dport {{ {_words(WEB_PORTS)} }} {_goto(Refusal.MODE)}
    goto allowed
  }}
  chain divert_web {{
    tcp dport {{ {_words(WEB_PORTS)} }} dnat ip to {PROXY_ADDRESS}:{PROXY_PORT}
  }}
  chain divert_tcp {{
    meta l4proto tcp dnat ip to {PROXY_ADDRESS}:{PROXY_PORT}
  }}
  {"".join(_policy_set(name, version, intervals) for each in plans for name, version, intervals in each.sets)}
  {"".join(_policy_chain(name, rules) for each in plans for name, rules in each.chains)}
  map {VERDICTS} {{
    type ifname : verdict
    {_elements(f'"{p.link}" : goto {p.verdict}' for p in plans)}
  }}
  map {DIVERTS} {{
    type ifname : verdict
    {_elements(f'"{p.link}" : goto {p.divert}' for p in plans if p.divert)}
  }}
  chain marking {{
    type filter hook prerouting priority mangle; policy accept;
    iifname "{INSIDE}" accept
    {_bandwidth("bytes_out", "iifname", self.limits)}
    ip hdrlength != 5 counter drop comment "options"
    ct state established,related accept comment "whose it is, is looked at where it goes on"
    iifname "lo" accept
    meta nfproto ipv4 fib saddr . iif oif missing counter drop comment "not its own address"
    meta nfproto ipv6 fib saddr . iif oif missing counter drop comment "not its own address"
    meta nfproto ipv6 exthdr hbh exists counter drop comment "options"
    ct state new ct mark set iifname . ip saddr map @{PASSES}
    ct state new ct mark set iifname . ip6 saddr map @{PASSES6}
  }}
  chain diverting {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname {{ "lo", "{INSIDE}" }} accept
    meta nfproto != ipv4 accept
    ip daddr {PROXY_ADDRESS} meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {PROXY_ADDRESS}:{DNS_PORT}
    ip daddr {PROXY_ADDRESS} meta l4proto tcp dnat ip to {PROXY_ADDRESS}:{PROXY_PORT}
    ip daddr @never accept
    ip daddr @{BLOCKED4} accept
    meta l4proto . th dport @{BLOCKED_PORTS} accept
    meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {PROXY_ADDRESS}:{DNS_PORT}
    iifname vmap @{DIVERTS}
  }}
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    iifname "{INSIDE}" ct mark 0 ct direction reply ct state established,related accept
    iifname "{INSIDE}" counter drop comment "nobody comes in"
    {_NO_CONNECTION}
    ct state established,related iifname . ip saddr . ct mark != @{FLOWS} counter drop
    iifname . ip saddr . ct mark != @{FLOWS} {_goto(Refusal.STRANGER)}
    meta nfproto != ipv4 {_goto(Refusal.NEVER)}
    ip daddr {PROXY_ADDRESS} meta l4proto {{ tcp, udp }} th dport {DNS_PORT} {_questions()}
    ct state established,related accept
    ct mark @{PUNISHED} {_goto(Refusal.SCAN)}
    ip daddr {PROXY_ADDRESS} tcp dport {{ {PROXY_PORT}, {DNS_PORT} }} goto served
    ip daddr {PROXY_ADDRESS} udp dport {DNS_PORT} ct status dnat goto served
    {_goto(Refusal.NEVER)}
  }}
  chain served {{
    jump limits
    meta l4proto udp ct timeout set "question"
    accept
  }}
  chain output {{
    type filter hook output priority filter; policy drop;
    oifname "lo" accept
    oifname "{INSIDE}" goto dialled
    {_bandwidth("bytes_in", "oifname", self.limits)}
    oifname . ip daddr . ct mark @{FLOWS} ct direction reply ct state established,related accept
    tcp flags & rst == rst accept comment "a refusal"
    icmp type {{ destination-unreachable, time-exceeded }} accept
    icmpv6 type {{ destination-unreachable, packet-too-big, time-exceeded }} accept
    counter drop comment "nobody is called"
  }}
  chain dialled {{
    ct mark != 0 counter drop comment "not ours"
    ct state established,related accept
    meta nfproto ipv4 ip daddr @never counter reject with icmpx admin-prohibited
    meta nfproto ipv6 ip6 daddr @never6 counter reject with icmpx admin-prohibited
    ip daddr @{BLOCKED4} counter reject with icmpx admin-prohibited
    ip6 daddr @{BLOCKED6} counter reject with icmpx admin-prohibited
    meta l4proto . th dport @{BLOCKED_PORTS} counter reject with icmpx admin-prohibited
    meta l4proto {{ tcp, udp }} accept
  }}
  chain known {{
    oifname "{INSIDE}" iifname . ip saddr . ct mark @{FLOWS} accept
    iifname "{INSIDE}" oifname . ip daddr . ct mark @{FLOWS} accept
    oifname "{INSIDE}" iifname . ip6 saddr . ct mark @{FLOWS6} accept
    iifname "{INSIDE}" oifname . ip6 daddr . ct mark @{FLOWS6} accept
    counter drop comment "somebody else's"
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    {_bandwidth("bytes_in", "oifname", self.limits, f'iifname "{INSIDE}" ')}
    ct state established,related ct mark != @{REJUDGED} goto known
    oifname . ip daddr . ct mark @{FLOWS} iifname "{INSIDE}" ct state established,related accept
    oifname . ip6 daddr . ct mark @{FLOWS6} iifname "{INSIDE}" ct state established,related accept
    iifname "{INSIDE}" counter drop comment "nobody comes in"
    {_NO_CONNECTION}
    oifname != "{INSIDE}" {_goto(Refusal.NEVER)}
    ip daddr @never {_goto(Refusal.NEVER)}
    ip6 daddr @never6 {_goto(Refusal.NEVER)}
    meta nfproto ipv4 iifname . ip saddr . ct mark != @{FLOWS} {_goto(Refusal.STRANGER)}
    meta nfproto ipv6 iifname . ip6 saddr . ct mark != @{FLOWS6} {_goto(Refusal.STRANGER)}
    ct state established tcp flags & rst == rst meta length <= {BARE_RESET} accept
    ct state new ct mark @{PUNISHED} {_goto(Refusal.SCAN)}
    ip daddr @{BLOCKED4} {_goto(Refusal.BLOCKLIST)}
    ip6 daddr @{BLOCKED6} {_goto(Refusal.BLOCKLIST)}
    meta l4proto . th dport @{BLOCKED_PORTS} {_goto(Refusal.BLOCKLIST)}
    iifname vmap @{VERDICTS}
    {_goto(Refusal.STRANGER)}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "{INSIDE}" masquerade
  }}
}}
"""


def outer_rules(table: str, link: str, interface: str, opened: Sequence[Network], total: int, sealed: bool) -> str:
    """`sealed`: the interface did not forward before us, so that it still does not for anybody else."""
    others = f'iifname "{interface}" oifname != "atu*" counter drop' if sealed else ""
    internal = f"ip daddr {{ {_words(v4)} }} goto out" if (v4 := _of_version(opened, 4)) else ""
    internal6 = f"ip6 daddr {{ {_words(v6)} }} goto out" if (v6 := _of_version(opened, 6)) else ""
    return f"""\
table inet {table}
delete table inet {table}
table inet {table} {{
  {_never(opened)}
  {_SHARDS}
  {_TIMEOUT}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "{link}" counter goto refuse
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{link}" goto from_sandboxes
    oifname "{link}" ct state established,related accept
    oifname "{link}" counter drop
    {others}
  }}
  chain from_sandboxes {{
    ct state established,related accept
    {_NO_CONNECTION}
    ip daddr @never goto refuse
    ip6 daddr @never6 goto refuse
    {internal}
    {internal6}
    oifname "{interface}" goto out
    goto refuse
  }}
  chain out {{
    ct state new {_all(total)}
    ct state new {_pings()}
    ct state new meta l4proto tcp ct timeout set "idle"
    tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
    accept
  }}
  {_REFUSE}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    iifname "{link}" masquerade
  }}
}}
"""


def no_rules(table: str) -> str:
    """Whether it was there or not."""
    return f"table inet {table}\ndelete table inet {table}\n"


# ---- what one sandbox's policy adds


def plan_of(each: Pass, serial: str = "") -> Plan:
    """IPv6 packets of a sandbox without such an address get nowhere near its policy."""
    return plan(each.link, serial, each.policy if each.address6 else replace(each.policy, except6=()))


def _policy_set(name: str, version: int, intervals: Intervals) -> str:
    family = FAMILIES[version]
    kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    return f"{_intervals(name, family.type, _shown(intervals, kind))}\n  "


def _policy_chain(name: str, rules: Sequence[Rule]) -> str:
    return f"chain {name} {{\n    {_lines(map(str, rules))}\n  }}\n  "


# ---- parts


_NO_CONNECTION = 'ct state invalid,untracked counter drop comment "of no connection"'
"""They have no mark, and no rule that looks at it, whatever it is compared with, holds for them."""

_TIMEOUT = f"""\
ct timeout idle {{
    protocol tcp
    l3proto ip
    policy = {{ established : {IDLE_TCP_S} }}
  }}"""

SHARDS = 256
_SHARDS = f"""\
set shards {{
    type inet_service
    size {SHARDS}
    flags dynamic
  }}"""


_SEED = secrets.randbits(32)


def _all(total: int, refusal: Refusal | None = None) -> str:
    """The limit for all together, in equal parts: the kernel looks through the whole of such a list for each new
    connection. Which part is nobody's to choose: one who could would fill that of others."""
    part = max(32, total // SHARDS)
    shard = f"jhash ip saddr . th sport . th dport mod {SHARDS} seed {_SEED:#x}"
    own_part = f"add @shards {{ {shard} ct count over {part} }}"
    return f"meta l4proto {{ tcp, udp }} {own_part} {_goto(refusal)}"


_PING = "meta l4proto { icmp, ipv6-icmp }"


def _pings(refusal: Refusal | None = None) -> str:
    return f"{_PING} ct count over {PINGS} {_goto(refusal)}"


def _rate(limits: Limits) -> str:
    if not limits.rate:
        return ""
    over = f"limit rate over {limits.rate}/second burst {max(1, limits.burst)} packets"
    return f"update @starts {{ ct mark {over} }} {_goto(Refusal.RATE)}"


def _questions() -> str:
    over = f"limit rate over {QUESTIONS_RATE}/second burst {QUESTIONS_BURST} packets"
    return f'update @questions {{ iifname {over} }} counter drop comment "questions"'


def _bandwidth(name: str, link: str, limits: Limits, where: str = "") -> str:
    """Dropped, as a link that is full would: senders slow down."""
    if not limits.mbit:
        return ""
    rate = limits.mbit * 125_000
    over = f"limit rate over {rate} bytes/second burst {max(rate // 10, 256 * 1024)} bytes"
    return f'{where}update @{name} {{ {link} {over} }} counter drop comment "bandwidth"'


_REFUSE = f"""\
chain {REFUSE} {{
    meta l4proto tcp counter reject with tcp reset
    counter reject with icmpx admin-prohibited
  }}"""


def refuse(refusal: Refusal) -> str:
    """The chain that counts it, tells of it and refuses."""
    return f"{REFUSE}_{refusal.name.lower()}"


def _goto(refusal: Refusal | None) -> str:
    return f"goto {refuse(refusal)}" if refusal else f"counter goto {REFUSE}"


def _counters() -> str:
    return "\n  ".join(f"counter {refuse(each)} {{ }}" for each in Refusal)


def _refusals() -> str:
    """A flood of one neither costs the reader's time nor hides what others do."""
    some = f"limit rate {LOGGED_RATE}/second burst {LOGGED_BURST} packets"
    tell = f"update @told {{ iifname {some} }} log prefix "
    chains = (
        f'chain {refuse(each)} {{\n    counter name "{refuse(each)}"\n'
        f'    {tell}"{each.value}" snaplen 64 group {LOG_GROUP}\n    goto {REFUSE}\n  }}'
        for each in Refusal
    )
    return "\n  ".join((_REFUSE, *chains))


def _counting(name: str, kind: str) -> str:
    return f"set {name} {{\n    type {kind}\n    size 65535\n    flags dynamic,timeout\n    timeout {FORGOTTEN}\n  }}"


def _never(opened: Sequence[Network]) -> str:
    v4 = _intervals("never", "ipv4_addr", map(str, networks_v4(opened)))
    v6 = _intervals("never6", "ipv6_addr", map(str, networks_v6(opened)))
    return f"{v4}\n  {v6}"


def _intervals(name: str, kind: str, items: Iterable[str]) -> str:
    """Of elements that may be networks next to each other, which only `auto-merge` takes."""
    return f"set {name} {{\n    type {kind}\n    flags interval\n    auto-merge\n    {_elements(items)}\n  }}"


def _shown(intervals: Intervals, kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]) -> Iterable[str]:
    return (f"{kind(first)}-{kind(last)}" if first != last else str(kind(first)) for first, last in intervals)


def _elements(items: Iterable[str]) -> str:
    """An empty list is a syntax error."""
    text = ", ".join(items)
    return f"elements = {{ {text} }}" if text else ""


def _lines(items: Iterable[str]) -> str:
    return "\n    ".join(items)


def _words(items: Iterable[object]) -> str:
    return ", ".join(map(str, items))


def _of_version(networks: Sequence[Network], version: int) -> list[Network]:
    return [network for network in networks if network.version == version]
