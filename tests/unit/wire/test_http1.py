from __future__ import annotations

import time
from contextlib import suppress

import pytest

from atoll.wire.http1 import (
    MAX_CHUNK_LINE,
    MAX_FIELDS,
    MAX_HEAD,
    MAX_TRAILERS,
    NEED_MORE,
    Answer,
    Body,
    Chunks,
    Counted,
    Malformed,
    Request,
    ToTheEnd,
    answer_head,
    read_again,
    read_answer,
    read_request,
    request_head,
)
from fuzz.cuts import singles
from fuzz.targets.http1_request import Read, read_stream
from tests.smuggling import cases

HOST = b"a.example"
HEAD = b"POST /a?b=c HTTP/1.1\r\nHost: a.example\r\nX-A:  b c \t\r\nContent-Length: 5\r\n\r\n"
ANSWER = b"HTTP/1.1 200 Very well\r\nContent-Length: 5\r\nX-A:b\r\n\r\n"
CASES = {case.name: case for case in cases(HOST)}


def request(*lines: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a.example") -> Request:
    found = read_request(b"\r\n".join([line, *([host] if host else []), *lines, b"", b""]))
    assert isinstance(found, Request)
    return found


def answer(*lines: bytes, line: bytes = b"HTTP/1.1 200 OK", method: bytes = b"GET") -> Answer:
    found = read_answer(b"\r\n".join([line, *lines, b"", b""]), method)
    assert isinstance(found, Answer)
    return found


def refusal(data: bytes) -> int:
    with pytest.raises(Malformed) as caught:
        read_request(data)
    assert caught.value.why == str(caught.value)
    return caught.value.status


def fed(body: Body, *pieces: bytes) -> tuple[bytes, bytes]:
    given = [body.take(piece) for piece in pieces]
    return b"".join(out for out, _ in given), b"".join(rest for _, rest in given)


# ---- what has two readings


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_stream_is_refused_or_passes_as_it_has_to(case):
    reads, status = read_stream([case.raw])
    whole = [each for each in reads if each.whole]
    assert status == (case.status or 0)
    for passed, read in zip(case.passed, whole, strict=not case.closes):
        found = (read.request.method, read.request.target, read.content)
        assert found == (passed.method, passed.target, passed.body)
        assert tuple((name.lower(), value) for name, value in read.trailers) == passed.trailers
    assert not case.closes or not whole[len(case.passed) - 1].request.keeps_alive


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_wherever_it_is_cut(case):
    whole = read_stream([case.raw])
    if len(case.raw) < 2000:
        assert read_stream(singles(case.raw)) == whole
    for at in range(0, len(case.raw), 1 + len(case.raw) // 300):
        assert read_stream([case.raw[:at], case.raw[at:]]) == whole, at


# ---- requests


def test_a_request():
    found = read_request(HEAD + b"hello")
    assert found == Request(
        method=b"POST",
        target=b"/a?b=c",
        host=b"a.example",
        fields=[(b"X-A", b"b c"), (b"Content-Length", b"5")],
        length=5,
        keeps_alive=True,
        expects=False,
        upgrade=b"",
        named=frozenset(),
        old=False,
        size=len(HEAD),
    )


def test_a_buffer_that_grows_is_read_as_well():
    found = read_request(bytearray(HEAD))
    assert found == read_request(HEAD)
    assert isinstance(found, Request)
    assert {type(each) for field in found.fields for each in field} == {bytes}


@pytest.mark.parametrize("data", [HEAD, HEAD.replace(b"1.1", b"1.0")])
def test_more_is_awaited_up_to_the_last_byte(data):
    for at in range(len(data)):
        assert read_request(data[:at]) is NEED_MORE
    for at in range(len(ANSWER)):
        assert read_answer(ANSWER[:at], b"GET") is NEED_MORE


@pytest.mark.parametrize(
    "line",
    [b"GET /", b"GET / HTTP/1.1\r\nHost : a", b"GET / HTTP/1.1\r\nX-A: b\r\n c", b"\x16\x03\x01", b"X" * 5000 + b"\n"],
)
def test_a_line_that_is_wrong_is_not_gone_on_from(line):
    assert refusal(line + b"\r\n") == 400


def test_fields_keep_their_order_and_spelling():
    assert request(b"b: 1", b"A:2", b"b:  3").fields == [(b"b", b"1"), (b"A", b"2"), (b"b", b"3")]


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        (b"http://a.example", b"a.example", b"/"),
        (b"http://A.Example/x", b"A.Example", b"/x"),
        (b"https://a.example?x", b"a.example", b"/?x"),
    ],
)
def test_an_absolute_target_is_a_path_and_a_host(target, host, path):
    found = request(line=b"GET " + target + b" HTTP/1.1")
    assert (found.target, found.host) == (path, host)


