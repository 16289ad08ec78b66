"""kill -9 of any part at any time: sandboxes that run are still there and answer, half-made ones leave nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from atoll.testing.installation import Installation, borrow_templates
from stack import Stack, templates_dir, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
ROLES = ["edge", "server", "node", "launcher"]


@pytest.fixture
def own(tmp_path, stack):
    """An installation to hurt; it borrows what the session's has built."""
    borrow_templates(templates_dir(), tmp_path)
    installation = Installation(tmp_path, "--templates", "base,code-interpreter,busybox")
    installation.start()
    made = Stack(installation)
    yield made
    made.client.close()
    installation.stop()
    nothing_is_left(installation)
    shutil.rmtree(installation.places.run, ignore_errors=True)  # the log of the launchers that were killed


def leftovers(installation) -> list[str]:
    """Everything of an installation that the kernel could still have."""
    name = installation.places.installation
    found = [f"process {pid}" for role in ROLES for pid in installation.pids(role)]
    found += [str(p) for depth in ("", "*/") for p in Path("/sys/fs/cgroup").glob(f"{depth}atoll-{name}")]
    found += [str(p) for p in Path("/run/netns").glob(f"atoll-{name}")]
    found += [
        line
        for line in Path("/proc/mounts").read_text().splitlines()
        if name in line or str(installation.places.data) in line
    ]
    loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
    found += [line for line in loops.splitlines() if str(installation.places.data) in line]
    return found


def nothing_is_left(installation) -> None:
    """The kernel takes a moment to let go of a loop device whose last mount went with its namespace."""
    until(lambda: leftovers(installation) == [], "the end of all of it", timeout_s=5)


def kill(installation, role: str) -> None:
    until(lambda: installation.pids(role), f"a {role} to kill")  # it may wait before it is started again
    pids = installation.pids(role)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: set(installation.pids(role)) - set(pids), f"a new {role}")


@pytest.mark.parametrize("role", ROLES)
def test_a_running_sandbox_survives_the_death_of(own, role):
    box = own.create()
    box.python("kept = 'state'")
    kill(own.installation, role)
    until(lambda: answers(box), "the sandbox answers again")
    assert box.python("print(kept)")["stdout"] == "state\n"
    until(lambda: can_create(own), "creates work again")
    box.kill()


def answers(box) -> bool:
    with contextlib.suppress(Exception):
        return box.python("print(kept)")["success"]
    return False


def can_create(own) -> bool:
    with contextlib.suppress(Exception), own.box("busybox") as box:
        return box.run("true")["exit_code"] in (0, 127)
    return False


def test_everything_killed_at_once_and_started_again(own):
    box = own.create()
    box.python("kept = 1")
    for pid in own.installation.pids("launcher"):
        os.kill(pid, signal.SIGKILL)
    own.installation.kill()
    own.installation.start()
    own.client.base_url = own.installation.url
    assert box.python("print(kept)")["stdout"] == "1\n"
    assert box.state() == "running"
    box.kill()
    assert box.control("GET").status_code == 404


def test_a_clean_stop_keeps_the_disk_and_start_brings_it_back(own):
    box = own.create()
    box.run("echo kept > /workspace/file")
    own.installation.stop()
    nothing_is_left(own.installation)
    own.installation.start()
    own.client.base_url = own.installation.url
    assert box.state() == "stopped"
    assert box.control("POST", "/start").status_code == 200
    assert box.sh("cat /workspace/file") == "kept"
    box.kill()


@pytest.mark.parametrize("role", ["server", "node", "launcher"])
def test_death_during_creates_leaves_no_half_made_sandbox(own, role):
    stop = threading.Event()

    def create_all_the_time() -> None:
        while not stop.is_set():
            with contextlib.suppress(Exception):
                own.api("POST", "/v1/sandboxes", json={"template_name": "busybox"})

    workers = [threading.Thread(target=create_all_the_time) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(3):
            time.sleep(0.3)  # lets creates get to different steps; the moment is meant to be arbitrary
            kill(own.installation, role)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    until(lambda: can_create(own), "creates work again")
    until(lambda: consistent(own), "no sandbox is half there")
    for sandbox in own.api("GET", "/v1/sandboxes").json()["data"]:
        assert own.api("DELETE", f"/v1/sandboxes/{sandbox['id']}").status_code in (200, 404)
    until(lambda: not handles(own), "no handle is left")


@pytest.mark.parametrize("role", ["node", "launcher"])
def test_what_was_killed_is_swept_whoever_dies_meanwhile(own, role):
    boxes = [own.create("busybox") for _ in range(8)]
    for box in boxes:
        box.kill()
    kill(own.installation, role)
    until(lambda: can_create(own), "creates work again")
    places = own.installation.places
    until(
        lambda: not [each for box in boxes for each in places.data.glob(f"node/*/{box.id}*")], "all of them are swept"
    )
    assert not [each for box in boxes for each in places.run.glob(f"*/{box.id}*")]


def handles(own) -> set[str]:
    return {path.stem for path in (own.installation.places.data / "node" / "sandboxes").glob("*.*")}


def consistent(own) -> bool:
    rows = own.api("GET", "/v1/sandboxes").json()["data"]
    listed = {row["id"] for row in rows}
    running = {path.stem for path in (own.installation.places.run / "launcher").glob("*.json")}
    return {row["status"] for row in rows} <= {"running"} and listed == handles(own) == running


def test_killing_the_node_does_not_cut_a_download(own):
    """Launcher and carrier outlive the node: bytes go on while it is dead, and after."""
    box = own.create()
    box.sh("head -c 300000000 /dev/urandom > /workspace/big; sha256sum /workspace/big | cut -d' ' -f1 > /workspace/sum")
    headers = {"Authorization": f"Bearer {box.token}"}
    url = f"/s/{box.id}/files/download"
    received = 0
    with own.client.stream("GET", url, params={"path": "/workspace/big"}, headers=headers) as response:
        for number, chunk in enumerate(response.iter_bytes()):
            received += len(chunk)
            if number == 10:
                for role in ("node", "server", "launcher"):
                    for pid in own.installation.pids(role):
                        os.kill(pid, signal.SIGKILL)
    assert received == 300_000_000
    until(lambda: can_create(own), "creates work again")
    box.kill()


def test_an_upgrade_by_sighup_keeps_sandboxes_and_streams(own):
    box = own.create()
    box.python("kept = 2")
    before = own.installation.pids("node")
    os.kill(own.installation.pid, signal.SIGHUP)
    until(lambda: own.installation.pids("node") and own.installation.pids("node") != before, "a new node")
    until(lambda: can_create(own), "creates work again")
    assert box.python("print(kept)")["stdout"] == "2\n"
    box.kill()
