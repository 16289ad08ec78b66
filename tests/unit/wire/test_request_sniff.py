from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll.wire.request_sniff import (
    MAX_CHUNK_LINE,
    MAX_FIELDS,
    MAX_HEAD,
    MAX_TRAILERS,
    Body,
    Connect,
    Event,
    Request,
    RequestSniffer,
    Response,
    ResponseSniffer,
    begins_as_request,
)
from atoll.wire.sniffing import END, NEED_MORE, OPAQUE, Malformed
from fuzz.cuts import singles
from fuzz.targets import request as fuzzed
from fuzz.targets import response as fuzzed_response

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

GET = b"GET /a?b=c HTTP/1.1\r\nHost: a.example\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED_HEAD = b"PUT /c HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = CHUNKED_HEAD + b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: x\r\n\r\n"
STREAMS = {
    "get": GET,
    "post": POST,
    "chunked": CHUNKED,
    "three": GET + CHUNKED + POST + GET,
    "absolute": b"GET http://A.example.:80/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "old": b"GET / HTTP/1.0\r\n\r\n",
    "then nonsense": POST + b"nonsense here",
    "connect": b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "opaque": b"SSH-2.0-OpenSSH_9 Debian\r\n",
    "h2c": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "bad chunk": CHUNKED_HEAD + b"3\r\nabcX\r\n",
    "bad later": GET + b"GET / HTTP/1.1\nHost: b\n\n",
}


def read(*pieces: bytes) -> list[Event]:
    return fuzzed.read(list(pieces))


