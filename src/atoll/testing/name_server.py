"""What the resolvers of the test internet know and how they say it: bytes of a question in, bytes of the answer out."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset

TTL_S = 60
UDP_SIZE = 512

Asked = Callable[[str, str, str], None]


class Zone:
    """Names and their records. `*.example.com` is what any name below it has that has nothing of its own."""

    def __init__(self, addresses: Mapping[str, tuple[str, ...]]) -> None:
        self._lock = threading.Lock()
        self._records: dict[tuple[str, str], list[list[str]]] = {}
        self._ttl: dict[str, int] = {}
        for name, each in addresses.items():
            self.set(name, *each)

    def set(self, name: str, *addresses: str) -> None:
        """A and AAAA records, by what they look like."""
        self.record(name, "A", *(each for each in addresses if ":" not in each))
        self.record(name, "AAAA", *(each for each in addresses if ":" in each))

    def record(self, name: str, kind: str, *values: str) -> None:
        """`values` as they are in a zone file."""
        if values:
            dns.rrset.from_text(f"{name}.", TTL_S, "IN", kind, *values)
        with self._lock:
            self._records[name, kind] = [list(values)]

    def sequence(self, name: str, *answers: str | tuple[str, ...]) -> None:
        """A rebinding name: each question for an address is answered with the next ones, which are not to be kept;
        the last stay."""
        answered = [[each] if isinstance(each, str) else list(each) for each in answers]
        with self._lock:
            self._records[name, "A"], self._records[name, "AAAA"] = answered, [[]]
            self._ttl[name] = 0

    def find(self, name: str, kind: str) -> tuple[list[str], int] | None:
        """None when there is no such name."""
        with self._lock:
            owner = self._owner(name)
            if owner is None:
                return None
            answers = self._records.get((owner, kind), [[]])
            values = answers.pop(0) if len(answers) > 1 else answers[0]
            return values, self._ttl.get(owner, TTL_S)

    def _owner(self, name: str) -> str | None:
        if any(owner == name for owner, _ in self._records):
            return name
        labels = name.split(".")
        above = (f"*.{'.'.join(labels[start:])}" for start in range(1, len(labels)))
        return next((each for each in above if any(owner == each for owner, _ in self._records)), None)


def answer(zone: Zone, resolver: str, wire: bytes, asked: Asked, over_udp: bool = False) -> bytes | None:
    try:
        query = dns.message.from_wire(wire)
    except dns.exception.DNSException:
        return None
    response = respond(zone, resolver, query, asked)
    if not over_udp:
        return response.to_wire(max_size=0xFFFF)
    size = max(UDP_SIZE, query.payload) if query.edns >= 0 else UDP_SIZE
    try:
        return response.to_wire(max_size=size)
    except dns.exception.TooBig:
        response.answer.clear()
        response.flags |= dns.flags.TC
        return response.to_wire(max_size=size)


def respond(zone: Zone, resolver: str, query: dns.message.Message, asked: Asked) -> dns.message.Message:
    response = dns.message.make_response(query, recursion_available=True)
    if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
        response.set_rcode(dns.rcode.NOTIMP)
        return response
    question = query.question[0]
    name = question.name.to_text(omit_final_dot=True)
    kind = dns.rdatatype.to_text(question.rdtype)
    asked(resolver, name.lower(), kind)
    for _ in range(8):  # aliases of aliases
        found = zone.find(name.lower(), kind)
        alias = zone.find(name.lower(), "CNAME")
        if found is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
            break
        values, ttl = found
        if values:
            response.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", kind, *values))
            break
        if alias is None or not alias[0]:
            break
        response.answer.append(dns.rrset.from_text(f"{name}.", alias[1], "IN", "CNAME", alias[0][0]))
        name = alias[0][0].removesuffix(".")
    return response


def over_https(zone: Zone, resolver: str, query: str, body: bytes, asked: Asked) -> tuple[str, bytes] | None:
    """Type and content of what /dns-query answers, as bytes or as JSON."""
    given = {name: values[0] for name, values in parse_qs(query).items()}
    if "name" in given:
        question = dns.message.make_query(given["name"], given.get("type", "A"))
        return "application/dns-json", _json(respond(zone, resolver, question, asked))
    wire = body or base64.urlsafe_b64decode(given.get("dns", "") + "==")
    answered = answer(zone, resolver, wire, asked)
    return ("application/dns-message", answered) if answered is not None else None


def _json(response: dns.message.Message) -> bytes:
    answers = [
        {"name": each.name.to_text(), "type": int(each.rdtype), "TTL": each.ttl, "data": value.to_text()}
        for each in response.answer
        for value in each
    ]
    return json.dumps({"Status": int(response.rcode()), "Answer": answers}).encode()