@pytest.mark.parametrize(
    "host", [b"a", b"a.example:65535", b"127.0.0.1:80", b"[::1]:80", b"[::ffff:1.2.3.4]", b"xn--a-b_c", b"a" * 255]
)
def test_hosts(host):
    assert request(host=b"HOST: " + host + b" ").host == host


@pytest.mark.parametrize("host", [b"a" * 256, b"[]", b"[a]x", b"::1", b":80", b"a:", b"a:123456", b"a;b", b"*"])
def test_no_hosts(host):
    assert refusal(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n") == 400


def test_http_1_0_needs_no_host():
    found = request(line=b"GET / HTTP/1.0", host=b"")
    assert (found.host, found.old, found.keeps_alive) == (b"", True, False)
    assert request(line=b"GET http://b/ HTTP/1.0", host=b"").host == b"b"


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"close"], False),
        (b"1.1", [b"Upgrade ,\tCLOSE"], False),
        (b"1.1", [b"keep-alive", b"close"], False),
        (b"1.1", [b"closed, x-close"], True),
        (b"1.0", [], False),
        (b"1.0", [b"Keep-Alive"], True),
        (b"1.0", [b"keep-alive, close"], False),
    ],
)
def test_whether_a_connection_stays(version, connection, kept):
    lines = [b"Connection: " + each for each in connection]
    assert request(*lines, line=b"GET / HTTP/" + version).keeps_alive is kept
    assert answer(*lines, b"Content-Length: 0", line=b"HTTP/" + version + b" 200 OK").keeps_alive is kept


def test_what_connection_names():
    found = request(b"Connection: X-A ,, x-b", b"connection:\tTE")
    assert found.named == {b"x-a", b"x-b", b"", b"te"}


@pytest.mark.parametrize(
    ("value", "connection", "version", "upgrade"),
    [
        (b"WebSocket", b"keep-alive, Upgrade", b"1.1", b"websocket"),
        (b"tcp", b"upgrade", b"1.1", b"tcp"),
        (b"websocket", b"keep-alive", b"1.1", b""),
        (b"websocket", b"upgrade", b"1.0", b""),
        (b"h2c", b"upgrade", b"1.1", b""),
        (b"websocket ,H2C", b"upgrade", b"1.1", b""),
        (b"HTTP/2.0", b"upgrade", b"1.1", b""),
    ],
)
def test_upgrades(value, connection, version, upgrade):
    found = request(b"Upgrade: " + value, b"Connection: " + connection, line=b"GET / HTTP/" + version)
    assert found.upgrade == upgrade


