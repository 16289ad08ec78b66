"""Archives as honest and as hostile sandboxes make them: nothing lands outside, and what is honest arrives whole."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from atoll.cli import archive
from atoll.cli.archive import UnsafeArchive, pack, parts_of, stays_inside, unpack, unpack_file

MIB = 2**20


def entry(name: str, kind: bytes = tarfile.REGTYPE, **more: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for field, value in more.items():
        setattr(made, field, value)
    return made


def tar(*entries: tuple[tarfile.TarInfo, bytes] | tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> io.BytesIO:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as out:
        for each in entries:
            info, data = each if isinstance(each, tuple) else (each, b"")
            if data:
                info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return io.BytesIO(made.getvalue())


def take(source: io.BytesIO, directory: Path, max_bytes: int = MIB) -> archive.Report:
    return unpack(source, directory, max_bytes, lambda count: None)


def listing(directory: Path) -> set[str]:
    return {str(each.relative_to(directory)) for each in directory.rglob("*")}


@pytest.fixture
def yard(tmp_path: Path) -> Path:
    """Around the target, with what an attack is after."""
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "target").mkdir()
    return tmp_path


@pytest.fixture
def target(yard: Path) -> Path:
    return yard / "target"


def untouched(yard: Path) -> bool:
    return (yard / "precious").read_text() == "mine" and {each.name for each in yard.iterdir()} == {
        "precious",
        "target",
    }


# ---- honest


def test_a_tree_arrives_as_it_was(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "empty").mkdir(parents=True)
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "deep" / "er" / "script").write_bytes(b"#!/bin/sh\n")
    (tree / "deep" / "er" / "script").chmod(0o750)
    (tree / "read-only").write_bytes(b"r" * 70_000)
    (tree / "read-only").chmod(0o444)
    (tree / "up").symlink_to("deep/er/script")
    (tree / "deep" / "er" / "back").symlink_to("../../read-only")
    os.link(tree / "read-only", tree / "same")
    (tree / ("n" * 200)).write_bytes(b"long name")
    (tree / "wörter \n").write_bytes(b"")
    (tree / "closed").mkdir(mode=0o700)
    made, counted = io.BytesIO(), [0]
    report = pack(tree, ".", made, lambda count: counted.__setitem__(0, counted[0] + count))
    made.seek(0)
    copy = tmp_path / "copy"
    back = take(made, copy)
    assert listing(copy) == listing(tree)
    assert stat.S_IMODE((copy / "deep/er/script").stat().st_mode) == 0o750
    assert stat.S_IMODE((copy / "read-only").stat().st_mode) == 0o444
    assert stat.S_IMODE((copy / "closed").stat().st_mode) == 0o700
    assert (copy / "read-only").read_bytes() == (copy / "same").read_bytes() == b"r" * 70_000
    assert (copy / "same").stat().st_ino == (copy / "read-only").stat().st_ino
    assert os.readlink(copy / "up") == "deep/er/script"
    assert (copy / "deep/er/back").resolve() == (copy / "read-only").resolve()
    assert (back.files, back.left_out, report.files) == (5, {}, 5)
    assert counted[0] == back.bytes == 70_000 + 10 + 9


def test_one_file_gets_the_name_that_is_asked_for(yard: Path) -> None:
    source = tar((entry("./whatever", mode=0o640), b"contents"))
    assert unpack_file(source, yard / "chosen", MIB, lambda count: None).bytes == 8
    assert (yard / "chosen").read_bytes() == b"contents"
    assert stat.S_IMODE((yard / "chosen").stat().st_mode) == 0o640


def test_what_is_no_file_here_is_left_out_of_an_archive(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    os.mkfifo(tree / "pipe")
    (tree / "file").write_text("x")
    made = io.BytesIO()
    report = pack(tree, ".", made, lambda count: None)
    assert list(report.left_out) == [str(tree / "pipe")]
    made.seek(0)
    take(made, tmp_path / "copy")
    assert listing(tmp_path / "copy") == {"file"}


def test_a_file_that_is_there_is_replaced_and_not_written_into(yard: Path, target: Path) -> None:
    os.link(yard / "precious", target / "a")
    take(tar((entry("a"), b"theirs")), target)
    assert (target / "a").read_text() == "theirs"
    assert untouched(yard)


# ---- names


@pytest.mark.parametrize("name", ["/etc/passwd", "../precious", "a/../../precious", "..", "a/..", "//x", "a" * 5000])
def test_a_name_that_leads_elsewhere_ends_the_copy(name: str, yard: Path, target: Path) -> None:
    with pytest.raises(UnsafeArchive):
        take(tar((entry(name), b"theirs")), target)
    assert untouched(yard)
    assert listing(target) == set()


def test_names_are_taken_apart() -> None:
    assert parts_of("./a//b/") == ("a", "b")
    assert parts_of("./") == ()
    with pytest.raises(UnsafeArchive):
        parts_of("a/" * 300)
    with pytest.raises(UnsafeArchive):
        parts_of("a\0b")


# ---- links


@pytest.mark.parametrize(
    ("name", "to", "inside"),
    [
        ("a", "b", True),
        ("a", "b/c", True),
        ("d/a", "../b", True),
        ("d/e/a", "../../b", True),
        ("a", ".", True),
        ("d/a", "..", True),
        ("a", "..", False),
        ("d/a", "../..", False),
        ("a", "/etc/passwd", False),
        ("a", "//etc", False),
        ("a", "b/..", False),  # `b` may be a link to a place deeper or higher
        ("d/a", "../b/../c", False),
        ("a", "", False),
        ("a", "x" * 5000, False),
    ],
)
def test_links_that_cannot_lead_out(name: str, to: str, inside: bool) -> None:
    assert stays_inside(parts_of(name), to) is inside


@pytest.mark.parametrize("to", ["..", "../precious", "/etc", "x/../.."])
def test_a_link_that_leads_out_is_left_out_and_said(to: str, yard: Path, target: Path) -> None:
    report = take(tar(entry("link", tarfile.SYMTYPE, linkname=to), (entry("file"), b"x")), target)
    assert list(report.left_out) == ["link"]
    assert listing(target) == {"file"}
    assert untouched(yard)


def test_nothing_is_written_through_a_link_of_the_archive(yard: Path, target: Path) -> None:
    """The link itself is honest: it is the file after it that goes through it."""
    source = tar(
        entry("in", tarfile.DIRTYPE, mode=0o755),
        entry("link", tarfile.SYMTYPE, linkname="in"),
        (entry("link/file"), b"x"),
    )
    with pytest.raises(UnsafeArchive):
        take(source, target)
    assert not (target / "in" / "file").exists()


def test_a_link_takes_the_place_of_a_file_and_a_file_that_of_a_link(target: Path) -> None:
    take(tar((entry("a"), b"x"), entry("a", tarfile.SYMTYPE, linkname="b")), target)
    assert os.readlink(target / "a") == "b"
    take(tar(entry("a", tarfile.SYMTYPE, linkname="b"), (entry("a"), b"file")), target)
    assert not (target / "a").is_symlink()
    assert (target / "a").read_bytes() == b"file"


def test_a_link_that_is_here_already_is_not_followed(yard: Path, target: Path) -> None:
    (target / "out").symlink_to(yard)
    with pytest.raises(UnsafeArchive):
        take(tar((entry("out/precious"), b"theirs")), target)
    (target / "file").symlink_to(yard / "precious")
    take(tar((entry("file"), b"theirs")), target)
    assert (target / "file").read_text() == "theirs"
    assert untouched(yard)


def test_chains_of_links_do_not_lead_out(yard: Path, target: Path) -> None:
    """Each of them looks harmless on paper: `deep/a/b/up` is the top, and `u` would be one above it."""
    source = tar(
        entry("deep/a/b", tarfile.DIRTYPE, mode=0o755),
        entry("deep/a/b/up", tarfile.SYMTYPE, linkname="../../.."),
        entry("u", tarfile.SYMTYPE, linkname="deep/a/b/up/.."),
        entry("v", tarfile.SYMTYPE, linkname="deep/a/b/up/deep"),
    )
    report = take(source, target)
    assert list(report.left_out) == ["u"]
    for each in target.rglob("*"):
        assert each.resolve().is_relative_to(target)


def test_a_hard_link_is_to_a_file_of_the_archive_alone(yard: Path, target: Path) -> None:
    (target / "mine").write_text("mine")
    source = tar(
        (entry("a"), b"one"),
        entry("b", tarfile.LNKTYPE, linkname="a"),
        entry("c", tarfile.LNKTYPE, linkname="mine"),
        entry("l", tarfile.SYMTYPE, linkname="mine"),
        entry("d", tarfile.LNKTYPE, linkname="l"),
        (entry("b"), b"two"),
    )
    report = take(source, target)
    assert sorted(report.left_out) == ["c", "d"]
    assert ((target / "a").read_text(), (target / "b").read_text(), (target / "mine").read_text()) == (
        "one",
        "two",
        "mine",
    )
    for to in ("../precious", "/etc/passwd"):
        with pytest.raises(UnsafeArchive):
            take(tar(entry("x", tarfile.LNKTYPE, linkname=to)), target)


# ---- other kinds, modes


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_fifos_are_left_out(kind: bytes, target: Path) -> None:
    report = take(tar(entry("node", kind, devmajor=1, devminor=3), (entry("file"), b"x")), target)
    assert list(report.left_out) == ["node"]
    assert listing(target) == {"file"}


def test_no_mode_gives_more_rights_than_to_read_write_and_run(target: Path) -> None:
    take(tar((entry("a", mode=0o6755), b"x"), entry("d", tarfile.DIRTYPE, mode=0o7000)), target)
    assert stat.S_IMODE((target / "a").stat().st_mode) == 0o755
    assert stat.S_IMODE((target / "d").stat().st_mode) == 0o700


def test_a_directory_that_is_there_is_not_replaced_by_a_file(target: Path) -> None:
    (target / "d").mkdir()
    with pytest.raises(UnsafeArchive):
        take(tar((entry("d"), b"x")), target)


# ---- amounts


def test_a_copy_that_is_too_large_ends_before_the_file_is_written(target: Path) -> None:
    huge = entry("huge", size=10**12)
    with pytest.raises(UnsafeArchive, match="--max-size"):
        take(io.BytesIO(huge.tobuf(tarfile.GNU_FORMAT) + bytes(10240)), target)
    with pytest.raises(UnsafeArchive, match="--max-size"):
        take(tar((entry("a"), b"x" * 600), (entry("b"), b"x" * 600)), target, max_bytes=1000)
    assert listing(target) == {"a"}


def test_too_many_entries_end_the_copy(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_ENTRIES", 10)
    with pytest.raises(UnsafeArchive, match="more than 10"):
        take(tar(*(entry(f"f{number}") for number in range(11))), target)


def test_names_that_would_fill_the_memory_end_the_copy(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_NAMES", 1000)
    links = (entry(f"f{number}", tarfile.SYMTYPE, linkname="t" * 300) for number in range(4))
    with pytest.raises(UnsafeArchive, match="1000 bytes of names"):
        take(tar(*links), target)
    assert listing(target) == set()


def test_entries_are_not_kept_in_memory(target: Path) -> None:
    source = tar(*(entry(f"d{number % 3}", tarfile.DIRTYPE, mode=0o755) for number in range(2000)))
    most = max(len(opened.members) for opened, _ in archive.members(source))
    assert most <= 2


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_long_name_that_would_fill_the_memory_is_not_read(kind: bytes, target: Path) -> None:
    header = entry("././@LongLink", kind, size=8 * 2**30).tobuf(tarfile.GNU_FORMAT)

    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            if not self.given:
                self.given = len(header)
                return header
            self.given += size
            assert self.given < 4 * MIB, "it went on reading"
            return bytes(size)

    with pytest.raises(UnsafeArchive, match="header"):
        unpack(Endless(), target, MIB, lambda count: None)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_SPARSE])
def test_pax_and_sparse_entries_are_refused(kind: bytes, target: Path) -> None:
    with pytest.raises(UnsafeArchive, match="pax"):
        take(io.BytesIO(entry("x", kind, size=10).tobuf(tarfile.GNU_FORMAT) + bytes(10240)), target)


def test_long_names_upon_long_names_end_the_copy(target: Path) -> None:
    one = entry("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=2).tobuf(tarfile.GNU_FORMAT) + b"a\0".ljust(512, b"\0")
    with pytest.raises(UnsafeArchive):
        take(io.BytesIO(one * 5000 + bytes(10240)), target)


@pytest.mark.parametrize("data", [b"x" * 20_000, b"", b"\x1f\x8b" + b"0" * 600])
def test_what_is_no_archive_is_said(data: bytes, target: Path) -> None:
    with pytest.raises(UnsafeArchive, match="no whole tar archive"):
        take(io.BytesIO(data), target)


def test_an_archive_that_breaks_off_is_said(target: Path) -> None:
    whole = tar((entry("a"), b"x" * 5000)).getvalue()
    with pytest.raises(UnsafeArchive):
        take(io.BytesIO(whole[:2000]), target)
    assert listing(target) == set()


@pytest.mark.parametrize(
    "entries", [[], [entry("d", tarfile.DIRTYPE)], [(entry("a"), b"x"), (entry("b"), b"y")]], ids=["none", "dir", "two"]
)
def test_one_file_is_one_file(entries: list, yard: Path) -> None:
    with pytest.raises(UnsafeArchive):
        unpack_file(tar(*entries), yard / "chosen", MIB, lambda count: None)


def test_directories_on_the_way_to_an_entry_count_as_well(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_ENTRIES", 10)
    deep = (entry(f"{number}/b/c/d", tarfile.DIRTYPE) for number in range(5))
    with pytest.raises(UnsafeArchive, match="more than 10 directories"):
        take(tar(*deep), target)
    assert len(listing(target)) <= 11


def test_directories_that_are_there_count_once(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_ENTRIES", 10)
    assert take(tar(*((entry(f"a/b/{number}"), b"x") for number in range(9))), target).files == 9
