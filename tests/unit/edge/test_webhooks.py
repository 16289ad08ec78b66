"""Call-backs of `/execute/async`: real sockets on loopback, and a node's dial socket where it counts."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import hmac
import ipaddress
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from atoll.core.errors import AtollError, PermissionDenied, Unavailable
from atoll.edge.dialer import NodeDialer
from atoll.edge.hopx import webhooks
from atoll.edge.hopx.call import Object
from atoll.edge.hopx.errors import SurfaceError
from atoll.edge.hopx.webhooks import Callback, Webhooks, judge, parse, parse_headers, parse_url, payload, sign
from atoll.edge.outbound import MAX_HEAD, NotHttp, parse_status, trusting
from atoll.egress.dial import Dialer, Outside
from atoll.node.dial_server import DialServer

SANDBOX = "a" * 20
SECRET = "hush-" + "s" * 20
NOW = 1_700_000_000.9
DONE = {
    "process": {"status": "exited", "exit_code": 0, "started_at": 10.0, "ended_at": 12.5},
    "stdout": "hi\n",
    "stderr": "",
    "truncated": 0,
}


# ---- what is asked for


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.com", (False, "example.com", 80, "/")),
        ("https://Example.COM:8443/a/b?c=d#frag", (True, "example.com", 8443, "/a/b?c=d")),
        ("http://203.0.113.7/x", (False, "203.0.113.7", 80, "/x")),
        ("https://[2001:db8::1]:444/", (True, "2001:db8::1", 444, "/")),
        ("http://xn--bcher-kva.example./", (False, "xn--bcher-kva.example.", 80, "/")),
        ("http://under_score.example?q", (False, "under_score.example", 80, "/?q")),
    ],
)
def test_urls_that_are_taken(url, expected):
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "//example.com/", "ftp://example.com/", "file:///etc/passwd", "http://", "http:///x",
        "http://user@example.com/", "http://user:secret@example.com/", "http://@example.com/", "http://example.com:0/",
        "http://example.com:99999/", "http://example.com:x/", "http://exa mple.com/", "http://example.com/a b",
        "http://example.com/\r\nX: y", "http://example.com\t/", "http://bücher.example/", "http://a\\b.example/",
        "http://127.1/", "http://2130706433/", "http://0x7f.0.0.1/", "http://0x7f000001/", "http://0177.0.0.1/",
        "http://[fe80::1%25eth0]/", "http://[::1", "http://-a.example/", "http://a..b/", "http://.example/",
        "http://" + "a" * 64 + ".example/", "http://" + "a." * 130 + "example/", "http://a.example/" + "x" * 2048,
    ],
)  # fmt: skip
def test_urls_that_are_refused(url):
    with pytest.raises(SurfaceError) as refused:
        parse_url(url)
    assert refused.value.cell.status == 400
    assert "callback_url" in refused.value.message
    assert "secret" not in refused.value.message


def test_headers_that_are_taken():
    given = {"Authorization": "Bearer x", "X-My.Header~": "a\tb ", "Content-Type": "text/json", "empty": ""}
    expected = (("Authorization", "Bearer x"), ("X-My.Header~", "a\tb"), ("Content-Type", "text/json"), ("empty", ""))
    assert parse_headers(given) == expected
    assert parse_headers(None) == parse_headers({}) == ()


@pytest.mark.parametrize(
    "headers",
    [
        "x", ["a"], {"A": 1}, {"A": None}, {"": "x"}, {"A B": "x"}, {"A:": "x"}, {"A\r\nB": "x"}, {"Ä": "x"},
        {"A": "x\r\nB: y"}, {"A": "x\ny"}, {"A": "x\0"}, {"A": "ü"}, {"A": "\x7f"}, {"a": "1", "A": "2"},
        {"Host": "x"}, {"hOST": "x"}, {"Content-Length": "0"}, {"Transfer-Encoding": "chunked"}, {"TE": "x"},
        {"Connection": "keep-alive"}, {"Upgrade": "h2c"}, {"Proxy-Authorization": "x"}, {"Expect": "100-continue"},
        {"X-HOPX-Signature": "x"}, {"x-hopx-anything": "x"}, {"X-Hub-Signature-256": "x"}, {"Trailer": "x"},
        {"A": "x" * 16 * 1024}, {"A" * 257: "x"}, {f"H{number}": "" for number in range(33)},
    ],
    ids=lambda value: repr(value)[:24],
)  # fmt: skip
def test_headers_that_are_refused(headers):
    with pytest.raises(SurfaceError) as refused:
        parse_headers(headers)
    assert refused.value.cell.status == 400
    assert "callback_headers" in refused.value.message


@pytest.mark.parametrize("secret", [7, ["x"], "s" * 4097])
def test_a_secret_that_is_none_is_refused(secret):
    with pytest.raises(SurfaceError):
        parse({"callback_url": "http://a.example", "callback_signature_secret": secret})


def test_neither_secret_nor_headers_nor_query_are_in_what_is_printed():
    given = {"Authorization": "Bearer " + SECRET}
    url = f"https://a.example/?token={SECRET}"
    callback = parse({"callback_url": url, "callback_signature_secret": SECRET, "callback_headers": given})
    assert SECRET not in repr(callback)
    assert SECRET not in repr(webhooks.request(callback, SECRET.encode(), NOW))


# ---- what is sent


@pytest.mark.parametrize(
    ("record", "status", "exit_code", "error"),
    [
        ({"status": "exited", "exit_code": 0}, "completed", 0, None),
        ({"status": "exited", "exit_code": 3}, "failed", 3, "The program ended with exit code 3"),
        ({"status": "timed_out", "exit_code": 124}, "timeout", 124, "Execution timed out after 9 seconds"),
        (
            {"status": "killed", "exit_code": 137, "signal": "SIGKILL"},
            "failed",
            137,
            "The program was ended by SIGKILL",
        ),
        ({}, "failed", 137, "The program ended with exit code 137"),
    ],
)
def test_how_a_run_ended(record, status, exit_code, error):
    sent = payload("x1", {"process": record, "stdout": "o", "stderr": "e"}, 9.0, NOW)
    assert (sent["status"], sent["success"], sent["exit_code"]) == (status, exit_code == 0, exit_code)
    assert sent.get("error") == error
    assert (sent["execution_id"], sent["stdout"], sent["stderr"]) == ("x1", "o", "e")
    assert sent["timestamp"] == "2023-11-14T22:13:20.900000Z"


def test_long_output_keeps_its_end_and_says_so():
    sent = payload("x1", {**DONE, "stdout": "ü" * 200_000 + "end"}, 9.0, NOW)
    assert sent["output_truncated"] is True
    assert sent["stdout"].endswith("üüend")
    assert len(sent["stdout"].encode()) <= 256 * 1024
    assert "output_truncated" not in payload("x1", DONE, 9.0, NOW)
    assert payload("x1", {**DONE, "truncated": 4}, 9.0, NOW)["output_truncated"] is True


def test_what_a_hostile_agent_says_becomes_a_body_all_the_same():
    found = {"process": {"status": 7, "exit_code": "x", "ended_at": 1e400}, "stdout": "\ud800", "stderr": [1]}
    sent = payload("x1", found, 9.0, NOW)
    assert json.loads(json.dumps(sent, allow_nan=False))["status"] == "failed"


def test_signatures_are_over_timestamp_and_body_and_over_the_body():
    callback = parse({"callback_url": "http://a.example", "callback_signature_secret": "key"})
    headers = dict(webhooks.request(callback, b'{"a":1}', NOW).headers)
    assert headers["X-HOPX-Timestamp"] == "1700000000"
    expected = hmac.new(b"key", b'1700000000{"a":1}', hashlib.sha256).hexdigest()
    assert headers["X-HOPX-Signature"] == "sha256=" + expected
    assert headers["X-Hub-Signature-256"] == "sha256=" + hmac.new(b"key", b'{"a":1}', hashlib.sha256).hexdigest()
    assert sign("ü", b"") == "sha256=" + hmac.new("ü".encode(), b"", hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("status", "state", "again"),
    [(200, "delivered", 0), (204, "delivered", 0), (301, "failed", 0), (307, "failed", 0), (404, "failed", 0)]
    + [(status, "delivering", 1) for status in (408, 425, 429, 500, 502, 503, 599)],
)
def test_what_an_answer_means(status, state, again):
    assert judge(status)[0] == state
    assert (judge(status)[0] is webhooks.State.DELIVERING) is bool(again)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 \r\n\r\n"])
def test_status_lines(head):
    assert parse_status(head) == 200


@pytest.mark.parametrize(
    "head", [b"", b"SSH-2.0-x", b"HTTP/1.1 2000 x", b"HTTP/1.1 99 x", b"HTTP/1.1 x", b"HTTP/2 200"]
)
def test_what_is_no_status_line(head):
    with pytest.raises(NotHttp):
        parse_status(head)


# ---- what becomes of it


@dataclass
class Received:
    headers: dict[str, str]
    body: bytes
    path: str


@dataclass
class Receiver:
    """An HTTP server that answers with the next of its statuses; the last one stays."""

    port: int = 0
    statuses: list[int] = field(default_factory=lambda: [200])
    location: str = ""
    got: list[Received] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.got.append(Received(dict(request.headers), await request.read(), request.path_qs))
        self.arrived.set()
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return web.Response(status=status, headers={"Location": self.location} if self.location else {})


async def serve(receiver: Receiver, tls: ssl.SSLContext | None = None) -> web.ServerRunner:
    runner = web.ServerRunner(web.Server(receiver.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    receiver.port = runner.addresses[0][1]
    return runner


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    runner = await serve(receiver)
    yield receiver
    await runner.cleanup()


@dataclass
class ToLoopback:
    """Whatever is asked for, the connection goes to 127.0.0.1; or the next of its failures is raised."""

    failures: list[AtollError | OSError] = field(default_factory=list)
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    async def dial(self, sandbox_id: str, host: str, port: int) -> socket.socket:
        self.asked.append((sandbox_id, host, port))
        if self.failures:
            raise self.failures.pop(0)
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setblocking(False)
        return sock


class Hooks:
    """Webhooks with a clock that jumps when somebody sleeps."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.dialer = ToLoopback()
        self.slept: list[float] = []
        self.now = NOW
        self.service = Webhooks(self.dialer, tls or ssl.create_default_context(), lambda: self.now, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def deliver(self, callback: Callback, found: Object | Exception = DONE) -> Object:
        async def ended() -> Object:
            if isinstance(found, Exception):
                raise found
            return found

        self.service.begin(SANDBOX, "x1", callback, 9.0, ended)
        await asyncio.gather(*self.service._tasks)
        delivery = self.service.of(SANDBOX, "x1")
        assert delivery is not None
        return delivery


def to(port: int, scheme: str = "http", host: str = "hook.example", **more: object) -> Callback:
    return parse({"callback_url": f"{scheme}://{host}:{port}/in?a=b", "callback_signature_secret": SECRET, **more})


async def test_a_result_is_delivered_once_with_the_callers_headers_and_signatures(receiver):
    hooks = Hooks()
    found = await hooks.deliver(to(receiver.port, callback_headers={"Authorization": "Bearer t", "user-agent": "me"}))
    assert (found["status"], found["attempts"], found["http_status"], found["error"]) == ("delivered", 1, 200, "")
    (got,) = receiver.got
    assert got.path == "/in?a=b"
    assert got.headers["Host"] == f"hook.example:{receiver.port}"
    assert (got.headers["Authorization"], got.headers["User-Agent"]) == ("Bearer t", "me")
    assert got.headers["Content-Type"] == "application/json"
    signed = got.headers["X-HOPX-Timestamp"].encode() + got.body
    assert got.headers["X-HOPX-Signature"] == sign(SECRET, signed)
    body = json.loads(got.body)
    assert (body["execution_id"], body["status"], body["execution_time"]) == ("x1", "completed", 2.5)
    assert hooks.dialer.asked == [(SANDBOX, "hook.example", receiver.port)]


async def test_a_server_in_trouble_is_tried_four_times_each_with_its_own_timestamp(receiver):
    receiver.statuses = [500]
    hooks = Hooks()
    found = await hooks.deliver(to(receiver.port))
    assert (found["status"], found["attempts"], found["error"]) == ("failed", 4, "answered 500")
    assert hooks.slept == [1.0, 5.0, 25.0]
    assert len(hooks.dialer.asked) == 4, "each try is resolved and checked anew"
    assert [got.headers["X-HOPX-Timestamp"] for got in receiver.got] == [str(int(NOW) + s) for s in (0, 1, 6, 31)]
    assert len({got.headers["X-HOPX-Signature"] for got in receiver.got}) == 4


async def test_a_connection_that_fails_is_tried_again(receiver):
    hooks = Hooks()
    hooks.dialer.failures = [Unavailable("no connection"), OSError("broken")]
    found = await hooks.deliver(to(receiver.port))
    assert (found["status"], found["attempts"], found["error"]) == ("delivered", 3, "")


async def test_a_refused_address_is_not_tried_again_and_says_why(receiver):
    hooks = Hooks()
    hooks.dialer.failures = [PermissionDenied("hook.example is never reached: private")]
    found = await hooks.deliver(to(receiver.port))
    assert (found["status"], found["attempts"]) == ("refused", 1)
    assert found["error"] == "hook.example is never reached: private"
    assert not receiver.got


async def test_a_redirect_is_not_followed(receiver):
    receiver.statuses, receiver.location = [302], f"http://127.0.0.1:{receiver.port}/elsewhere"
    hooks = Hooks()
    found = await hooks.deliver(to(receiver.port))
    assert (found["status"], found["http_status"]) == ("failed", 302)
    assert "redirects are not followed" in found["error"]
    assert len(receiver.got) == 1


async def test_the_end_of_the_sandbox_is_the_end_of_the_run(receiver):
    await Hooks().deliver(to(receiver.port), webhooks.Lost("The sandbox was stopped before the run ended"))
    body = json.loads(receiver.got[0].body)
    assert (body["status"], body["success"], body["exit_code"]) == ("failed", False, 137)
    assert body["error"] == "The sandbox was stopped before the run ended"


async def answering(*parts: bytes, close: bool = True) -> tuple[asyncio.Server, int]:
    """A server that says exactly that to whoever connects, whatever it is asked."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
        try:
            await writer.drain()
            await reader.read() if not close else None
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ((b"SSH-2.0-OpenSSH\r\n\r\n",), "not HTTP"),
        ((), "closed before"),
        ((b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * MAX_HEAD,), "too long"),
        ((b"HTTP/1.1 100 Continue\r\n\r\n" * 9,), "interim"),
    ],
)
async def test_what_is_no_answer_is_an_error_and_bounded(parts, error):
    server, port = await answering(*parts)
    async with server:
        found = await Hooks().deliver(to(port))
    assert found["status"] == "failed"
    assert error in found["error"]


async def test_an_endless_answer_is_cut_off_and_counts_as_heard():
    server, port = await answering(
        b"HTTP/1.1 102 Wait\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 8_000_000, close=False
    )
    async with server:
        found = await Hooks().deliver(to(port))
    assert found["status"] == "delivered"


async def test_a_silent_server_ends_at_the_time_limit(monkeypatch):
    monkeypatch.setattr(webhooks, "DELIVERY_S", 0.05)
    server, port = await answering(close=False)
    async with server:
        found = await Hooks().deliver(to(port))
    assert (found["status"], found["attempts"]) == ("failed", 4)
    assert "no answer within" in found["error"]


def certificate(directory: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file, private = directory / "cert.pem", directory / "key.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, private)
    return context, file


@pytest.mark.parametrize(
    ("host", "trusted", "status"),
    [("hook.example", True, "delivered"), ("other.example", True, "failed"), ("hook.example", False, "failed")],
)
async def test_tls_is_verified_against_the_name_with_the_operators_authorities(host, trusted, status, tmp_path):
    context, file = certificate(tmp_path, "hook.example")
    receiver = Receiver()
    runner = await serve(receiver, context)
    try:
        found = await Hooks(trusting(file if trusted else None)).deliver(to(receiver.port, "https", host))
    finally:
        await runner.cleanup()
    assert found["status"] == status
    if status == "failed":
        assert "certificate is not accepted" in found["error"]
        assert not receiver.got


async def test_runs_that_wait_are_bounded_for_a_sandbox_and_in_all(monkeypatch):
    monkeypatch.setattr(webhooks, "MAX_RUNS_IN_ALL", 33)
    hooks = Hooks()
    over = asyncio.Event()

    async def ended() -> Object:
        await over.wait()
        return DONE

    for number in range(webhooks.MAX_RUNS):
        hooks.service.admit(SANDBOX)
        hooks.service.begin(SANDBOX, f"x{number}", to(1), 9.0, ended)
    with pytest.raises(SurfaceError) as refused:
        hooks.service.admit(SANDBOX)
    assert refused.value.cell.status == 429
    hooks.service.admit("b" * 20)
    hooks.service.begin("b" * 20, "y", to(1), 9.0, ended)
    with pytest.raises(SurfaceError):
        hooks.service.admit("c" * 20)
    await hooks.service.close()


async def test_what_is_remembered_is_bounded(receiver, monkeypatch):
    monkeypatch.setattr(webhooks, "KEEP", 2)
    hooks, over = Hooks(), asyncio.Event()

    async def never() -> Object:
        await over.wait()
        return DONE

    async def at_once() -> Object:
        return DONE

    hooks.service.begin(SANDBOX, "running", to(receiver.port), 9.0, never)
    for number in range(3):
        hooks.service.begin(SANDBOX, f"x{number}", to(receiver.port), 9.0, at_once)
        tasks = list(hooks.service._tasks)
        await tasks[-1]
    known = [each for each in ("running", "x0", "x1", "x2") if hooks.service.of(SANDBOX, each)]
    assert known == ["running", "x2"]
    await hooks.service.close()


async def test_deliveries_of_one_sandbox_take_turns(monkeypatch):
    hooks, held, go = Hooks(), 0, asyncio.Event()
    most, entered = 0, asyncio.Event()

    class Slow:
        async def dial(self, sandbox_id: str, host: str, port: int) -> socket.socket:
            nonlocal held, most
            held += 1
            most = max(most, held)
            if held == webhooks.AT_ONCE:
                entered.set()
            await go.wait()
            held -= 1
            raise PermissionDenied("no")

    async def ended() -> Object:
        return DONE

    monkeypatch.setattr(hooks.service, "_dialer", Slow())
    for number in range(12):
        hooks.service.begin(SANDBOX, f"x{number}", to(1), 9.0, ended)
    await entered.wait()
    go.set()
    await asyncio.gather(*hooks.service._tasks)
    assert most == webhooks.AT_ONCE


# ---- through the edge and a node's dial socket


@pytest.fixture
async def dials(places) -> AsyncIterator[list[tuple[str, str, int]]]:
    """A node that may reach loopback."""
    dialer, asked = Dialer(Outside(opened=(ipaddress.ip_network("127.0.0.1"),))), []

    async def dial(sandbox_id: str, host: str, port: int) -> socket.socket:
        asked.append((sandbox_id, host, port))
        return await dialer.dial(host, port)

    server = DialServer(places.dial_socket, dial)
    server.open()
    yield asked
    await server.close()


@pytest.fixture
def outgoing(client, server, agent, kit):
    """The client's sandbox may go out."""
    server.routes[kit.OTHER] = kit.route(kit.OTHER, agent.socket, internet_access=True)
    client.sandbox, client.token = kit.OTHER, kit.token_for(kit.OTHER)
    return client


async def test_a_run_is_queued_and_its_end_is_told(outgoing, agent, kit, receiver, dials, caplog):
    caplog.set_level(logging.DEBUG)
    over = asyncio.Event()
    agent.answers("POST", "/processes", {"process": kit.record(id="p9")})
    record = kit.record(id="p9", status="exited", exit_code=0, ended_at=1700000001.5)

    async def wait(seen):
        await over.wait()
        return web.json_response({"process": record, "stdout": "done\n", "stderr": "", "truncated": 0})

    agent.on("GET", "/processes/p9", wait)
    agent.answers("GET", "/processes", {"processes": [kit.record(id="p9"), kit.record(id="p1")]})
    url = f"http://127.0.0.1:{receiver.port}/hook?token={SECRET}"
    body = {
        "code": "print('done')",
        "language": "bash",
        "timeout": 1800,
        "callback_url": url,
        "callback_headers": {"X-Secret": SECRET},
        "callback_signature_secret": SECRET,
    }
    status, queued = await outgoing.call("POST", "/execute/async", body)
    assert (status, queued["execution_id"], queued["status"], queued["callback_url"]) == (200, "p9", "queued", url)
    assert {"message", "timestamp"} <= queued.keys()
    _, listed = await outgoing.call("GET", "/execute/processes")
    first, second = listed["processes"]
    assert first["callback"].items() >= {"url": url, "status": "waiting", "attempts": 0}.items()
    assert "callback" not in second
    over.set()
    await receiver.arrived.wait()
    (got,) = receiver.got
    assert json.loads(got.body).items() >= {"execution_id": "p9", "status": "completed", "stdout": "done\n"}.items()
    assert got.headers["X-Secret"] == SECRET
    assert dials == [(kit.OTHER, "127.0.0.1", receiver.port)]
    assert not any(SECRET.encode() in seen.body or SECRET in str(seen.headers) for seen in agent.seen)
    assert agent.asked("POST", "/processes")[0].json["timeout_s"] == 1800.0
    assert SECRET not in caplog.text


async def test_a_sandbox_that_ends_first_is_told_too(outgoing, agent, kit, receiver, dials, server):
    asked = asyncio.Event()

    async def hang(seen):
        asked.set()
        await asyncio.Event().wait()

    agent.answers("POST", "/processes", {"process": kit.record(id="p9")})
    agent.on("GET", "/processes/p9", hang)
    url = f"http://127.0.0.1:{receiver.port}/"
    await outgoing.call("POST", "/execute/async", {"code": "x", "language": "bash", "callback_url": url})
    await asked.wait()
    server.publish({"id": kit.OTHER, "removed": True})
    await receiver.arrived.wait()
    assert json.loads(receiver.got[0].body)["error"] == "The sandbox was stopped before the run ended"


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"callback_url": 7},
        {"callback_url": "ftp://a.example/"},
        {"callback_url": "http://a.example/", "callback_headers": {"Host": "x"}},
        {"callback_url": "http://a.example/", "callback_signature_secret": 1},
        {"callback_url": "http://a.example/", "timeout": -1},
        {"callback_url": "http://a.example/", "language": "cobol"},
    ],
)
async def test_what_is_wrong_with_a_call_back_is_said_before_anything_runs(bad, outgoing, agent):
    status, _ = await outgoing.call("POST", "/execute/async", {"code": "x", **bad})
    assert status == 400
    assert not agent.seen


