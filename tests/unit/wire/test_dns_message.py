"""Every message is compared with what dnspython makes of it, or is one that it would not write."""

from __future__ import annotations

import random
import struct

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.wire import dns_message as message
from atoll.wire.dns_message import Faulty, Flag, Malformed, NoQuery, Query, Rcode, Response, Type

LABELS = st.lists(st.binary(min_size=1, max_size=20), min_size=0, max_size=8)


def asked(name: str = "Example.com", rdtype: str = "A", **options) -> bytes:
    return dns.message.make_query(name, rdtype, id=7, **options).to_wire()


def query(data: bytes) -> Query:
    found = message.parse_query(data)
    assert isinstance(found, Query)
    return found


def response(data: bytes) -> Response:
    found = message.parse_response(data)
    assert isinstance(found, Response), found
    return found


def answered(*records: str, authority: str = "", additional: str = "", name: str = "example.com") -> bytes:
    made = dns.message.make_response(dns.message.make_query(name, "A", id=7), recursion_available=True)
    for section, lines in ((made.answer, records), (made.authority, [authority]), (made.additional, [additional])):
        for line in filter(None, lines):
            owner, *rest = line.split(maxsplit=4)
            section.append(dns.rrset.from_text(f"{owner}.", *rest))
    return made.to_wire()


# ---- questions


def test_a_question_is_read_in_its_case():
    found = query(asked(use_edns=False))
    assert (found.id, found.name, found.rdtype, found.rdclass) == (7, b"\7Example\3com\0", Type.A, 1)
    assert found.flags & Flag.RECURSION_DESIRED
    assert (found.size, found.do, found.version) == (0, False, 0)


def test_edns_says_what_the_client_takes():
    assert query(asked(use_edns=0, payload=4000, want_dnssec=True)).size == 4000
    assert query(asked(want_dnssec=True)).do
    assert query(asked(use_edns=3, payload=4000)).version == 3
    assert query(asked(use_edns=0, payload=100)).size == message.PLAIN_UDP


@given(labels=LABELS)
def test_names_of_any_bytes_are_read_as_another_implementation_writes_them(labels):
    wire = dns.name.Name([*labels, b""]).to_wire()
    found = query(message.query(1, wire, Type.TXT))
    assert found.name == wire
    text = message.name_text(found.name)
    assert text.count(".") == max(0, len(labels) - 1)
    assert text == text.lower()


@given(name=st.from_regex(r"[a-z0-9_-]{1,20}(\.[a-z0-9_-]{1,20}){0,8}", fullmatch=True))
def test_ordinary_names_go_there_and_back(name):
    wire = message.name_wire(name)
    assert wire == dns.name.from_text(name).to_wire()
    assert message.name_text(wire) == name


@pytest.mark.parametrize("name", ["", "a..b", f"{'a' * 64}.com", ".".join(["a" * 60] * 5), "ä.com"])
def test_what_no_message_holds_has_no_form_on_the_wire(name):
    assert message.name_wire(name) is None


def test_a_dot_within_a_label_is_no_border():
    assert message.name_text(b"\x0bexample.com\3org\0") == "example\\046com.org"


HEAD = message.HEADER.pack(9, 0x0100, 1, 0, 0, 0)
OPT = b"\0" + struct.pack("!HHIH", Type.OPT, 1232, 0, 0)
FAULTY = {
    "no question": (message.HEADER.pack(9, 0x0100, 0, 0, 0, 0), Rcode.FORMERR),
    "two questions": (message.HEADER.pack(9, 0x0100, 2, 0, 0, 0) + b"\1a\0\0\1\0\1" * 2, Rcode.FORMERR),
    "an answer in it": (message.HEADER.pack(9, 0x0100, 1, 1, 0, 0) + b"\1a\0\0\1\0\1", Rcode.FORMERR),
    "nothing after the header": (HEAD, Rcode.FORMERR),
    "a label that is cut": (HEAD + b"\5ab", Rcode.FORMERR),
    "a name without an end": (HEAD + b"\1a", Rcode.FORMERR),
    "no type": (HEAD + b"\1a\0\0", Rcode.FORMERR),
    "a pointer": (HEAD + b"\xc0\x0c\0\1\0\1", Rcode.FORMERR),
    "a label type of no meaning": (HEAD + b"\x41a\0\0\1\0\1", Rcode.FORMERR),
    "a name of 256 bytes": (HEAD + b"\x3f" + (b"a" * 63 + b"\x3f") * 3 + b"a" * 63 + b"\0\0\1\0\1", Rcode.FORMERR),
    "an OPT record that is cut": (HEAD[:10] + b"\0\1" + b"\1a\0\0\1\0\1" + OPT[:-1], Rcode.FORMERR),
    "an OPT record longer than it is": (HEAD[:10] + b"\0\1\1a\0\0\1\0\1" + OPT[:-1] + b"\5", Rcode.FORMERR),
    "two OPT records": (HEAD[:10] + b"\0\2\1a\0\0\1\0\1" + OPT + OPT, Rcode.FORMERR),
    "a named OPT record": (HEAD[:10] + b"\0\1\1a\0\0\1\0\1" + b"\1a" + OPT, Rcode.FORMERR),
    "more records than bytes": (HEAD[:10] + b"\xff\xff\1a\0\0\1\0\1", Rcode.FORMERR),
    "an update": (message.HEADER.pack(9, 0x2800, 1, 0, 0, 0), Rcode.NOTIMP),
    "a status request": (message.HEADER.pack(9, 0x1000, 0, 0, 0, 0), Rcode.NOTIMP),
}