def with_fields(*fields: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join([line, *fields, b"", b""])


def only(data: bytes) -> Request:
    request, *rest = read(data)
    assert isinstance(request, Request), request
    assert END in rest
    return request


def why(data: bytes) -> str:
    """The stream's last event; also byte by byte."""
    last = read(data)[-1]
    assert isinstance(last, Malformed), last
    assert read(*singles(data))[-1] == last
    return last.why


# ---- however it arrives


@pytest.mark.parametrize("data", STREAMS.values(), ids=STREAMS)
def test_a_stream_is_the_same_whole_and_byte_by_byte(data):
    assert read(*singles(data)) == read(data)


@pytest.mark.parametrize("data", STREAMS.values(), ids=STREAMS)
def test_every_prefix_says_the_beginning_of_it_and_every_split_all(data):
    whole = read(data)
    for length in range(len(data)):
        events = read(data[:length])
        raw = b"".join(map(fuzzed.raw_of, events))
        kinds = [type(event) for event in events if not isinstance(event, Body)]
        assert data.startswith(raw)
        assert kinds == [type(event) for event in whole if not isinstance(event, Body)][: len(kinds)]
        assert read(data[:length], data[length:]) == whole


def test_every_byte_is_handed_on_once_and_in_order():
    events = read(*singles(STREAMS["three"]))
    assert b"".join(map(fuzzed.raw_of, events)) == STREAMS["three"]
    assert [event.path for event in events if isinstance(event, Request)] == ["/a", "/c", "/p", "/a"]
    assert events.count(END) == 4


def test_nothing_of_a_head_is_handed_on_before_all_of_it_was_read():
    sniffer = RequestSniffer()
    for byte in singles(GET[:-1]):
        sniffer.receive(byte)
        assert sniffer.next_event() is NEED_MORE
    sniffer.receive(GET[-1:])
    request = sniffer.next_event()
    assert isinstance(request, Request)
    assert request.raw == GET


def test_a_body_is_handed_on_as_it_comes():
    sniffer = RequestSniffer()
    sniffer.receive(POST[:-3])
    assert isinstance(sniffer.next_event(), Request)
    assert sniffer.next_event() == Body(b"he")
    assert sniffer.next_event() is NEED_MORE


def test_what_is_for_good_stays_and_the_bytes_can_be_taken():
    sniffer = RequestSniffer()
    sniffer.receive(b"\x00\x01")
    assert sniffer.next_event() is OPAQUE
    sniffer.receive(GET)
    assert sniffer.next_event() is OPAQUE
    assert sniffer.take_rest() == b"\x00\x01" + GET


def test_bytes_behind_a_request_for_an_upgrade_can_be_taken():
    sniffer = RequestSniffer()
    sniffer.receive(with_fields(b"Host: a", b"Connection: upgrade", b"Upgrade: websocket") + b"\x81\x00")
    request = sniffer.next_event()
    assert isinstance(request, Request)
    assert request.upgrade == ("websocket",)
    assert sniffer.next_event() is END
    assert sniffer.take_rest() == b"\x81\x00"


# ---- the head


def test_a_request_is_read():
    request = only(GET)
    assert (request.method, request.host, request.path, request.body_length) == ("GET", "a.example", "/a", 0)
    assert request.fields == (("host", "a.example"),)
    assert request.upgrade == ()
    assert request.raw == GET


@pytest.mark.parametrize(
    ("sent", "host"),
    [
        (b"A.Example", "a.example"),
        (b"a.example.", "a.example"),
        (b"a.example:8080", "a.example"),
        (b"a.example.:80", "a.example"),
        (b"a.example:", "a.example"),
        (b"  a.example\t", "a.example"),
        (b"203.0.113.1", "203.0.113.1"),
        (b"203.0.113.1:80", "203.0.113.1"),
        (b"[2001:DB8::1]:80", "2001:db8::1"),
        (b"[::1]", "::1"),
        (b"[::.]", "::."),
        (b"", None),
    ],
)
def test_a_host_is_lower_case_without_port_and_last_dot(sent, host):
    assert only(with_fields(b"Host:" + sent)).host == host


@pytest.mark.parametrize(
    "sent",
    [
        *(
            b"a.example, b.example",
            b"a b",
            b"a@b.example",
            b"user:pw@a.example",
            b"a.example/",
            b"a.example:80:80",
            b":80",
        ),
        *(
            b"\xc3\xbc.example",
            b"a%2eexample",
            b"a.example:x",
            b"2001:db8::1",
            b"[::1",
            b"::1]",
            b"[a.example]",
            b"a?b",
            b"a#b",
        ),
        *(
            b"http://a.example",
            b"a.example\\b.example",
            b"a.example:000080",
            b"a;b",
            b"[::1]a.example",
            b"a.example\tb",
        ),
    ],
)
def test_a_host_that_cannot_be_one_is_malformed(sent):
    assert why(with_fields(b"Host: " + sent)) == "a host that cannot be one"


@pytest.mark.parametrize("second", [b"Host: a.example", b"host: b.example", b"HOST:"])
def test_a_second_host_is_malformed(second):
    assert why(with_fields(b"Host: a.example", b"X: y", second)) == "host twice"


def test_without_host_only_the_old_version_is_read():
    assert why(b"GET / HTTP/1.1\r\n\r\n") == "no host"
    assert only(b"GET / HTTP/1.0\r\n\r\n").host is None
    assert only(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n").host == "a.example"


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        (b"http://a.example/x?y", b"a.example", "/x"),
        (b"HTTP://A.EXAMPLE/", b"a.example", "/"),
        (b"http://a.example", b"a.example", "/"),
        (b"http://a.example?x", b"a.example", "/"),
        (b"http://a.example:80/", b"a.example", "/"),
        (b"http://a.example/", b"a.example:80", "/"),
        (b"http://a.example./", b"a.example", "/"),
        (b"http://a.example:8080/", b"a.example:8080", "/"),
        (b"http://[::1]/", b"[::1]", "/"),
    ],
)
def test_an_absolute_target_has_the_host_of_the_header(target, host, path):
    request = only(with_fields(b"Host: " + host, line=b"GET " + target + b" HTTP/1.1"))
    assert request.host == host.decode().removesuffix(":80").removesuffix(":8080").strip("[]")
    assert request.path == path


