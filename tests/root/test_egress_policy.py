"""Policies on real sandboxes: what stays when access is off, updates in mid-connection, names below the own domain,
and a log whose figures are those of the other side."""

from __future__ import annotations

import json
import statistics
import time

import aiohttp
import pytest

from atoll.testing import internet as net
from names import DOMAIN
from reaching import ALL, CA_FILE, curl, entries, logged, outcomes, status, tcp, trusting, udp
from stack import Box, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

UPDATE_MS = 50
HELD = """
import socket, threading, time
class Held(threading.Thread):
    def __init__(self, kind, address, port, ask):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.settimeout(20)
        self.socket.connect((address, port))
        self.socket.send(ask)
        assert self.socket.recv(4096)
        self.start()
    def run(self):
        try:
            while self.socket.recv(4096):
                pass
        except OSError as error:
            self.how = error.errno
        self.at = time.time()
"""
ASK = b"GET /get HTTP/1.1\r\nHost: example.com\r\n\r\n"


@pytest.fixture(scope="module")
def closed(online, internet):
    with online.box(internet_access=False) as box:
        yield trusting(box, internet)


# ---- access off


def test_with_access_off_code_runs(closed):
    assert closed.python("print(6 * 7)")["stdout"] == "42\n"
    assert closed.sh("echo $((6 * 7))") == "42"


def test_with_access_off_files_go_in_and_out(closed):
    body = {"path": "/workspace/kept.txt", "content": "kept"}
    assert closed.agent("POST", "/files/write", json=body).status_code == 200
    assert closed.agent("GET", "/files/read", params={"path": "/workspace/kept.txt"}).json()["content"] == "kept"


async def test_with_access_off_a_terminal_opens(closed):
    url = f"{closed.stack.installation.url}/s/{closed.id}/terminal"
    headers = {"Authorization": f"Bearer {closed.token}"}
    async with aiohttp.ClientSession() as session, session.ws_connect(url, headers=headers) as ws:
        await ws.send_json({"type": "input", "data": "echo $((6 * 7))th\n"})
        seen = ""
        while "42th" not in seen:
            seen += (await ws.receive_json(timeout=20)).get("data", "")


def test_with_access_off_its_urls_work(closed):
    answers = "curl -s -m 1 -o /dev/null http://127.0.0.1:8000/"
    closed.sh(f"(python3 -m http.server 8000 >/dev/null 2>&1 &); until {answers}; do :; done")
    key = {"X-API-Key": closed.stack.installation.api_key}
    assert closed.stack.client.get(f"/s/{closed.id}/8000/", headers=key).status_code == 200


def test_with_access_off_it_pauses_resumes_and_is_killed(online):
    box = online.create(internet_access=False)
    for action in ("pause", "resume"):
        assert box.control("POST", f"/{action}").status_code < 300
    assert box.sh("echo here") == "here"
    assert box.control("DELETE").status_code < 300
    assert box.control("GET").status_code == 404


def test_with_access_off_nothing_goes_out_and_names_are_refused_at_once(closed, internet):
    internet.queries.clear()
    seen = {address: internet.packets(address) for address in (net.ATTACKER, *net.RESOLVERS)}
    tried = outcomes(
        closed, *(make(address, port) for make in (tcp, udp) for address in seen for port in (80, 443, 853))
    )
    assert all(code not in (0, -1) and took < 1000 for code, took in tried), tried
    code = """
import socket, time
before = time.time()
try:
    socket.getaddrinfo('example.com', 80)
except OSError:
    print(time.time() - before)
"""
    assert float(closed.python(code)["stdout"]) < 1
    assert internet.queries == []
    assert {address: internet.packets(address) for address in seen} == seen


# ---- updates


def hold(box: Box, name: str, address: str, port: int, ask: bytes, kind: str = "SOCK_STREAM") -> None:
    result = box.python(f"{name} = Held(socket.{kind}, '{address}', {port}, {ask!r})")
    assert result["success"], result


def ended(box: Box, name: str) -> float:
    result = box.python(f"{name}.join(10); print({name}.at)")
    assert result["success"], result
    return float(result["stdout"])


def set_network(box: Box, network: dict) -> tuple[float, float]:
    """When it began and when it was done."""
    began = time.time()
    answer = box.control("PUT", "/network", json=network)
    assert answer.status_code == 200, answer.text
    return began, time.time()


@pytest.mark.parametrize("before", [{}, {"allow_out": [net.WEB["example.com"]], "deny_out": [ALL]},
                                    {"allow_out": ["example.com"], "deny_out": [ALL]}, {"inspect": True}],
                         ids=["open", "by address", "by name", "inspected"])  # fmt: skip
