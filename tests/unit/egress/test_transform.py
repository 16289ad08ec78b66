"""Whatever a sandbox sends, what leaves is one request for the rule's name with the rule's headers, to any reader."""

from __future__ import annotations

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll.core.policy import UNSETTABLE, Transform
from atoll.egress.transform import (
    NOT_IN_TRAILERS,
    ONE_HOP,
    Onward,
    Refused,
    answer_headers,
    host_name,
    is_strict,
    onward,
    trailers,
)
from atoll.wire.http import HttpError, parse_head

NAME = "api.example.com"
RULES = (("Authorization", "Bearer s3cret"), ("X-Api-Key", "k"))
RULED = Transform(NAME, RULES)


def read(raw: bytes) -> h11.Request | None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request) else None


def written(request: Onward) -> bytes:
    data = h11.Connection(h11.CLIENT).send(request.request())
    assert data is not None
    return data


header_names = st.sampled_from(
    ["Host", "host", "Content-Length", "Transfer-Encoding", "Connection", "Authorization", "AUTHORIZATION", "X_Api_Key",
     "Upgrade", "TE", "Expect", "Proxy-Connection", "Keep-Alive", "HTTP2-Settings", "A", "Host ", " Host", ""]
)  # fmt: skip
header_values = st.one_of(
    st.sampled_from([NAME, f"{NAME}:443", "other.example", "chunked", "gzip, chunked", "0", "5", "5, 5", "5, 6",
                     "close", "keep-alive, authorization", "Upgrade", "websocket", "h2c", "trailers", "100-continue",
                     "", "a\r\n b", "a\nHost: other.example", "a\rb", "\0"]),
    st.text(st.characters(max_codepoint=255), max_size=20),
)  # fmt: skip
FRAMING = [("Content-Length", "5"), ("Transfer-Encoding", "chunked"), ("content-length", "5, 5"), ("Upgrade", "h2c")]
targets = st.one_of(
    st.sampled_from(["/", "*", "/a?b", f"http://{NAME}/x", f"https://{NAME}/x", f"https://{NAME}", "https://other.example/",
                     f"https://u@{NAME}/", "//other.example/", f"{NAME}:443", "/a#b", "/\t", "/ HTTP/1.1\r\nHost: o"]),
    st.text(st.characters(max_codepoint=255), max_size=20),
)  # fmt: skip
heads = st.builds(
    lambda method, target, version, headers, end: (
        f"{method} {target} {version}{end}" + "".join(f"{name}: {value}{end}" for name, value in headers) + end
    ).encode("latin-1", "replace"),
    st.sampled_from(["GET", "POST", "OPTIONS", "CONNECT", "TRACE", "PRI", "get", ""]),
    targets,
    st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", ""]),
    st.builds(
        lambda host, given: [("Host", host), *given],
        st.sampled_from([NAME, NAME, NAME, "other.example", f"{NAME}.", "203.0.113.7"]),
        st.lists(st.one_of(st.sampled_from(FRAMING), st.tuples(header_names, header_values)), max_size=6),
    ),
    st.sampled_from(["\r\n", "\r\n", "\r\n", "\n"]),
)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(heads, st.booleans())
def test_what_leaves_is_one_request_for_the_name_with_the_rules_headers(raw, tls):
    request = read(raw) if is_strict(raw) else None
    if request is None:
        return
    found = onward(request, tls, RULED)
    if isinstance(found, Refused):
        return
    left = written(found)
    assert left.endswith(b"\r\n\r\n")
    assert left.count(b"\r\n\r\n") == 1
    lines = left[:-4].split(b"\r\n")
    assert lines[0].endswith(b" HTTP/1.1")
    assert is_strict(left)
    headers = [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in lines[1:])]
    hosts = [value for name, value in headers if name == b"host"]
    assert [host_name(host) for host in hosts] == [NAME]
    alike = [value for name, value in headers if name.replace(b"_", b"-") in (b"authorization", b"x-api-key")]
    assert sorted(alike) == [b"Bearer s3cret", b"k"]
    assert not {name for name, _ in headers} & {b"proxy-connection", b"keep-alive", b"http2-settings"}
    lengths = {name for name, _ in headers} & {b"content-length", b"transfer-encoding"}
    assert len(lengths) <= 1
    if found.target == b"*":
        return
    try:
        strict = parse_head(left[:-4])
    except HttpError:
        pytest.fail(f"another strict reader does not take it: {left!r}")
    assert strict.headers["host"] == hosts[0].decode()