def test_only_a_client_of_http_1_1_waits_for_100():
    assert request(b"Expect: 100-Continue", b"Content-Length: 1").expects
    assert not request(b"Expect: 100-continue", b"Content-Length: 1", line=b"POST / HTTP/1.0").expects
    assert refusal(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: \r\n\r\n") == 417


# ---- limits


def padded(size: int) -> bytes:
    start = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: "
    return start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"


def test_a_head_of_the_largest_size_and_one_byte_more():
    found = read_request(padded(MAX_HEAD) + b"more")
    assert isinstance(found, Request)
    assert found.size == MAX_HEAD
    assert refusal(padded(MAX_HEAD + 1)) == 431
    assert read_request(padded(MAX_HEAD + 1)[: MAX_HEAD - 1]) is NEED_MORE
    assert refusal(padded(MAX_HEAD + 1)[:MAX_HEAD]) == 431


def test_as_many_fields_as_allowed_and_one_more():
    lines = [b"X-A: b"] * (MAX_FIELDS - 1)
    assert len(request(*lines).fields) == MAX_FIELDS - 1
    more = b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", b"Host: b", *lines, b""])
    assert refusal(more) == 431  # before its end, and before it is looked at
    assert refusal(more + b"\r\n") == 431
    with pytest.raises(Malformed, match="too many"):
        answer(*lines, b"a: b", b"c: d")


HOSTILE = {
    "one value": padded(MAX_HEAD),
    "blanks": padded(MAX_HEAD).replace(b"a", b" ").replace(b"Host: ", b"Host: a"),
    "lines": b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 16_000,
    "a target": b"GET /" + b"a" * MAX_HEAD,
    "a method": b"G" * MAX_HEAD,
    "codings": b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: " + b"chunked," * 8000 + b"\r\n\r\n",
    "upgrades": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: " + b"a, " * 20_000 + b"\r\n\r\n",
    "options": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + b"a, " * 20_000 + b"\r\n\r\n",
    "a URL": b"GET http://" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "colons": b"GET / HTTP/1.1\r\nHost: a\r\nX" + b":" * 60_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_no_head_takes_long(data):
    begun = time.process_time()
    for _ in range(10):
        with suppress(Malformed):
            read_request(data)
    assert time.process_time() - begun < 1.0  # some 10 ms


# ---- answers


def byte_by_byte(data: bytes) -> None:
    for at in range(max(0, len(data) - 100), len(data) + 1):
        read_answer(data[:at], b"GET")


def test_an_answer():
    assert read_answer(ANSWER + b"hello", b"GET") == Answer(
        status=200,
        reason=b"Very well",
        fields=[(b"Content-Length", b"5"), (b"X-A", b"b")],
        length=5,
        chunked=False,
        keeps_alive=True,
        upgrade=b"",
        named=frozenset(),
        size=len(ANSWER),
    )


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 600 High\r\n\r\n",
        b"HTTP/1.1 0200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.1 200 O\rK\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nA: b\n\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 " + b"a" * MAX_HEAD,
    ],
)
def test_what_is_no_answer(data):
    with pytest.raises(Malformed):
        read_answer(data, b"GET")
    with pytest.raises(Malformed):
        byte_by_byte(data)


@pytest.mark.parametrize(
    ("line", "lines", "method", "length", "chunked", "kept"),
    [
        (b"HTTP/1.1 200 OK", [b"Content-Length: 5"], b"GET", 5, False, True),
        (b"HTTP/1.1 200 OK", [b"Transfer-Encoding: Chunked"], b"GET", None, True, True),
        (b"HTTP/1.1 200 OK", [], b"GET", None, False, False),
        (b"HTTP/1.0 200 OK", [b"Connection: keep-alive"], b"GET", None, False, False),
        (b"HTTP/1.1 200 OK", [b"Content-Length: 5"], b"HEAD", 0, False, True),
        (b"HTTP/1.1 200 OK", [b"Transfer-Encoding: chunked"], b"HEAD", 0, False, True),
        (b"HTTP/1.1 200 OK", [], b"HEAD", 0, False, True),
        (b"HTTP/1.1 304 Not Modified", [b"Content-Length: 5"], b"GET", 0, False, True),
        (b"HTTP/1.1 204", [b"Content-Length: 0"], b"POST", 0, False, True),
        (b"HTTP/1.1 204", [b"Transfer-Encoding: chunked"], b"POST", 0, False, True),
        (b"HTTP/1.1 103 Early Hints", [b"Link: </a>"], b"GET", 0, False, True),
        (b"HTTP/1.1 500 No", [b"Content-Length: 0", b"Connection: close"], b"GET", 0, False, False),
    ],
)
def test_where_the_body_of_an_answer_ends(line, lines, method, length, chunked, kept):
    found = answer(*lines, line=line, method=method)
    assert (found.length, found.chunked, found.keeps_alive) == (length, chunked, kept)


def test_only_some_answers_come_before_another():
    assert [status for status in (100, 101, 103, 200) if answer(line=b"HTTP/1.1 %d" % status).preliminary] == [100, 103]


def test_an_answer_that_changes_the_protocol_says_to_which():
    lines = (b"Connection: upgrade", b"Upgrade: WebSocket")
    assert answer(*lines, line=b"HTTP/1.1 101 Switching Protocols").upgrade == b"websocket"
    assert answer(lines[1], line=b"HTTP/1.1 101 Switching Protocols").upgrade == b""


