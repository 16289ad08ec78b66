import errno
import signal
import subprocess

import pytest

from atoll.core.limits import Limits
from atoll.engines.native import cgroup

LIMITS = Limits(vcpu=3, memory_mib=512, processes=77)


def values(version: int) -> dict[str, str]:
    return {s.file: s.value for s in cgroup.plan(LIMITS, version)}


def test_plan_for_version_2():
    assert values(2) == {
        "cpu.max": "300000 100000",
        "memory.max": str(512 << 20),
        "memory.swap.max": "0",
        "pids.max": "77",
    }


def test_plan_for_version_1():
    assert values(1) == {
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "300000",
        "memory.limit_in_bytes": str(512 << 20),
        "memory.memsw.limit_in_bytes": str(512 << 20),
        "memory.swappiness": "0",
        "memory.kmem.tcp.limit_in_bytes": str(128 << 20),
        "pids.max": "77",
    }


@pytest.mark.parametrize("version", [1, 2])
def test_only_settings_that_kernels_leave_out_may_be_missing(version):
    optional = {s.file.split(".")[1] for s in cgroup.plan(LIMITS, version) if s.optional}
    assert optional <= {"swap", "memsw", "swappiness", "kmem"}


def test_the_memory_for_tcp_is_a_part_of_the_sandboxs_and_never_much():
    assert cgroup.tcp_memory(Limits(memory_mib=128)) == 32 << 20
    assert cgroup.tcp_memory(Limits(memory_mib=16_384)) == 128 << 20


def test_version_2_without_a_controller_is_refused(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    with pytest.raises(cgroup.CgroupUnavailable, match="pids"):
        cgroup.detect_version(tmp_path)


def test_version_1_without_a_hierarchy_is_refused(tmp_path):
    for name in ("cpu", "memory", "freezer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tasks").touch()
    with pytest.raises(cgroup.CgroupUnavailable, match="pids"):
        cgroup.detect_version(tmp_path)


def fake_v2(tmp_path):
    for directory in (tmp_path, tmp_path / "atoll-x"):
        directory.mkdir(exist_ok=True)
        (directory / "cgroup.controllers").write_text("cpu memory pids\n")
        (directory / "cgroup.subtree_control").write_text("")
    return cgroup.Cgroups("x", tmp_path)


def test_version_2_delegates_its_controllers_down(tmp_path):
    fake_v2(tmp_path)
    for directory in (tmp_path, tmp_path / "atoll-x"):
        assert (directory / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_version_2_writes_the_plan_into_one_directory(tmp_path):
    groups = fake_v2(tmp_path)
    directory = tmp_path / "atoll-x" / "abc"
    directory.mkdir()
    for setting in cgroup.plan(LIMITS, 2):
        (directory / setting.file).touch()
    groups.of("abc").create(LIMITS)
    assert (directory / "memory.max").read_text() == str(512 << 20)
    assert groups.names() == {"abc"}


def sandbox_of(tmp_path, *files):
    group = fake_v2(tmp_path).of("abc")
    directory = tmp_path / "atoll-x" / "abc"
    directory.mkdir()
    for name in files:
        (directory / name).write_text("0\n")
    return group, directory


def test_version_2_kills_all_at_once(tmp_path):
    group, directory = sandbox_of(tmp_path, "cgroup.kill")
    group._kill()
    assert (directory / "cgroup.kill").read_text().strip() == "1"


def test_version_1_kills_whoever_is_in_it(tmp_path):
    program = subprocess.Popen(["sleep", "60"])
    (tmp_path / "cgroup.procs").write_text(f"{program.pid}\n")
    cgroup.Cgroup(1, {"pids": tmp_path}).kill()
    assert program.wait(10) == -signal.SIGKILL


def test_killing_in_a_group_that_is_gone_is_no_error(tmp_path):
    fake_v2(tmp_path).of("gone")._kill()


def test_version_2_counts_a_freeze_that_is_under_way_as_frozen(tmp_path):
    group, directory = sandbox_of(tmp_path, "cgroup.freeze", "cgroup.events")
    assert not group.frozen()
    (directory / "cgroup.freeze").write_text("1\n")
    assert group.frozen()


async def test_what_cannot_be_frozen_in_time_runs_on(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroup, "FREEZE_TIMEOUT_S", 0)
    group, _ = sandbox_of(tmp_path, "cgroup.freeze", "cgroup.events")
    with pytest.raises(TimeoutError):
        await group.freeze()
    assert not group.frozen()


class Container:
    """The kernel's answers to a group with processes, which a container sees as its root."""

    def __init__(self, root, pids):
        self.root = root
        self.left = set(pids)
        (root / "cgroup.type").write_text("domain\n")
        (root / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    def write(self, path, value):
        if path == self.root / "cgroup.subtree_control" and self.left:
            raise OSError(errno.EBUSY, "Device or resource busy")
        if path == self.root / cgroup.EVACUATED / "cgroup.procs":
            self.left.discard(value)


def test_a_containers_own_processes_make_room_in_its_root(tmp_path, monkeypatch):
    (tmp_path / "atoll-x").mkdir()
    container = Container(tmp_path, ["1", "7"])
    monkeypatch.setattr(cgroup, "_write", container.write)
    fake_v2(tmp_path)
    assert container.left == set()


def test_the_machines_root_is_never_evacuated(tmp_path, monkeypatch):
    container = Container(tmp_path, ["1"])
    (tmp_path / "cgroup.type").unlink()
    monkeypatch.setattr(cgroup, "_write", container.write)
    with pytest.raises(OSError, match="busy"):
        fake_v2(tmp_path)
    assert container.left == {"1"}


def test_a_raised_limit_of_version_1_is_never_above_that_with_swap_on_the_way():
    def order(raised: bool) -> list[str]:
        names = [each.file for each in cgroup.memory_plan(LIMITS, 1, raised)]
        return [name for name in names if name.endswith("limit_in_bytes") and "tcp" not in name]

    assert order(True) == ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]
    assert order(False) == ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]


def test_in_version_2_nothing_is_killed_for_memory_that_is_taken_back(tmp_path):
    group = cgroup.Cgroup(2, {"cpu": tmp_path})
    for name, value in (("max", 1024 << 20), ("current", 600 << 20), ("high", "max"), ("swap.max", 0)):
        (tmp_path / f"memory.{name}").write_text(f"{value}\n")
    assert group.set_memory(Limits(memory_mib=512)) is False
    assert (tmp_path / "memory.max").read_text() == f"{1024 << 20}\n"
    assert (tmp_path / "memory.high").read_text().startswith("max")
    (tmp_path / "memory.current").write_text(f"{100 << 20}\n")
    assert group.set_memory(Limits(memory_mib=512)) is True
    assert (tmp_path / "memory.max").read_text().startswith(str(512 << 20))


def test_in_version_2_a_change_that_was_cut_off_holds_nobody_back(tmp_path):
    group = cgroup.Cgroup(2, {"cpu": tmp_path})
    for name, value in (("max", 1024 << 20), ("high", 512 << 20), ("swap.max", 0)):
        (tmp_path / f"memory.{name}").write_text(f"{value}\n")
    group.unthrottle()
    assert (tmp_path / "memory.high").read_text().startswith("max")
    (tmp_path / "memory.high").write_text(f"{512 << 20}\n")
    assert group.set_memory(Limits(memory_mib=1024)) is True
    assert (tmp_path / "memory.high").read_text().startswith("max")
    cgroup.Cgroup(2, {"cpu": tmp_path / "gone"}).unthrottle()
