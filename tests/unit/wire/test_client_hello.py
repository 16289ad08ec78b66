from __future__ import annotations

import ssl
import time
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll.wire.client_hello import MAX_HELLO, MAX_RECORD, MAX_RECORDS, ClientHelloSniffer, Event, Tls
from atoll.wire.sniffing import NEED_MORE, OPAQUE, Malformed
from fuzz.targets.client_hello import check, openssl_reads, verdict
from hellos import alpn, extension, hello_of_python, message, records, server_name, vector

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NAMED = message(server_name(b"a.example"), alpn(b"h2", b"http/1.1"))
READ = Tls("a.example", (b"h2", b"http/1.1"))


def sniff(data: bytes) -> Event:
    return verdict([data])


def why(data: bytes) -> str:
    found = sniff(data)
    assert isinstance(found, Malformed), found
    return found.why


def singles(data: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in data]


# ---- what clients send


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"maximum_version": ssl.TLSVersion.TLSv1_2},
        {"minimum_version": ssl.TLSVersion.TLSv1_3},
    ],
    ids=["default", "TLS 1.2", "TLS 1.3"],
)
def test_a_hello_of_openssl(settings):
    assert sniff(hello_of_python("Www.Example.com", "h2", "http/1.1", **settings)) == Tls(
        "www.example.com", (b"h2", b"http/1.1")
    )


def test_one_without_a_server_name():
    assert sniff(hello_of_python(None)) == Tls(None)


def test_one_for_an_address_has_no_server_name():
    assert sniff(hello_of_python("203.0.113.1")) == Tls(None)


def test_one_of_a_browser_is_some_kilobytes_with_a_look_alike_of_ech():
    grease = extension(0x0A0A, b"")
    key_share = extension(51, vector(2, b"\x11\xec" + vector(2, bytes(1216)) + b"\x00\x1d" + vector(2, bytes(32))))
    hello = message(
        grease, server_name(b"a.example"), key_share, alpn(b"h2"), extension(0xFE0D, b"\x00" + bytes(200)),
        extension(0x1A1A, b"\x00"), session=bytes(32),
    )  # fmt: skip
    assert sniff(records(hello, version=b"\x03\x01")) == Tls("a.example", (b"h2",), ech=True)


def test_one_without_extensions():
    assert sniff(records(message(without_extensions=True))) == Tls(None)


@pytest.mark.parametrize("version", [b"\x03\x00", b"\x03\x01", b"\x03\x03", b"\x03\x04", b"\x03\xff"])
def test_the_versions_of_the_record_and_of_old_clients_do_not_matter(version):
    assert sniff(records(message(server_name(b"a.example"), version=version), version=version)) == Tls("a.example")


# ---- names


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (b"A.Example", "a.example"),
        (b"a.example.", "a.example."),
        (b"203.0.113.1", "203.0.113.1"),
        (b"2001:db8::1", "2001:db8::1"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"_x.example", "_x.example"),
        (b"a" * 255, "a" * 255),
    ],
)
def test_a_name_is_read_as_it_was_sent_in_lower_case(sent, name):
    assert sniff(records(message(server_name(sent)))) == Tls(name)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"a\x00b",
        b"a.example\x00",
        b"\xc3\xbc.example",
        b"a b",
        b"a/b",
        b"a\r\nb",
        b"a%2e",
        b"*.a",
        b"[::1]",
        b"a" * 256,
    ],
)
def test_a_name_that_cannot_be_one_is_malformed(sent):
    assert why(records(message(server_name(sent)))) == "a server name that cannot be one"


@pytest.mark.parametrize(
    "extension_sent",
    [
        server_name(b"a.example", b"b.example"),
        server_name(b"a.example", b"a.example"),
        server_name(b"a.example", kind=1),
        extension(0, vector(2, b"\x00" + vector(2, b"a.example") + b"\x01" + vector(2, b"x"))),
    ],
    ids=["two", "the same twice", "another kind", "a second kind"],
)
def test_there_is_exactly_one_name_in_the_list(extension_sent):
    assert why(records(message(extension_sent))) == "not exactly one server name"


def test_an_empty_server_name_extension_is_malformed():
    assert why(records(message(extension(0, b"")))) == "a field is longer than what holds it"
    assert why(records(message(extension(0, b"\x00\x00")))) == "a field is longer than what holds it"


@pytest.mark.parametrize("second", [server_name(b"a.example"), server_name(b"b.example")], ids=["same", "other"])
def test_the_extension_twice_is_malformed(second):
    assert why(records(message(server_name(b"a.example"), alpn(b"h2"), second))) == "an extension twice"


@pytest.mark.parametrize("kind", [16, 0xFE0D, 43, 0x0A0A])
def test_so_is_any_other(kind):
    twice = extension(kind, b"\x00\x02\x01a")
    assert why(records(message(twice, twice))) == "an extension twice"


# ---- encrypted hellos


