from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from atoll.storage import sparse

MIB = 1024 * 1024


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.write(b"head" * 1024)
        file.seek(64 * MIB)
        file.write(b"middle")
        file.truncate(1024 * MIB)
    return path


def same(one, other) -> bool:
    with one.open("rb") as a, other.open("rb") as b:
        while block := a.read(16 * MIB):
            if block != b.read(16 * MIB):
                return False
        return not b.read(1)


def test_a_copy_has_the_same_bytes_and_stays_sparse(image, tmp_path):
    copy = tmp_path / "copy"
    sparse.copy_image(image, copy)
    assert copy.stat().st_size == 1024 * MIB
    assert sparse.allocated_bytes(copy) < MIB
    with copy.open("rb") as file:
        assert file.read(4096) == b"head" * 1024
        file.seek(64 * MIB)
        assert file.read(6) == b"middle"


@pytest.mark.parametrize("size", [0, 1, 4096, 1 << 20])
@pytest.mark.parametrize("fill", [b"\0", b"x"])
def test_small_files_are_copied_whole(tmp_path, size, fill):
    source = tmp_path / "source"
    source.write_bytes(fill * size)
    sparse.copy_image(source, tmp_path / "copy")
    assert same(source, tmp_path / "copy")


def test_a_trailing_hole_is_kept(tmp_path):
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(MIB)
    sparse.copy_image(source, tmp_path / "copy")
    assert sparse.allocated_bytes(tmp_path / "copy") == 0


def test_a_copy_is_its_owners_alone(image, tmp_path):
    sparse.copy_image(image, tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


def test_an_existing_target_is_not_touched(image, tmp_path):
    target = tmp_path / "copy"
    target.write_text("mine")
    with pytest.raises(FileExistsError):
        sparse.copy_image(image, target)
    assert target.read_text() == "mine"


def test_a_link_as_target_is_not_followed(image, tmp_path):
    (tmp_path / "copy").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        sparse.copy_image(image, tmp_path / "copy")
    assert not (tmp_path / "elsewhere").exists()


def test_a_failed_copy_is_removed(image, tmp_path, monkeypatch):
    def no_space(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "copy_file_range", no_space)
    with pytest.raises(OSError, match="full"):
        sparse.copy_image(image, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_file_systems_without_copy_file_range_are_served(image, tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.EXDEV, "other file system")

    monkeypatch.setattr(os, "copy_file_range", unsupported)
    sparse.copy_image(image, tmp_path / "copy")
    with (tmp_path / "copy").open("rb") as file:
        file.seek(64 * MIB)
        assert file.read(6) == b"middle"
    assert sparse.allocated_bytes(tmp_path / "copy") < MIB


def test_it_needs_nothing_but_the_standard_library():
    # The launcher loads it.
    source = Path(sparse.__file__).read_text()
    imports = [line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert set(imports) == {"__future__", "errno", "os", "collections.abc"}
