"""Requests that two servers could read in two ways, and what has to become of each: bytes, and what passes of them.

`cases(host)` are for that host. A case is a stream of one connection: first the requests that pass, each of them as
exactly this; then, where it has one, the status with which the stream is given up. A stream without one is good to its
end: another request on the connection is dealt with, unless the last one closes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

Trailers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Passed:
    """As it has to arrive."""

    method: bytes = b"POST"
    target: bytes = b"/"
    body: bytes = b""
    trailers: Trailers = ()
    has: Trailers = ()
    """Fields, names in lower case."""
    lacks: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Case:
    name: str
    raw: bytes
    passed: tuple[Passed, ...] = ()
    status: int | None = None
    closes: bool = False
    """The last that passes is the connection's last."""
    at_edge: int | None = None
    """The status with which the edge refuses what is well-formed."""


@dataclass
class _Table:
    host: bytes
    rows: list[Case] = field(default_factory=list)

    def head(self, *lines: bytes, line: bytes = b"POST / HTTP/1.1", host: bool = True) -> bytes:
        own = [b"Host: " + self.host] if host else []
        return b"\r\n".join([line, *own, *lines, b"", b""])

    @property
    def evil(self) -> bytes:
        """What an attacker wants to be taken for a request."""
        return self.head(line=b"GET /evil HTTP/1.1")

    def refused(self, name: str, raw: bytes, status: int = 400, *before: Passed) -> None:
        self.rows.append(Case(name, raw, before, status))

    def passes(self, name: str, raw: bytes, *passed: Passed, closes: bool = False, at_edge: int | None = None) -> None:
        self.rows.append(Case(name, raw, passed or (Passed(),), None, closes, at_edge))


def cases(host: bytes) -> tuple[Case, ...]:
    """`host`: a name, without a port."""
    table = _Table(host)
    for add in (_lengths, _codings, _lines, _hosts, _targets, _versions, _sizes, _chunks, _trailers, _hops, _streams):
        add(table)
    assert len({case.name for case in table.rows}) == len(table.rows)
    return tuple(table.rows)


CHUNKED = b"Transfer-Encoding: chunked"
END = b"0\r\n\r\n"


def _lengths(t: _Table) -> None:
    for name, value in {
        "signed": b"+5",
        "negative": b"-5",
        "hexadecimal": b"0x5",
        "octal, some say": b"05",
        "with a fraction": b"5.0",
        "with an exponent": b"5e0",
        "with an underscore": b"1_0",
        "in other digits": "٥".encode(),
        "in quotes": b'"5"',
        "of two words": b"5 5",
        "with a parameter": b"5;a",
        "list of equals": b"5, 5",
        "list of two": b"5, 0",
        "of no digits": b"",
        "beyond 64 bits": b"18446744073709551621",
        "of a hundred digits": b"1" * 100,
    }.items():
        t.refused(f"length {name}", t.head(b"Content-Length: " + value) + b"12345" + t.evil)
    t.refused("two lengths", t.head(b"Content-Length: 0", b"Content-Length: 30") + t.evil)
    t.refused("two equal lengths", t.head(b"Content-Length: 5", b"content-length: 5") + b"12345")
    t.refused("length with an underscore in its name", t.head(b"Content_Length: 5") + b"12345")
    t.passes("length between blanks", t.head(b"Content-Length: \t 5 \t ") + b"12345", Passed(body=b"12345"))


