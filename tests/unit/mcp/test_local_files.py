"""Copying between this machine and a sandbox happens in one directory, whatever names a model asks for."""

from __future__ import annotations

import os

import pytest
from mcp.server.mcpserver.exceptions import ToolError

from atoll.mcp import local_files


@pytest.fixture
def shared(tmp_path):
    (tmp_path / "outside.txt").write_text("secret")
    made = tmp_path / "shared"
    made.mkdir()
    (made / "a.txt").write_text("hello")
    return made


def test_a_file_of_the_directory_is_read(shared):
    assert local_files.read(shared, "a.txt") == b"hello"
    assert local_files.read(shared, str(shared / "a.txt")) == b"hello"


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/passwd", ".", "", "x/../../outside.txt", "a\0b"])
def test_names_that_lead_outside_are_refused(shared, name):
    with pytest.raises(ToolError):
        local_files.read(shared, name)
    with pytest.raises(ToolError):
        local_files.write(shared, name, b"")


def test_links_that_lead_outside_are_refused(shared):
    (shared / "link").symlink_to(shared.parent / "outside.txt")
    (shared / "directory").symlink_to(shared.parent)
    for name in ("link", "directory/outside.txt"):
        with pytest.raises(ToolError, match="not below"):
            local_files.read(shared, name)
    with pytest.raises(ToolError, match="not below"):
        local_files.write(shared, "directory/new.txt", b"")
    assert not (shared.parent / "new.txt").exists()


def test_what_is_no_ordinary_file_is_not_waited_for(shared):
    os.mkfifo(shared / "pipe")
    with pytest.raises(ToolError, match="not an ordinary file"):
        local_files.read(shared, "pipe")


def test_a_missing_file_is_said_in_words(shared):
    with pytest.raises(ToolError, match="No such file"):
        local_files.read(shared, "b.txt")


def test_a_file_over_the_limit_is_refused(shared):
    with (shared / "big").open("wb") as file:
        file.truncate(local_files.MAX_BYTES + 1)
    with pytest.raises(ToolError, match="larger than"):
        local_files.read(shared, "big")


def test_a_new_file_is_written_with_its_directories(shared):
    written = local_files.write(shared, "deep/er/b.bin", b"\0\1")
    assert written == shared.resolve() / "deep/er/b.bin"
    assert written.read_bytes() == b"\0\1"
    assert [each.name for each in written.parent.iterdir()] == ["b.bin"]


def test_a_file_that_is_there_is_never_replaced(shared):
    with pytest.raises(ToolError, match="there already"):
        local_files.write(shared, "a.txt", b"other")
    assert (shared / "a.txt").read_text() == "hello"
    assert [each.name for each in shared.iterdir()] == ["a.txt"]
