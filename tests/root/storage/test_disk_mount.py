"""A copied disk is a real file system, and mounting it starts no work in the kernel."""

from __future__ import annotations

import os
import subprocess

import pytest

from atoll.storage import disks
from atoll.storage.sparse import allocated_bytes, copy_image

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

MIB = 1024 * 1024


def test_a_copy_mounts_takes_files_and_is_clean(tmp_path):
    disk = tmp_path / "disk.img"
    copy_image(disks.base_image(tmp_path / "images", 256), disk)
    script = (
        "mkdir m && mount -o loop disk.img m && df --output=size -m m | tail -1 && echo hello > m/file && cat m/file"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    size, text = done.stdout.split()
    assert int(size) > 240
    assert text == "hello"
    subprocess.run(["fsck.ext4", "-fn", str(disk)], check=True, capture_output=True)
    assert allocated_bytes(disk) < 2 * MIB
