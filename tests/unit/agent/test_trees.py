from __future__ import annotations

import os

import pytest

from atoll.agent import trees


def finish(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_a_tree_deeper_than_any_path_is_removed(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    here = os.open(tmp_path, os.O_RDONLY)
    before = os.getcwd()
    os.chdir(top)
    for _ in range(1500):
        os.mkdir("deep")
        os.chdir("deep")
    os.chdir(before)
    os.close(here)
    assert finish(trees.remove(str(top))) == 1501
    assert not top.exists()


def test_a_wide_tree_gives_others_a_turn(tmp_path):
    for number in range(1000):
        (tmp_path / f"f{number}").write_text("")
    turns = sum(1 for _ in trees.remove(str(tmp_path)))
    assert turns == 1000 // trees.ENTRIES_PER_STEP


def test_a_directory_exchanged_for_a_symlink_is_not_entered(tmp_path, monkeypatch):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("")
    (tmp_path / "tree/sub").mkdir(parents=True)
    real = os.open

    def exchange(path, flags, *args, **kwargs):
        if path == "sub":
            os.rmdir(tmp_path / "tree/sub")
            os.symlink(tmp_path / "kept", tmp_path / "tree/sub")
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", exchange)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        finish(trees.remove(str(tmp_path / "tree")))
    assert (tmp_path / "kept/file").exists()


def test_a_directory_moved_away_while_inside_it_ends_the_removal(tmp_path, monkeypatch):
    (tmp_path / "elsewhere/kept").mkdir(parents=True)
    (tmp_path / "tree/sub").mkdir(parents=True)
    real = os.open

    def move(path, flags, *args, **kwargs):
        if path == "..":
            os.rename(tmp_path / "tree/sub", tmp_path / "elsewhere/sub")
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", move)
    with pytest.raises(PermissionError):
        finish(trees.remove(str(tmp_path / "tree")))
    assert (tmp_path / "elsewhere/kept").exists()


def test_a_walk_is_sorted_and_does_not_follow(tmp_path):
    (tmp_path / "b/a").mkdir(parents=True)
    (tmp_path / "a").symlink_to("/")
    assert [os.path.relpath(entry.path, tmp_path) for entry in trees.walk_sorted(str(tmp_path), 5)] == ["a", "b", "b/a"]
