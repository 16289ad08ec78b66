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
