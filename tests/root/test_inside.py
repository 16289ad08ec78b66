"""The surfaces on 127.0.0.1 inside a sandbox: there, for that sandbox alone, and with credentials like outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal

import httpx
import pytest

from envd import token_of
from stack import Box, until

pytestmark = pytest.mark.root

AGENT = "http://127.0.0.1:7777"
ENVD = "http://127.0.0.1:49983"
CODE = "http://127.0.0.1:49999"


@pytest.fixture
def box(stack):
    made = stack.create("base")
    yield made
    made.kill()


def curl(box: Box, url: str, *options: str) -> tuple[int, str]:
    result = box.run(f"curl -sS --max-time 20 -w '\\n%{{http_code}}' {' '.join(options)} '{url}'")
    assert result["exit_code"] == 0, result
    body, _, status = result["stdout"].rstrip("\n").rpartition("\n")
    return int(status), body


def test_health_checks_find_the_surfaces_inside(box):
    status, body = curl(box, f"{AGENT}/health")
    assert (status, json.loads(body)["status"]) == (200, "healthy")
    assert curl(box, f"{ENVD}/health") == (204, "")
    assert curl(box, f"{CODE}/health") == (200, '"OK"')


def test_anything_else_needs_the_sandboxs_own_token(stack, box):
    other = stack.create("busybox")
    try:
        order = """-X POST -H 'Content-Type: application/json' -d '{"code": "print(6*7)"}'"""
        assert curl(box, f"{AGENT}/execute", order)[0] == 401
        assert curl(box, f"{AGENT}/execute", order, f"-H 'Authorization: Bearer {other.token}'")[0] in (401, 403)
        status, body = curl(box, f"{AGENT}/execute", order, f"-H 'Authorization: Bearer {box.token}'")
        assert (status, json.loads(body)["stdout"]) == (200, "42\n")
        assert curl(box, f"{CODE}/execute", order)[0] == 401
        assert curl(box, f"{CODE}/execute", order, f"-H 'X-Access-Token: {token_of(other)}'")[0] == 401
        status, body = curl(box, f"{CODE}/execute", order, f"-H 'X-Access-Token: {token_of(box)}'")
        assert (status, '"text":"42\\n"' in body) == (200, True), body
    finally:
        other.kill()


def test_whatever_a_program_calls_it_it_is_its_own_sandbox(stack, box):
    """Neither names, paths nor fields lead to another sandbox or to the control plane."""
    other = stack.create("busybox")
    try:
        bearer = f"-H 'Authorization: Bearer {other.token}' -H 'X-API-Key: {stack.installation.api_key}'"
        named = [
            f"-H 'Host: 7777-{other.id}.localhost'",
            f"-H 'E2b-Sandbox-Id: {other.id}' -H 'E2b-Sandbox-Port: 7777'",
            "-H 'Host: localhost'",
        ]
        for each in named:
            status, body = curl(box, f"{AGENT}/info", each, f"-H 'Authorization: Bearer {box.token}'")
            assert (status, json.loads(body)["vm_id"]) == (200, box.id), each
        for path in (f"/s/{other.id}/info", "/v1/sandboxes", "/internal/routes", f"/s/{other.id}/8000/"):
            assert curl(box, AGENT + path, bearer)[0] in (401, 403, 404), path
    finally:
        other.kill()


def test_they_are_no_programs_ports(box):
    """The sandbox's own host serves the one program that listens."""
    ports = box.sh("ss -ltnH | awk '{print $4}'")
    for port in (7777, 49983, 49999):
        assert f"127.0.0.1:{port}" in ports
    assert box.stack.client.get(f"/s/{box.id}/7777/health").json()["status"] == "healthy"


def test_many_connections_hold_up_their_own_sandbox_alone(stack, box):
    other = stack.create("base")
    try:
        hold = "import socket, time\nheld = [socket.create_connection(('127.0.0.1', 7777)) for _ in range(40)]\n"
        hold += "open('/tmp/held', 'w').close()\ntime.sleep(60)"
        box.run(f'python3 -c "{hold}" >/dev/null 2>&1 & until [ -e /tmp/held ]; do :; done')
        assert curl(other, f"{AGENT}/health")[0] == 200
        assert box.sh("echo still here") == "still here"
        box.sh("pkill -f create_connection")
        assert curl(box, f"{AGENT}/health")[0] == 200
    finally:
        other.kill()


def test_they_are_there_again_after_another_edge_has_come(stack, box):
    assert curl(box, f"{AGENT}/health")[0] == 200
    (edge,) = stack.installation.pids("edge")
    os.kill(edge, signal.SIGKILL)
    until(lambda: stack.installation.pids("edge") not in ([], [edge]), "there is another edge")
    until(lambda: is_healthy(box), "another edge serves")
    assert curl(box, f"{AGENT}/health")[0] == 200


def is_healthy(box: Box) -> bool:
    with contextlib.suppress(AssertionError, httpx.TransportError):
        return curl(box, f"{AGENT}/health")[0] == 200
    return False


def test_a_paused_sandbox_has_them_when_it_goes_on(box):
    box.control("POST", "/pause")
    box.control("POST", "/resume")
    assert curl(box, f"{AGENT}/health")[0] == 200
