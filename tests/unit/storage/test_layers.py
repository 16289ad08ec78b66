from __future__ import annotations

import os
import stat

import pytest

from atoll.core.errors import InternalError, InvalidInput
from atoll.storage import layers
from atoll.storage.spec import File

HOST_LEFTOVERS = (
    "etc/apt/sources.list",
    "etc/apt/sources.list.d/0000debian.sources",
    "etc/apt/auth.conf.d/token.conf",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/apt/preferences.d/pin",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/passwd-",
    "etc/ssh/ssh_host_ed25519_key",
    "var/lib/apt/lists/partial/x",
    "var/cache/apt/archives/a.deb",
    "var/lib/dbus/machine-id",
    "var/log/dpkg.log",
    "var/log/apt/history.log",
    "root/.cache/pip/x",
    "usr/sbin/policy-rc.d",
    "dev/null",
    "tmp/x/y",
    "run/lock",
)
KEPT = ("etc/passwd", "etc/apt/apt.conf.d/01autoremove", "var/lib/dpkg/status", "home/user/.cache/go-build/x")


def make(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret of the host")


def files(root) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def test_nothing_of_the_host_stays_in_a_layer(tmp_path):
    make(tmp_path, HOST_LEFTOVERS + KEPT + layers.EMPTY_FILES)
    layers.scrub(tmp_path, lowest=False)
    assert files(tmp_path) == set(KEPT)


def test_directories_that_programs_expect_stay(tmp_path):
    make(tmp_path, HOST_LEFTOVERS)
    layers.scrub(tmp_path, lowest=False)
    for name in ("var/log/apt", "var/cache/apt", "etc/apt/sources.list.d", "tmp", "run", "dev"):
        assert (tmp_path / name).is_dir()


def test_the_lowest_layer_has_empty_files_for_what_each_sandbox_gets(tmp_path):
    make(tmp_path, layers.EMPTY_FILES)
    layers.scrub(tmp_path, lowest=True)
    assert {(tmp_path / name).read_text() for name in layers.EMPTY_FILES} == {""}


def test_scrubbing_follows_no_link_out(tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "root"
    make(outside, ["x"])
    root.mkdir()
    os.symlink(outside, root / "tmp")
    (root / "var").mkdir()
    os.symlink(outside, root / "var" / "log")
    layers.scrub(root, lowest=False)
    assert files(outside) == {"x"}


def test_a_file_is_written_with_its_mode(tmp_path):
    layers._write(tmp_path, [], File("/etc/sudoers.d/user", "x", 0o440, os.getuid(), os.getgid()))
    assert (tmp_path / "etc/sudoers.d/user").stat().st_mode & 0o777 == 0o440


def test_a_file_behind_a_link_is_refused(tmp_path):
    (tmp_path / "etc").symlink_to("/")
    with pytest.raises(InvalidInput):
        layers._write(tmp_path, [], File("/etc/x", "", 0o644, os.getuid(), os.getgid()))


def test_a_chamber_takes_layers_by_plain_names_whatever_they_are_called(tmp_path):
    odd = tmp_path / "a:b,c"
    odd.mkdir()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    chamber = layers.Chamber(scratch, [odd, odd])
    argv = chamber.argv(["true"])
    assert "l0:l1" in argv
    assert str(odd) not in " ".join(argv)
    assert "--net" in argv


def test_the_uppermost_layer_answers(tmp_path):
    upper, lower, scratch = tmp_path / "upper", tmp_path / "lower", tmp_path / "scratch"
    make(upper, ["a"])
    make(lower, ["a", "b"])
    scratch.mkdir()
    chamber = layers.Chamber(scratch, [upper, lower])
    assert chamber.stacked("a") == upper / "a"
    assert chamber.stacked("b") == lower / "b"
    with pytest.raises(InternalError):
        chamber.stacked("c")


def test_a_parent_made_for_a_file_takes_owner_and_mode_of_the_layer_below(tmp_path):
    below, root = tmp_path / "below", tmp_path / "root"
    (below / "home").mkdir(parents=True)
    (below / "home").chmod(0o2750)
    root.mkdir()
    layers._write(root, [below], File("/home/x", "", 0o644, os.getuid(), os.getgid()))
    assert stat.S_IMODE((root / "home").stat().st_mode) == 0o2750