@pytest.mark.parametrize(
    "target",
    [b"http://b.example/", b"http://a.example:81/", b"http://sub.a.example/"],
)
def test_an_absolute_target_with_another_host_is_malformed(target):
    data = with_fields(b"Host: a.example", line=b"GET " + target + b" HTTP/1.1")
    assert why(data) == "a target with another host than the host header's"


@pytest.mark.parametrize("fields", [(), (b"Host:",)])
def test_an_absolute_target_without_the_header_is_malformed(fields):
    data = with_fields(*fields, line=b"GET http://a.example/ HTTP/1.0")
    assert why(data) == "a target with another host than the host header's"


@pytest.mark.parametrize(
    "target", [b"http:///", b"http://@a.example/", b"http://x@a.example/", b"http://a.example\\@b/"]
)
def test_an_absolute_target_without_a_host_or_with_more_is_malformed(target):
    data = with_fields(b"Host: a.example", line=b"GET " + target + b" HTTP/1.1")
    assert why(data) == "a host that cannot be one"


@pytest.mark.parametrize(
    "line",
    [b"GET https://a.example/ HTTP/1.1", b"GET * HTTP/1.1", b"OPTIONS ** HTTP/1.1", b"GET http:a.example HTTP/1.1"],
)
def test_other_targets_are_malformed(line):
    assert why(with_fields(b"Host: a.example", line=line)) == "a target that cannot be read"


def test_the_server_as_a_whole():
    assert only(with_fields(b"Host: a.example", line=b"OPTIONS * HTTP/1.1")).path == "*"


@pytest.mark.parametrize("authority", [b"a.example:443", b"203.0.113.1:22", b"/", b"http://a.example"])
def test_a_tunnel_is_said_with_its_first_line(authority):
    assert read(b"CONNECT " + authority + b" HTTP/1.1\r\n") == [Connect(authority.decode())]
    assert read(GET + b"CONNECT " + authority + b" HTTP/1.1\r\n")[2:] == [Connect(authority.decode())]


@pytest.mark.parametrize(
    "line",
    [
        *(b"GET / HTTP/1.1 ", b"GET /a b HTTP/1.1", b"GET /", b"GET /  HTTP/1.1", b"GET /#f HTTP/1.1"),
        *(b"GET /\xc3\xbc HTTP/1.1", b"GET /\t HTTP/1.1", b"GET / HTTP/1.1 x"),
    ],
)
def test_a_request_line_that_cannot_be_read(line):
    assert why(line + b"\r\n") == "a request line that cannot be read"


@pytest.mark.parametrize(
    "version",
    [b"HTTP/2.0", b"HTTP/1.2", b"", b"HTTP/0.9", b"http/1.1", b"HTTP/1.10", b"HTTP/1", b"RTSP/1.0", b"HTTP/01.1"],
)
def test_other_versions_are_malformed(version):
    assert why(b"GET / " + version + b"\r\n") == "a version that is not HTTP/1.1 or HTTP/1.0"


@pytest.mark.parametrize(
    "field",
    [
        *(
            b" folded",
            b"\tfolded",
            b"X : y",
            b"X\t: y",
            b": y",
            b"no colon",
            b"X Y: z",
            b"X(: y",
            b"\xc3\xbc: y",
            b"Host",
            b"X\xa0: y",
        ),
    ],
)
def test_a_header_that_cannot_be_read(field):
    assert why(with_fields(b"Host: a.example", b"A: b", field)) == "a header that cannot be read"


CONTROL = "a line feed without a carriage return, or another control character"


@pytest.mark.parametrize("byte", [bytes([byte]) for byte in (*range(9), *range(10, 13), *range(14, 32), 127)])
def test_a_control_character_is_malformed_wherever_it_is(byte):
    assert why(b"GET /" + byte) == CONTROL
    assert why(b"GET / HTTP/1.1" + byte) == CONTROL
    assert why(b"GET / HTTP/1.1\r\nHost: a" + byte) == CONTROL
    assert why(b"GET / HTTP/1.1\r\nHost: a\r\nX" + byte) == CONTROL
    assert why(CHUNKED_HEAD + b"3" + byte) == CONTROL
    assert why(CHUNKED_HEAD + b"0\r\nT: x" + byte) == CONTROL