@pytest.mark.parametrize(
    ("raw", "strict"),
    [
        (b"GET / HTTP/1.1\r\nA: b\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nA: b\tc\r\n\r\nbody\nwith\0anything", True),
        (b"GET / HTTP/1.1\r", True),
        (b"", True),
        (b"GET / HTTP/1.1\n", False),
        (b"GET / HTTP/1.1\r\nA: b\n\r\n", False),
        (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n", False),
        (b"GET / HTTP/1.1\r\n\tc\r\n", False),
        (b"GET / HTTP/1.1\r\nA: b\rc", False),
        (b"GET / HTTP/1.1\r\nA: \x7f", False),
        (b"\x16\x03\x01", False),
    ],
)
def test_strict_lines(raw, strict):
    assert is_strict(raw) is strict


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"Example.COM", "example.com"),
        (b"example.com.", "example.com"),
        (b"example.com:8443", "example.com"),
        (b"example.com:", "example.com"),
        (b"example.com:http", None),
        (b"a@example.com", None),
        (b"203.0.113.7", None),
        (b"[2001:db8::1]", None),
        (b"example.com/x", None),
        (b"", None),
    ],
)
def test_a_hosts_name(value, name):
    assert host_name(value) == name


def test_no_rule_can_set_what_frames_a_request_and_no_trailer_either():
    framing = {name.encode() for name in UNSETTABLE}
    assert framing - {b"host", b"content-length", b"transfer-encoding", b"trailer", b"expect"} <= ONE_HOP
    assert framing <= NOT_IN_TRAILERS


def test_a_websocket_is_the_only_change_of_protocol_that_is_asked_for():
    def asked(*lines: str) -> list[bytes]:
        raw = "\r\n".join(["GET / HTTP/1.1", f"Host: {NAME}", *lines, "", ""]).encode()
        request = read(raw)
        assert request is not None
        found = onward(request, True, RULED)
        assert isinstance(found, Onward)
        return [value for name, value in found.headers if name.lower() in (b"upgrade", b"connection")]

    assert asked("Connection: keep-alive, Upgrade", "Upgrade: WebSocket") == [b"websocket", b"keep-alive, Upgrade"]
    assert asked("Connection: Upgrade", "Upgrade: h2c") == []
    assert asked("Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c") == []
    assert asked("Upgrade: websocket") == []


def test_secrets_do_not_show_when_requests_are_printed():
    request = read(f"GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
    assert request is not None
    assert "s3cret" not in repr(onward(request, True, RULED))


def test_an_answer_keeps_its_headers_but_no_offer_of_http_3():
    answer = h11.Response(
        status_code=200,
        headers=[("Set-Cookie", "a"), ("Alt-Svc", 'h3=":443"'), ("Set-Cookie", "b")],
        http_version=b"1.1",
    )
    assert answer_headers(answer) == [(b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")]
    old = h11.Response(status_code=200, headers=[("Connection", "keep-alive")], http_version=b"1.0")
    assert (b"Connection", b"close") in answer_headers(old)


def test_trailers_set_neither_frames_nor_headers_of_rules():
    given_ = h11.EndOfMessage(headers=[("Sum", "1"), ("Host", "o"), ("authorization", "mine"), ("x_api_key", "mine")])
    assert trailers(given_.headers, RULES) == [(b"Sum", b"1")]
