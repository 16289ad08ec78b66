"""Header rules and egress proxies, with the real daemon on its stand."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from atoll.testing.certificates import server_context
from atoll.testing.internet import INTRANET, SOCKS, WEB, Internet
from atoll.testing.socks_server import SocksServer
from egress_stand import Box
from stack import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

NAME = "api.example.com"
ADDRESS = WEB[NAME]
VALUE = "Bearer 5ecret-of-the-rule"
PASSWORD = "pr0xy-passw0rd"
ALL = ["0.0.0.0/0"]


def rules(*names: str, value: str = VALUE) -> dict[str, Any]:
    return {name: [{"transform": {"headers": {"Authorization": value, "X-Team": "blue"}}}] for name in names}


@pytest.fixture
def box(stand) -> Box:
    return stand.sandbox(rules=rules(NAME))


@pytest.fixture
def ca(stand) -> str:
    return str(stand.data / "egress/ca.pem")


def curl(box: Box, url: str, *options: str, ca: str = "") -> subprocess.CompletedProcess[str]:
    """Without any DNS of its own: what is dialled is a claim anyway."""
    host, _, port = url.split("/")[2].partition(":")
    where = WEB.get(host, ADDRESS)
    resolve = [word for each in {port or "443", "80"} for word in ("--resolve", f"{host}:{each}:{where}")]
    trusted = ("--cacert", ca) if ca else ()
    return box.run("curl", "-sS", "--max-time", "10", *resolve, *trusted, *options, url, check=False)


def tls_socket(box: Box, ca: str, name: str = NAME, port: int = 443) -> ssl.SSLSocket:
    raw = box.connect(WEB.get(name, ADDRESS), port)
    return ssl.create_default_context(cafile=ca).wrap_socket(raw, server_hostname=name)


def ask(connection: socket.socket, path: str, host: str = NAME) -> bytes:
    """The answer's body."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise ConnectionResetError
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))[15:])
    while len(body) < length:
        body += connection.recv(65536)
    return body


