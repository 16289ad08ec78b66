"""A question is read as dnspython reads it, and what becomes of an answer is an answer again, without keys for ECH."""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.name

from atoll.egress.answers import MAX_ADDRESSES, MAX_TTL, Stored, render_stored, store
from atoll.wire import dns_message as message
from atoll.wire.dns_message import Faulty, Malformed, NoQuery, Query, Rcode, Response, Type


def check(data: bytes) -> None:
    read = message.parse_query(data)
    if isinstance(read, Query):
        check_query(data, read)
    else:
        assert isinstance(read, NoQuery | Faulty)
        assert isinstance(read, NoQuery) or dns.message.from_wire(message.error(read)).rcode() == read.rcode
    answer = message.parse_response(data)
    assert isinstance(answer, Response | Malformed)
    if isinstance(answer, Response):
        check_response(data, answer)


def check_query(data: bytes, read: Query) -> None:
    name = message.name_text(read.name)
    assert name.isascii()
    assert name.count(".") == max(0, len(dns.name.from_wire(read.name, 0)[0].labels) - 2)
    if name and "\\" not in name:
        assert message.name_wire(name) == read.name.lower()
    mixed = message.mixed_case(read.name, int.from_bytes(data, "big"))
    asked = message.parse_query(message.query(read.id, mixed, read.rdtype))
    assert isinstance(asked, Query)
    assert (asked.name, asked.rdtype, asked.name.lower()) == (mixed, read.rdtype, read.name.lower())
    told = dns.message.from_wire(message.answer(read, Rcode.REFUSED), ignore_trailing=False)
    assert (told.id, told.question[0].name.to_wire()) == (read.id, read.name)
    record = message.address_record(b"\1\2\3\4", 60)
    cut = message.answer(read, Rcode.NOERROR, record * 100, (100, 0), authentic=True, limit=message.udp_limit(read))
    assert len(cut) <= message.OUR_SIZE
    assert dns.message.from_wire(cut).flags & dns.flags.TC
    try:
        other = dns.message.from_wire(data, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError, NotImplementedError):
        return  # it looks into records that mean nothing to us
    assert other.question[0].name.to_wire() == read.name
    assert (other.question[0].rdtype, other.question[0].rdclass) == (read.rdtype, read.rdclass)
    assert (other.edns >= 0, max(other.edns, 0)) == (read.size > 0, read.version)


def check_response(data: bytes, answer: Response) -> None:
    assert message.HEADER.size < answer.start <= answer.end <= len(data)
    assert len(answer.records) == sum(answer.counts)
    stored = store(data, answer, at=0.0)
    if isinstance(stored, Malformed):
        return
    assert isinstance(stored, Stored)
    assert 0 <= stored.lifetime <= MAX_TTL
    assert len(stored.addresses) <= MAX_ADDRESSES
    asked = Query(9, 0, answer.name, answer.rdtype, answer.rdclass, size=1232)
    again = message.parse_response(render_stored(asked, stored, 5.0, message.MAX_MESSAGE))
    assert isinstance(again, Response)
    assert (again.name, again.counts) == (answer.name, stored.counts)
    kinds = (Type.SVCB, Type.HTTPS)
    assert not any(has_ech(each.data) for each in again.records if each.rdtype in kinds)
    short = message.parse_response(render_stored(asked, stored, 5.0, message.PLAIN_UDP))
    assert isinstance(short, Response)


def has_ech(data: bytes) -> bool:
    """Parameter 5 of a service record."""
    _, at = dns.name.from_wire(b"\0\0" + data[2:], 2)
    at += 2
    while at + 4 <= len(data):
        if data[at : at + 2] == b"\0\5":
            return True
        at += 4 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