def _codings(t: _Table) -> None:
    size = b"Content-Length: %d" % len(END + t.evil)
    t.refused("CL.TE", t.head(size, CHUNKED) + END + t.evil)
    t.refused("TE.CL", t.head(CHUNKED, b"Content-Length: 3") + b"%x\r\n" % len(t.evil) + t.evil + b"\r\n" + END)
    t.refused("TE.0", t.head(CHUNKED, b"Content-Length: 0") + END + t.evil)
    t.refused("CL.TE, hidden in Connection", t.head(size, CHUNKED, b"Connection: transfer-encoding") + END + t.evil)
    for name, lines, status in (
        ("chunked twice", (CHUNKED, CHUNKED), 400),
        ("identity behind it", (CHUNKED, b"Transfer-Encoding: identity"), 400),
        ("identity before it", (b"Transfer-Encoding: identity", CHUNKED), 400),
        ("chunked, identity", (b"Transfer-Encoding: chunked, identity",), 400),
        ("chunked, chunked", (b"Transfer-Encoding: chunked, chunked",), 400),
        ("gzip, chunked", (b"Transfer-Encoding: gzip, chunked",), 501),
        ("gzip, deflate", (b"Transfer-Encoding: gzip, deflate",), 400),
        ("gzip, chunked behind it", (CHUNKED, b"Transfer-Encoding: gzip, chunked"), 400),
        ("identity", (b"Transfer-Encoding: identity",), 400),
        ("xchunked", (b"Transfer-Encoding: xchunked",), 400),
        ("in quotes", (b'Transfer-Encoding: "chunked"',), 400),
        ("with a parameter", (b"Transfer-Encoding: chunked;q=1",), 400),
        ("with a vertical tab", (b"Transfer-Encoding:\x0bchunked",), 400),
        ("with a form feed", (b"Transfer-Encoding: chunked\x0c",), 400),
        ("with NUL", (b"Transfer-Encoding: chunked\0",), 400),
        ("with NEL", (b"Transfer-Encoding: chunked\x85",), 400),
        ("with a Kelvin sign", ("Transfer-Encoding: chun\u212aed".encode(),), 400),
        ("of nothing", (b"Transfer-Encoding:",), 400),
        ("blank before the colon", (b"Transfer-Encoding : chunked",), 400),
        ("tab before the colon", (b"Transfer-Encoding\t: chunked",), 400),
        ("line begins with a blank", (b" Transfer-Encoding: chunked",), 400),
        ("on a folded line", (b"Transfer-Encoding:\r\n chunked",), 400),
        ("behind a folded line", (b"X-A: b\r\n\tc", CHUNKED), 400),
        ("behind a bare line feed", (b"X-A: b\n" + CHUNKED,), 400),
        ("behind a bare carriage return", (b"X-A: b\r" + CHUNKED,), 400),
        ("behind a doubled carriage return", (b"X-A: b\r\r\n" + CHUNKED,), 400),
        ("with an underscore in its name", (b"Transfer_Encoding: chunked",), 400),
    ):
        t.refused(f"coding {name}", t.head(*lines) + END + t.evil, status)
    t.refused("chunks of HTTP/1.0", t.head(CHUNKED, line=b"POST / HTTP/1.0") + END + t.evil)
    t.passes("coding behind a tab", t.head(b"Transfer-Encoding:\tchunked") + b"1\r\na\r\n" + END, Passed(body=b"a"))
    t.passes("coding in capitals", t.head(b"TRANSFER-ENCODING: Chunked\t") + b"1\r\na\r\n" + END, Passed(body=b"a"))


def _lines(t: _Table) -> None:
    for name, line in {
        "without a colon": b"X-A",
        "without a name": b": b",
        "with a blank in its name": b"X A: b",
        "with a slash in its name": b"X/A: b",
        "with NUL in its name": b"X\0A: b",
        "with letters beyond ASCII in its name": "X-Ä: b".encode(),
        "with NUL": b"X-A: \0",
        "with DEL": b"X-A: \x7f",
        "with an escape": b"X-A: \x1b[1m",
        "with a bare carriage return": b"X-A: b\rc",
        "with a bare line feed": b"X-A: b\nX-C: d",
        "that is folded": b"X-A: b\r\n c: d",
        "that is a blank": b" ",
    }.items():
        t.refused(f"a field {name}", t.head(line))
    t.refused("line feeds alone", t.evil.replace(b"\r\n", b"\n"))
    t.refused("one empty line too early", b"GET / HTTP/1.1\r\n\r\nHost: " + t.host + b"\r\n\r\n")
    # One empty line before a request may be ignored (RFC 9112, 2.2); a request behind one is refused here.
    t.refused("an empty line before the request", b"\r\n" + t.evil)
    t.refused("a line feed before the request", b"\n" + t.evil)
    t.refused("a blank before the request", b" " + t.evil)
    t.refused("NUL before the request", b"\0" + t.evil)
    t.passes("a value beyond ASCII", t.head(b"X-A: \xc3\xa9"), Passed(has=((b"x-a", b"\xc3\xa9"),)))
    t.passes("an empty value", t.head(b"X-A:", b"X-B: \t "), Passed(has=((b"x-a", b""), (b"x-b", b""))))


