"""Who gets into a real sandbox's ports, and with what: signed links, traffic tokens, traffic that wakes; and that
programs see nothing of it."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from names import DOMAIN
from stack import Box, Stack, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

SHOWS = '''
import json, socket, threading

def serve(connection):
    """Says what arrived; or, asked to change the protocol, sends back what comes."""
    raw = b""
    while b"\\r\\n\\r\\n" not in raw:
        if not (more := connection.recv(65536)):
            return
        raw += more
    if b"upgrade: echo" in raw.lower():
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nConnection: upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n")
        while more := connection.recv(65536):
            connection.sendall(more)
    else:
        body = json.dumps(raw.decode("latin-1")).encode()
        head = b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
        connection.sendall(head + body)
    connection.close()

listener = socket.create_server(("127.0.0.1", 8000))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
'''


@contextlib.contextmanager
def showing(stack: Stack, **order: object) -> Iterator[Box]:
    """A sandbox that shows at port 8000 what arrives there."""
    with stack.box(**order) as made:
        made.agent("POST", "/files/write", json={"path": "/workspace/shows.py", "content": SHOWS}).raise_for_status()
        body = {"command": "python3 shows.py", "workdir": "/workspace", "timeout": 600}
        made.agent("POST", "/commands/background", json=body).raise_for_status()
        until(lambda: get(stack, f"8000-{made.id}", headers=key_of(stack)).status_code == 200, "it listens")
        yield made


@pytest.fixture(scope="module")
def box(named_stack: Stack) -> Iterator[Box]:
    with showing(named_stack) as made:
        yield made


@pytest.fixture(scope="module")
def other(named_stack: Stack) -> Iterator[Box]:
    with showing(named_stack) as made:
        yield made


def key_of(stack: Stack) -> dict[str, str]:
    return {"X-API-Key": stack.installation.api_key}


def get(stack: Stack, label: str, path: str = "/", headers: dict[str, str] | None = None) -> httpx.Response:
    """By name, without asking a resolver for it, and with no cookie from before."""
    named = {**(headers or {}), "Host": f"{label}.{DOMAIN}:{stack.port}"}
    return httpx.get(f"{stack.url}{path}", headers=named, timeout=60, verify=False, trust_env=False)


def link(box: Box, **order: int) -> httpx.URL:
    made = box.control("POST", "/links", json=order)
    assert made.status_code == 201, made.text
    return httpx.URL(made.json()["url"])


def enter(stack: Stack, label: str, url: httpx.URL, path: str = "/") -> str:
    """The cookie that a link is exchanged for, as a browser would send it back."""
    entered = get(stack, label, f"{path}?{url.query.decode()}")
    assert entered.status_code == 303
    assert "atoll_link" not in entered.headers["Location"]
    return entered.headers["Set-Cookie"].partition(";")[0]


# ---- signed links


@pytest.mark.parametrize(("label", "order"), [("8000-{id}", {"port": 8000}), ("{id}", {})], ids=["a port", "the host"])
def test_a_link_opens_its_door_and_the_program_sees_neither_it_nor_the_cookie(named_stack, box, label, order):
    label, url = label.format(id=box.id), link(box, **order)
    assert url.host == f"{label}.{DOMAIN}"
    assert get(named_stack, label).status_code == 401
    cookie = enter(named_stack, label, url)
    seen = get(named_stack, label, "/page?a=1", {"Cookie": f"{cookie}; theirs=2"})
    assert seen.status_code == 200
    arrived = seen.json()
    assert arrived.startswith("GET /page?a=1 HTTP/1.1\r\n")
    assert "theirs=2" in arrived
    assert "atoll" not in arrived
    assert cookie.partition("=")[2] not in arrived


def test_a_door_opens_nothing_else(named_stack, box, other):
    cookie = enter(named_stack, f"8000-{box.id}", link(box, port=8000))
    for label in (f"9000-{box.id}", box.id, f"8000-{other.id}"):
        assert get(named_stack, label, headers={"Cookie": cookie}).status_code == 401
    token = cookie.partition("=")[2]
    for headers in ({"Authorization": f"Bearer {token}"}, {"X-API-Key": token}):
        assert get(named_stack, f"8000-{box.id}", headers=headers).status_code == 401
        assert named_stack.client.get(f"/s/{box.id}/info", headers=headers).status_code == 401
        assert named_stack.client.get(f"/v1/sandboxes/{box.id}", headers=headers).status_code == 401


def test_a_link_is_no_sandbox_token_and_a_sandbox_token_no_link(named_stack, box):
    token = link(box, port=8000).params["atoll_link"]
    headers = {"Authorization": f"Bearer {token}"}
    assert named_stack.client.get(f"/s/{box.id}/info", headers=headers).status_code == 401
    assert get(named_stack, f"8000-{box.id}", f"/?atoll_link={box.token}").status_code == 401


# ---- the traffic token


def test_a_traffic_token_is_a_key_and_stays_outside(named_stack):
    network = {"allow_public_traffic": False, "mask_request_host": "localhost:${PORT}"}
    with showing(named_stack, inbound_auth="public", network=network) as made:
        token = made.control("GET").json()["traffic_access_token"]
        label = f"8000-{made.id}"
        refused = [get(named_stack, label, headers=each) for each in ({}, {"e2b-traffic-access-token": token[:-1]})]
        assert {response.status_code for response in refused} == {403}
        for action in (None, "pause", "resume"):
            if action:
                made.control("POST", f"/{action}").raise_for_status()
        arrived = get(named_stack, label, headers={"e2b-traffic-access-token": token}).json()
        assert token not in arrived
        assert "\r\nHost: localhost:8000\r\n" in arrived
        made.control("PUT", "/network", json={"allow_public_traffic": True}).raise_for_status()
        assert get(named_stack, label).status_code == 200
        made.control("PUT", "/network", json={"allow_public_traffic": False}).raise_for_status()
        assert get(named_stack, label).status_code == 403
        assert get(named_stack, label, headers={"e2b-traffic-access-token": token}).status_code == 200


# ---- traffic that wakes


def test_traffic_resumes_a_paused_sandbox_for_all_who_come_at_once(named_stack):
    with showing(named_stack, auto_resume=True) as made:
        made.control("POST", "/pause").raise_for_status()
        assert get(named_stack, f"8000-{made.id}").status_code == 401
        assert made.state() == "paused", "whoever may not enter wakes nobody"
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(lambda _: get(named_stack, f"8000-{made.id}", headers=key_of(named_stack)), range(8))
            )
        assert [answer.status_code for answer in answers] == [200] * 8
        assert made.state() == "running"


def test_traffic_resumes_no_sandbox_that_did_not_ask_for_it(named_stack):
    with showing(named_stack) as made:
        made.control("POST", "/pause").raise_for_status()
        assert get(named_stack, f"8000-{made.id}", headers=key_of(named_stack)).status_code == 409
        assert made.state() == "paused"


# ---- a sandbox that goes


def test_a_deleted_sandbox_ends_silent_tunnels_and_its_links_within_a_second(named_stack):
    with showing(named_stack) as made:
        cookie = enter(named_stack, f"8000-{made.id}", link(made, port=8000))
        head = f"GET / HTTP/1.1\r\nHost: 8000-{made.id}.{DOMAIN}\r\nCookie: {cookie}\r\n"
        with socket.create_connection(("127.0.0.1", named_stack.port), timeout=20) as tunnel:
            tunnel.sendall(f"{head}Connection: upgrade\r\nUpgrade: echo\r\n\r\n".encode())
            assert tunnel.recv(65536).startswith(b"HTTP/1.1 101 ")
            tunnel.sendall(b"x")
            while not tunnel.recv(65536).endswith(b"x"):
                pass
            begun = time.monotonic()
            made.kill()
            with contextlib.suppress(ConnectionResetError):
                assert tunnel.recv(65536) == b""
            for headers in (key_of(named_stack), {"Cookie": cookie}):
                assert get(named_stack, f"8000-{made.id}", headers=headers).status_code == 502
            assert time.monotonic() - begun < 1
