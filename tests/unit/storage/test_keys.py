from __future__ import annotations

import pytest

from atoll.core.errors import InternalError
from atoll.storage import keys

MASTER = bytes(range(32))
OTHER = bytes(32)


def test_the_master_key_is_made_once_and_is_its_owners_alone(tmp_path):
    path = tmp_path / "node" / "master.key"
    first = keys.master_key(path)
    assert len(first) == keys.MASTER_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.master_key(path) == first
    assert [entry.name for entry in path.parent.iterdir()] == ["master.key"]


def test_making_it_twice_at_once_keeps_the_first(tmp_path):
    path = tmp_path / "master.key"
    first = keys.master_key(path)
    keys._create(path)
    assert keys.master_key(path) == first
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_damaged_master_key_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "master.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InternalError, match="damaged"):
        keys.master_key(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_master_key_that_others_can_reach_is_refused(tmp_path, mode):
    path = tmp_path / "master.key"
    path.write_bytes(MASTER)
    path.chmod(mode)
    with pytest.raises(InternalError, match="chmod 600"):
        keys.master_key(path)


def test_disk_keys_are_long_and_differ():
    one, two = keys.new_disk_key(), keys.new_disk_key()
    assert len(one) == 64
    assert one != two


def test_a_wrapped_key_opens_again():
    key = keys.new_disk_key()
    wrapped = keys.wrap(MASTER, key, "abc")
    assert wrapped.isascii()
    assert keys.unwrap(MASTER, wrapped, "abc") == key
    assert keys.wrap(MASTER, key, "abc") != wrapped


@pytest.mark.parametrize(("master", "sandbox"), [(OTHER, "abc"), (MASTER, "abd"), (MASTER, "")])
def test_another_master_or_sandbox_does_not_open_it(master, sandbox):
    wrapped = keys.wrap(MASTER, keys.new_disk_key(), "abc")
    with pytest.raises(InternalError, match="does not open"):
        keys.unwrap(master, wrapped, sandbox)


def test_no_changed_character_opens():
    wrapped = keys.wrap(MASTER, keys.new_disk_key(), "abc")
    for index, character in enumerate(wrapped):
        changed = wrapped[:index] + ("A" if character != "A" else "B") + wrapped[index + 1 :]
        with pytest.raises(InternalError):
            keys.unwrap(MASTER, changed, "abc")


@pytest.mark.parametrize("text", ["", "v1.", "v1.AAAA", "v2.AAAA", "v1.ä", "v1.A A"])
def test_garbage_is_refused(text):
    with pytest.raises(InternalError):
        keys.unwrap(MASTER, text, "abc")
