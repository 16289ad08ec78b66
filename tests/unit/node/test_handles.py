from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path

import pytest

from atoll.node.handles import HandleState, HandleStore

from .test_recover import handle


@pytest.fixture
def store(tmp_path: Path) -> HandleStore:
    return HandleStore(tmp_path)


def test_a_saved_handle_is_read_again_equal(store: HandleStore, tmp_path: Path) -> None:
    saved = store.save(handle(HandleState.RUNNING))
    assert list(HandleStore(tmp_path)) == [saved]


def test_a_change_replaces_the_file_and_leaves_no_other(store: HandleStore, tmp_path: Path) -> None:
    store.change(store.save(handle(HandleState.CREATING)), HandleState.RUNNING, engine={"pid": 7, "start_time": 8})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    read = HandleStore(tmp_path).get("a")
    assert read is not None
    assert (read.state, read.pid) == (HandleState.RUNNING, 7)


def test_a_save_that_was_cut_off_leaves_the_older_handle(store: HandleStore, tmp_path: Path) -> None:
    saved = store.save(handle(HandleState.RUNNING))
    (tmp_path / "a.new").write_bytes(saved.to_json()[:40])
    assert list(HandleStore(tmp_path)) == [saved]
    assert not (tmp_path / "a.new").exists()


def test_an_unreadable_handle_is_named_and_not_offered(tmp_path: Path) -> None:
    (tmp_path / "torn.json").write_bytes(b'{"id": "torn", "sta')
    store = HandleStore(tmp_path)
    assert (list(store), store.unreadable) == ([], {"torn"})


def test_handles_are_readable_by_their_owner_only(store: HandleStore, tmp_path: Path) -> None:
    store.save(handle(HandleState.RUNNING))
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600


def test_removing_and_syncing_one_that_is_gone_is_fine(store: HandleStore) -> None:
    store.remove("gone")
    store.sync("gone")


def test_a_key_never_shows_in_a_handles_text() -> None:
    assert "secret" not in repr(replace(handle(HandleState.RUNNING), wrapped_key="secret"))


def test_two_saves_are_cheap_enough_for_a_create(store: HandleStore) -> None:
    """The bound is ten times what is seen: a save that waits for the disk is noticed, a busy machine is not."""

    def both() -> float:
        started = time.perf_counter()
        store.change(store.save(handle(HandleState.CREATING)), HandleState.RUNNING)
        return time.perf_counter() - started

    assert statistics.median(both() for _ in range(50)) < 0.005
