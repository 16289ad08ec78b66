from __future__ import annotations

import subprocess

import pytest

from atoll.core.errors import InternalError, InvalidInput
from atoll.storage import disks
from atoll.storage.sparse import allocated_bytes

MIB = 1024 * 1024


@pytest.mark.parametrize(("size_mib", "most"), [(64, MIB), (1024, MIB), (10240, 2 * MIB)])
def test_an_empty_image_takes_next_to_nothing(tmp_path, size_mib, most):
    image = disks.base_image(tmp_path, size_mib)
    assert image.stat().st_size == size_mib * MIB
    assert allocated_bytes(image) < most
    assert [path.name for path in tmp_path.iterdir()] == [image.name]


def test_it_is_made_once(tmp_path):
    before = disks.base_image(tmp_path, 64).stat()
    after = disks.base_image(tmp_path, 64).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_the_file_system_has_keys_and_no_reserve_and_no_work_left_for_the_kernel(tmp_path):
    image = disks.base_image(tmp_path, 1024)
    report = subprocess.run(["/sbin/dumpe2fs", str(image)], capture_output=True, text=True, check=True).stdout
    values = {key: value.strip() for key, _, value in (line.partition(":") for line in report.splitlines())}
    assert "encrypt" in values["Filesystem features"].split()
    assert values["Reserved block count"] == "0"
    assert int(values["Inode count"]) >= 100_000
    groups = [line for line in report.splitlines() if line.startswith("Group ") and "Blocks" in line]
    assert groups
    assert all("ITABLE_ZEROED" in line for line in groups)


def facts(image) -> tuple[int, int]:
    """Free inodes, and blocks of 4 KiB."""
    report = subprocess.run(["/sbin/dumpe2fs", "-h", str(image)], capture_output=True, text=True, check=True).stdout
    values = {key: value.strip() for key, _, value in (line.partition(":") for line in report.splitlines())}
    return int(values["Free inodes"]), int(values["Block count"])


@pytest.mark.parametrize(("size_mib", "inodes"), [(64, 100), (64, 64 * 256), (1024, 1000)])
def test_an_image_has_room_for_so_many_files_and_hardly_more(tmp_path, size_mib, inodes):
    image = tmp_path / "image"
    disks.make_image(image, size_mib, inodes)
    of_its_own = 2  # the sealed directory, and the one in it
    assert inodes + of_its_own <= facts(image)[0] < inodes + 16 * (1 + size_mib // 128) + disks.OWN_INODES


def test_what_mkfs_does_not_make_is_not_there(tmp_path):
    with pytest.raises(InternalError):
        disks.make_image(tmp_path / "image", 1, 10**12)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("repair", [False, True])
def test_an_image_grows_with_its_inodes_and_stays_sparse(tmp_path, repair):
    image = tmp_path / "image"
    disks.make_image(image, 1024, 1000)
    for _ in range(2):
        disks.grow_image(image, 5120, repair)
        free, blocks = facts(image)
        assert (free >= 5000 + 2, blocks, allocated_bytes(image) < MIB) == (True, 5120 * 256, True)
    subprocess.run(["/sbin/e2fsck", "-f", "-n", str(image)], capture_output=True, check=True)


@pytest.mark.parametrize("size_mib", [-1, 0, 15, disks.MAX_MIB + 1])
def test_impossible_sizes_are_refused(tmp_path, size_mib):
    with pytest.raises(InvalidInput):
        disks.base_image(tmp_path, size_mib)
    assert list(tmp_path.iterdir()) == []