@pytest.mark.parametrize(
    "before", [b"GET / HTTP/1.1", b"GET / HTTP/1.1\r\nHost: a", CHUNKED_HEAD + b"3", b"GET / HTTP/1.1\r\nHost: a\r\n"]
)
@pytest.mark.parametrize("after", [b"\r", b"x", b"\x00"])
def test_so_is_a_carriage_return_alone(before, after):
    assert why(before + b"\r" + after) == "a carriage return without a line feed"


def test_a_head_has_a_largest_size():
    room = MAX_HEAD - len(with_fields(b"Host: a", b"X: "))
    assert only(with_fields(b"Host: a", b"X: " + b"y" * room)).host == "a"
    assert why(with_fields(b"Host: a", b"X: " + b"y" * (room + 1))) == "the head is too large"
    assert why(b"GET /" + b"y" * MAX_HEAD) == "the head is too large"
    assert why(b"GET /" + b"y" * (MAX_HEAD - 6) + b"\r\n") == "the head is too large"


def test_a_head_has_a_largest_number_of_headers():
    assert only(with_fields(b"Host: a", *[b"X: y"] * (MAX_FIELDS - 1))).host == "a"
    assert why(with_fields(b"Host: a", *[b"X: y"] * MAX_FIELDS)) == "too many headers"


def test_a_body_of_tiny_chunks_is_read_in_small_portions():
    sniffer = RequestSniffer()
    sniffer.receive(CHUNKED_HEAD + b"1\r\nx\r\n" * 1000)
    assert isinstance(sniffer.next_event(), Request)
    bodies = []
    while (event := sniffer.next_event()) is not NEED_MORE:
        assert isinstance(event, Body)
        bodies.append(event.raw)
    assert b"".join(bodies) == b"1\r\nx\r\n" * 1000
    assert max(map(len, bodies)) == 64 * 6


def test_the_largest_head_byte_by_byte_is_linear_work():
    data = with_fields(b"Host: a", *[b"X: " + b"y" * 120] * (MAX_FIELDS - 1))
    assert MAX_HEAD * 0.9 < len(data) < MAX_HEAD
    started = time.process_time()
    assert len(read(*singles(data))) == 2
    assert time.process_time() - started < 5


# ---- where a body ends


@pytest.mark.parametrize(
    ("fields", "length"),
    [((), 0), ((b"Content-Length: 0",), 0), ((b"content-length:\t12 ",), 12), ((b"Transfer-Encoding: Chunked",), None)],
)
def test_how_long_a_body_is(fields, length):
    request = read(with_fields(b"Host: a", *fields))[0]
    assert isinstance(request, Request)
    assert request.body_length == length


TWO_ENDS = "a body whose end can be seen in two places"


@pytest.mark.parametrize(
    "fields",
    [
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 0"),
        *(
            (b"Content-Length:" + text,)
            for text in (b"", b" -1", b" +1", b" 5, 5", b" 0x5", b" 5 5", b" 05", b" \xb2", b" 1_0", b" 1" + b"0" * 18)
        ),
        *(
            (b"Transfer-Encoding:" + text,)
            for text in (b"", b" identity", b" gzip, chunked", b" chunked, chunked", b" xchunked", b" chunked;q=1")
        ),
    ],
)
def test_a_body_whose_end_can_be_seen_in_two_places(fields):
    assert why(with_fields(b"Host: a", *fields)) == TWO_ENDS