@pytest.mark.parametrize("kind", [0xFE0D, 0xFFCE], ids=["ech", "esni"])
def test_an_encrypted_hello_is_said(kind):
    assert sniff(records(message(server_name(b"a.example"), extension(kind, b"\x00x")))) == Tls("a.example", ech=True)


@pytest.mark.parametrize("content", [b"", b"\x01", b"\x02x"])
def test_one_that_is_not_an_outer_one_is_malformed(content):
    assert why(records(message(extension(0xFE0D, content)))) == "an encrypted hello that is not an outer one"


# ---- protocols


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (extension(16, b""), "a field is longer than what holds it"),
        (alpn(), "an empty protocol name"),
        (alpn(b"h2", b""), "an empty protocol name"),
        (extension(16, vector(2, vector(1, b"h2")) + b"x"), "bytes after the list in an extension"),
        (extension(16, vector(2, b"\x05h2")), "a field is longer than what holds it"),
    ],
)
def test_protocols_that_cannot_be(sent, reason):
    assert why(records(message(sent))) == reason


# ---- the message


@pytest.mark.parametrize(
    ("handshake", "reason"),
    [
        (b"\x02" + NAMED[1:], "a handshake that does not begin with a ClientHello"),
        (b"\x00\x00\x00\x00", "a handshake that does not begin with a ClientHello"),
        (NAMED + b"\x00", "something follows the ClientHello in its record"),
        (NAMED + NAMED, "something follows the ClientHello in its record"),
        (b"\x01" + MAX_HELLO.to_bytes(3, "big"), "the ClientHello is too large"),
        (message(version=b"\x02\x00"), "a ClientHello of another protocol"),
        (message(version=b"\xfe\xfd"), "a ClientHello of another protocol"),
        (message(session=bytes(33)), "a ClientHello with a session, ciphers or compressions that cannot be"),
        (message(ciphers=b""), "a ClientHello with a session, ciphers or compressions that cannot be"),
        (message(ciphers=b"\x13"), "a ClientHello with a session, ciphers or compressions that cannot be"),
        (message(compressions=b""), "a ClientHello with a session, ciphers or compressions that cannot be"),
        (b"\x01" + vector(3, NAMED[4:] + b"x"), "bytes after the extensions"),
        (b"\x01" + vector(3, NAMED[4:-1]), "a field is longer than what holds it"),
        (b"\x01" + vector(3, b""), "a field is longer than what holds it"),
        (message(b"\x00"), "a field is longer than what holds it"),
    ],
)
def test_a_message_that_cannot_be(handshake, reason):
    assert why(records(handshake)) == reason
    assert verdict(singles(records(handshake))) == Malformed(reason)


def test_every_shorter_body_in_a_whole_message_is_malformed():
    body = NAMED[4:]
    complete_without_extensions = 2 + 32 + 1 + 2 + 2 + 2
    for length in range(len(body)):
        found = sniff(records(b"\x01" + vector(3, body[:length])))
        if length == complete_without_extensions:
            assert found == Tls(None)
        else:
            assert isinstance(found, Malformed)


