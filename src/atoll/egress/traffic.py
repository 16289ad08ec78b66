"""Traffic that the kernel decided on alone, as entries of the log; and who among the sandboxes is scanning.

Connections that were translated to this daemon are left out: the proxy and the resolver log what they read of them. A
scan is looked for in those too.

Events come later than what they tell of, so whose an address was and which policy held is looked up by the time at
which the connection began.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from atoll.core.blocklist import BlockList
from atoll.core.egress import Entry, Kind, NameSource, Outcome, shown
from atoll.core.packet_policy import Refusal
from atoll.core.policy import DEFAULT_VERDICT, Policy, judge
from atoll.core.reach import Address, Network
from atoll.core.scan import PUNISHED_S, ScanDetector
from atoll.core.uplink import DNS_PORT, PROXY_ADDRESS, PROXY_PORT
from atoll.wire import ctnetlink, nflog
from atoll.wire.ctnetlink import Change, Tracked

from .kernel_events import KernelSockets, Reading
from .log import Log

log = logging.getLogger(__name__)

REMEMBERED_LIVES = 8
"""Policies and sandboxes of one address."""
REMEMBERED_S = 600.0
"""How long after its end a sandbox may still be meant."""
MAX_ENDED = 65_536
OURS = [(ipaddress.ip_address(PROXY_ADDRESS).packed, port) for port in (PROXY_PORT, DNS_PORT)]
"""Where it was sent to before it was translated, a logged packet does not say."""
SAY_LOST_AFTER_S = 60.0
NAMESERVER_PORT = 53
NS = 1_000_000_000
JUDGED = (Refusal.NEVER, Refusal.DENY, Refusal.BLOCKLIST)
"""Prefixes of rules that `judge` can name more exactly."""

Punish = Callable[[str, str, int, str], None]
"""Sandbox, rule, seconds, detail."""


class Names(Protocol):
    def name_of(self, sandbox_id: str, address: Address) -> str | None: ...


@dataclass(frozen=True)
class Life:
    """From when on an address was a sandbox's under one policy; nobody's when there is none."""

    since_ns: int
    sandbox_id: str
    policy: Policy | None


class Owners:
    """Whose an address was at a time."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._began_ns = now_ns()
        self._lives: dict[bytes, list[Life]] = {}
        self._gone: OrderedDict[bytes, int] = OrderedDict()

    def put(self, sandbox_id: str, addresses: Sequence[Address], policy: Policy) -> None:
        for address in addresses:
            self._gone.pop(address.packed, None)
            lives = self._lives.setdefault(address.packed, [])
            lives.append(Life(self._now_ns(), sandbox_id, policy))
            del lives[:-REMEMBERED_LIVES]
        self._sweep()

    def forget(self, sandbox_id: str, addresses: Sequence[Address]) -> None:
        for address in addresses:
            lives = self._lives.get(address.packed)
            if lives and lives[-1].sandbox_id == sandbox_id and lives[-1].policy is not None:
                lives.append(Life(self._now_ns(), sandbox_id, None))
                self._gone[address.packed] = self._now_ns()
        self._sweep()

    def now(self, address: bytes) -> Life | None:
        lives = self._lives.get(address)
        return lives[-1] if lives and lives[-1].policy is not None else None

    def at(self, address: bytes, when_ns: int) -> Life | None:
        """Of the time before this daemon only what came first after it is known."""
        lives = self._lives.get(address)
        if not lives:
            return None
        if when_ns <= self._began_ns:
            return lives[0]
        found = next((life for life in reversed(lives) if life.since_ns <= when_ns), None)
        return found if found is not None and found.policy is not None else None

    def _sweep(self) -> None:
        before = self._now_ns() - int(REMEMBERED_S * NS)
        while self._gone and next(iter(self._gone.values())) < before:
            del self._lives[self._gone.popitem(last=False)[0]]


