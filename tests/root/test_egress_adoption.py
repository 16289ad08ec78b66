"""Policies outlive the launcher that loaded them: what was refused stays refused, what was open stays open."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from atoll.testing import internet as net
from reaching import assert_refused, outcomes, tcp, udp
from stack import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

ALLOWED, DENIED = net.WEB["example.com"], net.WEB["httpbin.org"]
POLICY = {"allow_out": [ALLOWED], "deny_out": ["0.0.0.0/0"]}
KEEP = f"""
import socket
kept = socket.create_connection(({ALLOWED!r}, {net.ECHO_PORT}), timeout=5)
def ask():
    kept.send(b'still there')
    print(kept.recv(100))
ask()
"""


@pytest.fixture
def box(online):
    with online.box(network=POLICY) as made:
        yield made


def replace_launcher(online) -> None:
    old = online.installation.pids("launcher")
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    until(lambda: set(online.installation.pids("launcher")) - set(old), "another launcher")
    until(lambda: online.api("GET", "/health").json()["ready"], "the node has it")


def fabric_of(online) -> str:
    return f"atoll-{online.installation.places.installation}"


def judged(box) -> list[bool]:
    found = outcomes(box, tcp(ALLOWED, net.ECHO_PORT), tcp(DENIED, net.ECHO_PORT), udp(DENIED, net.ECHO_PORT))
    assert_refused([each for each in found if each[0] != 0])
    return [code == 0 for code, _ in found]


def test_a_new_launcher_keeps_policies_and_connections(online, box):
    assert judged(box) == [True, False, False]
    assert box.python(KEEP)["stdout"] == "b'still there'\n"
    replace_launcher(online)
    assert judged(box) == [True, False, False]
    assert box.python("ask()")["stdout"] == "b'still there'\n"


def test_an_update_holds_for_the_next_launcher_too(online, box):
    assert box.control("PUT", "/network", json={"deny_out": [ALLOWED]}).status_code == 200
    assert judged(box) == [False, True, True]
    replace_launcher(online)
    assert judged(box) == [False, True, True]


def test_the_record_holds_the_policy_and_no_secret(online):
    proxy = {"egress_proxy": {"address": "203.0.113.110:1080", "username": "who", "password": "hidden-word"}}
    with online.box(network=proxy) as box:
        record = Path(online.installation.places.run, "launcher", f"{box.id}.json").read_text()
    assert json.loads(record)["egress"]["divert"] == "tcp"
    assert "hidden-word" not in record


def test_nothing_of_a_sandbox_is_in_the_table_when_its_kill_is_answered(online):
    def table() -> str:
        command = ["ip", "netns", "exec", fabric_of(online), "nft", "list", "table", "inet", "egress"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with online.box(network={"allow_out": [ALLOWED, "example.com"], "deny_out": ["0.0.0.0/0"]}) as gone:
        record = Path(online.installation.places.run, "launcher", f"{gone.id}.json").read_text()
        link = f"at{json.loads(record)['generation'] * 512 + json.loads(record)['slice']}"
        assert f"except4-{link}" in table()
    left = table()
    assert f'"{link}"' not in left
    assert f"-{link}." not in left


def test_traffic_is_counted_and_timed(online):
    names = ("net.netfilter.nf_conntrack_acct", "net.netfilter.nf_conntrack_timestamp")
    command = ["ip", "netns", "exec", fabric_of(online), "sysctl", "-n", *names]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["1", "1"]
