"""The log on disk, by a clock that stands still."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from atoll.core.egress import Entry, Kind, Outcome
from atoll.egress import log_files
from atoll.egress.log_files import LogFiles, LogLimits

ONE, TWO, THREE = "a" * 20, "b" * 20, "c" * 20
DAY = 24 * 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def open_files(tmp_path, clock):
    return lambda **limits: LogFiles(tmp_path / "logs", LogLimits(**limits), clock)


def entries(number: int, sandbox_id: str = ONE, detail: str = "") -> list[Entry]:
    return [Entry(float(each), sandbox_id, Kind.EVENT, Outcome.ALLOWED, "default", detail=detail)
            for each in range(number)]  # fmt: skip


def numbers(files: LogFiles, after: int = 0, limit: int = 10_000, sandbox_id: str = ONE) -> list[int]:
    return [entry["seq"] for entry in files.read(sandbox_id, after, limit).entries]


def names(tmp_path) -> set[str]:
    return {path.name for path in (tmp_path / "logs").iterdir()}


def test_entries_come_back_in_order_with_their_numbers(open_files):
    files = open_files()
    files.append(ONE, entries(2))
    files.append(ONE, entries(1))
    page = files.read(ONE, 0, 10)
    assert [(each["seq"], each["at"]) for each in page.entries] == [(1, 0.0), (2, 1.0), (3, 0.0)]
    assert Entry.from_wire(page.entries[1]) == entries(2)[1]
    assert page.cursor == 3


@pytest.mark.parametrize(
    ("after", "limit", "found", "cursor"),
    [
        (0, 2, [1, 2], 2),
        (2, 2, [3, 4], 4),
        (4, 9, [5], 5),
        (5, 9, [], 5),
        (99, 9, [], 5),  # a log that began anew
        (-2, 9, [4, 5], 5),
        (-99, 2, [1, 2], 2),
    ],
)
def test_a_reader_gets_what_follows(open_files, after, limit, found, cursor):
    files = open_files()
    files.append(ONE, entries(5))
    assert numbers(files, after, limit) == found
    assert files.read(ONE, after, limit).cursor == cursor


@pytest.mark.parametrize(("after", "cursor"), [(0, 0), (7, 0), (-3, 0)])
def test_who_has_no_log_has_an_empty_one(open_files, tmp_path, after, cursor):
    assert open_files().read(ONE, after, 10) == log_files.Page([], cursor)
    assert names(tmp_path) == set()


def test_numbers_go_on_across_rotation_and_restarts(open_files, tmp_path):
    files = open_files(sandbox_bytes=4000)
    for _ in range(10):
        files.append(ONE, entries(3))
    assert names(tmp_path) == {f"{ONE}.jsonl", f"{ONE}.jsonl.1"}
    kept = numbers(files)
    assert kept == list(range(kept[0], 31))
    again = open_files(sandbox_bytes=4000)
    again.append(ONE, entries(1))
    assert numbers(again)[-1] == 31


def test_a_sandbox_has_two_halves_of_its_limit_at_most(open_files, tmp_path):
    files = open_files(sandbox_bytes=8000)
    for _ in range(200):
        files.append(ONE, entries(3))
        assert all(path.stat().st_size <= 4000 for path in (tmp_path / "logs").iterdir())
    assert len(numbers(files)) > 3 * 10


def test_every_position_of_a_long_log_is_found(open_files):
    files = open_files()
    for number in range(40):
        files.append(ONE, entries(100, detail="x" * (number * 13)))
    size = files._files[f"{ONE}.jsonl"].size
    assert size > 4 * log_files.LONGEST_LINE  # so that it is looked for by halves
    for after in range(0, 4000, 37):
        assert numbers(files, after, 3) == [each for each in range(after + 1, after + 4) if each <= 4000]


def test_a_line_that_a_crash_cut_short_is_taken_off(open_files, tmp_path):
    files = open_files()
    files.append(ONE, entries(3))
    path = tmp_path / "logs" / f"{ONE}.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    again = open_files()
    again.append(ONE, entries(1))
    assert numbers(again) == [1, 2, 3]
    assert path.read_bytes().count(b"\n") == 3


def test_a_log_is_for_its_owner_alone(open_files, tmp_path):
    open_files().append(ONE, entries(1))
    assert stat.S_IMODE((tmp_path / "logs").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "logs" / f"{ONE}.jsonl").stat().st_mode) == 0o600


def test_above_the_limit_of_all_the_oldest_go(open_files, clock, tmp_path):
    files = open_files(total_bytes=10 * log_files.BLOCK)
    for number in range(12):
        clock.now += 1
        files.append(f"{number:020}", entries(1, f"{number:020}"))
    assert files.total_bytes <= 10 * log_files.BLOCK
    left = sorted(int(name.partition(".")[0]) for name in names(tmp_path))
    assert left == list(range(left[0], 12))
    assert len(left) >= 9


def test_a_living_sandbox_counts_on_when_its_log_had_to_go(open_files, clock):
    files = open_files(total_bytes=2 * log_files.BLOCK)
    files.append(ONE, entries(3))
    for other in (TWO, THREE):
        clock.now += 1
        files.append(other, entries(1, other))
    assert numbers(files) == []
    files.append(ONE, entries(1))
    assert numbers(files, after=3) == [4]


def test_the_limit_of_all_holds_for_what_was_there_before(open_files, clock):
    open_files().append(ONE, entries(1))
    assert open_files().total_bytes == log_files.BLOCK


def test_a_log_goes_a_week_after_its_last_entry(open_files, clock, tmp_path):
    files = open_files(sandbox_bytes=1000)
    files.append(ONE, entries(1))
    os.utime(tmp_path / "logs" / f"{ONE}.jsonl", (clock.now, clock.now))
    clock.now += 6 * DAY
    files.append(TWO, entries(1, TWO))
    files.sweep()
    assert len(names(tmp_path)) == 2
    clock.now += 1.1 * DAY
    files.sweep()
    assert names(tmp_path) == {f"{TWO}.jsonl"}
    assert files.total_bytes == log_files.BLOCK


def test_an_old_half_stays_as_long_as_the_new_one(open_files, clock, tmp_path):
    files = open_files(sandbox_bytes=1000)
    files.append(ONE, entries(3))
    clock.now += 5 * DAY
    files.append(ONE, entries(3))
    clock.now += 5 * DAY
    files.sweep()
    assert len(names(tmp_path)) == 2


def test_what_is_not_a_log_is_left_alone(open_files, tmp_path):
    open_files()
    (tmp_path / "logs" / "notes.txt").write_text("mine")
    (tmp_path / "logs" / f"{ONE}.jsonl.2").write_text("mine")
    files = open_files(total_bytes=0)
    files.append(ONE, entries(1))
    assert names(tmp_path) == {"notes.txt", f"{ONE}.jsonl.2"}


@pytest.mark.parametrize("again", [True, False])
def test_files_that_somebody_removed_are_no_trouble(open_files, tmp_path, again):
    files = open_files(sandbox_bytes=1000)
    for _ in range(4):
        files.append(ONE, entries(2))
    files = open_files(sandbox_bytes=1000) if again else files
    for path in (tmp_path / "logs").iterdir():
        path.unlink()
    assert numbers(files) == []
    for _ in range(4):
        files.append(ONE, entries(2))
    assert len(numbers(files)) > 2


def test_a_full_disk_leaves_no_half_line(open_files, tmp_path, monkeypatch):
    """The first write takes some of it, the second nothing."""
    files = open_files()
    files.append(ONE, entries(2))
    write = os.write

    def full(fd, data):
        if len(data) < 50:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:-40])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            files.append(ONE, entries(3))
    files.append(ONE, entries(1))
    assert numbers(files) == [1, 2, 3]


def test_a_link_in_the_place_of_a_log_is_not_followed(open_files, tmp_path):
    files = open_files()
    (tmp_path / "secret").write_text("")
    (tmp_path / "logs" / f"{ONE}.jsonl").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        files.append(ONE, entries(1))
    assert (tmp_path / "secret").read_text() == ""
