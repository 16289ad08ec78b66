from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from atoll.node.handles import MOST_BYTES, HandleState, HandleStore

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


def test_one_that_is_being_destroyed_is_that_after_a_restart_too_and_has_no_secrets(store, tmp_path: Path) -> None:
    saved = store.save(replace(handle(HandleState.RUNNING), wrapped_key="k", wrapped_env="e", wrapped_policy="p"))
    saved = store.change(saved, HandleState.PAUSED)
    for _ in range(2):  # recovery does it again
        doomed = store.doom(saved)
    assert (doomed.state, doomed.wrapped_key, doomed.wrapped_env, doomed.wrapped_policy) == ("destroying", "", "", "")
    assert [list(store), list(HandleStore(tmp_path))] == [[doomed], [doomed]]
    store.remove("a")
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_being_destroyed_and_cannot_be_read_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "torn.doomed").write_bytes(b"")
    store = HandleStore(tmp_path)
    assert (list(store), store.unreadable, list(tmp_path.iterdir())) == ([], set(), [])


def test_handles_are_readable_by_their_owner_only(store: HandleStore, tmp_path: Path) -> None:
    store.save(handle(HandleState.RUNNING))
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600


def test_removing_and_syncing_one_that_is_gone_is_fine(store: HandleStore) -> None:
    store.remove("gone")
    store.sync("gone")


def test_a_key_never_shows_in_a_handles_text() -> None:
    assert "secret" not in repr(replace(handle(HandleState.RUNNING), wrapped_key="secret"))


def test_a_create_does_not_wait_for_the_disk(store: HandleStore, monkeypatch) -> None:
    waited: list[str] = []
    for name in ("fsync", "fdatasync", "sync"):
        monkeypatch.setattr(os, name, lambda *_, name=name: waited.append(name))
    saved = store.save(handle(HandleState.CREATING))
    store.change(saved, HandleState.RUNNING)
    assert waited == []
    store.sync(saved.id)
    assert waited


def test_a_change_that_was_cut_off_leaves_what_was_saved_before(store: HandleStore, tmp_path: Path) -> None:
    saved = store.save(handle(HandleState.CREATING))
    whole = (tmp_path / "a.json").stat().st_size
    changed = store.change(saved, HandleState.RUNNING)
    path = tmp_path / "a.json"
    text = path.read_bytes()
    for cut in range(whole, len(text)):
        path.write_bytes(text[:cut])
        assert list(HandleStore(tmp_path)) == [saved]
        path.write_bytes(text[:cut] + bytes(len(text) - cut))
        assert list(HandleStore(tmp_path)) == [saved]
    path.write_bytes(text)
    assert list(HandleStore(tmp_path)) == [changed]


def test_a_change_after_one_that_was_cut_off_is_read_again(store: HandleStore, tmp_path: Path) -> None:
    saved = store.save(handle(HandleState.RUNNING))
    with (tmp_path / "a.json").open("ab") as file:
        file.write(b'\n{"id": "a", "st')
    changed = HandleStore(tmp_path).change(saved, HandleState.PAUSED)
    assert list(HandleStore(tmp_path)) == [changed]


def test_a_file_does_not_grow_with_every_change(store: HandleStore, tmp_path: Path) -> None:
    saved = store.save(handle(HandleState.RUNNING))
    for _ in range(2 * MOST_BYTES // len(saved.to_json())):
        saved = store.change(saved, HandleState.PAUSED if saved.state is HandleState.RUNNING else HandleState.RUNNING)
    assert (tmp_path / "a.json").stat().st_size < MOST_BYTES + 2 * len(saved.to_json())
    assert list(HandleStore(tmp_path)) == [saved]


@pytest.mark.parametrize("room", [0, 1, 40])
def test_a_disk_that_is_full_takes_no_handle_away(store: HandleStore, tmp_path: Path, monkeypatch, room: int) -> None:
    saved = store.save(handle(HandleState.RUNNING))
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:room]))
    with pytest.raises(OSError, match="No space left"):
        store.change(saved, HandleState.STOPPING)
    monkeypatch.undo()
    assert [list(store), list(HandleStore(tmp_path))] == [[saved], [saved]]
    changed = store.change(saved, HandleState.STOPPING)
    assert list(HandleStore(tmp_path)) == [changed]
