"""Trees as tar, both ways. What comes out of a sandbox is hostile: nothing of it lands outside the directory it is for.

How that holds:

- A name is walked from the target's own descriptor, part by part, and no part of it may be a symbolic link
  (O_NOFOLLOW); absolute names and `..` end the copy.
- Symbolic links are made last, so nothing of the archive is written through them. One may go up at its beginning
  only, and not above the target. By induction no chain of such links leads out either: each starts in a real directory.
- Files are always made anew (O_EXCL), so nothing is written through a hard link; a hard link is made only to
  a file of the same archive.
- Devices, FIFOs and the like are left out. Modes lose their setuid, setgid and sticky bits.
- The number of entries and of directories on the way to them, their bytes, the length of names and of their headers
  have limits.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

BUFFER = 256 * 1024
MAX_ENTRIES = 1_000_000
MAX_NAMES = 128 * 1024 * 1024
"""Of all names together: links and modes are kept until the end."""
MAX_NAME = 4096
MAX_DEPTH = 200
MAX_HEADER = 256 * 1024
"""Of one long name; the library reads it into memory whole."""
PERMISSIONS = 0o777
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LONG_NAMES = frozenset((tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK))
UNWANTED = frozenset((tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_SPARSE))
"""The `tar` that we start makes none of these, and the library reads their lists into memory without a limit."""


class UnsafeArchive(Exception):
    """The archive is not one that an honest `tar` makes, or is beyond a limit."""


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


OnBytes = Callable[[int], object]


@dataclass
class Report:
    """What a copy did. `left_out`: name → why."""

    files: int = 0
    bytes: int = 0
    left_out: dict[str, str] = field(default_factory=dict)


# ---- packing


def size_of(path: Path) -> int:
    """Bytes of all regular files at and below `path`."""
    return sum(entry.lstat().st_size for entry in _walk(path) if entry.is_file() and not entry.is_symlink())


def _walk(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir() and not path.is_symlink():
        for below in sorted(path.iterdir()):
            yield from _walk(below)


def pack(source: Path, name: str, sink: Writable, on_bytes: OnBytes) -> Report:
    """Writes `source` as a tar archive whose names start with `name` (`.` for a directory's contents)."""
    report = Report()
    stream: Any = _Sink(sink)  # Any: the library's stubs ask for more than it uses
    with tarfile.open(fileobj=stream, mode="w|", bufsize=BUFFER, format=tarfile.GNU_FORMAT) as archive:
        for path in _walk(source):
            shown = name if path == source else f"{name}/{path.relative_to(source)}"
            _pack_one(archive, path, shown, report, on_bytes)
    return report


def _pack_one(archive: tarfile.TarFile, path: Path, name: str, report: Report, on_bytes: OnBytes) -> None:
    member = archive.gettarinfo(path, name)
    if member is None or not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        report.left_out[str(path)] = "it is no file, directory or link"
        return
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode &= PERMISSIONS
    if not member.isreg():
        archive.addfile(member)
        report.files += member.islnk()
        return
    with path.open("rb") as file:
        archive.addfile(member, _Counted(file, on_bytes))
    report.files += 1
    report.bytes += member.size


class _Sink:
    """What the library wants of a stream to write to."""

    def __init__(self, sink: Writable) -> None:
        self._sink = sink

    def write(self, data: bytes) -> int:
        self._sink.write(data)
        return len(data)

    def read(self, size: int = -1) -> bytes:
        raise OSError("this is a stream to write to")


class _Counted:
    def __init__(self, source: Readable, on_bytes: OnBytes) -> None:
        self._source = source
        self._on_bytes = on_bytes

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._on_bytes(len(data))
        return data


# ---- unpacking


class _Member(tarfile.TarInfo):
    """The library's own place for looking at a header before its contents are read."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in UNWANTED:
            raise UnsafeArchive("it has pax or sparse entries")
        if self.size < 0 or (self.type in LONG_NAMES and self.size > MAX_HEADER):
            raise UnsafeArchive(f"a header of {self.size} bytes")
        found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]  # not in the library's stubs
        return found


def members(source: Readable) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """In order, bounded; UnsafeArchive for what is no archive."""
    stream: Any = source  # Any: the library's stubs ask for more than it uses
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=BUFFER, tarinfo=_Member) as archive:
            names = 0
            for number, member in enumerate(archive):
                names += len(member.name) + len(member.linkname)
                if number >= MAX_ENTRIES or names > MAX_NAMES:
                    raise UnsafeArchive(f"more than {MAX_ENTRIES} entries, or {MAX_NAMES} bytes of names")
                yield archive, member
                archive.members.clear()  # type: ignore[attr-defined]  # else it keeps every one of them
    except (tarfile.TarError, RecursionError, ValueError, OverflowError) as error:
        raise UnsafeArchive(f"no whole tar archive: {error}") from error


def parts_of(name: str) -> tuple[str, ...]:
    """`./a//b` → (a, b); UnsafeArchive for what may lead elsewhere."""
    if name.startswith("/") or "\0" in name or len(os.fsencode(name)) > MAX_NAME:
        raise UnsafeArchive(f"the name {name[:80]!r}")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts or len(parts) > MAX_DEPTH:
        raise UnsafeArchive(f"the name {name[:80]!r}")
    return parts


def stays_inside(parts: tuple[str, ...], target: str) -> bool:
    """Whether a symbolic link called `parts` to `target` cannot lead out, whatever other such links there are."""
    if not target or target.startswith("/") or "\0" in target or len(os.fsencode(target)) > MAX_NAME:
        return False
    steps = PurePosixPath(target).parts
    up = next((number for number, step in enumerate(steps) if step != ".."), len(steps))
    return up < len(parts) and ".." not in steps[up:]


def unpack(source: Readable, directory: Path, max_bytes: int, on_bytes: OnBytes) -> Report:
    """Everything of an archive into `directory`, which is made when it is missing."""
    directory.mkdir(exist_ok=True)
    with _Tree(directory) as tree:
        for archive, member in members(source):
            parts = parts_of(member.name)
            tree.take(archive, member, parts, max_bytes, on_bytes)
        tree.finish()
        return tree.report


def unpack_file(source: Readable, target: Path, max_bytes: int, on_bytes: OnBytes) -> Report:
    """The one file of an archive, whatever it is called there, as `target`."""
    report = Report()
    for archive, member in members(source):
        if not member.isreg() or report.files:
            raise UnsafeArchive("it is not one file")
        with _Tree(target.parent) as tree:
            tree.take_file(archive, member, (target.name,), max_bytes, on_bytes)
            report = tree.report
    if not report.files:
        raise UnsafeArchive("it is empty")
    return report


class _Tree:
    def __init__(self, directory: Path) -> None:
        self.report = Report()
        self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._directories = 0
        self._links: dict[str, str] = {}
        self._modes: dict[str, int] = {}
        self._written: set[str] = set()
        """Names as whole texts: as many parts as there can be, each for itself, would be gigabytes."""

    def __enter__(self) -> _Tree:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def take(
        self,
        archive: tarfile.TarFile,
        member: tarfile.TarInfo,
        parts: tuple[str, ...],
        max_bytes: int,
        on_bytes: OnBytes,
    ) -> None:
        if member.isdir():
            with self._directory(parts):
                self._modes["/".join(parts)] = member.mode & PERMISSIONS
        elif not parts:
            raise UnsafeArchive("a file without a name")
        elif member.isreg():
            self._links.pop("/".join(parts), None)
            self.take_file(archive, member, parts, max_bytes, on_bytes)
        elif member.islnk():
            self._take_hard_link(parts, parts_of(member.linkname), member.name)
        elif member.issym() and stays_inside(parts, member.linkname):
            self._links["/".join(parts)] = member.linkname
        elif member.issym():
            self.report.left_out[member.name] = "a link that leads out of the copy"
        else:
            self.report.left_out[member.name] = "it is no file, directory or link"

    def take_file(
        self,
        archive: tarfile.TarFile,
        member: tarfile.TarInfo,
        parts: tuple[str, ...],
        max_bytes: int,
        on_bytes: OnBytes,
    ) -> None:
        if self.report.bytes + member.size > max_bytes:
            raise UnsafeArchive(f"more than {max_bytes} bytes; --max-size allows more")
        contents = archive.extractfile(member)
        if contents is None:
            raise UnsafeArchive(f"no contents of {member.name[:80]!r}")
        with self._directory(parts[:-1]) as parent:
            _clear(parent, parts[-1])
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(parts[-1], flags, 0o600, dir_fd=parent), "wb") as file:
                try:
                    _pour(contents, file, on_bytes)
                except BaseException:
                    os.unlink(parts[-1], dir_fd=parent)  # half a file is no copy
                    raise
                os.fchmod(file.fileno(), member.mode & PERMISSIONS)
        self._written.add("/".join(parts))
        self.report.files += 1
        self.report.bytes += member.size

    def _take_hard_link(self, parts: tuple[str, ...], origin: tuple[str, ...], name: str) -> None:
        if "/".join(origin) not in self._written:
            self.report.left_out[name] = "a hard link to what is not in the copy"
            return
        if origin == parts:
            return
        with self._directory(origin[:-1]) as there, self._directory(parts[:-1]) as here:
            _clear(here, parts[-1])
            os.link(origin[-1], parts[-1], src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
        self._links.pop("/".join(parts), None)
        self._written.add("/".join(parts))
        self.report.files += 1

    def finish(self) -> None:
        for name, target in self._links.items():
            parts = parts_of(name)
            with self._directory(parts[:-1]) as parent:
                _clear(parent, parts[-1])
                os.symlink(target, parts[-1], dir_fd=parent)
        for name in sorted(self._modes, reverse=True):  # what is below a directory comes after it
            with contextlib.suppress(UnsafeArchive), self._directory(parts_of(name)) as directory:
                os.fchmod(directory, self._modes[name] | stat.S_IRWXU)

    @contextlib.contextmanager
    def _directory(self, parts: tuple[str, ...]) -> Iterator[int]:
        """A descriptor of the directory called so below the root, made where it is missing."""
        current = os.dup(self._root)
        try:
            for part in parts:
                self._make(current, part)
                below = _enter(current, part)
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)

    def _make(self, parent: int, name: str) -> None:
        """What is there already stays."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
            self._directories += 1
            if self._directories > MAX_ENTRIES:
                raise UnsafeArchive(f"more than {MAX_ENTRIES} directories")


def _pour(contents: Readable, file: IO[bytes], on_bytes: OnBytes) -> None:
    try:
        while data := contents.read(BUFFER):
            file.write(data)
            on_bytes(len(data))
    except tarfile.TarError as error:
        raise UnsafeArchive(f"it breaks off: {error}") from error
    file.flush()


def _enter(parent: int, name: str) -> int:
    try:
        return os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    except (NotADirectoryError, OSError) as error:
        raise UnsafeArchive(
            f"{name[:80]!r} is no directory here, or a link: {os.strerror(error.errno or 0)}"
        ) from error


def _clear(parent: int, name: str) -> None:
    """What has this name already makes room; a directory does not."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError) as error:
        raise UnsafeArchive(f"{name[:80]!r} is a directory here") from error
