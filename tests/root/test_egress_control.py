"""A policy from the API to the wire and back: it outlives every part, hides its secrets, and goes with the last."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll.testing import internet as net
from atoll.testing.installation import Installation, borrow_templates
from reaching import ALL
from stack import Box, Stack, content, templates_dir, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

WEB, OTHER = net.WEB["example.com"], net.WEB["api.example.com"]
NAMES = {"allow_out": ["example.com", OTHER], "deny_out": [ALL]}
SECRET = "password-of-the-proxy"
PROXIED = {"egress_proxy": {"address": f"{net.DEAD}:1080", "username": "me", "password": SECRET}}
HEADER = "value-of-the-header"
RULED = {"rules": {"example.com": [{"transform": {"headers": {"X-Key": HEADER}}}]}}


def reaches(box: Box, host: str, within_s: int = 5) -> bool:
    return box.run(f"curl -sS -o /dev/null -m {within_s} http://{host}/get")["exit_code"] == 0


def only_names(box: Box) -> bool:
    """What `NAMES` says: one name, one address, nothing else."""
    found = [reaches(box, host) for host in ("example.com", OTHER, WEB, "httpbin.org")]
    return found == [True, True, False, False]


def put(box: Box, **network: object) -> dict[str, object]:
    answer = box.control("PUT", "/network", json=network)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def kill(installation: Installation, role: str) -> None:
    pids = installation.pids(role)
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: set(installation.pids(role)) - set(pids), f"a new {role}")


def ready(stack: Stack) -> bool:
    with contextlib.suppress(Exception):
        return bool(stack.api("GET", "/health").json()["ready"])
    return False


@pytest.fixture(scope="module")
def named(online: Stack) -> Iterator[Box]:
    """It lives through all tests of this file."""
    with online.box(network=NAMES) as box:
        yield box


def test_a_policy_of_the_create_holds_at_once(named: Box) -> None:
    assert only_names(named)


@pytest.mark.parametrize("actions", [("pause", "resume"), ("stop", "start")], ids=" ".join)
def test_it_outlives(named: Box, actions: tuple[str, ...]) -> None:
    for action in actions:
        assert named.control("POST", f"/{action}").status_code == 200
    assert only_names(named)


@pytest.mark.parametrize("role", ["server", "node", "launcher", "egress"])
def test_it_outlives_a_killed(online: Stack, named: Box, role: str) -> None:
    kill(online.installation, role)
    until(lambda: ready(online), "all parts work together")
    until(lambda: reaches(named, "example.com", 1), "names are read again")
    assert only_names(named)
    assert named.control("GET").json()["network"] == NAMES


def test_while_the_daemon_is_away_what_needs_it_is_refused_and_the_rest_goes_on(online: Stack, named: Box) -> None:
    (pid,) = online.installation.pids("egress")
    os.kill(pid, signal.SIGSTOP)
    try:
        assert reaches(named, OTHER)
        assert not reaches(named, "example.com")
    finally:
        os.kill(pid, signal.SIGKILL)
    until(lambda: reaches(named, "example.com", 1), "names are read again")


def test_a_change_of_a_paused_sandbox_holds_when_it_goes_on(online: Stack) -> None:
    with online.box() as box:
        assert box.control("POST", "/pause").status_code == 200
        put(box, **NAMES)
        assert box.control("POST", "/resume").status_code == 200
        assert only_names(box)


def test_a_change_while_the_daemon_is_away_holds(online: Stack) -> None:
    with online.box(network=NAMES) as box:
        for pid in online.installation.pids("egress"):
            os.kill(pid, signal.SIGKILL)
        put(box, allow_out=["httpbin.org"], deny_out=[ALL])
        until(lambda: reaches(box, "httpbin.org", 1), "names are read again")
        assert not reaches(box, "example.com")


def test_a_stopped_one_is_a_conflict(online: Stack) -> None:
    with online.box() as box:
        assert box.control("POST", "/stop").status_code == 200
        assert box.control("PUT", "/network", json={}).status_code == 409


def test_an_update_is_quick(online: Stack) -> None:
    """The bound is for a busy machine; the benchmark has the figure."""
    with online.box() as box:
        took = []
        for number in range(11):
            begun = time.perf_counter()
            put(box, deny_out=[f"203.0.113.{number}", "198.51.100.0/24"])
            took.append(time.perf_counter() - begun)
        assert statistics.median(took) < 0.25


def test_no_secret_is_in_clear_on_disk_or_in_an_answer(online: Stack) -> None:
    data = online.installation.places.data
    with online.box(network=PROXIED | RULED) as box:
        answers = [box.control("GET").text, online.api("GET", "/v1/sandboxes").text, str(put(box, **PROXIED, **RULED))]
        assert all(SECRET not in answer for answer in answers)
        assert all(HEADER in answer for answer in answers)  # rules come back as they were given
        written = [path for place in ("server", "node/sandboxes", "egress") for path in (data / place).rglob("*")]
        written += list(online.installation.places.run.rglob("*"))
        contents = b"".join(content(path) for path in written if path.is_file())
        assert box.id.encode() in contents
        assert SECRET.encode() not in contents
        assert HEADER.encode() not in contents
        commands = b"".join(content(path) for path in Path("/proc").glob("[0-9]*/cmdline"))
        assert SECRET.encode() not in commands


# ---- call-backs


def callback(box: Box, url: str) -> str:
    body = {"code": "print(1)", "language": "python", "callback_url": url}
    started = box.agent("POST", "/execute/async", json=body)
    if started.status_code == 403:
        return "forbidden"
    assert started.status_code == 200, started.text
    execution = started.json()["execution_id"]

    def state() -> str:
        runs = box.agent("GET", "/execute/processes").json()["processes"]
        found = next(run for run in runs if run["process_id"] == execution)
        return str(found["callback"]["status"])

    until(lambda: state() not in ("waiting", "delivering"), "the call-back is over")
    return state()


@pytest.mark.parametrize(
    ("network", "url", "expected"),
    [
        (NAMES, "http://example.com/post", "delivered"),
        (NAMES, f"http://{OTHER}/post", "delivered"),
        (NAMES, f"http://{WEB}/post", "refused"),
        (NAMES, "http://httpbin.org/post", "refused"),
        (NAMES, f"http://example.com:{net.ECHO_PORT}/", "refused"),
        ({"deny_out": [f"{WEB}/32"]}, "http://example.com/post", "refused"),
        ({"deny_out": [ALL]}, "http://example.com/post", "forbidden"),
        (PROXIED, "http://example.com/post", "refused"),
    ],
    ids=lambda it: it if isinstance(it, str) else "+".join(it),
)
def test_a_call_back_goes_where_the_policy_lets_the_sandbox_go(
    online: Stack, internet: net.Internet, network: dict[str, object], url: str, expected: str
) -> None:
    with online.box(network=network) as box:
        before = len(internet.requests)
        assert callback(box, url) == expected
        assert (len(internet.requests) > before) is (expected == "delivered")


# ---- the end


def test_a_clean_stop_leaves_no_daemon_and_the_next_start_knows_every_policy(
    stack: Stack, internet: net.Internet, tmp_path: Path
) -> None:
    borrow_templates(templates_dir(), tmp_path)
    installation = Installation(tmp_path, "--templates", "code-interpreter", "--uplink", internet.uplink)

    def holds(box: Box, *actions: str) -> None:
        stack = Stack(installation)
        with contextlib.closing(stack.client):
            here = Box(stack, box.id, box.token)
            assert all(here.control("POST", action).status_code == 200 for action in actions)
            assert only_names(here)

    try:
        installation.start()
        made = Stack(installation)
        box = made.create(network=NAMES)
        made.client.close()
        installation.kill()
        assert len(installation.pids("egress")) == 1  # it outlives a supervisor that was killed, as sandboxes do
        installation.start()
        holds(box)
        installation.stop()
        assert [pid for role in ("egress", "launcher", "node") for pid in installation.pids(role)] == []
        installation.start()
        holds(box, "/start")
    finally:
        installation.stop()
    assert installation.pids("egress") == []
    assert not Path(f"/run/netns/atoll-{installation.places.installation}").exists()
    shutil.rmtree(installation.places.run, ignore_errors=True)