def test_the_old_version_has_no_chunks():
    assert why(with_fields(b"Host: a", b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0")) == TWO_ENDS


@pytest.mark.parametrize("field", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_even_the_same_twice_is_malformed(field):
    assert why(with_fields(b"Host: a", field, field)).endswith(" twice")


@pytest.mark.parametrize("size", [b"", b"x", b"-1", b" 3", b"3 ", b"0x3", b"3 ;a", b"+3", b"3,3", b"1" * 16, b"\xb2"])
def test_a_chunk_size_that_is_no_number(size):
    assert why(CHUNKED_HEAD + size + b"\r\n") == "a chunk's size is not a hexadecimal number"


def test_a_chunk_is_as_long_as_its_size():
    assert why(CHUNKED_HEAD + b"3\r\nabcd\r\n") == "a chunk is longer than its size"
    assert why(CHUNKED_HEAD + b"3\r\nabc\rx") == "a chunk is longer than its size"
    assert why(CHUNKED_HEAD + b"3\r\nabc\n0\r\n") == "a chunk is longer than its size"


def test_the_line_of_a_chunk_has_a_largest_size():
    room = MAX_CHUNK_LINE - len(b"0;\r\n")
    assert read(CHUNKED_HEAD + b"0;" + b"x" * room + b"\r\n\r\n")[-1] is END
    assert why(CHUNKED_HEAD + b"0;" + b"x" * (room + 1) + b"\r\n\r\n") == "a chunk's size line is too long"
    assert why(CHUNKED_HEAD + b"1" * MAX_CHUNK_LINE) == "a chunk's size line is too long"


@pytest.mark.parametrize("name", [b"Host", b"content-length", b"Transfer-Encoding"])
def test_a_trailer_does_not_change_the_request(name):
    assert why(CHUNKED_HEAD + b"0\r\n" + name + b": 1\r\n\r\n") == "a trailer that would change the request"


def test_trailers_are_headers():
    assert why(CHUNKED_HEAD + b"0\r\nno colon\r\n\r\n") == "a header that cannot be read"
    assert why(CHUNKED_HEAD + b"0\r\n folded: 1\r\n\r\n") == "a header that cannot be read"


def test_trailers_have_a_largest_size_together():
    line = b"T: " + b"x" * 59 + b"\r\n"
    room = (MAX_TRAILERS - 2) // len(line)
    assert read(CHUNKED_HEAD + b"0\r\n" + line * room + b"\r\n")[-1] is END
    assert why(CHUNKED_HEAD + b"0\r\n" + line * (room + 1) + b"\r\n") == "the trailers are too large"


def test_what_was_right_of_a_body_is_handed_on_before_what_is_wrong_is_said():
    for pieces in ([STREAMS["bad chunk"]], singles(STREAMS["bad chunk"])):
        _, body, last = read(*pieces)
        assert body == Body(b"3\r\nabc")
        assert last == Malformed("a chunk is longer than its size")


# ---- past the sniffer


def test_a_body_of_known_length_can_go_past():
    sniffer = RequestSniffer()
    sniffer.receive(with_fields(b"Host: a", b"Content-Length: 1000000") + b"abc")
    assert isinstance(sniffer.next_event(), Request)
    assert sniffer.data_ahead == 0  # what has arrived is taken first
    assert sniffer.next_event() == Body(b"abc")
    assert sniffer.data_ahead == 999_997
    sniffer.passed_by(999_990)
    assert sniffer.next_event() is NEED_MORE
    sniffer.receive(b"1234567" + GET)
    assert sniffer.next_event() == Body(b"1234567")
    assert sniffer.next_event() is END
    assert isinstance(sniffer.next_event(), Request)


def test_a_body_that_went_past_to_its_end_is_over():
    sniffer = RequestSniffer()
    sniffer.receive(POST[:-5])
    assert isinstance(sniffer.next_event(), Request)
    assert sniffer.data_ahead == 5
    sniffer.passed_by(5)
    assert sniffer.data_ahead == 0
    assert sniffer.next_event() is END


def test_so_can_a_chunk():
    sniffer = RequestSniffer()
    sniffer.receive(CHUNKED_HEAD + b"ff\r\n")
    assert isinstance(sniffer.next_event(), Request)
    assert sniffer.next_event() == Body(b"ff\r\n")
    assert sniffer.data_ahead == 255
    sniffer.passed_by(255)
    sniffer.receive(b"\r\n0\r\n\r\n")
    assert sniffer.next_event() == Body(b"\r\n0\r\n\r\n")
    assert sniffer.next_event() is END


def test_no_more_than_that_goes_past():
    sniffer = RequestSniffer()
    sniffer.receive(POST[:-5])
    assert sniffer.data_ahead == 0
    with pytest.raises(RuntimeError):
        sniffer.passed_by(1)
    sniffer.next_event()
    with pytest.raises(RuntimeError):
        sniffer.passed_by(6)


@pytest.mark.parametrize("data", STREAMS.values(), ids=STREAMS)
def test_a_stream_is_the_same_when_its_data_go_past(data):
    assert fuzzed.shape(fuzzed.spliced(data)) == fuzzed.shape(read(data))


# ---- upgrades


@pytest.mark.parametrize(
    ("fields", "upgrade"),
    [
        ((b"Connection: Upgrade", b"Upgrade: WebSocket"), ("websocket",)),
        ((b"Connection: keep-alive, upgrade", b"Upgrade: h2c, websocket/13"), ("h2c", "websocket/13")),
        ((b"Connection: keep-alive", b"Connection: upgrade", b"Upgrade: a", b"Upgrade: b"), ("a", "b")),
        ((b"Connection: close", b"Upgrade: websocket"), ()),
        ((b"Upgrade: websocket",), ()),
        ((b"Connection: upgrade",), ()),
    ],
)
def test_an_upgrade_needs_both_headers(fields, upgrade):
    assert only(with_fields(b"Host: a", *fields)).upgrade == upgrade


def test_the_old_version_asks_for_none():
    fields = (b"Connection: upgrade", b"Upgrade: websocket")
    assert only(with_fields(*fields, line=b"GET / HTTP/1.0")).upgrade == ()


# ---- what is no request


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        *(
            (data, None)
            for data in (b"", b"G", b"GET", b"GET ", b"GET h", b"GET http", b"CONNECT", b"a" * 32, b"HELO h")
        ),
        *(
            (data, True)
            for data in (b"GET /", b"get /", b"X *", b"GET http:", b"GET HTTPS:", b"CONNECT ", b"a" * 32 + b" /")
        ),
        *(
            (data, False)
            for data in (b"\x00", b"\r\n", b" ", b" GET /", b"GET  /", b"GET\t/", b"G\x00T /", b"a" * 33, b"\x16\x03")
        ),
        *(
            (data, False)
            for data in (b"HELO x", b"SSH-2.0-x y", b"GET a.example/", b"a" * 33 + b" /", b"\xff", b"GET hx", b"{}")
        ),
    ],
)
def test_how_a_request_begins(data, expected):
    assert begins_as_request(data) is expected
    for length in range(len(data)):
        assert begins_as_request(data[:length]) in (None, expected)


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01", b"SSH-2.0-x y\r\n", b"\r\n" + GET, b" " + GET, b"PRI * HTTP/2.0\r\n", b"\x00"]
)
def test_another_protocol_is_opaque_at_first_and_malformed_later(data):
    assert read(data) == [OPAQUE]
    assert why(GET + data)
    assert why(POST + data)


