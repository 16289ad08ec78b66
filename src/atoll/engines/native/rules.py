"""The packet filter's rules as text for `nft`. Pure.

Two tables, each loaded in one transaction that replaces what was there before:

- `egress` in the fabric decides for each sandbox. A *pass* lets one out: while link, address and mark stand in `passes`
  and `flows`, its new connections get the mark, and packets of both directions pass when link, sandbox's address
  and mark belong together. So nobody speaks for another, and taking a pass back ends all its connections at once:
  the next sandbox on the same address has another mark and inherits nothing.
- `atoll-INSTALLATION` where the uplink leads (the host, or a named namespace) lets the fabric out through one interface
  and nothing in, and is the second place that refuses what is never reachable.

IP options are dropped: by a source route a packet names another destination than the one that is judged.
Refused means answered: a reset for TCP, "administratively prohibited" for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from atoll.core.reach import Network, networks_v4

FABRIC_TABLE = "egress"
PASSES, FLOWS = "passes", "flows"
INSIDE = "uplink0"
"""The fabric's end of the uplink."""

CONNECTIONS = 2048
"""Of one sandbox at a time, in any state that the kernel remembers; a UDP exchange counts for 30 s."""
PINGS = 1024
"""Of all sandboxes together."""
IDLE_TCP_S = 3600
"""A connection that is silent for longer is forgotten: the kernel's own five days would let the dead add up."""


@dataclass(frozen=True)
class Pass:
    link: str
    address: str
    mark: int
    """Anew at each birth, never 0."""

    def key(self) -> str:
        return f'"{self.link}" . {self.address}'


def fabric_rules(passes: Sequence[Pass], opened: Sequence[Network], total: int) -> str:
    return f"""\
table inet {FABRIC_TABLE}
delete table inet {FABRIC_TABLE}
table inet {FABRIC_TABLE} {{
  map {PASSES} {{
    type ifname . ipv4_addr : mark
    {_elements(f"{each.key()} : {each.mark}" for each in passes)}
  }}
  set {FLOWS} {{
    type ifname . ipv4_addr . mark
    {_elements(f"{each.key()} . {each.mark}" for each in passes)}
  }}
  set counted {{
    type mark
    size 65535
    flags dynamic
  }}
  {_SHARDS}
  {_never(opened)}
  {_TIMEOUT}
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    iifname {{ "lo", "{INSIDE}" }} accept
    meta nfproto != ipv4 counter drop
    fib saddr . iif oif missing counter drop comment "not its own address"
    ip hdrlength != 5 counter drop comment "options"
  }}
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    iifname != "{INSIDE}" goto refuse
    counter drop comment "nobody comes in"
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    oifname . ip daddr . ct mark @{FLOWS} iifname "{INSIDE}" ct state established,related accept
    iifname "{INSIDE}" counter drop comment "nobody comes in"
    oifname != "{INSIDE}" goto refuse
    ip daddr @never goto refuse
    ct state new ct mark set iifname . ip saddr map @{PASSES}
    iifname . ip saddr . ct mark != @{FLOWS} goto refuse
    ct state new jump limits
    meta l4proto {{ tcp, udp, icmp }} accept
    goto refuse
  }}
  chain limits {{
    add @counted {{ ct mark ct count over {CONNECTIONS} }} counter goto refuse comment "one sandbox"
    {_all(total)}
    {_PINGS}
    meta l4proto tcp ct timeout set "idle"
  }}
  {_REFUSE}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "{INSIDE}" masquerade
  }}
}}
"""


def outer_rules(table: str, link: str, interface: str, opened: Sequence[Network], total: int, sealed: bool) -> str:
    """`sealed`: the interface did not forward before us, so that it still does not for anybody else."""
    others = f'iifname "{interface}" oifname != "atu*" counter drop' if sealed else ""
    internal = f"ip daddr {{ {', '.join(map(str, v4))} }} goto out" if (v4 := _only_v4(opened)) else ""
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
    meta nfproto != ipv4 drop
    ip daddr @never goto refuse
    {internal}
    oifname "{interface}" goto out
    goto refuse
  }}
  chain out {{
    ct state new {_all(total)}
    ct state new {_PINGS}
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


def _all(total: int) -> str:
    """The limit for all together, by source port in equal parts: the kernel looks through the whole of such a list for
    each new connection."""
    part = max(32, total // SHARDS)
    own_part = f"add @shards {{ th sport & {SHARDS - 1} ct count over {part} }}"
    return f"meta l4proto {{ tcp, udp }} {own_part} counter goto refuse"


_PINGS = f"meta l4proto icmp ct count over {PINGS} counter goto refuse"

_REFUSE = """\
chain refuse {
    meta l4proto tcp counter reject with tcp reset
    counter reject with icmpx admin-prohibited
  }"""


def _never(opened: Sequence[Network]) -> str:
    return f"""\
set never {{
    type ipv4_addr
    flags interval
    auto-merge
    {_elements(map(str, networks_v4(opened)))}
  }}"""


def _elements(items: Iterable[str]) -> str:
    """An empty list is a syntax error."""
    text = ", ".join(items)
    return f"elements = {{ {text} }}" if text else ""


def _only_v4(networks: Sequence[Network]) -> list[Network]:
    return [network for network in networks if network.version == 4]
