"""What a sandbox's life looks like from outside and inside, on the real engine."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import socket
import subprocess
import time
from pathlib import Path

import pytest

from atoll.engines.native.ids import Slice
from atoll.engines.native.network import link_name
from atoll.testing.installation import Installation, borrow_templates
from stack import Box, Stack, templates_dir, until

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def box(stack):
    with stack.box() as made:
        yield made


def test_resources_show_the_limits_of_the_template(box):
    resources = box.control("GET").json()["resources"]
    assert resources == {"vcpu": 2, "memory_mb": 2048, "disk_mb": 10240}


def test_the_limits_are_the_kernels(stack, box):
    pid = stack.host_pid(box)
    groups = Path(f"/proc/{pid}/cgroup").read_text()
    place = groups.split("atoll-", 1)[1].splitlines()[0]
    found = {path.name: path.read_text().strip() for path in limit_files(f"atoll-{place}")}
    assert found.get("memory.limit_in_bytes", found.get("memory.max")) == str(2048 << 20)
    assert found["pids.max"] == "1024"
    assert found.get("cpu.cfs_quota_us", "200000") == "200000"
    assert found.get("cpu.max", "200000 100000") == "200000 100000"


def limit_files(place: str) -> list[Path]:
    names = ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.cfs_quota_us", "cpu.max")
    return [path for name in names for path in Path("/sys/fs/cgroup").glob(f"*/{place}/{name}")] + [
        path for name in names if (path := Path("/sys/fs/cgroup") / place / name).exists()
    ]


def test_the_disk_has_its_limit(box):
    kibibytes = int(box.sh("df -k --output=size / | tail -1"))
    assert 9.5 * 2**20 < kibibytes <= 10 * 2**20


def test_a_timeout_kills_at_its_end(stack):
    asked = time.monotonic()
    made = stack.create("busybox", timeout_seconds=2)
    assert made.control("GET").json()["expires_at"]
    until(lambda: made.control("GET").status_code == 404, "the sandbox is gone")
    assert 1.5 < time.monotonic() - asked < 8


def test_a_paused_sandbox_does_not_run_and_goes_on_where_it_was(stack):
    with stack.box() as made:
        made.run("nohup bash -c 'while true; do date +%s%N >> /workspace/ticks; sleep 0.01; done' >/dev/null 2>&1 &")
        made.python("kept = 5")
        assert made.control("POST", "/pause").status_code == 200
        assert made.state() == "paused"
        pid = stack.host_pid(made)
        used = cpu_ticks(pid)
        assert made.agent("POST", "/execute", json={"code": "1"}).status_code == 409
        time.sleep(0.3)
        assert cpu_ticks(pid) == used
        assert made.control("POST", "/resume").status_code == 200
        assert made.python("print(kept)")["stdout"] == "5\n"
        before = made.sh("wc -l < /workspace/ticks")
        until(lambda: made.sh("wc -l < /workspace/ticks") != before, "the loop goes on")


def cpu_ticks(pid: int) -> int:
    """Of the sandbox's first process and all of its children, as the host counts."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            total += int(fields[11]) + int(fields[12])
    return total


def test_killing_a_paused_sandbox_works(stack):
    made = stack.create("busybox")
    made.control("POST", "/pause")
    pid = stack.host_pid(made)
    made.kill()
    assert not Path(f"/proc/{pid}").exists()


def test_variables_and_files_survive_stop_and_start(stack):
    with stack.box(env_vars={"SECRET": "s3"}) as made:
        made.run("echo file > /workspace/x")
        assert made.control("POST", "/stop").status_code == 200
        assert made.control("POST", "/start").status_code == 200
        assert made.sh("echo $SECRET; cat /workspace/x").split() == ["s3", "file"]


def test_thirty_creates_at_once_all_answer(stack):
    def one(_: int) -> str:
        with stack.box() as made:
            return made.python("import pandas; print(len(pandas.DataFrame({'a': [1, 2]})))")["stdout"]

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        assert list(pool.map(one, range(30))) == ["2\n"] * 30


