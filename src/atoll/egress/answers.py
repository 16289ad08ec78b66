"""What a question of a sandbox gets: a verdict first, then an answer that is made here or one to be asked for. Pure.

An answer that was asked for is kept as `Stored`: without the question, whose case is each client's own, and without
what follows the authority section. Its TTLs count down from when it came.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import dns.exception
import dns.message
import dns.rdatatype
import dns.rdtypes.svcbbase
import dns.rrset

from atoll.core.blocklist import BlockList
from atoll.core.egress import Outcome, shown
from atoll.core.names import patterns_of
from atoll.core.policy import Policy, Verdict, judge_question
from atoll.core.reach import Address, Network, is_never_reachable
from atoll.wire import dns_message as message
from atoll.wire.dns_message import IN, Flag, Malformed, Query, Rcode, Response, Type

MAX_TTL = 86_400
MAX_NEGATIVE_TTL = 900
OWN_TTL = 60
RECORDS_A_QUESTION, SERVICE_BYTES_A_QUESTION = 8, 128
"""So much of an answer is as much work as one more question."""
SERVICES = (Type.SVCB, Type.HTTPS)
SERVICE_PARAMETER = struct.Struct("!HH")
ECH = 5
MAX_SERVICE_RECORDS, MAX_SERVICE_BYTES = 16, 2048
"""Of an answer from which keys are to be taken, which is read in full: whoever owns a name decides how much work that
is, a fifth of a second for one of 16 KiB."""
FAILED_SERVICE = 16
"""In further questions: nobody else sees what it cost to find that an answer is malformed."""
MAX_ADDRESSES = 64
"""Of one answer that are known by themselves; the others are only handed on."""
NOT_ANSWERED = dict.fromkeys((*range(249, 256), Type.OPT), Rcode.NOTIMP) | {251: Rcode.REFUSED, 252: Rcode.REFUSED}
"""Transfers of zones, and what is no type of a record (RFC 6895): ANY among them (RFC 8482)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Made here, nobody is asked."""

    outcome: Outcome
    rule: str
    rcode: Rcode
    address: Address | None = None
    """The whole answer of a question for the installation's own names."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody has to be asked; `rule` allowed it."""

    rule: str


class Rules:
    """`judge_question` for one policy and one block list: what all names have in common is found out once."""

    def __init__(self, policy: Policy, blocked: BlockList) -> None:
        others = replace(policy, allow_names=policy.allow_names and ("nobody.invalid",))
        self._blocked = blocked
        self._otherwise = judge_question(others, "", policy.resolvers)
        names = policy.allow_names if policy.resolvers else ()
        self._places = {pattern: place for place, pattern in reversed(list(enumerate(names)))}

    def judge(self, name: str) -> Verdict:
        if (entry := self._blocked.name(name)) is not None:
            return Verdict(False, f"blocklist: {entry}")
        if self._otherwise.allowed:
            return self._otherwise
        found = [pattern for pattern in patterns_of(name) if pattern in self._places]
        return Verdict(True, f"allow_out: {min(found, key=self._places.__getitem__)}") if found else self._otherwise


def decide(
    asked: Query,
    name: str,
    rules: Rules,
    servers: Sequence[str],
    own: tuple[str, ipaddress.IPv4Address] | None = None,
) -> Reply | Ask:
    """`servers`: who would be asked. `own`: the installation's domain, and where sandboxes find it."""
    if (rcode := unanswerable(asked)) is not None:
        return Reply(Outcome.DENIED, "not supported", rcode)
    verdict = rules.judge(name)
    if verdict.allowed and own is not None and is_own(name, own[0]):
        address = own[1] if asked.rdtype == Type.A else None
        return Reply(Outcome.ALLOWED, "own domain", Rcode.NOERROR, address)
    if verdict.allowed and not servers:
        verdict = Verdict(False, "dns_servers: none")
    return Ask(verdict.rule) if verdict.allowed else Reply(Outcome.DENIED, verdict.rule, Rcode.REFUSED)


def unanswerable(asked: Query) -> Rcode | None:
    if asked.version:
        return Rcode.BADVERS
    if asked.rdclass != IN:
        return Rcode.REFUSED
    return NOT_ANSWERED.get(asked.rdtype)


def usable(servers: Sequence[str], opened: Sequence[Network], blocked: BlockList) -> tuple[str, ...]:
    """A resolver that a policy names is asked from here: it has to be one that the sandbox itself might reach."""
    addresses = {server: ipaddress.ip_address(server) for server in servers}
    return tuple(
        server
        for server, address in addresses.items()
        if not is_never_reachable(address, opened) and blocked.destination(address, "udp", 53) is None
    )


def is_own(name: str, domain: str) -> bool:
    return name == domain or name.endswith(f".{domain}")


def render(asked: Query, reply: Reply, limit: int) -> bytes:
    if reply.address is None:
        return message.answer(asked, reply.rcode, limit=limit)
    return message.answer(
        asked, reply.rcode, message.address_record(reply.address.packed, OWN_TTL), (1, 0), limit=limit
    )


# ---- answers that were asked for


@dataclass(frozen=True, slots=True)
class Stored:
    rcode: int
    authentic: bool
    counts: tuple[int, int]
    body: bytes
    ttls: tuple[tuple[int, int], ...]
    """Where in `body`, and what it said."""
    lifetime: int
    """Seconds; 0: not kept."""
    addresses: tuple[Address, ...]
    at: float


