"""The log of outbound traffic of real sandboxes: by the API, by the command line, across deaths of the daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from atoll.testing import internet as net
from stack import Box, Stack, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

Facts = dict[str, Any]
WEB = net.WEB["example.com"]


def read(stack: Stack, sandbox_id: str, after: int = 0, wait: float = 0) -> Facts:
    answer = stack.api(
        "GET", f"/v1/sandboxes/{sandbox_id}/egress", params={"after": after, "limit": 1000, "wait": wait}
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def entry(box: Box, wanted: Callable[[Facts], bool]) -> Facts:
    """The first such; waits for it."""
    seen: list[Facts] = []
    cursor = 0
    while True:
        page = read(box.stack, box.id, cursor, wait=10)
        assert page["entries"], f"no such entry among {seen}"
        seen += page["entries"]
        cursor = page["cursor"]
        for each in page["entries"]:
            if wanted(each):
                return dict(each)


def connection(box: Box, port: int, **more: object) -> Facts:
    return entry(box, lambda each: each["kind"] == "connection" and each.get("port") == port
                 and all(each.get(name) == value for name, value in more.items()))  # fmt: skip


TALK = """
import socket
with socket.create_connection(({address!r}, {port}), timeout=5) as sock:
    sock.sendall({sent!r})
    print(len(sock.recv(100)))
"""


def talk(box: Box, address: str, port: int, sent: bytes = b"hello") -> Facts:
    return box.python(TALK.format(address=address, port=port, sent=sent))


def test_a_connection_that_the_kernel_lets_out_is_logged_with_what_both_sides_saw(online, internet):
    def flows() -> list[net.Flow]:
        return [flow for flow in internet.flows[begun:] if (flow.server, flow.port) == (WEB, net.ECHO_PORT)]

    with online.box() as box:
        box.sh("getent ahostsv4 example.com")
        begun = len(internet.flows)
        talk(box, WEB, net.ECHO_PORT)
        found = connection(box, net.ECHO_PORT)
        until(flows, "the far side's count")
        (flow,) = flows()
        assert (found["bytes_out"], found["bytes_in"]) == (flow.received, flow.sent) == (5, 5)
        assert (found["protocol"], found["address"], found["verdict"], found["rule"]) == (
            "tcp",
            WEB,
            "allowed",
            "default",
        )
        assert (found["name"], found["name_from"]) == ("example.com", "dns")
        assert found["duration_s"] < 5
        question = entry(box, lambda each: each["kind"] == "question")
        assert question["name"] == "example.com"


def test_what_is_refused_is_logged_with_its_rule(online):
    with online.box(network={"deny_out": [f"{WEB}/32"]}) as box:
        for address, port in ((WEB, 80), (net.INTRANET, 80), (net.ATTACKER, 25)):
            assert "ConnectionRefused" in json.dumps(talk(box, address, port))
        assert connection(box, 80, address=WEB)["rule"] == f"deny_out: {WEB}"
        assert connection(box, 80, address=net.INTRANET)["rule"] == "never: private"
        assert connection(box, 25)["rule"] == "blocklist: tcp/25"
        totals = box.control("GET", "/egress/totals").json()
        assert totals["denied"] >= 3
        assert totals["by_rule"]["blocklist: tcp/25"] == 1


def test_a_log_outlives_its_sandbox_and_the_daemon(online):
    with online.box() as box:
        talk(box, WEB, net.ECHO_PORT)
        before = connection(box, net.ECHO_PORT)
        pids = online.installation.pids("egress")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        until(lambda: set(online.installation.pids("egress")) - set(pids), "a new daemon")
        until(lambda: box.control("GET", "/egress").status_code == 200, "its answer")
        talk(box, WEB, net.ECHO_PORT, b"again")
        after = entry(box, lambda each: each["seq"] > before["seq"] and each.get("port") == net.ECHO_PORT)
        assert after["bytes_out"] == 5
    assert box.control("GET").status_code == 404
    kept = read(online, box.id)["entries"]
    assert [each["seq"] for each in kept] == list(range(1, len(kept) + 1))


def test_an_open_connection_is_logged_when_its_sandbox_ends(online):
    with online.box() as box:
        opened = f"import socket; kept = socket.create_connection(({WEB!r}, {net.ECHO_PORT})); kept.send(b'x')"
        box.python(opened)
    found = connection(box, net.ECHO_PORT)
    assert (found["verdict"], found["bytes_out"]) == ("allowed", 1)


def atoll(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "atoll.cli.main", *arguments, "--url", stack.url]
    command += ["--key", stack.installation.api_key]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)


def test_the_command_line_shows_it_as_it_happens(online):
    with online.box() as box:
        talk(box, WEB, net.ECHO_PORT)
        connection(box, net.ECHO_PORT)
        line = next(line for line in atoll(online, "egress", box.id).stdout.splitlines() if "tcp" in line)
        assert line.split()[2:5] == ["allowed", "tcp", f"{WEB}:{net.ECHO_PORT}"]
        command = [sys.executable, "-u", "-m", "atoll.cli.main", "egress", box.id, "--follow", "--last", "1", "--json"]
        command += ["--url", online.url, "--key", online.installation.api_key]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
            assert following.stdout is not None
            first = json.loads(following.stdout.readline())
            assert first["port"] == net.ECHO_PORT
            talk(box, net.INTRANET, 8080)
            assert json.loads(following.stdout.readline())["address"] == net.INTRANET
            following.send_signal(signal.SIGINT)
            assert following.wait(10) == 0


def refused_packets(stack: Stack) -> int:
    line = next(
        (line for line in stack.api("GET", "/v1/metrics").text.splitlines() if 'packets_total{rule="never"}' in line),
        "x 0",
    )
    return int(line.split()[1])


def test_of_a_flood_of_refusals_all_are_counted_and_some_are_told(online):
    flood = f"""
import contextlib, socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sent = 0
while sent < 5000:
    with contextlib.suppress(OSError):
        sent += bool(sock.sendto(b'x', ({net.INTRANET!r}, 9)))
"""
    with online.box() as box:
        before = refused_packets(online)
        box.python(flood)
        assert refused_packets(online) - before >= 5000
        connection(box, 9)
        assert 0 < box.control("GET", "/egress/totals").json()["denied"] < 2500


def test_metrics_of_all_are_for_those_with_a_key(online):
    text = online.api("GET", "/v1/metrics").text
    assert "# TYPE atoll_egress_connections_total counter" in text
    assert online.client.get("/v1/metrics").status_code == 401


def test_where_nothing_goes_out_there_is_no_log(stack):
    with stack.box() as box:
        answer = box.control("GET", "/egress")
        assert answer.status_code == 404
        assert "no way out" in answer.text
    assert stack.api("GET", "/v1/metrics").status_code == 200
