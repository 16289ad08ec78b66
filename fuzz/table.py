"""What is fuzzed: the target, and the modules of ours whose branches guide it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"


@dataclass(frozen=True)
class Target:
    name: str
    modules: tuple[str, ...]
    longest: int
    """Bytes of an input: what matters happens in this many."""
    words: tuple[bytes, ...] = ()
    """Put into inputs as they are."""
    share: int = 1
    """Of a run's inputs or time."""

    @property
    def corpus(self) -> Path:
        return CORPUS / self.name

    def load(self) -> Callable[[bytes], None]:
        check: Callable[[bytes], None] = import_module(f"fuzz.targets.{self.name}").check
        return check


HTTP_WORDS = (
    *(b"GET / HTTP/1.1\r\n", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\r\n\r\n", b"Host: a.example\r\n", b"host:"),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n"),
    *(
        b"http://a.example",
        b"CONNECT a.example:443 ",
        b"OPTIONS * ",
        b"PRI * HTTP/2.0\r\n",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n",
    ),
    *(b"100", b"101", b"200", b"chunked", b", ", b"[::1]", b":80"),
)
POLICY = ("atoll.core.policy", "atoll.core.packet_policy", "atoll.core.names", "atoll.core.reach")
TARGETS = {
    each.name: each
    for each in (
        Target(
            "client_hello",
            ("atoll.wire.client_hello", "atoll.wire.sniffing"),
            1200,
            (b"\x16\x03\x01", b"\x01\x00", b"\x03\x03", b"\x00\x00", b"\x00\x10", b"\xfe\x0d", b"\xff\xce"),
            share=2,
        ),
        Target("request", ("atoll.wire.request_sniff", "atoll.wire.sniffing"), 700, HTTP_WORDS, share=2),
        Target("response", ("atoll.wire.request_sniff", "atoll.wire.sniffing"), 400, HTTP_WORDS, share=2),
        Target("http1_request", ("atoll.wire.http1",), 700, (
            *(*HTTP_WORDS, b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"POST /a?b HTTP/1.1\r\nHost: a\r\n"),
            *(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"Connection: close\r\n"),
        ), share=2),
        Target("http1_answer", ("atoll.wire.http1",), 500, (
            *(*HTTP_WORDS, b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early Hints\r\n", b"204", b"304"),
            *(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", b"HTTP/1.1 101 \r\n"),
        )),
        Target("http1_chunks", ("atoll.wire.http1",), 300, (
            *(b"\r\n", b"0\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"a;b=c\r\n", b"0123456789\r\n", b"00000000000000"),
            *(b"Content-Length: 5\r\n", b"X-Sum: 1\r\n", b"x_forwarded_for: 1\r\n", b"Host: b\r\n", b"\n", b" \r\n"),
        )),
        Target("http2_head", ("atoll.wire.http2", "atoll.wire.http1"), 400, (
            *(b"\x02m\xffGET\xffp\xff/\xffa\xffa.b\xff", b"\x02s\xff200\xff", b"l\xff5\xff", b"cookie\xffa=b\xff"),
            *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\4\0\0\0\0\0", b"\0\0\6\4\0\0\0\0\0\0\4\0\0\0\0"),
            *(b"\0\0\x08\7\0\0\0\0\0\0\0\0\1\0\0\0\0", b"\0\0\1\x09\0\0\0\0\1", b"host", b"expect\xff100-continue"),
            *(b"transfer_encoding", b"x_forwarded_for", b"CONNECT", b"\x03\x82\x84\x86\x41\x03a.b", b"\x40\3x-a\1b"),
        )),
        Target("connect", ("atoll.wire.connect", "atoll.wire.proto_json"), 300, (
            *(b"\0\0\0\0\2{}", b"\2\0\0\0\2{}", b"\1\0\0\0\1x", b"\0\0\0\1\0", b'{"a":', b'{"aB":', b'{"a_b":'),
            *(b'"YQ=="', b'"ONE"', b'"12"', b"1.0", b"null", b"true", b'"\\ud800"', b'["a"]', b'{"a":"b"}', b"1e999"),
        )),
        Target("policy", POLICY, 400),
        Target("policy_json", POLICY, 600, (
            *(b'"allow_out":[', b'"deny_out":["0.0.0.0/0"]', b'"rules":{'),
            *(b'"transform":{"headers":{', b'"dns":"open"'),
            *(b'"egress_proxy":{"address":"', b'"username":"', b'"password":"'),
            *(b'"tls":{"enabled":true', b'"dns_servers":['),
            *(b'"ech":"refuse"', b'"inspect":true', b"*.", b"::ffff:"),
            *(b"64:ff9b::", b"2002:", b"${e2b.secrets.", b'"a.example"'),
        )),
        Target("blocklist", ("atoll.core.blocklist", "atoll.core.names", "atoll.core.reach"), 300, (
            *(b"tcp/25", b"udp/", b"/24", b"::ffff:", b"*.", b"a.example", b"#", b"\n", b"2002:"),
        )),
        Target("dns_message", ("atoll.wire.dns_message", "atoll.egress.answers"), 300, (
            *(b"\0\7\x01\0\0\1\0\0\0\0\0\1", b"\0\7\x81\x80\0\1\0\1\0\1\0\0", b"\1a\7eXample\0\0\1\0\1"),
            *(b"\0\0\x29\4\xd0\0\0\x80\0\0\0", b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4", b"\xc0\x0c\0\6\0\1"),
            *(b"\xc0\x0c\0\x41\0\1\0\0\0\x3c", b"\0\1\0\0\0\0\2\0\5", b"\0\5\0\2ab", b"\0\x1c", b"\0\x40"),
        )),
        Target("names", ("atoll.core.names",), 120, (b"xn--", b"0x", b"*.", "ü".encode(), "。".encode(), b"127.1")),
    )
}  # fmt: skip
PLANTED = Target("planted", ("fuzz.targets.planted",), 16)
"""With a fault that chance does not find: it shows that a run finds one, and says so."""