@pytest.mark.parametrize(("data", "rcode"), FAULTY.values(), ids=FAULTY)
def test_a_bad_question_is_answered_by_its_error(data, rcode):
    found = message.parse_query(data)
    assert isinstance(found, Faulty)
    assert found.rcode == rcode
    told = dns.message.from_wire(message.error(found))
    assert (told.id, told.rcode(), told.question) == (9, rcode, [])
    assert told.flags & dns.flags.QR


@pytest.mark.parametrize("data", [b"", b"\0" * 11, message.HEADER.pack(9, 0x8180, 1, 0, 0, 0) + b"\1a\0\0\1\0\1"])
def test_what_is_no_question_is_not_answered(data):
    assert isinstance(message.parse_query(data), NoQuery)


@given(data=st.binary(max_size=600))
def test_no_bytes_are_too_much_for_the_readers(data):
    for given_bytes in (data, HEAD + data, b"\0\7\x81\x80\0\1\0\2\0\1\0\0\1a\0\0\1\0\1" + data):
        assert isinstance(message.parse_query(given_bytes), Query | Faulty | NoQuery)
        assert isinstance(message.parse_response(given_bytes), Response | Malformed)


# ---- answers


def test_an_answer_is_read_with_its_records():
    data = answered("example.com 60 IN A 192.0.2.1", "example.com 30 IN A 192.0.2.2",
                    authority="example.com 900 IN SOA a. b. 1 2 3 4 5")  # fmt: skip
    found = response(data)
    assert (found.id, found.rcode, found.name, found.counts) == (7, 0, b"\7example\3com\0", (2, 1))
    assert [(each.rdtype, each.authority) for each in found.records] == [(1, False), (1, False), (6, True)]
    assert found.records[0].data == bytes([192, 0, 2, 1])
    assert found.end == len(data)
    for each in found.records:
        assert message.TTL.unpack_from(data, each.at)[0] == each.ttl


def test_additional_records_are_beyond_the_end():
    bare, with_more = (answered("example.com 60 IN A 192.0.2.1", additional=more)
                       for more in ("", "ns.example.com 60 IN A 192.0.2.9"))  # fmt: skip
    assert response(with_more).end == len(bare)


def test_a_ttl_with_its_first_bit_set_is_none():
    data = bytearray(answered("example.com 60 IN A 192.0.2.1"))
    message.TTL.pack_into(data, response(bytes(data)).records[0].at, 0x80000001)
    assert response(bytes(data)).records[0].ttl == 0


def test_every_answer_that_is_cut_is_malformed():
    data = answered("example.com 60 IN CNAME www.example.com.", "www.example.com 60 IN A 192.0.2.1")
    assert {type(message.parse_response(data[:end])) for end in range(len(data))} == {Malformed}


@pytest.mark.parametrize("pointer", [0, 11, 29, 30, 0x3FFF])
def test_a_name_points_backwards_into_the_message_only(pointer):
    head = message.HEADER.pack(7, 0x8180, 1, 1, 0, 0) + b"\7example\3com\0\0\1\0\1"
    assert len(head) == 29
    data = head + struct.pack("!H", 0xC000 | pointer) + struct.pack("!HHIH", 1, 1, 60, 4) + b"\1\2\3\4"
    assert isinstance(message.parse_response(data), Malformed)


def test_our_answer_is_what_another_implementation_reads():
    found = query(asked("eXample.com", use_edns=0, payload=1400, want_dnssec=True))
    made = dns.message.from_wire(message.answer(found, Rcode.NOERROR, message.address_record(b"\1\2\3\4", 60), (1, 0)))
    assert made.id == 7
    assert str(made.question[0].name) == "eXample.com."
    assert made.answer[0].to_text() == "eXample.com. 60 IN A 1.2.3.4"
    assert (made.edns, made.payload, bool(made.ednsflags & dns.flags.DO)) == (0, message.OUR_SIZE, True)
    assert made.flags & dns.flags.RA


def test_an_answer_without_edns_has_none():
    assert dns.message.from_wire(message.answer(query(asked(use_edns=False)), Rcode.REFUSED)).edns == -1


def test_an_extended_code_goes_into_the_opt_record():
    made = dns.message.from_wire(message.answer(query(asked(use_edns=0)), Rcode.BADVERS))
    assert made.rcode() == dns.rcode.BADVERS


def test_an_answer_too_long_for_the_client_is_left_out_and_told():
    found = query(asked(use_edns=False))
    body = message.address_record(b"\1\2\3\4", 60) * 40
    made = dns.message.from_wire(message.answer(found, Rcode.NOERROR, body, (40, 0), limit=message.udp_limit(found)))
    assert made.flags & dns.flags.TC
    assert made.answer == []


@pytest.mark.parametrize(("size", "limit"), [(False, 512), (600, 600), (1232, 1232), (65535, 1232)])
def test_over_udp_a_client_gets_what_it_takes_and_no_path_fragments(size, limit):
    data = asked(use_edns=False) if size is False else asked(use_edns=0, payload=size)
    assert message.udp_limit(query(data)) == limit


def test_letters_change_their_case_and_nothing_else():
    name = b"\7example\3c0m\0"
    variants = {message.mixed_case(name, random.getrandbits(8 * len(name))) for _ in range(200)}
    assert len(variants) > 100
    assert {each.lower() for each in variants} == {name}


def test_our_question_is_what_another_implementation_reads():
    made = dns.message.from_wire(message.query(77, b"\7example\3com\0", Type.AAAA, do=True, checking_disabled=True))
    assert (made.id, made.question[0].rdtype, made.payload) == (77, dns.rdatatype.AAAA, message.OUR_SIZE)
    assert made.flags == dns.flags.RD | dns.flags.CD
    assert made.ednsflags & dns.flags.DO
