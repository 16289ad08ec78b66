from __future__ import annotations

import pytest

from atoll.edge.e2b.entries import entry_info, permissions

FILE = {
    "name": "f",
    "path": "/d/f",
    "type": "file",
    "size": 5,
    "mode": 0o644,
    "user": "user",
    "group": "users",
    "modified_at": 1.5,
    "target": None,
}


def test_a_file():
    assert entry_info(FILE) == {
        "name": "f",
        "type": "FILE_TYPE_FILE",
        "path": "/d/f",
        "size": "5",
        "mode": 0o644,
        "permissions": "-rw-r--r--",
        "owner": "user",
        "group": "users",
        "modifiedTime": "1970-01-01T00:00:01.500000Z",
    }


def test_a_link_has_its_ends_type_and_mode_and_everything_else_of_its_own():
    link = {**FILE, "type": "symlink", "mode": 0o777, "leads_to": {"path": "/x", "type": "directory", "mode": 0o750}}
    shown = entry_info(link)
    assert (shown["type"], shown["mode"], shown["symlinkTarget"]) == ("FILE_TYPE_DIRECTORY", 0o750, "/x")
    assert (shown["permissions"], shown["size"]) == ("Lrwxrwxrwx", "5")


def test_a_link_that_leads_nowhere_has_neither_and_its_own_path():
    shown = entry_info({**FILE, "type": "symlink", "mode": 0o777, "leads_to": None})
    assert ("type" in shown, "mode" in shown, shown["symlinkTarget"]) == (False, False, "/d/f")


def test_metadata_is_shown_where_there_is_some():
    assert entry_info({**FILE, "attributes": {"a": "b"}})["metadata"] == {"a": "b"}
    assert "metadata" not in entry_info({**FILE, "attributes": {}})


@pytest.mark.parametrize("nonsense", [{}, {"size": "x", "mode": None, "leads_to": 5, "attributes": []}, {"size": -3}])
def test_what_a_hostile_agent_says_has_the_right_form(nonsense):
    shown = entry_info(nonsense)
    assert shown["size"] == "0"
    assert all(isinstance(value, str | int) for value in shown.values())


@pytest.mark.parametrize(
    ("kind", "mode", "shown"),
    [
        ("file", 0o000, "----------"),
        ("directory", 0o2755, "dgrwxr-xr-x"),
        ("file", 0o6711, "ugrwx--x--x"),
        ("other", 0o600, "-rw-------"),
    ],
)
def test_permissions_as_go_writes_them(kind, mode, shown):
    assert permissions(kind, mode) == shown