def store(wire: bytes, response: Response, at: float) -> Stored | Malformed:
    """Without the keys by which hellos would be encrypted: what is in them could not be judged."""
    if any(record.rdclass != IN for record in response.records):
        return Malformed("a record is of another class")
    services = [record.data for record in response.records if record.rdtype in SERVICES]
    if services and response.rdtype not in SERVICES:
        return Malformed("a service record that nobody asked for")
    encrypted = [_has_ech(each) for each in services]
    if None in encrypted:
        return Malformed("a service record is malformed")
    if any(encrypted):
        if len(response.records) > MAX_SERVICE_RECORDS or response.end > MAX_SERVICE_BYTES:
            return Malformed("too long an answer about services")
        wire = message.without_additional(wire, response)
        without = without_ech(wire)
        if isinstance(without, Malformed):
            return without
        if without is not wire:
            again = message.parse_response(without)
            if isinstance(again, Malformed):
                return again
            wire, response = without, again
    return Stored(
        rcode=response.rcode,
        authentic=bool(response.flags & Flag.AUTHENTIC),
        counts=response.counts,
        body=wire[response.start : response.end],
        ttls=tuple((record.at - response.start, min(record.ttl, MAX_TTL)) for record in response.records),
        lifetime=_lifetime(response),
        addresses=tuple(_addresses(response)),
        at=at,
    )


def cost(rdtype: int, stored: Stored) -> int:
    """In further questions: a long answer is as good as several."""
    piece = SERVICE_BYTES_A_QUESTION if rdtype in SERVICES else message.OUR_SIZE
    return len(stored.body) // piece + sum(stored.counts) // RECORDS_A_QUESTION


def _lifetime(response: Response) -> int:
    """RFC 2308: an answer that says no is kept as long as its SOA record says, and not at all without one."""
    if response.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
        return 0
    positive = [record.ttl for record in response.records if not record.authority]
    if response.rcode == Rcode.NOERROR and any(
        record.rdtype == response.rdtype for record in response.records if not record.authority
    ):
        return min(min(positive), MAX_TTL)
    starts = [record for record in response.records if record.authority and record.rdtype == Type.SOA]
    said = [min(each.ttl, int.from_bytes(each.data[-4:], "big")) for each in starts if len(each.data) >= 22]
    return min([*said, *positive, MAX_NEGATIVE_TTL]) if said else 0


def _addresses(response: Response) -> list[Address]:
    found: list[Address] = []
    for record in response.records:
        if record.authority or record.rdtype != response.rdtype:
            continue
        if record.rdtype == Type.A and len(record.data) == 4:
            found.append(ipaddress.IPv4Address(record.data))
        elif record.rdtype == Type.AAAA and len(record.data) == 16:
            found.append(ipaddress.IPv6Address(record.data))
    return list(dict.fromkeys(found))[:MAX_ADDRESSES]


def render_stored(asked: Query, stored: Stored, now: float, limit: int) -> bytes:
    age = max(0, int(now - stored.at))
    body = bytearray(stored.body)
    for at, ttl in stored.ttls:
        message.TTL.pack_into(body, at, max(0, ttl - age))
    return message.answer(asked, stored.rcode, bytes(body), stored.counts, stored.authentic, limit)


def _has_ech(service: bytes) -> bool | None:
    """None: it is malformed."""
    try:
        at = 2
        while length := service[at]:
            if length > message.MAX_LABEL:
                return None
            at += 1 + length
        at += 1
        found = False
        while at < len(service):
            key, length = SERVICE_PARAMETER.unpack_from(service, at)
            found = found or key == ECH
            at += SERVICE_PARAMETER.size + length
    except (IndexError, struct.error):
        return None
    return found if at == len(service) else None


def without_ech(wire: bytes) -> bytes | Malformed:
    """The same object when there is none."""
    try:
        parsed = dns.message.from_wire(wire)
        changed = False
        for section in (parsed.answer, parsed.authority, parsed.additional):
            for place, rrset in enumerate(section):
                cleaned = _records_without_ech(rrset)
                if cleaned is not None:
                    section[place], changed = cleaned, True
        return parsed.to_wire(max_size=message.MAX_MESSAGE) if changed else wire
    except (dns.exception.DNSException, ValueError, KeyError) as error:
        return Malformed(f"a service record is malformed: {type(error).__name__}")


def _records_without_ech(rrset: dns.rrset.RRset) -> dns.rrset.RRset | None:
    keys = dns.rdtypes.svcbbase.ParamKey
    if rrset.rdtype not in (dns.rdatatype.SVCB, dns.rdatatype.HTTPS):
        return None
    if not any(keys.ECH in record.params for record in rrset):
        return None
    cleaned = dns.rrset.RRset(rrset.name, rrset.rdclass, rrset.rdtype)
    for record in rrset:
        params = {key: value for key, value in record.params.items() if key != keys.ECH}
        mandatory = params.get(keys.MANDATORY)
        if mandatory is not None:
            left = [key for key in mandatory.keys if key != keys.ECH]
            params.pop(keys.MANDATORY)
            if left:
                params[keys.MANDATORY] = dns.rdtypes.svcbbase.MandatoryParam(left)  # type: ignore[no-untyped-call]  # dnspython
        cleaned.add(record.replace(params=params), rrset.ttl)
    return cleaned


# ---- for the log


def detail(rdtype: int, rcode: int) -> str:
    return f"{_text(Type, rdtype, 'TYPE')} {_text(Rcode, rcode, 'RCODE')}"


def _text(names: type[Type] | type[Rcode], value: int, prefix: str) -> str:
    try:
        return names(value).name
    except ValueError:
        return f"{prefix}{value}"


def shown_name(name: str) -> str:
    return shown(name) or "."
