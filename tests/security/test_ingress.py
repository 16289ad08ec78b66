"""Promises about programs in sandboxes that are reached from outside, against a real installation by path."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from stack import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

ECHO = """
import http.server, json
class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = json.dumps({"path": self.path, "headers": self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "sid=1; Path=/")
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_PUT = do_GET
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Echo).serve_forever()
"""
STALL = """
import socket, threading
server = socket.create_server(("127.0.0.1", 8001), backlog=64)
kept = []
while True:
    connection, _ = server.accept()
    connection.recv(65536)
    connection.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 1000000000\\r\\n\\r\\n")
    kept.append(connection)
"""


def serve(box, name: str, program: str, port: int = 8000) -> None:
    """Returns when it listens."""
    box.agent("POST", "/files/write", json={"path": f"/workspace/{name}.py", "content": program}).raise_for_status()
    body = {"command": f"python3 {name}.py", "workdir": "/workspace", "timeout": 600}
    box.agent("POST", "/commands/background", json=body).raise_for_status()
    headers = {"X-API-Key": box.stack.installation.api_key}

    def listens() -> bool:
        with box.stack.client.stream("GET", f"/s/{box.id}/{port}/", headers=headers) as response:
            return response.status_code != 502

    until(listens, f"port {port} listens")


@pytest.fixture(scope="module")
def box(stack):
    with stack.box() as made:
        serve(made, "echo", ECHO)
        serve(made, "stall", STALL, 8001)
        yield made


@pytest.fixture(scope="module")
def other(stack):
    with stack.box() as made:
        serve(made, "echo", ECHO)
        yield made


def test_no_credential_of_ours_is_seen_inside(stack, box):
    key, token = stack.installation.api_key, box.token
    hopx = "hopx_live_" + key.removeprefix("e2b_")
    for headers in (
        {"X-API-Key": key},
        {"X-API-Key": hopx},
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"Bearer {token}"},
        {"X-API-Key": key, "Authorization": f"Bearer {token}"},
        {"X-API-Key": token, "Authorization": f"Bearer {hopx}"},
    ):
        response = stack.client.get(f"/s/{box.id}/8000/", headers=headers)
        assert response.status_code == 200, headers
        for secret in (key, token, key.removeprefix("e2b_")):
            assert secret not in response.text, headers


def test_another_ones_token_and_a_made_up_key_do_not_get_in(stack, box, other):
    for headers in (
        {},
        {"Authorization": f"Bearer {other.token}"},
        {"X-API-Key": "e2b_" + "0" * 40},
        {"Authorization": f"Bearer {box.token[:-4]}AAAA"},
        {"Cookie": f"token={box.token}"},
    ):
        response = stack.client.get(f"/s/{box.id}/8000/", headers=headers)
        assert response.status_code == 401, headers
    assert (
        stack.client.get(f"/s/{box.id}/8000/?token={box.token}&api_key={stack.installation.api_key}").status_code == 401
    )


def test_what_comes_by_path_is_confined(stack, box):
    headers = {"X-API-Key": stack.installation.api_key, "Cookie": "elsewhere=secret; atoll-sid=1"}
    response = stack.client.get(f"/s/{box.id}/8000/", headers=headers)
    assert response.headers["Content-Security-Policy"].startswith("sandbox ")
    assert response.headers["Set-Cookie"] == f"atoll-sid=1; Path=/s/{box.id}/8000/"
    assert "secret" not in response.text
    stack.client.cookies.clear()


def test_a_smuggled_request_is_never_served(stack, box):
    head = f"POST /s/{box.id}/8000/ HTTP/1.1\r\nHost: x\r\nX-API-Key: {stack.installation.api_key}\r\n"
    inner = f"GET /s/{box.id}/8000/smuggled HTTP/1.1\r\nHost: x\r\nX-API-Key: {stack.installation.api_key}\r\n\r\n"
    for framing in (
        f"Content-Length: {len(inner) + 5}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        f"Content-Length: 0\r\nContent-Length: {len(inner)}\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", stack.port), timeout=10) as sock:
            sock.sendall((head + framing + inner).encode())
            said = b"".join(iter(lambda: sock.recv(65536), b""))
        assert said.split(b" ")[1] in (b"400", b"501"), framing
        assert b"smuggled" not in said, framing


def test_requests_in_one_pipeline_are_each_looked_at(stack, box, other):
    key = stack.installation.api_key
    good = f"GET /s/{box.id}/8000/one HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n"
    bad = f"GET /s/{other.id}/8000/two HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", stack.port), timeout=10) as sock:
        sock.sendall((good + bad).encode())
        said = b"".join(iter(lambda: sock.recv(65536), b""))
    assert b'"/one"' in said
    assert b"401 Unauthorized" in said
    assert b"/two" not in said


def test_programs_that_stall_hold_up_nobody_else(stack, box, other):
    headers = {"X-API-Key": stack.installation.api_key}
    stop, begun = threading.Event(), threading.Barrier(17)

    def wait() -> None:
        with stack.client.stream("GET", f"/s/{box.id}/8001/", headers=headers):
            begun.wait(30)
            stop.wait(30)

    waiting = [threading.Thread(target=wait) for _ in range(16)]
    for each in waiting:
        each.start()
    try:
        begun.wait(30)
        response = stack.client.get(f"/s/{other.id}/8000/", headers=headers, timeout=2)
        assert json.loads(response.text)["path"] == "/"
    finally:
        stop.set()
        for each in waiting:
            each.join()


def test_a_port_of_the_host_is_not_a_port_of_the_sandbox(stack, box):
    """127.0.0.1 is the sandbox's: the API's own port, listening on the host's, is closed there."""
    response = stack.client.get(f"/s/{box.id}/{stack.port}/health", headers={"X-API-Key": stack.installation.api_key})
    assert (response.status_code, response.json()["code"]) == (502, "PORT_CLOSED")
