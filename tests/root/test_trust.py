"""An authority in a sandbox's own lists: whoever looks where it is expected to look finds it, and not any more later.

The server is in the sandbox too, so nothing but the lists is looked at.
"""

from __future__ import annotations

import asyncio

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from atoll.egress.authority import Authority
from atoll.node import trust
from stack import Box

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

NAME = "api.example.com"
SERVER = """
import http.server, ssl, threading
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        page = b"a" * 40 + b"\\trefs/heads/main\\n" if "/info/refs" in self.path else b"hello"
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)
    def log_message(self, *args):
        pass
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain("/workspace/leaf.pem")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 443), Page)
server.socket = tls.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
"""
URL = f"https://{NAME}/"
PROGRAMS = {
    "curl": f"curl -sS {URL}",
    "wget": f"wget -qO- {URL}",
    "git": f"git ls-remote {URL} | grep refs/heads/main",
    "openssl": f"openssl s_client -connect {NAME}:443 -verify_return_error </dev/null",
    "python": f"python3 -c 'import urllib.request as r; print(r.urlopen(\"{URL}\").read())'",
    "python with a list of its own": f"python3 -c 'import requests; print(requests.get(\"{URL}\").text)'",
    "pip": f"pip download --no-deps --index-url {URL} nothing-like-this 2>&1 | grep 'No matching distribution'",
    "node": f'node -e \'require("https").get("{URL}", r => r.pipe(process.stdout)).on("error", '
    "e => { console.error(e); process.exit(1) })'",
    "root": f"sudo curl -sS {URL}",
    "a program that was started without our variables": f"env -i curl -sS {URL}",
    "python without our variables": f"env -i python3 -c 'import urllib.request as r; r.urlopen(\"{URL}\").read()'",
    "after the system has made its lists anew": f"sudo update-ca-certificates >/dev/null && env -i curl -sS {URL}",
}
STATE = "cd /etc/ssl/certs && sha256sum * | sort; ls -l | sort; env | grep -E 'CERT|BUNDLE' || true"
CELL = f"import requests; print(requests.get({URL!r}).text)"


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority.ensure(tmp_path_factory.mktemp("authority"))


def pem(authority: Authority) -> str:
    """What the daemon would serve with, in a file."""
    key = authority._leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (key + authority.sign(NAME).public_bytes(Encoding.PEM)).decode()


@pytest.fixture(scope="module")
def box(stack, authority):
    with stack.box() as made:
        leaf = pem(authority)
        put = made.agent("POST", "/files/write", json={"path": "/workspace/leaf.pem", "content": leaf})
        assert put.status_code == 200
        made.sh(f"echo '127.0.0.1 {NAME}' | sudo tee -a /etc/hosts")
        made.sh("sudo sysctl -q net.ipv4.ip_unprivileged_port_start=0 || true")
        made.python(SERVER)
        yield made


def update(box: Box, given: trust.Trust | None) -> None:
    asyncio.run(trust.update(box.stack.installation.places.agent_socket(box.id), given))


@pytest.fixture(scope="module")
def given(authority) -> trust.Trust:
    return {"certificate": authority.pem, "hash": trust.subject_hash(authority.certificate)}


def test_nobody_trusts_it_before(box):
    assert box.run(PROGRAMS["curl"])["exit_code"] == 60
    assert "certificate verify failed" in box.python(CELL)["stderr"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_is_found_by(box, given, program):
    update(box, given)
    done = box.run(PROGRAMS[program])
    assert done["exit_code"] == 0, done


def test_it_is_found_by_a_python_session_that_was_there_before(box, given):
    update(box, given)
    assert box.python(CELL)["stdout"] == "hello\n"


def test_afterwards_nothing_is_left(box, given):
    update(box, None)
    before = box.sh(STATE)
    update(box, given)
    update(box, None)
    assert box.sh(STATE) == before
    assert box.run(PROGRAMS["curl"])["exit_code"] == 60
    assert "certificate verify failed" in box.python(CELL)["stderr"]


def test_lists_that_are_something_else_hold_nobody_up(stack, given):
    with stack.box("base") as box:
        box.sh("sudo rm /etc/ssl/certs/ca-certificates.crt && sudo mkfifo /etc/ssl/certs/ca-certificates.crt")
        update(box, given)
        assert box.sh("echo alive") == "alive"


def test_a_sandbox_of_which_nothing_is_known_gets_it_too(stack, given):
    with stack.box("busybox") as box:
        update(box, given)
        read = box.agent("GET", "/files/read", params={"path": "/etc/ssl/certs/ca-certificates.crt"}).json()
        assert read["content"] == given["certificate"]