# ---- answers


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
ANSWERS = {
    "ok": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", Response(200, ())),
    "no reason": (b"HTTP/1.1 204\r\n\r\n", Response(204, ())),
    "old": (b"HTTP/1.0 404 Not Found\r\n\r\n", Response(404, ())),
    "switch": (SWITCH + b"\x81\x00", Response(101, ("websocket",))),
    "continue first": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + SWITCH,
        Response(101, ("websocket",)),
    ),
    "switch to h2c": (b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", Response(101, ("h2c",))),
    "no switch": (b"HTTP/1.1 426 x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", Response(426, ())),
    "http/2": (b"HTTP/2 200\r\n\r\n", Malformed("a status line that cannot be read")),
    "odd status": (b"HTTP/1.1 99 x\r\n\r\n", Malformed("a status line that cannot be read")),
    "bad header": (b"HTTP/1.1 101 x\r\nno colon\r\n\r\n", Malformed("a header that cannot be read")),
    "bare line feed": (b"HTTP/1.1 101 x\n\n", Malformed(CONTROL)),
    "too large": (b"HTTP/1.1 200 " + b"x" * MAX_HEAD, Malformed("the head is too large")),
    "too many headers": (b"HTTP/1.1 200 x\r\n" + b"X: y\r\n" * (MAX_FIELDS + 1), Malformed("too many headers")),
    "not yet": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 x\r\n", NEED_MORE),
}


