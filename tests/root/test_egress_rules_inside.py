"""Header rules and egress proxies as programs in real sandboxes meet them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from atoll.testing.internet import SOCKS, WEB, Internet
from atoll.testing.socks_server import SocksServer
from names import DOMAIN
from reaching import curl, logged, trusting
from stack import Box, content

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

NAME = "api.example.com"
VALUE = "Bearer 5ecret-of-the-rule"
URL = f"https://{NAME}/get"
KEPT = "/usr/local/share/ca-certificates/atoll-outbound-rules.crt"
PROGRAMS = {
    "curl": f"curl -sS {URL}",
    "python": f"python3 -c 'import urllib.request as r; r.urlopen(\"{URL}\").read()'",
    "requests": f"python3 -c 'import requests; requests.get(\"{URL}\").raise_for_status()'",
    "node": f'node -e \'require("https").get("{URL}", r => process.exit(r.statusCode == 200 ? 0 : 2))\'',
    "git": f"git ls-remote https://{NAME}/x.git 2>&1 | grep -i 'not found'",
}


def rules(name: str = NAME, value: str = VALUE) -> dict[str, Any]:
    return {name: [{"transform": {"headers": {"Authorization": value}}}]}


def put_network(box: Box, **network: Any) -> dict[str, Any]:
    answer = box.control("PUT", "/network", json=network)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.fixture(scope="module")
def box(online) -> Iterator[Box]:
    with online.box(network={"rules": rules()}) as made:
        yield made


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_need_no_word_about_it(internet, box, program):
    internet.requests.clear()
    done = box.run(PROGRAMS[program])
    assert done["exit_code"] == 0, done
    assert {each.headers.get("Authorization") for each in internet.requests} == {VALUE}


def test_a_python_session_needs_none_either(internet, box):
    internet.requests.clear()
    done = box.python(f"import urllib.request as r; print(r.urlopen({URL!r}).status)")
    assert done["stdout"] == "200\n", done
    assert internet.requests[0].headers["Authorization"] == VALUE


def test_it_is_written_down_without_the_value(online, box):
    box.sh(f"curl -sS 'http://{NAME}/headers?a=b' -o /dev/null")
    logged(box, kind="request", name=NAME, path="/headers", verdict="allowed")
    told = box.control("GET", "/egress", params={"limit": 1000}).text
    assert "5ecret" not in told
    places = online.installation.places
    logs = [path.read_bytes() for path in places.run.glob("*.log")]
    logs += [path.read_bytes() for path in (places.data / "egress").rglob("*") if path.is_file()]
    logs += [content(path) for path in (places.data / "node/sandboxes").iterdir()]
    logs.append((places.data / "server/atoll.db").read_bytes())
    assert not any(b"5ecret" in log for log in logs)


def test_nothing_inside_knows_the_value(box):
    found = box.run("sudo grep -rl 5ecret-of-the-rule /etc /run /tmp /workspace /home /proc/1/environ 2>/dev/null")
    assert found["stdout"] == ""


def test_a_sandbox_without_rules_trusts_nobody_more(online):
    with online.box(network={"inspect": True}) as plain:
        assert plain.run(f"test -e {KEPT}")["exit_code"] == 1
        assert "NODE_EXTRA_CA_CERTS" not in plain.sh("env")
        assert plain.run(PROGRAMS["curl"])["exit_code"] == 60


def test_rules_that_come_and_go_take_the_authority_with_them(online, internet):
    with online.box() as changing:
        trusting(changing, internet)
        put_network(changing, rules=rules())
        internet.requests.clear()
        changing.sh(PROGRAMS["requests"])
        assert internet.requests[0].headers["Authorization"] == VALUE
        put_network(changing)
        assert changing.run(f"test -e {KEPT}")["exit_code"] == 1
        internet.requests.clear()
        assert curl(changing, URL)["exit_code"] == 0
        assert "Authorization" not in internet.requests[0].headers


def test_rules_that_come_while_it_is_paused_work_when_it_goes_on_and_after_a_stop(online, internet):
    with online.box() as sleeping:
        assert sleeping.control("POST", "/pause").status_code < 300
        put_network(sleeping, rules=rules())
        assert sleeping.control("POST", "/resume").status_code < 300
        sleeping.sh(PROGRAMS["curl"])
        for action in ("stop", "start"):
            assert sleeping.control("POST", f"/{action}").status_code < 300
        internet.requests.clear()
        sleeping.sh(PROGRAMS["requests"])
        assert internet.requests[0].headers["Authorization"] == VALUE


def test_a_sandbox_that_fights_its_trust_store_is_changed_all_the_same(online, internet):
    """Its own lists are its own; the policy is not."""
    with online.box() as hostile:
        hostile.sh("sudo rm -rf /etc/ssl /usr/local/share/ca-certificates && sudo ln -s /proc/1/fd /etc/ssl")
        hostile.sh("sudo mkfifo /usr/local/share/ca-certificates")
        put_network(hostile, rules=rules())
        internet.requests.clear()
        hostile.sh(f"curl -ksS {URL}")
        assert internet.requests[0].headers["Authorization"] == VALUE


SERVER = """
import http.server, threading
seen = []
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen.append(self.headers.get("X-Rule"))
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Page)
threading.Thread(target=server.serve_forever, daemon=True).start()
"""


def test_a_rule_for_another_sandboxs_name_works(named_online):
    with named_online.box() as there:
        there.python(SERVER)
        name = f"8000-{there.id}.{DOMAIN}"
        headers = {"X-Rule": "of-the-rule", "Authorization": f"Bearer {there.token}"}
        network = {"rules": {name: [{"transform": {"headers": headers}}]}}
        with named_online.box(network=network) as here:
            assert here.sh(f"curl -sS https://{name}/") == "hello"
            assert here.sh("grep -r 'Bearer' /etc /workspace 2>/dev/null || true") == ""
        assert there.python("print(seen)")["stdout"] == "['of-the-rule']\n"


# ---- egress proxies


@pytest.fixture(scope="module")
def proxy(internet: Internet) -> Iterator[SocksServer]:
    import socket

    made = internet.far(
        lambda: SocksServer(
            (SOCKS, 1090),
            username="ann",
            password="pr0xy-passw0rd",
            dial=lambda host, port: socket.create_connection((WEB.get(host, host), port), 5),
        )
    )
    thread = internet.far(made.start)
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def test_everything_goes_through_the_proxy_and_its_password_never_comes_back(online, internet, proxy):
    given = {"address": f"{SOCKS}:1090", "username": "ann", "password": "pr0xy-passw0rd"}
    with online.box(network={"egress_proxy": given}) as box:
        trusting(box, internet)
        assert curl(box, "https://example.com/get")["exit_code"] == 0
        assert json.loads(box.sh("curl -sS http://httpbin.org/get"))["method"] == "GET"
        assert proxy.requests == [("example.com", 443), ("httpbin.org", 80)]
        shown = box.control("GET").text + box.control("GET", "/egress").text
        assert f"{SOCKS}:1090" in shown
        assert "pr0xy" not in shown
        put_network(box)
        assert curl(box, "https://example.com/get")["exit_code"] == 0
        assert len(proxy.requests) == 2
