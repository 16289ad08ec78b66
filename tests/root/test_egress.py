"""The way out as a whole: it works, survives the death of every part, and is gone after a stop."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import uuid
from pathlib import Path

import pytest

from atoll.testing import internet as net
from atoll.testing.installation import Installation, borrow_templates
from atoll.testing.internet import Internet
from stack import Stack, templates_dir, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

KEEP_OPEN = f"""
import http.client
def ask():
    kept.request('GET', '/get')
    print(kept.getresponse().read() and kept.sock.getsockname()[1])
kept = http.client.HTTPConnection('{net.WEB["example.com"]}', timeout=5)
ask()
"""


@pytest.fixture(scope="module")
def box(online):
    with online.box() as made:
        yield made


def kill(installation, role: str) -> None:
    pids = installation.pids(role)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: set(installation.pids(role)) - set(pids), f"a new {role}")


def reaches(box, url: str = "http://example.com/get") -> bool:
    return box.run(f"curl -sS -o /dev/null -m 5 {url}")["exit_code"] == 0


@pytest.mark.parametrize("url", ["http://example.com/get", f"http://{net.WEB['example.com']}/",
                                 "https://api.example.com/get", f"https://{net.WEB['api.example.com']}/"])  # fmt: skip
def test_the_web_is_reached_by_name_and_by_address(box, internet, url):
    put = box.agent("POST", "/files/write", json={"path": "/workspace/ca.pem", "content": internet.ca_file.read_text()})
    assert put.status_code == 200
    assert box.run(f"curl -sS --cacert /workspace/ca.pem -o /dev/null -m 5 {url}")["exit_code"] == 0


def test_names_are_asked_of_the_resolvers_in_resolv_conf(box, internet):
    internet.queries.clear()
    name = f"{uuid.uuid4().hex}.mydomain.com"  # of which nobody keeps the answer
    box.sh(f"getent ahostsv4 {name}")
    assert ("8.8.8.8", name, "A") in internet.queries
    assert box.sh("cat /etc/resolv.conf").split() == ["nameserver", "8.8.8.8", "nameserver", "1.1.1.1"]


def test_everybody_outside_sees_the_hosts_address(box):
    assert json.loads(box.sh("curl -sS -m 5 http://httpbin.org/get"))["origin"] == net.GATEWAY


def test_a_ping_is_answered(box):
    code = f"""
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
s.settimeout(5)
s.sendto(struct.pack('!BBHHH', 8, 0, 0, 0, 1), ('{net.WEB["example.com"]}', 0))
print(s.recv(100)[0])
"""
    assert box.python(code)["stdout"] == "0\n"


@pytest.mark.parametrize("role", ["node", "launcher"])
def test_an_open_connection_survives_a_kill(online, box, role):
    port = box.python(KEEP_OPEN)["stdout"]
    assert port
    kill(online.installation, role)
    assert box.python("ask()")["stdout"] == port  # the same connection
    until(lambda: online.api("GET", "/health").json()["ready"], "the node is back")
    with online.box() as fresh, online.box(internet_access=False) as closed:
        assert reaches(fresh)
        assert not reaches(closed)


def test_pause_stop_and_start_keep_what_was_chosen(online):
    with online.box() as on, online.box(internet_access=False) as off:
        for action in ("pause", "resume", "stop", "start"):
            for each in (on, off):
                assert each.control("POST", f"/{action}").status_code < 300
        assert reaches(on)
        assert not reaches(off)


def rules(internet: Internet) -> str:
    command = ["nft", "list", "ruleset"]
    return internet.gateway(lambda: subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _inhabited() -> set[int]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*/ns/net"):
        with contextlib.suppress(OSError):
            found.add(entry.stat().st_ino)
    return found


def links(internet: Internet) -> set[str]:
    return internet.gateway(lambda: {name for _, name in socket.if_nameindex() if name.startswith("atu")})


def forwards(internet: Internet, interface: str = "wan0") -> str:
    return internet.gateway(lambda: Path(f"/proc/sys/net/ipv4/conf/{interface}/forwarding").read_text().strip())


@pytest.fixture
def hosted(stack, tmp_path):
    """An Atoll that takes the gateway for its host: `auto` is the interface of the default route there."""
    borrow_templates(templates_dir(), tmp_path)
    flags = ("--templates", "code-interpreter", "--uplink", "auto", "--open-ranges", "10.20.30.0/24")
    with Internet(suffix="h") as internet:
        internet.gateway(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("0"))
        installation = Installation(tmp_path, *flags)
        internet.gateway(installation.start)
        yield internet, installation
        installation.stop()
        assert internet.escaped() == 0
        shutil.rmtree(installation.places.run, ignore_errors=True)


def _use(installation) -> tuple[bool, bool, bool]:
    """Web, an opened intranet, and the rest of the intranet's range. Runs where the installation serves."""
    made = Stack(installation)
    try:
        with made.box() as box:
            return reaches(box), reaches(box, f"http://{net.INTRANET}/"), reaches(box, "http://10.20.31.40/")
    finally:
        made.client.close()


def test_the_host_forwards_for_sandboxes_only_and_no_longer_than_they_need(hosted):
    internet, installation = hosted
    table = f"atoll-{installation.places.installation}"
    assert forwards(internet) == "1"
    assert 'iifname "wan0" oifname != "atu*"' in rules(internet)
    assert internet.gateway(lambda: _use(installation)) == (True, True, False)

    installation.kill()  # everything of it but the launcher
    for pid in installation.pids("launcher"):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not installation.pids("launcher"), "the launcher's end")
    assert table in rules(internet)
    internet.gateway(installation.start)
    assert internet.gateway(lambda: _use(installation)) == (True, True, False)

    installation.stop()
    assert rules(internet) == ""
    assert links(internet) == set()
    assert forwards(internet) == "0"
    assert not Path("/run/netns", table).exists()
    assert not (installation.places.run / "uplink.json").exists()


def test_what_a_dead_installation_left_is_swept_by_the_next(hosted, tmp_path_factory):
    internet, dead = hosted
    dead.kill()
    for pid in (*dead.pids("launcher"), *dead.pids("egress")):
        os.kill(pid, signal.SIGKILL)
    fabric = Path("/run/netns", f"atoll-{dead.places.installation}").stat().st_ino
    until(lambda: fabric not in _inhabited(), "the end of the launcher and its zygotes")
    data = tmp_path_factory.mktemp("next")
    borrow_templates(templates_dir(), data)
    following = Installation(data, "--templates", "code-interpreter", "--uplink", internet.uplink)
    with following:
        assert links(internet) == {f"atu{following.places.installation}"}
        assert dead.places.installation not in rules(internet)
    assert rules(internet) == ""
    assert forwards(internet) == "0"
    internet.gateway(dead.start)  # its own next start, which sets everything up again
    assert links(internet) == {f"atu{dead.places.installation}"}