def test_an_update_cuts_what_it_forbids(online, before):
    with online.box(network=before) as box:
        box.python(HELD)
        took, late = [], []
        for number in range(5):
            hold(box, f"held{number}", net.WEB["example.com"], 80, ASK)
            began, done = set_network(box, {"deny_out": [ALL]})
            at = ended(box, f"held{number}")
            late.append(at - done)
            took.append((at - began) * 1000)
            assert outcomes(box, tcp(net.WEB["example.com"], 80, ASK.decode()))[0][0] != 0
            set_network(box, before)
        assert statistics.median(late) <= 0.01, "it is cut when the call returns, and its program hears of it"
        assert max(late) < 1, "none is left to a timeout"
        assert statistics.median(took) <= UPDATE_MS, took


BY_NAME = {"allow_out": ["example.com"], "deny_out": [ALL]}


@pytest.mark.parametrize(("before", "after", "asks_again"), [
    pytest.param({}, {"deny_out": ["8.8.8.8"]}, True, id="others denied"),
    pytest.param({}, {"allow_out": ["203.0.113.0/24"], "deny_out": [ALL]}, True, id="its network allowed"),
    pytest.param(BY_NAME, {**BY_NAME, "allow_out": ["github.com", "example.com"]}, True, id="another name allowed"),
    pytest.param(BY_NAME, {"deny_out": ["8.8.8.8"]}, False, id="names no longer needed"),
])  # fmt: skip
def test_an_update_leaves_alone_what_it_allows(online, before, after, asks_again):
    """Where names are no longer needed, a request that follows may have to come by another connection."""
    with online.box(network=before) as box:
        box.python(HELD)
        hold(box, "held", net.WEB["example.com"], 80, ASK)
        set_network(box, after)
        if asks_again:
            box.python(f"held.socket.send({ASK!r})")
        result = box.python("held.join(0.3); print(held.is_alive())")
        assert result["stdout"] == "True\n", result


def test_an_update_ends_exchanges_over_udp(online, internet):
    with online.box() as box:
        box.python(HELD)
        hold(box, "held", net.ATTACKER, net.ECHO_PORT, b"hello", "SOCK_DGRAM")
        set_network(box, {"deny_out": [net.ATTACKER]})
        internet.datagrams.clear()
        box.python("try: held.socket.send(b'again')\nexcept OSError: pass")
        assert outcomes(box, udp(net.WEB["example.com"], net.ECHO_PORT))[0][0] == 0
        assert [each.content for each in internet.datagrams if each.server == net.ATTACKER] == []


def test_an_update_of_one_leaves_others_alone(online):
    with online.box() as box, online.box() as other:
        other.python(HELD)
        hold(other, "held", net.WEB["example.com"], 80, ASK)
        set_network(box, {"deny_out": [ALL]})
        assert other.python("held.join(0.2); print(held.is_alive())")["stdout"] == "True\n"


# ---- one sandbox uses another's URL, by name


@pytest.fixture(scope="module")
def pair(named_online, internet):
    """Two sandboxes; the first has a web server on 8000."""
    with named_online.box() as server, named_online.box() as client:
        answers = "curl -s -m 1 -o /dev/null http://127.0.0.1:8000/"
        server.sh(f"cd /etc; (python3 -m http.server 8000 >/dev/null 2>&1 &); until {answers}; do :; done")
        yield server, with_authority(client, named_online)


def with_authority(box: Box, stack) -> Box:
    ca = (stack.installation.places.tls / "ca.pem").read_text()
    assert box.agent("POST", "/files/write", json={"path": CA_FILE, "content": ca}).status_code == 200
    return box


def url_of(box: Box, scheme: str) -> str:
    return f"{scheme}://8000-{box.id}.{DOMAIN}:{box.stack.port}/passwd"


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_one_sandbox_uses_anothers_url(pair, internet, scheme):
    server, client = pair
    told = curl(client, url_of(server, scheme), "-H", f"X-API-Key: {server.stack.installation.api_key}")
    assert "root:" in told["stdout"], told
    by_token = curl(client, url_of(server, scheme), "-H", f"Authorization: Bearer {server.token}")
    assert "root:" in by_token["stdout"], by_token


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_without_a_credential_it_is_refused_as_anywhere(pair, scheme):
    server, client = pair
    assert status(client, url_of(server, scheme)) == 401
    assert status(client, url_of(server, scheme), "-H", f"Authorization: Bearer {client.token}") == 401


def test_the_url_is_there_for_who_allows_only_its_name(named_online, pair):
    server, _ = pair
    key = f"X-API-Key: {server.stack.installation.api_key}"
    with named_online.box(network={"allow_out": [f"*.{DOMAIN}"], "deny_out": [ALL]}) as box:
        assert status(with_authority(box, named_online), url_of(server, "https"), "-H", key) == 200
    with named_online.box(internet_access=False) as box:
        assert status(with_authority(box, named_online), url_of(server, "https"), "-H", key) == 0


