"""Sandboxes that are born ahead of whoever asks for one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from atoll.testing.installation import READY, Installation, borrow_templates
from stack import Box, Stack, templates_dir, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
PROCESSES = 3
"""PID 1, the interpreter, the first context."""


class Ahead:
    """The newborns of an installation, from outside."""

    def __init__(self, installation: Installation) -> None:
        self.stack = Stack(installation)
        self.places = installation.places

    def names(self) -> set[str]:
        return {path.stem for path in (self.places.run / "b").glob("*.sock")}

    def full(self) -> set[str]:
        names: set[str] = set()

        def is_full() -> bool:
            nonlocal names
            names = self.names()
            return [len(self.pids(name)) for name in names] == [PROCESSES] * READY

        until(is_full, "a full pool")
        return names

    def pids(self, name: str) -> list[int]:
        """The first is PID 1."""
        group = Path(f"/sys/fs/cgroup/pids/atoll-{self.places.installation}/{name}/tasks")
        if not group.parent.parent.exists():
            group = Path(f"/sys/fs/cgroup/atoll-{self.places.installation}/{name}/cgroup.procs")
        with contextlib.suppress(OSError):  # of a group that goes at this moment: ENODEV
            return sorted(map(int, group.read_text().split()))
        return []

    def slot_of(self, box: Box) -> str:
        return str(self.stack.record(box)["cgroup"])


@pytest.fixture(scope="module")
def ahead(tmp_path_factory):
    data = tmp_path_factory.mktemp("ahead")
    borrow_templates(templates_dir(), data)
    with Installation(data, "--templates", "code-interpreter") as installation:
        made = Ahead(installation)
        yield made
        made.stack.client.close()


def test_a_create_takes_one_that_is_there(ahead):
    ready = ahead.full()
    box = ahead.stack.create(env_vars={"GREETING": "hello"})
    assert ahead.slot_of(box) in ready
    first = box.python("import os, socket; print(os.getuid(), os.environ['GREETING'], os.environ['HOME'], os.getcwd())")
    assert first["stdout"] == "1000 hello /home/user /workspace\n"
    assert box.sh("cat /proc/sys/kernel/hostname") == box.sh("hostname") != "nobody"
    assert box.sh("getent hosts $(hostname)").startswith("127.0.1.1")
    assert box.sh("echo $GREETING") == "hello"
    box.kill()


def test_as_many_variables_as_are_allowed_reach_it(ahead):
    env = {f"V{number}": "x" * 100_000 for number in range(10)}
    for take in (ahead.full, lambda: None):
        take()
        with ahead.stack.box(env_vars=env, memory_mb=1024 if take is not ahead.full else None) as box:
            code = "import os; print(sum(map(len, (os.environ[f'V{n}'] for n in range(10)))))"
            assert box.python(code)["stdout"] == "1000000\n"


def test_its_first_context_keeps_the_variables_between_cells(ahead):
    ahead.full()
    box = ahead.stack.create(env_vars={"GREETING": "hello", "TZ": "Asia/Tokyo"})
    box.python(
        "import os, threading\n"
        "over, seen = threading.Event(), []\n"
        "threading.Thread(target=lambda: (over.wait(30), seen.append(os.environ.get('GREETING')))).start()"
    )
    others = "[t for t in threading.enumerate() if t is not threading.current_thread() and not t.daemon]"
    result = box.python(f"over.set(); import time; [t.join() for t in {others}]; print(seen, time.tzname[0])")
    assert result["stdout"] == "['hello'] JST\n"
    box.kill()


def test_what_the_user_ends_is_not_his_first_context(ahead):
    ahead.full()
    box = ahead.stack.create()
    box.run("pkill -9 -u user; true")
    assert box.python("print('there')")["stdout"] == "there\n"
    box.kill()


def test_two_of_them_share_nothing_that_is_random(ahead):
    ahead.full()
    code = "import random, uuid, numpy, tempfile; print(random.random(), uuid.uuid4(), numpy.random.rand())"
    boxes = [ahead.stack.create() for _ in range(2)]
    first, second = (box.python(code)["stdout"].split() for box in boxes)
    assert not set(first) & set(second)
    boot_ids = {box.sh("cat /proc/sys/kernel/random/boot_id") for box in boxes}
    assert len(boot_ids) == 2
    for box in boxes:
        box.kill()


def test_one_that_has_ended_meanwhile_is_nobodys_loss(ahead):
    names = ahead.full()
    for name in names:
        os.kill(ahead.pids(name)[0], signal.SIGKILL)
    until(lambda: not any(ahead.pids(name) for name in names), "their end")
    for _ in names:
        with ahead.stack.box() as box:
            assert box.python("print(1)")["stdout"] == "1\n"
            assert ahead.slot_of(box) not in names


def test_one_that_has_ended_is_made_anew_though_nobody_asks(ahead):
    names = ahead.full()
    ended = names.pop()
    os.kill(ahead.pids(ended)[0], signal.SIGKILL)
    until(lambda: ended not in ahead.names() and not ahead.pids(ended), "its end")
    assert names < ahead.full()
    disks = ahead.places.data / "node" / "disks"
    until(lambda: not (disks / f"{ended}.img").exists(), "the end of its disk")


def test_it_has_no_name_yet(ahead):
    pid = ahead.pids(next(iter(ahead.full())))[0]
    command = ["nsenter", "-t", str(pid), "-u", "cat", "/proc/sys/kernel/hostname"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "nobody\n"
    records = (ahead.places.run / "launcher").glob("*.json")
    assert pid not in [json.loads(record.read_text())["pid"] for record in records]


def test_other_limits_get_one_of_their_own(ahead):
    ready = ahead.full()
    box = ahead.stack.create(memory_mb=1024)
    assert ahead.slot_of(box) not in ready
    box.kill()


@pytest.mark.parametrize("role", ["node", "launcher"])
def test_none_is_left_when_whoever_made_it_is_gone(ahead, role):
    old = ahead.full()
    pids = [pid for name in old for pid in ahead.pids(name)]
    for pid in ahead.stack.installation.pids(role):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the end of what was made ahead")
    until(lambda: not old & ahead.names(), "their sockets to go")
    until(lambda: not any(ahead.pids(name) for name in old), "their groups to go")
    assert ahead.full().isdisjoint(old)