def _hosts(t: _Table) -> None:
    host = t.host
    t.refused("no host", t.head(host=False))
    t.refused("two hosts", t.head(b"Host: other.example"))
    t.refused("two equal hosts", t.head(b"HOST: " + host))
    for name, value in {
        "empty": b"",
        "of two": host + b", " + host,
        "with a path": host + b"/a",
        "with a user": b"me@" + host,
        "with a blank": host + b" x",
        "with a backslash": host + b"\\a",
        "with an escape": host + b"%00",
        "with a mark": host + b"?",
        "with two ports": host + b":80:80",
        "with a port that is none": host + b":http",
        "with an address that does not end": b"[::1",
        "beyond ASCII": "é".encode() + host,
    }.items():
        t.refused(f"host {name}", t.head(b"Host: " + value, host=False))
    t.passes("host with a port", t.head(b"Host: " + host + b":1234", host=False))


def _targets(t: _Table) -> None:
    host = t.host
    own = Passed(method=b"GET", target=b"/a?b", has=((b"x-forwarded-host", host),))
    t.passes("absolute target", t.head(line=b"GET http://" + host + b"/a?b HTTP/1.1"), own)
    t.passes("absolute target in capitals", t.head(line=b"GET HTTP://" + host + b"/a?b HTTP/1.1"), own)
    bare = Passed(method=b"GET", target=b"/?b")
    t.passes("absolute target without a path", t.head(line=b"GET http://" + host + b"?b HTTP/1.1"), bare)
    for name, target, status in (
        ("of another host", b"http://other.example/", 400),
        ("of another port", b"http://" + host + b":81/", 400),
        ("with a user", b"http://me@" + host + b"/", 400),
        ("without a host", b"http:///a", 400),
        ("of another scheme", b"ftp://" + host + b"/", 400),
        ("that is a star", b"*", 400),
        ("that is a name", host, 400),
        ("with a fragment", b"/#a", 400),
        ("with a blank", b"/a b", 400),
        ("with a tab", b"/a\tb", 400),
        ("with NUL", b"/a\0b", 400),
        ("with a bare line feed", b"/a\nX-Evil: 1", 400),
        ("with a bare carriage return", b"/a\rX-Evil: 1", 400),
        ("with a line end", b"/a\r\nX-Evil: 1", 400),
        ("that is empty", b"", 400),
    ):
        t.refused(f"target {name}", t.head(line=b"GET " + target + b" HTTP/1.1"), status)
    t.refused("absolute target and no host", t.head(line=b"GET http://" + host + b"/ HTTP/1.1", host=False))
    t.refused("CONNECT", t.head(line=b"CONNECT " + host + b":80 HTTP/1.1"), 405)
    t.passes("CONNECT of a path", t.head(line=b"CONNECT / HTTP/1.1"), Passed(method=b"CONNECT"), at_edge=405)
    t.passes("TRACE", t.head(line=b"TRACE / HTTP/1.1"), Passed(method=b"TRACE"), at_edge=405)
    t.refused("two blanks in the line", t.head(line=b"GET  / HTTP/1.1"))
    t.refused("a tab in the line", t.head(line=b"GET\t/ HTTP/1.1"))
    t.refused("a method that is no word", t.head(line=b"GE(T / HTTP/1.1"))
    injected = b"/a%0d%0aX-Evil:%201%0d%0a"
    t.passes("an escaped line end", t.head(line=b"GET " + injected + b" HTTP/1.1"), Passed(b"GET", injected))
    t.passes("dots", t.head(line=b"GET //a/../%2e%2e/b\\c HTTP/1.1"), Passed(b"GET", b"//a/../%2e%2e/b\\c"))