def is_over(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except (ConnectionError, ssl.SSLError):
        return True


def flows(internet: Internet) -> list[tuple[int, int]]:
    return [(each.received, each.sent) for each in internet.flows if each.server == ADDRESS]


# ---- header rules


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_rules_headers_arrive_and_replace_those_of_the_sandbox(stand, internet, box, ca, scheme):
    internet.requests.clear()
    done = curl(box, f"{scheme}://{NAME}/get?q=1", "-H", "authorization: mine", "-H", "X-Own: 1", ca=ca)
    assert done.returncode == 0, done.stderr
    (asked,) = internet.requests
    assert (asked.host, asked.path) == (NAME, "/get?q=1")
    assert asked.headers["Authorization"] == VALUE
    assert asked.headers["X-Team"] == "blue"
    assert asked.headers["X-Own"] == "1"
    assert asked.sni == (NAME if scheme == "https" else "")


def test_other_names_are_not_opened(internet, box, ca):
    internet.requests.clear()
    assert curl(box, "https://example.com/get", ca=ca).returncode == 60  # it is not our certificate
    assert curl(box, "https://example.com/get", ca=str(internet.ca_file)).returncode == 0
    (asked,) = internet.requests
    assert "Authorization" not in asked.headers


def test_a_certificate_that_is_not_the_names_is_a_502_inside(internet, stand, ca):
    internet.zone.set("untrusted.test", ADDRESS)
    box = stand.sandbox(rules=rules("untrusted.test"))
    internet.requests.clear()
    done = curl(box, "https://untrusted.test/get", "-i", ca=ca)
    assert done.stdout.startswith("HTTP/1.1 502 ")
    assert "untrusted.test could not be reached: its certificate was not accepted: Hostname mismatch" in done.stdout
    assert internet.requests == []
    (entry,) = [each for each in box.entries(lambda each: each["verdict"] == "failed") if each["kind"] == "connection"]
    assert entry["name"] == "untrusted.test"
    assert "certificate" in entry["detail"]


def test_a_name_nobody_answers_at_is_a_502_inside(stand, ca):
    box = stand.sandbox(rules=rules("nobody.test"))
    done = curl(box, "https://nobody.test/", "-i", ca=ca)
    assert done.stdout.startswith("HTTP/1.1 502 ")
    assert "nobody.test" in done.stdout


def test_a_rule_opens_nothing_that_the_policy_denies(internet, stand, ca):
    box = stand.sandbox(rules=rules(NAME), deny_out=ALL, allow_out=["example.com"])
    before = internet.packets(ADDRESS)
    assert curl(box, f"https://{NAME}/get", ca=ca).returncode in (35, 56)
    assert curl(box, f"http://{NAME}/get").returncode == 56
    assert internet.packets(ADDRESS) == before


def test_a_rule_does_not_reach_what_is_never_reachable(internet, stand, ca):
    internet.zone.set("inside.test", INTRANET)
    box = stand.sandbox(rules=rules("inside.test"))
    before = internet.packets(INTRANET)
    assert curl(box, "https://inside.test/", ca=ca).returncode != 0
    assert curl(box, "http://inside.test/").returncode != 0
    assert internet.packets(INTRANET) == before
    assert any(each["verdict"] == "denied" for each in box.entries(lambda each: each["rule"].startswith("never")))


def test_a_rule_does_not_reach_an_address_that_the_policy_denies(internet, stand, ca):
    """From an address that is allowed, to the name whose own is not."""
    box = stand.sandbox(rules=rules(NAME), deny_out=[ADDRESS])
    before = internet.packets(ADDRESS)
    for scheme in ("http", "https"):
        elsewhere = ("--connect-to", f"{NAME}::{WEB['example.com']}:")
        assert curl(box, f"{scheme}://{NAME}/get", *elsewhere, ca=ca).stdout == ""
    assert internet.packets(ADDRESS) == before
    box.entries(lambda each: each["verdict"] == "denied" and each["rule"] == f"deny_out: {ADDRESS}")


def test_every_request_has_to_be_for_the_name(internet, box, ca):
    with tls_socket(box, ca) as connection:
        assert ask(connection, "/get")
        connection.sendall(b"GET /get HTTP/1.1\r\nHost: example.com\r\n\r\n")
        assert is_over(connection)
    internet.requests.clear()
    with box.connect(ADDRESS, 80) as connection:
        assert ask(connection, "/get")
        connection.sendall(f"GET /a HTTP/1.1\r\nHost: {NAME}\r\nHost: example.com\r\n\r\n".encode())
        assert is_over(connection)
    assert [each.path for each in internet.requests] == ["/get"]
    assert any(each["rule"] == "malformed" for each in box.entries(lambda each: each["rule"] == "malformed"))


def test_another_value_counts_at_once_and_ends_connections_with_the_old_one(internet, box, ca):
    internet.requests.clear()
    with tls_socket(box, ca) as connection:
        ask(connection, "/get")
        box.put(rules=rules(NAME, value="Bearer newer"))
        assert is_over(connection)
    with tls_socket(box, ca) as connection:
        ask(connection, "/get")
    assert [each.headers["Authorization"] for each in internet.requests] == [VALUE, "Bearer newer"]


def test_a_rule_that_comes_ends_untouched_connections_to_its_name_and_one_that_goes_does_too(internet, stand, ca):
    box = stand.sandbox(inspect=True)
    with (
        tls_socket(box, str(internet.ca_file)) as connection,
        tls_socket(box, str(internet.ca_file), "example.com") as other,
    ):
        ask(connection, "/get")
        ask(other, "/get", "example.com")
        box.put(rules=rules(NAME))
        assert is_over(connection)
        assert ask(other, "/get", "example.com")
    with tls_socket(box, ca) as connection:
        ask(connection, "/get")
        box.put()
        assert is_over(connection)


def test_a_websocket_passes(internet, box, ca):
    internet.requests.clear()
    with tls_socket(box, ca) as connection:
        connection.sendall(
            f"GET /upgrade HTTP/1.1\r\nHost: {NAME}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        connection.sendall(b"frame")
        assert connection.recv(5) == b"frame"
    assert internet.requests[0].headers["Authorization"] == VALUE


def test_much_passes_both_ways_and_is_counted_as_the_name_counts_it(internet, stand, ca, tmp_path):
    box = stand.sandbox(rules=rules(NAME))
    size = 20_000_000
    (tmp_path / "up").write_bytes(bytes(size))
    done = curl(box, f"https://{NAME}/upload", "-T", str(tmp_path / "up"), "-H", "Expect: 100-continue", ca=ca)
    assert json.loads(done.stdout) == {"received": size}
    done = curl(box, f"https://{NAME}/bytes/{size}", "-o", str(tmp_path / "down"), ca=ca)
    assert done.returncode == 0
    assert (tmp_path / "down").stat().st_size == size
    entries = [
        each for each in box.entries(lambda each: each.get("bytes_in", 0) > size) if each["kind"] == "connection"
    ]
    assert len(entries) == 2
    for entry in entries:
        carried = (entry["bytes_out"], entry["bytes_in"])
        until(lambda carried=carried: carried in flows(internet), f"{carried} among {flows(internet)}")


def test_requests_are_in_the_log_and_values_nowhere(stand, internet, ca):
    box = stand.sandbox(rules=rules(NAME))
    curl(box, f"https://{NAME}/get?secret=query", ca=ca)
    curl(box, f"http://{NAME}/get?secret=query")
    internet.zone.set("untrusted.test", ADDRESS)
    entries = box.entries(lambda each: each["kind"] == "connection" and each["port"] == 80)
    seen = [(each["method"], each["name"], each["path"]) for each in entries if each["kind"] == "request"]
    assert sorted(seen) == [("GET", NAME, "/get")] * 2
    words = [path.read_text(errors="replace") for path in stand.data.rglob("*") if path.is_file()]
    assert not any(word in text for text in (stand.said, *words) for word in ("5ecret", "secret=query", "newer"))


# ---- egress proxies


@pytest.fixture(scope="module")
def proxies(internet, tmp_path_factory) -> Iterator[dict[str, SocksServer]]:
    directory = tmp_path_factory.mktemp("proxy")
    tls = server_context(directory, ["proxy.test"])

    def dial(host: str, port: int) -> socket.socket:
        return socket.create_connection((WEB.get(host, host), port), 5)

    made = {
        "open": internet.far(lambda: SocksServer((SOCKS, 1080), dial=dial)),
        "password": internet.far(lambda: SocksServer((SOCKS, 1081), username="ann", password=PASSWORD, dial=dial)),
        "tls": internet.far(lambda: SocksServer((SOCKS, 1082), tls=tls, dial=dial)),
        "both": internet.far(lambda: SocksServer((SOCKS, 1083), username="ann", password=PASSWORD, tls=tls, dial=dial)),
    }
    threads = [internet.far(each.start) for each in made.values()]
    made["open"].ca_cert = (directory / "ca.pem").read_text()  # type: ignore[attr-defined]
    yield made
    for each, thread in zip(made.values(), threads, strict=True):
        each.shutdown()
        each.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _no_requests_yet(request) -> None:
    if "proxies" in request.fixturenames:
        for each in request.getfixturevalue("proxies").values():
            each.requests.clear()


def through(proxies: dict[str, SocksServer], kind: str, **changes: Any) -> dict[str, Any]:
    server = proxies[kind]
    given: dict[str, Any] = {"address": f"{SOCKS}:{server.port}"}
    if server.username:
        given |= {"username": server.username, "password": server.password}
    if server.tls:
        ca_cert = proxies["open"].ca_cert  # type: ignore[attr-defined]
        given["tls"] = {"enabled": True, "server_name": "proxy.test", "ca_cert": ca_cert}
    return given | changes


@pytest.mark.parametrize("kind", ["open", "password", "tls", "both"])
def test_connections_go_through_the_proxy_and_names_as_names(internet, stand, proxies, kind):
    box = stand.sandbox(egress_proxy=through(proxies, kind))
    done = curl(box, "https://example.com/get", ca=str(internet.ca_file))
    assert done.returncode == 0, done.stderr
    with box.connect(WEB["httpbin.org"], 4000) as echo:
        echo.sendall(b"ping")
        assert echo.recv(4) == b"ping"
    assert proxies[kind].requests == [("example.com", 443), (WEB["httpbin.org"], 4000)]


def test_much_passes_through_a_proxy_in_tls(internet, stand, proxies, tmp_path):
    box = stand.sandbox(egress_proxy=through(proxies, "both"))
    (tmp_path / "up").write_bytes(bytes(5_000_000))
    ca = str(internet.ca_file)
    done = curl(box, "https://example.com/upload", "-T", str(tmp_path / "up"), ca=ca)
    assert json.loads(done.stdout) == {"received": 5_000_000}
    done = curl(box, "https://example.com/bytes/5000000", "-o", str(tmp_path / "down"), ca=ca)
    assert (tmp_path / "down").stat().st_size == 5_000_000


def test_what_the_policy_denies_is_not_asked_of_the_proxy(stand, proxies):
    box = stand.sandbox(egress_proxy=through(proxies, "open"), deny_out=ALL, allow_out=["example.com"])
    assert curl(box, "http://example.com/get").returncode == 0
    assert curl(box, f"http://{NAME}/get").returncode != 0
    with contextlib.suppress(OSError), box.connect(ADDRESS, 4000) as echo:
        echo.sendall(b"ping")
        assert is_over(echo)
    assert proxies["open"].requests == [("example.com", 80)]


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"password": "wr0ng"}, "username or password is wrong"), ({"address": f"{SOCKS}:9"}, "")],
)
def test_without_the_proxy_there_is_no_way_and_the_log_says_why(internet, stand, proxies, changes, why):
    box = stand.sandbox(egress_proxy=through(proxies, "password", **changes))
    before = internet.packets(WEB["example.com"])
    assert curl(box, "http://example.com/get").returncode != 0
    assert internet.packets(WEB["example.com"]) == before
    entries = box.entries(lambda each: each["verdict"] == "failed")
    told = json.dumps(entries) + stand.said
    assert why in told
    assert not any(word in told for word in (PASSWORD, "wr0ng"))


def test_a_proxy_inside_is_never_reached(internet, stand, proxies):
    box = stand.sandbox(egress_proxy={"address": f"{INTRANET}:80"})
    before = internet.packets(INTRANET)
    assert curl(box, "http://example.com/get").returncode != 0
    assert internet.packets(INTRANET) == before


def test_header_rules_work_through_a_proxy(internet, stand, proxies, ca):
    box = stand.sandbox(egress_proxy=through(proxies, "both"), rules=rules(NAME))
    internet.requests.clear()
    assert curl(box, f"https://{NAME}/get", ca=ca).returncode == 0
    (asked,) = internet.requests
    assert asked.headers["Authorization"] == VALUE
    assert asked.client == SOCKS or proxies["both"].requests == [(NAME, 443)]
