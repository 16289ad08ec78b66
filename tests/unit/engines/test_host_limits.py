import resource

import pytest

from atoll.engines.native import host_limits


@pytest.fixture
def root(tmp_path):
    for name in host_limits.LEAST:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("128\n")
    return tmp_path


def test_what_is_lower_is_raised(root):
    host_limits.raise_quotas(root)
    assert {name: int((root / name).read_text()) for name in host_limits.LEAST} == host_limits.LEAST


def test_what_is_higher_stays(root):
    (root / "kernel/pid_max").write_text("9999999\n")
    host_limits.raise_quotas(root)
    assert (root / "kernel/pid_max").read_text() == "9999999\n"


def test_one_that_cannot_be_raised_is_named_with_its_command(root, monkeypatch):
    def refuse(*_):
        raise PermissionError(30, "read-only")

    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    with pytest.raises(host_limits.LimitTooLow, match="max_user_instances=65536"):
        host_limits.raise_quotas(root)


@pytest.fixture
def own(monkeypatch):
    """The process's own limits, kind → (soft, hard); as a process without CAP_SYS_RESOURCE, if `may` is false."""

    class Own(dict[int, tuple[int, int]]):
        may = True

        def set(self, kind, limits):
            if limits[1] > self[kind][1] != resource.RLIM_INFINITY and not self.may:
                raise ValueError("not allowed to raise maximum limit")
            self[kind] = limits

    own = Own({resource.RLIMIT_NOFILE: (1024, 1_048_576), resource.RLIMIT_CORE: (0, resource.RLIM_INFINITY)})
    monkeypatch.setattr(resource, "getrlimit", own.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", own.set)
    return own


@pytest.mark.parametrize(
    ("hard", "then"), [(1_048_576, 1_048_576), (1024, 4096), (resource.RLIM_INFINITY, resource.RLIM_INFINITY)]
)
def test_open_files_are_as_many_as_may_be_and_enough_for_a_sandbox(own, hard, then):
    own[resource.RLIMIT_NOFILE] = (512, hard)
    host_limits.set_own()
    assert own[resource.RLIMIT_NOFILE] == (then, then)


@pytest.mark.parametrize("hard", [0, 1, resource.RLIM_INFINITY])
def test_core_files_are_limited_to_what_a_newborn_takes(own, hard):
    own[resource.RLIMIT_CORE] = (0, hard)
    host_limits.set_own()
    assert own[resource.RLIMIT_CORE] == (1, 1)


@pytest.mark.parametrize(
    ("kind", "hard", "command"), [(resource.RLIMIT_CORE, 0, "-Hc 1"), (resource.RLIMIT_NOFILE, 1024, "-Hn 4096")]
)
def test_an_own_limit_that_cannot_be_raised_is_named_with_its_command(own, kind, hard, command):
    own.may, own[kind] = False, (0, hard)
    with pytest.raises(host_limits.LimitTooLow, match=f"ulimit {command}$"):
        host_limits.set_own()