@pytest.mark.parametrize(("data", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_read_however_it_arrives(data, expected):
    assert fuzzed_response.outcome([data]) == expected
    assert fuzzed_response.outcome(singles(data)) == expected


def test_what_follows_an_answer_is_not_looked_at():
    sniffer = ResponseSniffer()
    sniffer.receive(SWITCH)
    assert sniffer.next_event() == Response(101, ("websocket",))
    sniffer.receive(b"x" * 1_000_000)
    assert sniffer.next_event() == Response(101, ("websocket",))


# ---- anything

tokens = st.text("abcXYZ09!#$%&'*+-.^_`|~", min_size=1, max_size=12)
hosts = st.lists(st.text("abcXYZ09-_", min_size=1, max_size=10), min_size=1, max_size=4).map(".".join)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30)
paths = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#?"), max_size=20)
headers = st.lists(st.tuples(tokens.map(lambda name: f"x-{name}"), values), max_size=5)
chunked_bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=4)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, tuple[str, str, str, int | None]]:
    """Bytes, and what is to be read in them."""
    method = draw(tokens.filter(lambda method: method != "CONNECT"))
    host, path, length = draw(hosts), f"/{draw(paths)}", None
    target = path if draw(st.booleans()) else f"http://{host.upper()}:80{path}"
    fields = [("Host", host), *draw(headers)]
    if draw(st.booleans()):
        chunks = draw(chunked_bodies)
        fields.append(("transfer-encoding", "chunked"))
        body = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"
    else:
        body = draw(st.binary(max_size=60))
        length = len(body)
        fields += [("Content-Length", str(length))] if length else []
    fields = draw(st.permutations(fields))
    lines = [f"{method} {target}?q HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body, (method, host.lower(), path, length)


@patient
@given(st.lists(requests(), max_size=4), st.lists(st.integers(0, 5000), max_size=6))
def test_any_requests_give_back_what_was_put_in_however_they_are_cut(sent, cuts):
    wire = b"".join(data for data, _ in sent)
    at = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    events = read(*(wire[start:end] for start, end in pairwise(at)))
    found = [event for event in events if isinstance(event, Request)]
    assert [(each.method, each.host, each.path, each.body_length) for each in found] == [said for _, said in sent]
    assert events.count(END) == len(sent)
    fuzzed.check(wire)


@patient
@given(requests(), st.integers(0, 10_000), st.binary(max_size=3), st.integers(0, 3))
def test_a_changed_request_is_read_as_others_read_it_or_refused(sent, place, put, dropped):
    wire, _ = sent
    place %= len(wire) + 1
    changed = wire[:place] + put + wire[place + dropped :]
    fuzzed.check(changed)
    assert read(*singles(changed)) == read(changed)


@patient
@given(st.binary(max_size=300))
def test_any_bytes_have_one_reading(data):
    fuzzed.check(data)
    fuzzed_response.check(data)
    fuzzed_response.check(b"HTTP/1.1 101 \r\n" + data)