def test_a_reason_may_be_missing_and_have_any_letters():
    assert answer(line=b"HTTP/1.1 200").reason == b""
    assert answer(line=b"HTTP/1.1 200 ").reason == b""
    assert answer(line=b"HTTP/1.1 200 \xe9 \tx").reason == b"\xe9 \tx"


# ---- bodies


def test_kinds_of_bodies():
    assert isinstance(request(b"Content-Length: 5").body(), Counted)
    assert isinstance(request(b"Transfer-Encoding: chunked").body(), Chunks)
    assert request().body().over
    assert isinstance(answer().body(), ToTheEnd)
    assert isinstance(answer(b"Transfer-Encoding: chunked").body(), Chunks)
    assert answer(method=b"HEAD").body().over


def test_a_counted_body_ends_where_it_has_to():
    body = Counted(5)
    assert body.take(b"hel") == (b"hel", b"")
    assert (body.over, body.ended()) == (False, False)
    assert body.take(b"loGET /") == (b"lo", b"GET /")
    assert (body.over, body.ended()) == (True, True)
    assert body.take(b"next") == (b"", b"next")
    assert Counted(2).take(b"ab") == (b"ab", b"")


def test_a_body_to_the_end_is_never_over():
    body = ToTheEnd()
    assert body.take(b"abc") == (b"abc", b"")
    assert (body.over, body.ended()) == (False, True)


CHUNKED = (
    b'3\r\nabc\r\n00A;x\r\n0123456789\r\n1;y="z"\r\n\r\r\n0 \r\nX-Sum: 1 \r\nhost: b\r\nX_Forwarded_For: c\r\n\r\n'
)
CONTENT = b"abc0123456789\r"
PLAIN = b"3\r\nabc\r\na\r\n0123456789\r\n1\r\n\r\r\n0\r\nX-Sum: 1\r\n\r\n"


def test_chunks_go_on_in_one_spelling():
    body = Chunks()
    assert body.take(CHUNKED + b"GET /") == (PLAIN, b"GET /")
    assert body.over
    assert body.trailers == [(b"X-Sum", b"1")]
    assert body.take(b"more") == (b"", b"more")


def test_chunks_go_on_as_their_content_alone():
    body = Chunks(framed=False)
    assert body.take(CHUNKED + b"GET /") == (CONTENT, b"GET /")
    assert body.trailers == [(b"X-Sum", b"1")]


@pytest.mark.parametrize(("framed", "out"), [(True, PLAIN), (False, CONTENT)])
def test_chunks_are_the_same_wherever_they_are_cut(framed, out):
    data = CHUNKED + b"GET /"
    assert fed(Chunks(framed), *singles(data)) == (out, b"GET /")
    for first in range(len(data)):
        for second in range(first, len(data), 3):
            assert fed(Chunks(framed), data[:first], data[first:second], data[second:]) == (out, b"GET /")


def test_a_chunk_goes_on_before_it_is_whole():
    body = Chunks()
    assert body.take(b"ffff\r\nabc") == (b"ffff\r\nabc", b"")
    assert body.take(b"d" * 60_000) == (b"d" * 60_000, b"")
    assert not body.ended()


def test_a_chunk_that_is_longer_is_found_with_the_first_byte_of_that():
    body = Chunks()
    assert body.take(b"1\r\na\r") == (b"1\r\na", b"")
    for pieces in ([b"1\r\nab"], [b"1\r\na", b"b"], [b"1\r\na\r", b"\r"]):
        with pytest.raises(Malformed):
            fed(Chunks(), *pieces)


def test_chunked_bodies_that_do_not_end_are_not_whole():
    for at in range(len(CHUNKED)):
        body = Chunks()
        body.take(CHUNKED[:at])
        assert not body.ended()


def test_a_chunks_line_of_the_largest_size():
    line = b"1;" + b"a" * (MAX_CHUNK_LINE - 4) + b"\r\n"
    assert fed(Chunks(framed=False), line + b"x\r\n") == (b"x", b"")
    for pieces in ([line[:2] + b"a" + line[2:]], singles(line[:2] + b"a" + line[2:])):
        with pytest.raises(Malformed):
            fed(Chunks(), *pieces)


