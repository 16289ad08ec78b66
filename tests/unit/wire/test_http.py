from __future__ import annotations

import pytest

from atoll.wire.http import (
    END,
    MAX_CHUNK_LINE,
    MAX_DATA,
    NEED_MORE,
    Data,
    Head,
    HttpError,
    RequestParser,
    UnsatisfiableRange,
    chunk,
    parse_range,
    parse_response_head,
    response_head,
)

GET = b"GET /a%20b?x=1&y=%C3%A9 HTTP/1.1\r\nHost: agent\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: x\r\n\r\n"
MESSAGES = {"get": (GET, b""), "post": (POST, b"hello"), "chunked": (CHUNKED, b"abc0123456789")}


def drive(pieces: list[bytes]) -> tuple[Head | None, bytes, bool]:
    """All events of one request: its head, its body, whether it is complete."""
    parser, head, body = RequestParser(), None, b""
    for piece in pieces:
        parser.receive(piece)
        while (event := parser.next_event()) is not NEED_MORE:
            if isinstance(event, Head):
                head = event
            elif isinstance(event, Data):
                body += event.data
            elif event is END:
                return head, body, True
    return head, body, False


@pytest.mark.parametrize(("message", "body"), MESSAGES.values(), ids=MESSAGES)
def test_a_request_is_the_same_whole_and_byte_by_byte(message: bytes, body: bytes) -> None:
    whole = drive([message])
    single = drive([bytes([byte]) for byte in message])
    assert whole == single
    assert whole[1:] == (body, True)


@pytest.mark.parametrize(("message", "body"), MESSAGES.values(), ids=MESSAGES)
def test_every_proper_prefix_is_incomplete_and_every_split_is_the_whole(message: bytes, body: bytes) -> None:
    whole = drive([message])
    for length in range(len(message)):
        assert not drive([message[:length]])[2]
        assert drive([message[:length], message[length:]]) == whole


def test_a_head_is_decoded() -> None:
    head, _, _ = drive([GET])
    assert head is not None
    assert (head.method, head.path, head.query, head.keep_alive) == ("GET", "/a b", {"x": "1", "y": "é"}, True)


def test_bytes_that_are_not_utf8_survive_in_the_path() -> None:
    head, _, _ = drive([b"GET /%FF HTTP/1.1\r\n\r\n"])
    assert head is not None
    assert head.path.encode(errors="surrogateescape") == b"/\xff"


def test_a_pipelined_request_waits_for_its_turn() -> None:
    parser = RequestParser()
    parser.receive(GET + POST)
    assert isinstance(parser.next_event(), Head)
    assert parser.next_event() is END
    assert parser.next_event() is NEED_MORE
    assert parser.buffered == len(POST)
    parser.start_next()
    assert isinstance(parser.next_event(), Head)


def test_the_next_request_cannot_start_inside_the_current_one() -> None:
    parser = RequestParser()
    with pytest.raises(RuntimeError):
        parser.start_next()


def test_a_data_event_is_bounded() -> None:
    parser = RequestParser()
    parser.receive(b"PUT / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000)
    parser.next_event()
    sizes = [len(event.data) for event in iter(parser.next_event, END) if isinstance(event, Data)]
    assert max(sizes) == MAX_DATA
    assert sum(sizes) == 1_000_000


@pytest.mark.parametrize(
    ("headers", "version", "expected"),
    [
        (b"", b"1.1", True),
        (b"Connection: close\r\n", b"1.1", False),
        (b"Connection: x, Close\r\n", b"1.1", False),
        (b"", b"1.0", False),
        (b"Connection: keep-alive\r\n", b"1.0", True),
    ],
)
def test_keep_alive_follows_version_and_connection(headers: bytes, version: bytes, expected: bool) -> None:
    head, _, _ = drive([b"GET / HTTP/" + version + b"\r\n" + headers + b"\r\n"])
    assert head is not None
    assert head.keep_alive is expected


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"GET http://a/ HTTP/1.1\r\n\r\n", 400),
        (b"G T / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET /\x00 HTTP/1.1\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nNo colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\nB: c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length:\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 33_000, 431),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * MAX_CHUNK_LINE, 400),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 16 + b"\r\n", 400),
    ],
)
def test_malformed_requests_are_refused_whole_and_byte_by_byte(message: bytes, status: int) -> None:
    with pytest.raises(HttpError) as whole:
        drive([message])
    with pytest.raises(HttpError) as single:
        drive([bytes([byte]) for byte in message])
    assert whole.value.status == single.value.status == status


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        (None, 10, None),
        ("bytes=0-3", 10, (0, 4)),
        ("bytes=4-", 10, (4, 10)),
        ("bytes=-3", 10, (7, 10)),
        ("bytes=-30", 10, (0, 10)),
        ("bytes=5-100", 10, (5, 10)),
        ("bytes=5-2", 10, None),
        ("bytes=-", 10, None),
        ("bytes=0-1,3-4", 10, None),
        ("lines=0-1", 10, None),
    ],
)
def test_ranges(text: str | None, size: int, expected: tuple[int, int] | None) -> None:
    assert parse_range(text, size) == expected


@pytest.mark.parametrize(("text", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-0", 0)])
def test_a_range_outside_the_content_is_unsatisfiable(text: str, size: int) -> None:
    with pytest.raises(UnsatisfiableRange):
        parse_range(text, size)


def test_an_empty_chunk_is_nothing_because_it_would_end_the_body() -> None:
    assert chunk(b"", b"") == b""
    assert chunk(b"ab", b"", b"c") == b"3\r\nabc\r\n"


def test_a_response_head_is_rendered() -> None:
    assert response_head(404, [("A", "b")]) == b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\n"


@pytest.mark.parametrize("framing", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
def test_data_can_go_another_way(framing) -> None:
    chunked = b"chunked" in framing
    parser = RequestParser()
    parser.receive(b"PUT / HTTP/1.1\r\n" + framing + b"\r\n\r\n")
    assert parser.data_ahead == 0
    assert isinstance(parser.next_event(), Head)
    if chunked:
        assert (parser.next_event(), parser.data_ahead) == (NEED_MORE, 0)
        parser.receive(b"a\r\n")
    assert (parser.next_event(), parser.data_ahead) == (NEED_MORE, 10)
    parser.receive(b"abc")
    assert parser.data_ahead == 0
    assert parser.next_event() == Data(b"abc")
    assert parser.data_ahead == 7
    with pytest.raises(RuntimeError):
        parser.passed_by(8)
    parser.passed_by(7)
    if chunked:
        assert (parser.next_event(), parser.data_ahead) == (NEED_MORE, 0)
        parser.receive(b"\r\n0\r\n\r\n")
    assert (parser.next_event(), parser.data_ahead) == (END, 0)


def test_an_answer_says_how_long_it_is() -> None:
    head = parse_response_head(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nA: b")
    assert (head.status, head.content_length, head.headers["a"]) == (206, 5, "b")


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nContent-Length: x",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 1",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 1",
        b"",
    ],
)
def test_other_answers_are_refused(raw) -> None:
    with pytest.raises(HttpError):
        parse_response_head(raw)
