from __future__ import annotations

import secrets

import pytest

from atoll.core.errors import InternalError, NotFound, Unavailable
from atoll.core.volumes import VolumeMount
from atoll.node.volumes import Volumes
from atoll.storage import disks

MASTER = secrets.token_bytes(32)
ID, OTHER = "a" * 20, "b" * 20


@pytest.fixture(autouse=True)
def _without_mkfs(monkeypatch) -> None:
    def base_image(directory, size_mib):
        directory.mkdir(exist_ok=True)
        path = disks.base_path(directory, size_mib)
        path.write_bytes(b"empty")
        return path

    monkeypatch.setattr(disks, "base_image", base_image)


def test_a_volume_keeps_its_key_and_its_content(tmp_path):
    Volumes(tmp_path, MASTER).make(ID, 64)
    (spec,) = Volumes(tmp_path, MASTER).specs([VolumeMount(ID, "/x")])
    spec.image.write_bytes(b"full")
    volumes = Volumes(tmp_path, MASTER)
    volumes.make(ID, 64)
    (again,) = volumes.specs([VolumeMount(ID, "/y")])
    assert (again.key, again.image.read_bytes(), again.path) == (spec.key, b"full", "/y")
    assert repr(spec.key) not in repr(spec)


def test_each_has_a_key_of_its_own_which_opens_nothing_else(tmp_path):
    volumes = Volumes(tmp_path, MASTER)
    volumes.make(ID, 64)
    volumes.make(OTHER, 64)
    one, other = volumes.specs([VolumeMount(ID, "/x"), VolumeMount(OTHER, "/y")])
    assert one.key != other.key
    note = tmp_path / "volumes" / f"{OTHER}.json"
    note.write_text((tmp_path / "volumes" / f"{ID}.json").read_text())
    with pytest.raises(InternalError):
        volumes.specs([VolumeMount(OTHER, "/y")])


def test_an_image_without_a_note_is_nothing_and_is_made_anew(tmp_path):
    volumes = Volumes(tmp_path, MASTER)
    volumes.make(ID, 64)
    (tmp_path / "volumes" / f"{ID}.json").unlink()
    assert volumes.ids() == set()
    volumes.make(ID, 64)
    assert volumes.ids() == {ID}


def test_what_was_removed_is_gone(tmp_path):
    volumes = Volumes(tmp_path, MASTER)
    volumes.make(ID, 64)
    volumes.remove(ID)
    volumes.remove(ID)
    with pytest.raises(NotFound):
        volumes.specs([VolumeMount(ID, "/x")])
    assert list((tmp_path / "volumes").iterdir()) == []


def test_a_closed_one_is_mounted_by_nobody_and_can_be_removed(tmp_path):
    volumes = Volumes(tmp_path, MASTER)
    volumes.make(ID, 64)
    volumes.close(ID)
    volumes.close(ID)
    with pytest.raises(NotFound):
        volumes.specs([VolumeMount(ID, "/x")])
    volumes.remove(ID)
    assert list((tmp_path / "volumes").iterdir()) == []


def test_notes_and_images_are_the_owners(tmp_path):
    Volumes(tmp_path, MASTER).make(ID, 64)
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "volumes").iterdir()} == {0}


def images(monkeypatch) -> list[tuple[str, int, bool]]:
    """Of the images that are made larger: whose, to what, and whether it is a repair."""
    grown: list[tuple[str, int, bool]] = []
    monkeypatch.setattr(
        disks, "grow_image", lambda path, size_mib, repair=False: grown.append((path.stem, size_mib, repair))
    )
    monkeypatch.setattr(disks, "make_image", lambda path, size_mib, inodes: path.write_bytes(b"empty"))
    return grown


def test_it_grows_once_and_nobody_mounts_it_meanwhile(tmp_path, monkeypatch):
    grown, volumes = images(monkeypatch), Volumes(tmp_path, MASTER)
    volumes.make(ID, 1024, 1000)
    with volumes.withheld(ID):
        with pytest.raises(Unavailable, match="larger"):
            volumes.specs([VolumeMount(ID, "/x")])
        with pytest.raises(Unavailable, match="larger"), volumes.withheld(ID):
            pass
        for size_mib in (2048, 2048, 1024):
            volumes.grow(ID, size_mib)
    assert grown == [(ID, 2048, False)]
    assert len(Volumes(tmp_path, MASTER).specs([VolumeMount(ID, "/x")])) == 1


def test_what_was_cut_off_is_repaired_and_finished_at_the_next_start(tmp_path, monkeypatch):
    grown, volumes = images(monkeypatch), Volumes(tmp_path, MASTER)
    volumes.make(ID, 1024, 1000)
    volumes.make(OTHER, 1024, 1000)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(disks, "grow_image", killed)
        with pytest.raises(KeyboardInterrupt):
            volumes.grow(ID, 2048)
    for _ in range(2):
        Volumes(tmp_path, MASTER).finish_growing()
    assert grown == [(ID, 2048, True)]


def test_what_failed_is_repaired_when_it_is_asked_for_again_and_not_before(tmp_path, monkeypatch):
    grown, volumes = images(monkeypatch), Volumes(tmp_path, MASTER)
    volumes.make(ID, 1024, 1000)
    with monkeypatch.context() as patched:
        patched.setattr(disks, "grow_image", fail)
        with pytest.raises(InternalError):
            volumes.grow(ID, 4096)
    volumes.grow(ID, 2048)
    Volumes(tmp_path, MASTER).finish_growing()
    assert grown == [(ID, 2048, True)]


def test_one_that_cannot_be_finished_keeps_no_other_from_it(tmp_path, monkeypatch):
    grown, volumes = images(monkeypatch), Volumes(tmp_path, MASTER)
    with monkeypatch.context() as patched:
        patched.setattr(disks, "grow_image", fail)
        for each in (ID, OTHER):
            volumes.make(each, 1024, 1000)
            with pytest.raises(InternalError):
                volumes.grow(each, 2048)
    bad, good = sorted((ID, OTHER))
    works = disks.grow_image
    monkeypatch.setattr(
        disks,
        "grow_image",
        lambda path, *more, **options: (fail if path.stem == bad else works)(path, *more, **options),
    )
    again = Volumes(tmp_path, MASTER)
    again.finish_growing()
    assert grown == [(good, 2048, True)]
    assert len(again.specs([VolumeMount(good, "/x")])) == 1
    with pytest.raises(Unavailable):
        again.specs([VolumeMount(bad, "/x")])


def fail(*_: object, **__: object) -> None:
    raise InternalError("the disk is full")


def test_an_image_without_its_note_is_nothing_and_goes(tmp_path):
    volumes = Volumes(tmp_path, MASTER)
    volumes.make(ID, 64)
    volumes.image(OTHER).write_bytes(b"half")
    Volumes(tmp_path, MASTER).clear()
    assert volumes.image(ID).exists()
    assert not volumes.image(OTHER).exists()
