"""Fields that pass a proxy: read one by one, or as the lines that they came in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.edge.gate.fields import BEYOND_PATH, HOP_BY_HOP, Passing, inward, outward, outward_block
from atoll.edge.gate.noted import DOOR, HOST_DOOR
from atoll.wire.http1 import Answer, Request, lines, read_answer, read_request

HOST = b"1-a.sandboxes.test"
WAYS = {
    "a host of its own": Passing(b"192.0.2.1", b"https", HOST),
    "a path": Passing(b"192.0.2.1", b"https", b"a.example", mount="/s/a/1"),
    "fields": Passing(b"192.0.2.1", b"https", b"a.example", shared=True),
}
NAMES = st.sampled_from(
    [
        *HOP_BY_HOP,
        *BEYOND_PATH,
        b"set-cookie",
        b"location",
        b"x-a",
        b"connections",
        b"x-connection",
        b"t",
        b"set-cookies",
    ]
).flatmap(lambda name: st.sampled_from([name, name.upper(), name.title(), b"X-" + name, name + b"2"]))
VALUES = st.sampled_from(
    [
        *(b"", b"a", b"x-a", b"close", b"keep-alive, x-a", b"/there", b"a\tb", b"Connection: close", b"\xff"),
        *(b"a=1; Domain=" + HOST, b"a=1; Domain=test", DOOR + b"=1", HOST_DOOR + b"=1"),
    ]
)
BLANKS = st.sampled_from([b"", b" ", b"\t ", b"  "])


@given(st.lists(st.tuples(NAMES, BLANKS, VALUES, BLANKS), max_size=8), st.sampled_from(sorted(WAYS)))
def test_the_lines_say_what_the_fields_say(given_fields, way):
    own = b"".join(b"%b:%b%b%b\r\n" % each for each in given_fields if each[0].lower() not in FRAMES)
    answer = read_answer(b"HTTP/1.1 200 OK\r\n" + own + b"Content-Length: 3\r\n\r\n", b"GET")
    assert isinstance(answer, Answer)
    for _ in range(2):
        passed = read_answer(b"HTTP/1.1 200 OK" + outward_block(answer, WAYS[way]) + b"\r\n\r\n", b"GET")
        assert isinstance(passed, Answer)
        assert passed.fields == outward(answer, WAYS[way])


FRAMES = (b"transfer-encoding", b"content-length")


@pytest.mark.parametrize("way", WAYS)
def test_the_id_is_the_last_that_goes_in_and_nothing_before_it_depends_on_it(way):
    raw = b"POST / HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
    request = read_request(raw)
    assert isinstance(request, Request)
    assert lines(inward(request, WAYS[way], b"")) + b"req_1" == lines(inward(request, WAYS[way], b"req_1"))