def _versions(t: _Table) -> None:
    t.refused("HTTP/0.9", b"GET /\r\n")
    for version, status in (
        *((b"HTTP/1.2", 505), (b"HTTP/2.0", 505), (b"HTTP/3", 505), (b"HTTP/0.9", 505)),
        *((b"http/1.1", 400), (b"HTTP/1.1 ", 400), (b"HTTP/1.10", 400), (b"HTTP/01.1", 400), (b"HTTP/1,1", 400)),
        *((b"HTTP/ 1.1", 400), (b"HTTPS/1.1", 400), (b"HTTP/1.1\0", 400), (b"ICY/1.1", 400)),
    ):
        t.refused(f"version {version.decode()!r}", t.head(line=b"GET / " + version), status)
    t.refused("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), 505)
    t.refused("no HTTP at all", b"SSH-2.0-OpenSSH_9.2\r\n")
    t.passes("HTTP/1.0", t.head(line=b"GET / HTTP/1.0") + t.evil, Passed(b"GET"), closes=True)
    kept = t.head(b"Connection: keep-alive", line=b"GET / HTTP/1.0")
    t.passes("HTTP/1.0 that stays", kept, Passed(b"GET", lacks=(b"connection",)))


def _sizes(t: _Table) -> None:
    t.refused("a target of 70 KiB", t.head(line=b"GET /" + b"a" * 70 * 1024 + b" HTTP/1.1"), 431)
    t.refused("a value of 70 KiB", t.head(b"X-A: " + b"a" * 70 * 1024), 431)
    t.refused("two hundred fields and one", t.head(*[b"X-%d: a" % at for at in range(200)]), 431)
    t.refused("fields without an end", t.head()[:-2] + b"X-A: b\r\n" * 10_000, 431)
    t.passes("two hundred fields", t.head(*[b"X-%d: a" % at for at in range(199)]), Passed(has=((b"x-198", b"a"),)))


def _chunks(t: _Table) -> None:
    head = t.head(CHUNKED)
    for name, body in {
        "size with a sign": b"+5\r\nabcde\r\n" + END,
        "size below zero": b"-5\r\nabcde\r\n" + END,
        "size with 0x": b"0x5\r\nabcde\r\n" + END,
        "size with an underscore": b"0_5\r\nabcde\r\n" + END,
        "size behind a blank": b" 5\r\nabcde\r\n" + END,
        "size that is none": b"\r\nabcde\r\n" + END,
        "size of no digits": b";a\r\nabcde\r\n" + END,
        "size that overflows 64 bits": b"10000000000000005\r\nabcde\r\n" + END,
        "size of many zeros": b"0" * 16 + b"5\r\nabcde\r\n" + END,
        "size before a bare line feed": b"5\nabcde\r\n" + END,
        "size before a bare carriage return": b"5\rabcde\r\n" + END,
        "extension with a bare line feed": b"5;a\nabcde\r\n" + END,
        "extension with a bare carriage return": b"5;a\rb\r\nabcde\r\n" + END,
        "extension with NUL": b"5;\0\r\nabcde\r\n" + END,
        "extension without an end": b"5;" + b"a" * 300,
        "extension without a mark": b"5 a\r\nabcde\r\n" + END,
        "content that is longer": b"5\r\nabcdefg\r\n" + END,
        "content that is shorter": b"5\r\nabc\r\n" + END,
        "content and a bare line feed": b"5\r\nabcde\n" + END,
        "content and no line end": b"5\r\nabcde" + END,
        "content and two bytes that are no line end": b"5\r\nabcdeXX" + END,
        "last of them before a bare line feed": b"5\r\nabcde\r\n0\n\n",
        "end with a bare line feed": b"5\r\nabcde\r\n0\r\n\n",
    }.items():
        t.refused(f"a chunk's {name}", head + body + t.evil)
    five = Passed(body=b"abcde", lacks=(b"content-length",))
    t.passes("a chunk's size with zeros", head + b"0000005\r\nabcde\r\n000\r\n\r\n", five)
    t.passes("a chunk's size before blanks", head + b"5 \t\r\nabcde\r\n" + END, five)
    t.passes("a chunk's extension", head + b'5;a="b";c\r\nabcde\r\n0;d\r\n\r\n', five)
    t.passes("a request as a chunk", head + b"%X\r\n" % len(t.evil) + t.evil + b"\r\n" + END, Passed(body=t.evil))
    t.passes("an end within a chunk", head + b"5\r\n" + END + b"\r\n" + END, Passed(body=END))
    t.refused("something behind the last chunk", head + END + b"rubbish\r\n" + t.evil, 400, Passed())
    t.refused("a chunk more than the last", head + END + b"5\r\nabcde\r\n" + END, 400, Passed())


def _trailers(t: _Table) -> None:
    head = t.head(CHUNKED, b"Trailer: X-Sum") + b"1\r\na\r\n0\r\n"
    t.passes(
        "trailers", head + b"X-Sum: 1\r\nX-B:2 \r\n\r\n", Passed(body=b"a", trailers=((b"x-sum", b"1"), (b"x-b", b"2")))
    )
    for line in (
        *(b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Host: other.example", b"Connection: close"),
        *(
            b"Authorization: Bearer x",
            b"Cookie: a=b",
            b"X-Forwarded-For: 6.6.6.6",
            b"x_forwarded_host: a",
            b"X-Atoll-A: b",
            b"Expect: a",
        ),
    ):
        left = Passed(body=b"a", trailers=((b"x-sum", b"1"),))
        t.passes(f"trailer {line.decode()}", head + line + b"\r\nX-Sum: 1\r\n\r\n", left)
    for name, lines in {
        "that is folded": b"X-Sum: 1\r\n 2\r\n\r\n",
        "before a bare line feed": b"X-Sum: 1\n\r\n",
        "with a blank before the colon": b"X-Sum : 1\r\n\r\n",
        "without a colon": b"X-Sum\r\n\r\n",
        "with NUL": b"X-Sum: \0\r\n\r\n",
    }.items():
        t.refused(f"a trailer {name}", head + lines + t.evil)
    t.refused("trailers without an end", head + b"X-Sum: 1\r\n" * 2000, 431)


def _hops(t: _Table) -> None:
    counted = t.head(b"Connection: Content-Length, X-Hop", b"X-Hop: 1", b"Content-Length: 1") + b"a"
    kept = Passed(body=b"a", has=((b"content-length", b"1"),), lacks=(b"x-hop", b"connection"))
    t.passes("Connection names the length", counted, kept)
    chunked = t.head(b"Connection: Transfer-Encoding", CHUNKED) + b"1\r\na\r\n" + END
    t.passes("Connection names the coding", chunked, Passed(body=b"a", has=((b"transfer-encoding", b"chunked"),)))
    t.passes("Connection names the host", t.head(b"Connection: Host"), Passed(has=((b"host", t.host),)))
    t.passes("Connection closes", t.head(b"Connection: close") + t.evil, Passed(lacks=(b"connection",)), closes=True)
    h2c = t.head(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
    t.passes("a tunnel of HTTP/2", h2c, Passed(lacks=(b"upgrade", b"connection", b"http2-settings")))
    two = t.head(b"Connection: Upgrade", b"Upgrade: websocket, h2c")
    t.passes("a tunnel of HTTP/2 behind another", two, Passed(lacks=(b"upgrade", b"connection")))
    t.passes("an upgrade that Connection does not name", t.head(b"Upgrade: websocket"), Passed(lacks=(b"upgrade",)))
    socket = t.head(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: %d" % len(t.evil)) + t.evil
    t.passes("an upgrade with a body", socket, Passed(body=t.evil, has=((b"upgrade", b"websocket"),)))
    old = t.head(b"Connection: Upgrade, keep-alive", b"Upgrade: websocket", line=b"GET / HTTP/1.0")
    t.passes("an upgrade of HTTP/1.0", old, Passed(b"GET", lacks=(b"upgrade", b"connection")))
    t.refused("an unknown expectation", t.head(b"Expect: 200-ok", b"Content-Length: 1") + b"a", 417)
    t.refused("two expectations", t.head(b"Expect: 100-continue, 100-continue", b"Content-Length: 1") + b"a", 417)
    t.passes("an expectation", t.head(b"Expect: 100-continue", b"Content-Length: 1") + b"a", Passed(body=b"a"))


def _streams(t: _Table) -> None:
    get = t.head(line=b"GET /next HTTP/1.1")
    after = Passed(b"GET", b"/next")
    counted = t.head(b"Content-Length: %d" % len(t.evil)) + t.evil
    t.passes("a request as a body", counted, Passed(body=t.evil))
    t.passes("two, the first with a body", counted + get, Passed(body=t.evil), after)
    t.passes("two, the first in chunks", t.head(CHUNKED) + b"1\r\na\r\n" + END + get, Passed(body=b"a"), after)
    t.passes(
        "GET with a body",
        t.head(b"Content-Length: 1", line=b"GET / HTTP/1.1") + b"a" + get,
        Passed(b"GET", body=b"a"),
        after,
    )
    t.passes(
        "HEAD with a body",
        t.head(b"Content-Length: 1", line=b"HEAD / HTTP/1.1") + b"a" + get,
        Passed(b"HEAD", body=b"a"),
        after,
    )
    t.passes("no length and something behind", t.head() + get, Passed(), after)
    t.passes("twenty at once", get * 20, *[after] * 20)
    t.refused("the second is wrong", get + t.head(b"Content-Length: +5") + b"12345", 400, after)
    t.refused("a line end behind a body", counted + b"\r\n" + get, 400, Passed(body=t.evil))


def names() -> Iterator[str]:
    """For tests that know the host later."""
    return (case.name for case in cases(b"a.example"))
