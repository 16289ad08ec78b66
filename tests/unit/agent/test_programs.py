from __future__ import annotations

import os
from pathlib import Path

import pytest

from atoll.agent.programs import MAX_BYTES, MAX_ENTRIES, PLACE, Entry, Programs, surplus
from atoll.agent.users import User, Users

KEY = "a" * 64
MIB = 2**20


@pytest.fixture
def programs():
    return Programs(Users(switching=False))


@pytest.fixture
def user(tmp_path):
    return User("user", os.getuid(), os.getgid(), (), str(tmp_path), "/bin/sh")


def keep(programs, user, key=KEY, content="program"):
    place = Path(programs.place(user, key))
    place.write_text(content)
    return place


def test_what_is_kept_is_taken_by_a_link(programs, user, tmp_path):
    place = keep(programs, user)
    assert programs.take(user, KEY, str(tmp_path / "main"))
    assert (tmp_path / "main").samefile(place)


def test_taking_makes_it_the_last_to_go(programs, user, tmp_path):
    place = keep(programs, user)
    os.utime(place, (0, 0))
    assert programs.take(user, KEY, str(tmp_path / "main"))
    assert place.stat().st_mtime > 0


def test_what_was_taken_outlives_its_entry(programs, user, tmp_path):
    keep(programs, user)
    programs.take(user, KEY, str(tmp_path / "main"))
    programs.trim(user, entries=0)
    assert not programs.take(user, KEY, str(tmp_path / "again"))
    assert (tmp_path / "main").read_text() == "program"


def test_nothing_kept_is_nothing_taken(programs, user, tmp_path):
    assert not programs.take(user, KEY, str(tmp_path / "main"))
    assert not (tmp_path / "main").exists()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/bin/true", path)])
def test_only_a_regular_file_is_a_program(make, programs, user, tmp_path):
    make(programs.place(user, KEY))
    assert not programs.take(user, KEY, str(tmp_path / "main"))


def test_a_directory_that_others_may_write_holds_no_programs(programs, user, tmp_path):
    keep(programs, user).parent.chmod(0o777)
    assert not programs.take(user, KEY, str(tmp_path / "main"))


def test_a_symlink_instead_of_the_directory_is_not_followed(programs, user, tmp_path):
    keep(programs, user).parent.rename(tmp_path / "elsewhere")
    (tmp_path / PLACE).symlink_to(tmp_path / "elsewhere")
    assert not programs.take(user, KEY, str(tmp_path / "main"))
    programs.trim(user, entries=0)
    assert (tmp_path / "elsewhere" / KEY).exists()


def test_a_dropped_one_is_gone_in_both_places(programs, user, tmp_path):
    place = keep(programs, user)
    programs.take(user, KEY, str(tmp_path / "main"))
    programs.drop(user, KEY, str(tmp_path / "main"))
    assert not place.exists()
    assert not (tmp_path / "main").exists()


def test_without_a_place_nothing_is_kept(programs, user, tmp_path):
    (tmp_path / ".cache").write_text("a file")
    assert programs.place(user, KEY) is None


def test_a_new_one_makes_room_for_itself(programs, user, tmp_path):
    for number in range(MAX_ENTRIES + 10):
        entry = keep(programs, user, f"{number:064}")
        os.utime(entry, (number, number))
    programs.place(user, KEY)
    left = sorted(int(path.name) for path in (tmp_path / PLACE).iterdir())
    assert left == list(range(MAX_ENTRIES + 10 - len(left), MAX_ENTRIES + 10)), "the longest unused went"
    assert len(left) == MAX_ENTRIES - 1


def test_on_a_full_disk_nothing_is_kept_and_what_was_goes(programs, user, tmp_path, monkeypatch):
    place = keep(programs, user)
    full = os.statvfs_result((4096, 4096, 1000, 99, 99, 1, 1, 1, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    assert programs.place(user, "b" * 64) is None
    assert not place.exists()


def test_surplus_is_the_longest_unused_above_number_and_size():
    found = [Entry(3, 100 * MIB, "c"), Entry(1, 1, "a"), Entry(2, 100 * MIB, "b"), Entry(4, 100 * MIB, "d")]
    assert surplus(found, 64, MAX_BYTES) == ["b", "a"]
    assert surplus(found, 3, 1000 * MIB) == ["a"]
    assert surplus(found, 64, 1000 * MIB) == []
    assert sorted(surplus(found, 0, 1000 * MIB)) == ["a", "b", "c", "d"]
    assert surplus([Entry(1, MAX_BYTES + 1, "big")], 64, MAX_BYTES) == ["big"]