class Traffic:
    def __init__(
        self,
        *,
        log: Log,
        names: Names,
        blocked: Callable[[], BlockList],
        opened: Sequence[Network],
        punish: Punish,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.owners = Owners(lambda: int(now() * NS))
        self._log = log
        self._names = names
        self._blocked = blocked
        self._opened = opened
        self._punish = punish
        self._now = now
        self._scans = ScanDetector()
        self._ended: OrderedDict[bytes, int] = OrderedDict()
        self._said_lost = 0.0

    def listen(self, sockets: KernelSockets) -> list[Reading]:
        return [
            Reading(sockets.connections, self.connection_event, self.events_lost),
            Reading(sockets.refusals, self.refusal_event, self.events_lost),
        ]

    def put(self, sandbox_id: str, addresses: Sequence[Address], policy: Policy) -> None:
        self.owners.put(sandbox_id, addresses, policy)

    def forget(self, sandbox_id: str, addresses: Sequence[Address]) -> None:
        self.owners.forget(sandbox_id, addresses)
        self._scans.forget(sandbox_id)

    # ---- connection tracking

    def connection_event(self, datagram: bytes) -> None:
        for tracked in ctnetlink.read(datagram):
            self.tracked(tracked)

    def tracked(self, tracked: Tracked) -> None:
        match tracked.change:
            case Change.NEW:
                self._began(tracked)
            case Change.UPDATE:
                self._closed(tracked)
            case Change.DESTROY:
                self._over(tracked)

    def _began(self, tracked: Tracked) -> None:
        life = self.owners.now(tracked.source)
        if life is not None and not (_translated(tracked) and tracked.port == NAMESERVER_PORT):
            self._look_for_scan(life.sandbox_id, tracked.destination, tracked.port)

    def _closed(self, tracked: Tracked) -> None:
        """The kernel forgets a closed connection some time after its end."""
        if tracked.id not in self._ended:
            self._ended[tracked.id] = int(self._now() * NS)
            if len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)

    def _over(self, tracked: Tracked) -> None:
        ended_ns = self._ended.pop(tracked.id, None) or tracked.stopped_ns
        life = self.owners.at(tracked.source, tracked.started_ns)
        if life is None or life.policy is None or _translated(tracked):
            return
        address = ipaddress.ip_address(tracked.destination)
        name = self._names.name_of(life.sandbox_id, address)
        rule = self._judge(life.policy, address, tracked.protocol, tracked.port)
        bytes_out, bytes_in = ctnetlink.payload(tracked)
        self._log.write(
            Entry(
                at=tracked.started_ns / NS,
                sandbox_id=life.sandbox_id,
                kind=Kind.CONNECTION,
                verdict=Outcome.ALLOWED if tracked.answered else Outcome.FAILED,
                rule=rule if rule is not None else DEFAULT_VERDICT.rule,
                protocol=tracked.protocol,
                address=str(address),
                port=tracked.port,
                name=name or "",
                name_from=NameSource.DNS if name else None,
                bytes_out=bytes_out,
                bytes_in=bytes_in,
                duration_s=max(0, ended_ns - tracked.started_ns) / NS,
            )
        )

    def _judge(self, policy: Policy, address: Address, protocol: str, port: int, allowed: bool = True) -> str | None:
        """The rule, when that is its verdict: policy and block list may have changed since."""
        verdict = judge(policy, address, protocol, port, None, self._opened, self._blocked())
        return verdict.rule if verdict.allowed is allowed else None

    # ---- refused packets

    def refusal_event(self, datagram: bytes) -> None:
        for logged in nflog.read(datagram):
            self.refused(logged)

    def refused(self, logged: nflog.Logged) -> None:
        life = self.owners.now(logged.source)
        if life is None or life.policy is None:
            return
        prefix = shown(logged.prefix)
        entry = Entry(
            at=self._now(),
            sandbox_id=life.sandbox_id,
            kind=Kind.CONNECTION,
            verdict=Outcome.DENIED,
            rule=prefix,
            protocol=logged.protocol,
        )
        if (logged.destination, logged.port) in OURS:
            self._log.write(replace(entry, detail="on its way to the proxy or the resolver"))
            return
        address = ipaddress.ip_address(logged.destination)
        name = self._names.name_of(life.sandbox_id, address)
        rule = self._judge(life.policy, address, logged.protocol, logged.port, allowed=False)
        self._log.write(
            replace(
                entry,
                rule=rule if rule is not None and prefix in JUDGED else prefix,
                address=str(address),
                port=logged.port,
                name=name or "",
                name_from=NameSource.DNS if name else None,
            )
        )
        if prefix != Refusal.SCAN:
            self._look_for_scan(life.sandbox_id, logged.destination, logged.port)

    # ---- what follows

    def _look_for_scan(self, sandbox_id: str, destination: bytes, port: int) -> None:
        found = self._scans.tried(sandbox_id, destination, port, self._now())
        if found is None:
            return
        self._log.write(
            Entry(
                at=self._now(),
                sandbox_id=sandbox_id,
                kind=Kind.EVENT,
                verdict=Outcome.DENIED,
                rule=Refusal.SCAN,
                detail=f"{found}; new connections are refused for {PUNISHED_S} s",
            )
        )
        self._punish(sandbox_id, Refusal.SCAN, PUNISHED_S, found)

    def events_lost(self) -> None:
        """How many the kernel does not tell."""
        self._log.totals.lost(1)
        now = self._now()
        if now - self._said_lost >= SAY_LOST_AFTER_S:
            self._said_lost = now
            log.warning("the kernel's events come faster than they are read: the log of outbound traffic has gaps")


def _translated(tracked: Tracked) -> bool:
    """To this daemon: somebody else answers than was asked."""
    return tracked.answerer != tracked.destination
