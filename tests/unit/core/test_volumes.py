from __future__ import annotations

import pytest

from atoll.core.errors import InvalidInput
from atoll.core.volumes import (
    MAX_MOUNTS,
    Volume,
    VolumeMount,
    check_inodes,
    check_mounts,
    check_name,
    check_size,
    grown,
    path_error,
)


@pytest.mark.parametrize("path", ["/data", "/mnt/my-volume", "/home/user/a b", "/workspace/ü"])
def test_a_clean_absolute_path_is_taken(path):
    assert path_error(path) is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "data",
        "/a/",
        "//a",
        "/a//b",
        "/a/../b",
        "/a/.",
        "/a\0b",
        "/a\nb",
        "/" + "x" * 256,
        "/" + "ü" * 128,
        "/a" * 600,
    ],
)
def test_any_other_path_is_refused(path):
    assert path_error(path)


@pytest.mark.parametrize("path", ["/dev", "/dev/shm", "/proc/1", "/sys", "/.atoll/x"])
def test_what_the_sandbox_has_of_its_own_is_refused(path):
    assert path_error(path)


@pytest.mark.parametrize(("path", "other"), [("/a", "/a"), ("/a/b", "/a"), ("/a", "/a/b")])
def test_volumes_are_not_inside_one_another(path, other):
    assert path_error(path, [other])


def test_paths_that_only_begin_alike_are_apart():
    assert path_error("/ab", ["/a"]) is None


def test_mounts_are_bounded_and_apart():
    with pytest.raises(InvalidInput):
        check_mounts([VolumeMount(f"v{number}", f"/{number}") for number in range(MAX_MOUNTS + 1)])
    with pytest.raises(InvalidInput):
        check_mounts([VolumeMount("a", "/x"), VolumeMount("b", "/x/y")])


def test_a_mount_is_the_same_after_the_wire():
    mount = VolumeMount("id", "/x", "name")
    assert VolumeMount.from_wire(mount.to_wire()) == mount


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, "ä", "a/b", "a\n"])
def test_other_names_are_refused(name):
    with pytest.raises(InvalidInput):
        check_name(name)


@pytest.mark.parametrize("size", [0, 63, 1024 * 1024 + 1])
def test_other_sizes_are_refused(size):
    with pytest.raises(InvalidInput):
        check_size(size)


def volume(size_mib: int, inodes: int) -> Volume:
    return Volume("v" * 20, "data", 1, "node", size_mib, 0.0, inodes)


@pytest.mark.parametrize(
    ("size_mib", "inodes", "larger_mib", "then"),
    [(1024, 1000, 5120, 5000), (10240, 10_000, 20480, 20_000), (1024, 1000, 1024, 1000), (64, 500, 100, 500)],
)
def test_inodes_grow_with_the_size_and_never_shrink(size_mib, inodes, larger_mib, then):
    grew = grown(volume(size_mib, inodes), larger_mib, then)
    assert (grew.size_mib, grew.inodes) == (larger_mib, then)
    with pytest.raises(InvalidInput) as refused:
        grown(volume(size_mib, inodes), larger_mib, then + 1)
    assert refused.value.details["maximum"] == then


def test_a_volume_never_shrinks():
    with pytest.raises(InvalidInput, match="cannot be made smaller"):
        grown(volume(1024, 1000), 1023, None)


@pytest.mark.parametrize(("inodes", "size_mib"), [(99, 64), (64 * 256 + 1, 64), (0, 10240)])
def test_inodes_have_bounds(inodes, size_mib):
    with pytest.raises(InvalidInput):
        check_inodes(inodes, size_mib)