# ---- records


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 50])
def test_a_hello_in_many_records(size):
    fragmented = records(NAMED, *[size] * (len(NAMED) // size))
    assert sniff(fragmented) == READ
    assert verdict(singles(fragmented)) == READ


def test_a_record_ends_in_the_middle_of_the_name():
    cut = NAMED.index(b"example") + 3
    assert sniff(records(NAMED, cut)) == READ


@pytest.mark.parametrize(
    "between",
    [b"\x15\x03\x01\x00\x02\x01\x00", b"\x14\x03\x03\x00\x01\x01", b"\x17\x03\x03\x00\x01x", b"\x00", b"G"],
    ids=["alert", "change cipher spec", "data", "zero", "text"],
)
def test_nothing_else_comes_inside_a_hello(between):
    whole = records(NAMED, 20)
    assert why(whole[:25] + between + whole[25:]) == "another record inside the ClientHello"


def test_that_is_seen_with_its_first_byte():
    assert why(records(NAMED, 20)[:25] + b"\x15") == "another record inside the ClientHello"


def test_a_later_record_of_another_protocol_is_malformed():
    assert why(records(NAMED, 20)[:25] + b"\x16\x02") == "a record of another protocol inside the ClientHello"


@pytest.mark.parametrize("length", [0, MAX_RECORD + 1, 0xFFFF])
@pytest.mark.parametrize("before", [b"", records(NAMED, 20)[:25]], ids=["first", "later"])
def test_a_record_that_is_empty_or_too_long_is_malformed(before, length):
    assert why(before + b"\x16\x03\x01" + length.to_bytes(2, "big")) == "a record that is empty or too long"


def test_what_comes_after_the_hello_is_not_looked_at():
    assert sniff(records(NAMED) + b"\x14\x03\x03\x00\x01\x01anything") == READ


def padded(size: int) -> bytes:
    """A hello of so many bytes in records of the largest size."""
    bare = len(records(message(extension(21, b"")))) + 5 * (size // (MAX_RECORD + 5))
    return records(message(extension(21, bytes(size - bare))), *[MAX_RECORD] * 4)


def test_a_hello_has_a_largest_size_with_its_records():
    largest = padded(MAX_HELLO)
    assert len(largest) == MAX_HELLO
    assert sniff(largest) == Tls(None)
    assert why(padded(MAX_HELLO + 1)) == "the ClientHello is too large"


def test_many_small_records_count_with_their_headers():
    handshake = message(extension(21, bytes(MAX_HELLO - 2000)))
    assert len(handshake) < MAX_HELLO
    assert why(records(handshake, *[50] * (len(handshake) // 50))) == "the ClientHello is too large"


def test_the_largest_hello_byte_by_byte_is_linear_work():
    data = padded(MAX_HELLO)
    sniffer = ClientHelloSniffer()
    started = time.process_time()
    for byte in singles(data):
        assert sniffer.next_event() is NEED_MORE
        sniffer.receive(byte)
    assert sniffer.next_event() == Tls(None)
    assert time.process_time() - started < 5


# ---- other protocols


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\n", id="http"),
        pytest.param(b"SSH-2.0-x\r\n", id="ssh"),
        pytest.param(b"\x00", id="zero"),
        pytest.param(b"\x80\x2e\x01\x03\x01", id="SSLv2"),
        pytest.param(b"\x15\x03\x01\x00\x02", id="alert"),
        pytest.param(b"\x17\x03\x03", id="data"),
        pytest.param(b"\x16\x02", id="handshake of another version"),
        pytest.param(b"\x16\xfe\xfd", id="DTLS"),
    ],
)
def test_another_protocol_is_opaque_with_its_first_bytes(data):
    assert sniff(data) is OPAQUE
    assert verdict(singles(data)) is OPAQUE


@pytest.mark.parametrize(
    "data", [b"", b"\x16", b"\x16\x03", b"\x16\x03\x01\x00", records(NAMED)[:-1], records(NAMED, 9)[:14]]
)
def test_too_little_to_say(data):
    assert sniff(data) is NEED_MORE


# ---- however it arrives


@pytest.mark.parametrize("data", [records(NAMED), records(NAMED, 3, 20), hello_of_python("a.example", "h2")])
def test_every_prefix_needs_more_and_every_split_is_the_whole(data):
    whole = sniff(data)
    for length in range(len(data)):
        assert sniff(data[:length]) is NEED_MORE
        assert verdict([data[:length], data[length:]]) == whole
    assert verdict(singles(data)) == whole


def test_the_bytes_are_handed_on_as_they_came():
    sniffer = ClientHelloSniffer()
    data = records(NAMED, 30) + b"early"
    for byte in singles(data):
        sniffer.receive(byte)
    assert sniffer.next_event() == READ
    assert sniffer.take_rest() == data
    assert sniffer.take_rest() == b""


labels = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_", min_size=1, max_size=20)
names = st.none() | st.lists(labels, min_size=1, max_size=5).map(".".join)
protocols = st.lists(st.binary(min_size=1, max_size=12), max_size=4)
others = st.dictionaries(
    st.integers(1, 0xFFFF).filter(lambda kind: kind not in (16, 0xFE0D, 0xFFCE)), st.binary(max_size=40)
)
sizes = st.lists(st.integers(1, 300), max_size=8)


@patient
@given(names, protocols, others, st.binary(max_size=32), sizes, st.lists(st.integers(0, 2000), max_size=6), st.data())
def test_any_hello_gives_back_what_was_put_in_however_it_is_cut(name, alpns, other, session, records_of, cuts, data):
    extensions = [extension(kind, content) for kind, content in other.items()]
    extensions += [server_name(name.encode())] if name is not None else []
    extensions += [alpn(*alpns)] if alpns else []
    wire = records(message(*data.draw(st.permutations(extensions)), session=session), *records_of)
    at = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    pieces = [wire[start:end] for start, end in pairwise(at)]
    assert verdict(pieces) == Tls(name and name.lower(), tuple(alpns))


@patient
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: b"\x16\x03\x01" + data))
def test_any_bytes_have_one_verdict(data):
    check(data)
    assert verdict(singles(data)) == sniff(data)


@patient
@given(st.integers(0, 10_000), st.integers(0, 255), sizes)
def test_a_changed_byte_changes_no_more_than_the_verdict_and_openssl_reads_no_other_name(place, value, records_of):
    data = bytearray(records(NAMED, *records_of))
    data[place % len(data)] = value
    check(bytes(data))


def test_openssl_hears_the_name_that_we_read():
    """The oracle of the two tests above works."""
    assert openssl_reads(hello_of_python("Www.Example.com")) == "www.example.com"
    assert openssl_reads(hello_of_python(None)) is None


def test_a_hello_in_very_many_records_is_refused():
    """Each of them costs, and one read from the socket brings ten thousand."""
    padded = message(server_name(b"a.example"), extension(21, bytes(3000)))
    assert sniff(records(padded, *[1] * (MAX_RECORDS - 1))) == Tls("a.example")
    assert why(records(padded, *[1] * MAX_RECORDS)) == "the ClientHello has too many records"
