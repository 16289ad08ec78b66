"""Real software in a real sandbox, reached from outside: by path, by name, in the clear and over TLS."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import time

import httpx
import pytest

from names import DOMAIN
from stack import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

FLASK = """
import hashlib, os, threading
from flask import Flask, Response, redirect, request
app = Flask(__name__)
turn = threading.Semaphore(0)

@app.route("/", methods=["GET", "POST"])
def index():
    headers = [list(each) for each in request.headers]
    return {"headers": headers, "size": len(request.get_data()), "who": os.uname().nodename}

@app.route("/events")
def events():
    def made():
        for number in range(3):
            yield f"data: {number}\\n\\n"
            turn.acquire()
    return Response(made(), mimetype="text/event-stream")

@app.route("/next")
def go_on():
    turn.release()
    return ""

@app.route("/big")
def big():
    return Response((b"0123456789abcdef" * 65536 for _ in range(100)), headers={"Content-Length": str(100 << 20)})

@app.route("/away")
def away():
    return redirect("/there")

if __name__ == "__main__":
    app.run(port=8000)
"""
BIG = hashlib.sha256(b"0123456789abcdef" * 65536 * 100).hexdigest()


def serve_flask(box) -> None:
    box.agent("POST", "/files/write", json={"path": "/workspace/app.py", "content": FLASK}).raise_for_status()
    start(box, "python3 app.py", 8000)


def start(box, command: str, port: int) -> None:
    """Returns when it listens."""
    body = {"command": command, "workdir": "/workspace", "timeout": 600}
    box.agent("POST", "/commands/background", json=body).raise_for_status()
    headers = {"X-API-Key": box.stack.installation.api_key}
    until(lambda: by_path(box.stack, box, port, headers=headers).status_code != 502, f"port {port} listens")


@pytest.fixture(scope="module")
def box(named_stack):
    with named_stack.box() as made:
        serve_flask(made)
        start(made, "python3 -m http.server 9000 --bind 127.0.0.1 --directory /etc", 9000)
        yield made


@pytest.fixture(scope="module")
def other(named_stack):
    with named_stack.box() as made:
        start(made, "python3 -m http.server 8000", 8000)
        yield made


@pytest.fixture(scope="module")
def key(named_stack) -> dict[str, str]:
    return {"X-API-Key": named_stack.installation.api_key}


@pytest.fixture(scope="module")
def trusting(named_stack) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(named_stack.installation.places.tls / "ca.pem"))


def by_path(stack, box, port: int, path: str = "/", **more) -> httpx.Response:
    return stack.client.get(f"/s/{box.id}/{port}{path}", **more)


def by_name(stack, label: str, trusting: ssl.SSLContext | None, headers: dict[str, str]) -> tuple[int, bytes]:
    """One request, written by hand, so that the name needs no resolver. Over TLS the name is verified."""
    name, address = f"{label}.{DOMAIN}", ("127.0.0.1", stack.port)
    lines = ["GET / HTTP/1.0", f"Host: {name}:{stack.port}", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    with contextlib.ExitStack() as opened:
        sock = opened.enter_context(socket.create_connection(address, timeout=30))
        if trusting:
            sock = opened.enter_context(trusting.wrap_socket(sock, server_hostname=name))
        sock.sendall("\r\n".join(lines).encode())
        head, _, body = b"".join(iter(lambda: sock.recv(65536), b"")).partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


def test_a_flask_app_on_the_loopback_of_its_sandbox_by_path(named_stack, box, key):
    response = by_path(named_stack, box, 8000, headers=key)
    assert response.status_code == 200
    headers = dict(response.json()["headers"])
    assert headers["X-Forwarded-For"] == "127.0.0.1"
    assert "X-Api-Key" not in headers


def test_a_plain_file_server_by_path(named_stack, box, key):
    assert by_path(named_stack, box, 9000, "/hostname", headers=key).status_code in (200, 404)
    response = by_path(named_stack, box, 9000, "/passwd", headers=key)
    assert response.text.startswith("root:")


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("form", ["8000-{id}", "8000-{id}.here", "{id}", "{id}.here"])
def test_by_name(named_stack, box, key, trusting, form, secure):
    status, body = by_name(named_stack, form.format(id=box.id), trusting if secure else None, key)
    assert status == 200
    headers = dict(json.loads(body)["headers"])
    assert headers["X-Forwarded-Proto"] == ("https" if secure else "http")


def test_each_request_is_in_the_access_log_without_its_query(named_stack, box, key):
    by_path(named_stack, box, 9000, "/passwd?token=secret", headers=key)
    path = named_stack.installation.places.access_log

    def found() -> list[dict]:
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if line["sandbox"] == box.id and line["path"].endswith("/9000/passwd")]

    until(found, "the line is there")
    line = found()[-1]
    assert (line["port"], line["method"], line["status"]) == (9000, "GET", 200)
    assert line["sent"] == len(by_path(named_stack, box, 9000, "/passwd", headers=key).content)
    assert "secret" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_sandboxes_are_not_confused(named_stack, box, other, key):
    theirs = by_path(named_stack, other, 8000, headers=key)
    assert "Directory listing" in theirs.text
    assert by_path(named_stack, box, 8000, headers=key).json()["who"] in (box.id, box.sh("hostname"))
    assert by_path(named_stack, other, 9000, headers=key).status_code == 502
    assert by_path(named_stack, other, 8000, headers={"Authorization": f"Bearer {box.token}"}).status_code == 401


def test_events_arrive_when_they_are_made(named_stack, box, key):
    """The next is made when this one has come."""
    seen = []
    with named_stack.client.stream("GET", f"/s/{box.id}/8000/events", headers=key) as response:
        for line in filter(None, response.iter_lines()):
            seen.append(line)
            assert by_path(named_stack, box, 8000, "/next", headers=key).status_code == 200
    assert seen == ["data: 0", "data: 1", "data: 2"]


def test_a_large_download_is_whole(named_stack, box, key):
    digest = hashlib.sha256()
    with named_stack.client.stream("GET", f"/s/{box.id}/8000/big", headers=key) as response:
        for chunk in response.iter_bytes():
            digest.update(chunk)
    assert digest.hexdigest() == BIG


def test_a_large_upload_is_whole(named_stack, box, key):
    response = named_stack.client.post(f"/s/{box.id}/8000/", content=b"x" * (32 << 20), headers=key)
    assert response.json()["size"] == 32 << 20


def test_a_redirect_stays_in_the_sandbox(named_stack, box, key):
    assert by_path(named_stack, box, 8000, "/away", headers=key).headers["Location"] == f"/s/{box.id}/8000/there"


def test_a_public_sandbox_is_open_and_says_so(named_stack):
    with named_stack.box(inbound_auth="public") as made:
        start(made, "python3 -m http.server 8000", 8000)
        assert made.control("GET").json()["inbound_auth"] == "public"
        assert by_path(named_stack, made, 8000).status_code == 200
        assert named_stack.client.get(f"/s/{made.id}/info").status_code == 401


def test_a_deleted_sandbox_ends_what_is_open_within_a_second(named_stack, key):
    with named_stack.box() as made:
        serve_flask(made)
        with named_stack.client.stream("GET", f"/s/{made.id}/8000/big", headers=key) as response:
            parts = response.iter_raw()
            next(parts)
            made.kill()
            begun = time.monotonic()
            with pytest.raises(httpx.HTTPError):
                for _ in parts:
                    pass
            assert time.monotonic() - begun < 1
        assert by_path(named_stack, made, 8000, headers=key).status_code == 404


TRUSTING = {
    "curl": ("curl", "-sS", "--cacert", "{ca}", "-H", "X-API-Key: {key}", "{url}"),
    "Python": (
        sys.executable,
        "-c",
        "import httpx, sys; print(httpx.get('{url}', headers={{'X-API-Key': '{key}'}}).text)",
    ),
    "Node": (
        "node",
        "-e",
        "fetch('{url}', {{headers: {{'X-API-Key': '{key}'}}}}).then(r => r.text()).then(console.log)",
    ),
}


@pytest.mark.parametrize("client", TRUSTING)
def test_clients_that_are_told_to_trust_the_authority_do(names, named_stack, box, client):
    words = TRUSTING[client]
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    ca = str(named_stack.installation.places.tls / "ca.pem")
    facts = {"ca": ca, "key": named_stack.installation.api_key}
    url = f"https://8000-{box.id}.{DOMAIN}:{named_stack.port}/"
    said = names.run(*(word.format(url=url, **facts) for word in words), SSL_CERT_FILE=ca, NODE_EXTRA_CA_CERTS=ca)
    assert dict(json.loads(said)["headers"])["X-Forwarded-Proto"] == "https"


def test_this_machine_needs_neither_the_name_nor_the_authority(named_stack):
    places = named_stack.installation.places
    command = [sys.executable, "-m", "atoll.cli.main", "ps", "--data-dir", str(places.data), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=clean_environment())
    assert isinstance(json.loads(done.stdout), list)


def clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATOLL_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_the_authoritys_and_the_certificates_keys_are_private(named_stack):
    directory = named_stack.installation.places.tls
    for name in ("ca.key", "key.pem"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