async def test_a_program_that_is_not_there_is_refused_at_once(outgoing, agent):
    agent.refuses("POST", "/processes", "not_found", 404)
    body = {"code": "x", "language": "javascript", "callback_url": "http://a.example/"}
    status, told = await outgoing.call("POST", "/execute/async", body)
    assert (status, told["code"]) == (400, "INVALID_REQUEST")
    assert "javascript" in told["message"]


async def test_the_node_says_why_it_does_not_dial(places, dials):
    dialer = NodeDialer(places.dial_socket)
    with pytest.raises(PermissionDenied, match="private"):
        await dialer.dial(SANDBOX, "10.0.0.1", 80)


@pytest.mark.parametrize(
    "question",
    [
        b"", b"x", b"[]", b"{}", b'{"sandbox_id":"x","host":"a","port":1}',
        json.dumps({"sandbox_id": SANDBOX, "host": "", "port": 1}).encode(),
        json.dumps({"sandbox_id": SANDBOX, "host": "a\n", "port": 1}).encode(),
        json.dumps({"sandbox_id": SANDBOX, "host": "a", "port": 0}).encode(),
        json.dumps({"sandbox_id": SANDBOX, "host": "a", "port": True}).encode(),
    ],
)  # fmt: skip
async def test_a_question_that_is_none_is_answered_with_its_error(question, places, dials):
    def ask() -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
            link.connect(str(places.dial_socket))
            link.send(question)
            link.shutdown(socket.SHUT_WR)
            return link.recv(8192)

    assert json.loads(await asyncio.to_thread(ask))["error"]["kind"] == "invalid_input"
    assert dials == []


async def test_without_a_node_nothing_is_dialled_now(tmp_path):
    with pytest.raises(Unavailable):
        await NodeDialer(tmp_path / "nobody.sock").dial(SANDBOX, "a.example", 80)
