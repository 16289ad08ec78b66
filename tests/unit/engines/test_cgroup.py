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
        "pids.max": "77",
    }


@pytest.mark.parametrize("version", [1, 2])
def test_only_swap_settings_may_be_missing(version):
    assert {s.file.split(".")[1] for s in cgroup.plan(LIMITS, version) if s.optional} <= {"swap", "memsw", "swappiness"}


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