def test_disk_and_key_of_a_deleted_sandbox_are_gone(stack):
    made = stack.create("busybox")
    data = stack.installation.places.data / "node"
    assert (data / "disks" / f"{made.id}.img").exists()
    made.kill()
    until(lambda: not (data / "disks" / f"{made.id}.img").exists(), "the disk is gone")
    until(lambda: not (data / "sandboxes" / f"{made.id}.json").exists(), "the wrapped key is gone")


@pytest.mark.parametrize("paused", [False, True])
def test_when_a_kill_is_answered_nothing_runs_and_nobody_reaches_it(stack, paused):
    made = stack.create()
    made.sh("for i in 1 2 3; do setsid sleep 1000 > /dev/null 2>&1 < /dev/null & done; head -c 50M /dev/zero > f")
    group = stack.record(made)["cgroup"]
    pids = members(group)
    assert len(pids) >= 5  # agent, interpreter, three of its own
    if paused:
        made.control("POST", "/pause")
    assert made.control("DELETE").status_code == 200
    assert [pid for pid in pids if runs(pid)] == []
    assert members(group) == set()
    assert made.agent("GET", "/health").status_code == 404
    assert made.control("GET").status_code == 404
    with socket.socket(socket.AF_UNIX) as direct:
        assert direct.connect_ex(str(stack.installation.places.agent_socket(made.id))) in (
            errno.ENOENT,
            errno.ECONNREFUSED,
        )


def members(group: str) -> set[str]:
    files = [
        file for depth in ("", "*/") for file in Path("/sys/fs/cgroup").glob(f"{depth}atoll-*/{group}/cgroup.procs")
    ]
    with contextlib.suppress(OSError):  # a group that has just been removed has nobody
        return {pid for file in files for pid in file.read_text().split()}
    return set()


def runs(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_a_hundred_kills_at_once_leave_nothing_and_stand_in_no_creates_way(stack):
    with concurrent.futures.ThreadPoolExecutor(25) as pool:
        boxes = list(pool.map(lambda _: stack.create("busybox"), range(100)))
        links = {link_of(stack, box) for box in boxes}
        names = {name for box in boxes for name in (box.id, stack.record(box)["cgroup"])}
        assert links <= links_of(stack)
        assert {answer.status_code for answer in pool.map(lambda box: box.control("DELETE"), boxes)} == {200}
        after = list(pool.map(lambda _: stack.create("busybox"), range(25)))
        names |= {name for box in after for name in (box.id, stack.record(box)["cgroup"])}
        assert all(answer.status_code == 200 for answer in pool.map(lambda box: box.control("DELETE"), after))
    until(lambda: left_of(stack, names) == [], "all of them are swept", timeout_s=50)
    assert links & links_of(stack) == set()


def link_of(stack: Stack, box: Box) -> str:
    record = stack.record(box)
    return link_name(Slice(record["generation"], record["slice"]).number)


def links_of(stack: Stack) -> set[str]:
    command = ["ip", "netns", "exec", f"atoll-{stack.installation.places.installation}", "ls", "/sys/class/net"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def left_of(stack: Stack, names: set[str]) -> list[str]:
    places = stack.installation.places
    found = [*places.data.glob("node/*/*.*"), *places.run.glob("*/*.*")]
    found += [
        path for depth in ("", "*/") for path in Path("/sys/fs/cgroup").glob(f"{depth}atoll-{places.installation}/*")
    ]
    found += [Path(read(path)) for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    return [str(path) for path in found if path.name.partition(".")[0] in names]


def read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


def test_an_idle_sandbox_is_deleted_and_a_busy_one_is_not(stack, tmp_path):
    borrow_templates(templates_dir(), tmp_path)
    with Installation(tmp_path, "--templates", "busybox", "--inactivity", "6") as installation:
        own = Stack(installation)
        idle, busy = own.create("busybox"), own.create("busybox")
        busy.agent(
            "POST",
            "/commands/background",
            json={"command": "sh", "args": ["-c", "sleep 60"], "workdir": "/workspace", "timeout": 100},
        )
        until(lambda: idle.control("GET").status_code == 404, "the idle one is gone", timeout_s=40)
        assert busy.control("GET").status_code == 200
        busy.kill()
        own.client.close()