def test_trailers_of_the_largest_size():
    lines = b"X-A: " + b"a" * (MAX_TRAILERS - 9) + b"\r\n\r\n"
    body = Chunks()
    assert body.take(b"0\r\n" + lines) == (b"0\r\n" + lines, b"")
    for pieces in ([b"0\r\nX" + lines], [b"0\r\nX", lines[:-4], lines[-4:]]):
        with pytest.raises(Malformed) as caught:
            fed(Chunks(), *pieces)
        assert caught.value.status == 431


def test_trailers_are_not_awaited_for_ever():
    for pieces in ([b"0\r\nX" + b"a" * (MAX_TRAILERS - 1)], [b"0\r\n", b"a" * (MAX_TRAILERS - 1), b"a"]):
        with pytest.raises(Malformed) as caught:
            fed(Chunks(), *pieces)
        assert caught.value.status == 431


def test_trailers_are_counted_however_they_come():
    lines = [b"0\r\n", *[b"a:\r\n"] * MAX_FIELDS, b"\r\n"]
    fed(Chunks(), *lines)
    for pieces in ([*lines[:-1], b"a:\r\n"], [b"".join([*lines[:-1], b"a:\r\n", lines[-1]])]):
        with pytest.raises(Malformed) as caught:
            fed(Chunks(), *pieces)
        assert caught.value.status == 431


@pytest.mark.parametrize("line", [b"X-Sum\r\n", b"X-Sum: 1\n", b" X-Sum: 1\r\n", b"A: b\r\n: c\r\n"])
def test_a_trailer_that_is_wrong_is_not_gone_on_from(line):
    with pytest.raises(Malformed) as caught:
        fed(Chunks(), b"0\r\n", *singles(line))
    assert caught.value.status == 400


@pytest.mark.parametrize("size", [b"7fffffffffffff0", b"FFFFFFFFFFFFFFF"])
def test_a_chunk_as_large_as_can_be_said(size):
    body = Chunks()
    assert body.take(size + b"\r\nabc") == (size.lower() + b"\r\nabc", b"")


# ---- writing


def test_heads_are_written_as_they_are_read():
    fields = [(b"Host", b"a"), (b"X-A", b"b c"), (b"Content-Length", b"0")]
    head = request_head(b"PUT", b"/x?y", fields)
    assert head == b"PUT /x?y HTTP/1.1\r\nHost: a\r\nX-A: b c\r\nContent-Length: 0\r\n\r\n"
    found = read_request(head)
    assert isinstance(found, Request)
    assert (found.method, found.target, found.fields) == (b"PUT", b"/x?y", fields[1:])
    head = answer_head(404, b"Not here", fields)
    assert head.startswith(b"HTTP/1.1 404 Not here\r\nHost: a\r\n")
    found_answer = read_answer(head, b"GET")
    assert isinstance(found_answer, Answer)
    assert (found_answer.status, found_answer.reason, found_answer.fields) == (404, b"Not here", fields)


def test_a_stream_is_read_to_where_it_breaks_off():
    (first, second), status = read_stream([HEAD + b"hello" + HEAD + b"hel"])
    assert isinstance(first, Read)
    assert (status, first.whole, second.whole, second.content) == (0, True, False, b"hel")


def test_a_request_like_the_one_before_is_read_as_by_itself():
    before = read_request(HEAD)
    assert isinstance(before, Request)
    other = HEAD.replace(b"/a?b=c", b"/other")
    assert read_again(other + b"hello", before) == read_request(other)
    for at in range(len(other)):
        assert read_again(other[:at], before) is None


@pytest.mark.parametrize(
    "other",
    [
        HEAD.replace(b"POST", b"PUT"),
        HEAD.replace(b"/a?b=c", b"/a#b"),
        HEAD.replace(b"/a?b=c", b"/a b"),
        HEAD.replace(b"/a?b=c", b"http://b.example/"),
        HEAD.replace(b"/a?b=c", b"*"),
        HEAD.replace(b"1.1", b"1.0"),
        HEAD.replace(b": 5", b": 6"),
        HEAD.replace(b": 5\r\n", b": 5\r\nContent-Length: 6\r\n"),
        HEAD.replace(b"\r\n\r\n", b"\r\n X: y\r\n\r\n"),
        HEAD.replace(b"/a?b=c", b"/" + b"a" * MAX_HEAD),
    ],
)
def test_a_request_that_differs_in_more_is_read_anew(other):
    before = read_request(HEAD)
    assert isinstance(before, Request)
    assert read_again(other, before) is None