def test_the_way_to_urls_leads_to_nothing_else(pair, internet):
    """Not to the control plane's inside, nor under a name that is not the installation's."""
    server, client = pair
    port = server.stack.port
    assert status(client, f"https://other.example:{port}/", "--connect-to", f"::{DOMAIN}:{port}", "-k") == 0
    assert status(client, f"https://{DOMAIN}:{port}/internal/routes") in (401, 403, 404)
    for address in ("127.0.0.1", net.GATEWAY):
        assert status(client, f"http://{address}:{port}/health") == 0


# ---- the log


@pytest.fixture(scope="module")
def logging(online, internet):
    with online.box(network={"allow_out": ["example.com", "203.0.113.20"], "deny_out": [ALL]}) as box:
        yield trusting(box, internet)


def flow(internet, begun: int, server: str, port: int):
    until(lambda: any((each.server, each.port) == (server, port) for each in internet.flows[begun:]), "the end of it")
    return next(each for each in internet.flows[begun:] if (each.server, each.port) == (server, port))


@pytest.mark.parametrize("url", ["http://example.com/bytes/1234567", "https://example.com/bytes/1234567"])
def test_bytes_of_a_proxied_connection_are_those_of_the_other_side(logging, internet, url):
    begun, known = len(internet.flows), len(entries(logging))
    assert status(logging, url) == 200
    port = 443 if url.startswith("https") else 80
    there = flow(internet, begun, net.WEB["example.com"], port)
    until(lambda: _connections(entries(logging)[known:], port), "its entry")
    (entry,) = _connections(entries(logging)[known:], port)
    assert (entry["bytes_out"], entry["bytes_in"]) == (there.received, there.sent)
    assert entry["name"] == "example.com"
    assert entry["name_from"] == ("sni" if port == 443 else "host")
    assert entry["verdict"] == "allowed"
    assert entry["rule"] == "allow_out: example.com"


@pytest.mark.parametrize("path", ["/bytes/1234567", "/upload"])
def test_bytes_of_a_forwarded_connection_are_those_of_the_other_side(logging, internet, path):
    """The kernel counts packets; headers are taken off. What is sent again, with the acknowledgements that say
    so, makes it more in one of a few: headers would make it more in each."""
    more = ("-X", "POST", "--data-binary", "@/usr/bin/env") if path == "/upload" else ()
    too_much_out, too_much_in = [], []
    for _ in range(3):
        begun, known = len(internet.flows), len(entries(logging))
        assert status(logging, f"http://{net.WEB['api.example.com']}{path}", *more) == 200
        there = flow(internet, begun, net.WEB["api.example.com"], 80)
        until(lambda known=known: _connections(entries(logging)[known:], 80), "its entry", timeout_s=30)
        (entry,) = _connections(entries(logging)[known:], 80)
        assert entry["rule"] == "allow_out: 203.0.113.20"
        too_much_out.append(entry["bytes_out"] - there.received)
        too_much_in.append(entry["bytes_in"] - there.sent)
    assert min(*too_much_out, *too_much_in) > -100
    assert statistics.median(too_much_out) < max(100, 0.02 * there.received), too_much_out
    assert statistics.median(too_much_in) < max(100, 0.02 * there.sent), too_much_in


def _connections(found: list[dict], port: int) -> list[dict]:
    return [each for each in found if each["kind"] == "connection" and each.get("port") == port]


def test_each_request_of_plain_http_is_logged_without_its_query(logging):
    curl(logging, "http://example.com/get?secret=1", "--next", "http://example.com/data")
    entry = logged(logging, kind="request", path="/get")
    assert (entry["method"], entry["name"]) == ("GET", "example.com")
    assert "secret" not in json.dumps(entries(logging))


def test_what_is_refused_is_logged_with_the_rule(logging):
    assert status(logging, "https://example.org", "--resolve", f"example.org:443:{net.ATTACKER}") == 0
    entry = logged(logging, kind="connection", verdict="denied", name="example.org")
    assert entry["rule"] == f"deny_out: {ALL}"
    assert outcomes(logging, tcp(net.ATTACKER, 22))[0][0] != 0
    assert logged(logging, verdict="denied", address=net.ATTACKER, port=22)["protocol"] == "tcp"


def test_questions_are_logged(logging):
    logging.run("getent ahostsv4 example.com; getent ahostsv4 github.com")
    assert logged(logging, kind="question", name="example.com")["verdict"] == "allowed"
    assert logged(logging, kind="question", name="github.com")["verdict"] == "denied"


def test_the_log_outlives_its_sandbox(online):
    with online.box(network={"deny_out": [ALL]}) as box:
        outcomes(box, tcp(net.ATTACKER, 80))
        assert logged(box, verdict="denied", address=net.ATTACKER)
    assert logged(box, verdict="denied", address=net.ATTACKER)


def test_nothing_left_this_machine(internet):
    assert internet.escaped() == 0, internet.escapes()
