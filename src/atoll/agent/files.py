"""Files as a user: every path operation with that user's rights, none that can block on a FIFO or a device."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import secrets
import shutil
import signal
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from typing import NamedTuple

from atoll.wire.http import UnsatisfiableRange, parse_range

from . import trees
from .errors import AgentError, Kind, invalid
from .http_server import Content, JsonObject
from .reaper import Reaper
from .users import User, Users

MAX_ENTRIES = 100_000
MAX_DEPTH = 64
SMALL = 64 * 1024  # read whole: cheaper than sendfile, and the sizes that /proc and /sys claim are not true
MAX_UNSIZED = 4 * 1024 * 1024  # of a file whose size is said to be 0
DEFAULT_MODE = 0o644
# The sibling's name says whether its target existed, so that a watcher can tell `created` from `modified`.
TEMPORARY_PREFIX = ".atoll-"
TEMPORARY_NEW, TEMPORARY_OLD = ".new", ".old"
_OPEN = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


def checked_path(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise invalid("a path is absolute and without NUL")
    if len(os.fsencode(value)) > 4095:
        raise invalid("the path is too long")
    return "/" + os.path.normpath(value).lstrip("/")


def checked_mode(text: object) -> int | None:
    if text is None:
        return None
    try:
        mode = int(str(text), 8)
    except ValueError:
        raise invalid("mode is an octal number") from None
    if not 0 <= mode <= 0o7777:
        raise invalid("mode is an octal number up to 7777")
    return mode


def checked_id(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 65536:
        raise invalid("an id of a user or group is a number below 65536")
    return value


@dataclass(frozen=True)
class Wanted:
    """What an entry tells besides."""

    links: bool = False
    """Where a link leads."""
    attributes: str = ""
    """Extended attributes whose names begin like this."""


PLAIN = Wanted()


@dataclass(frozen=True)
class Attributes:
    """A file's extended attributes whose names begin with `prefix`, all of them."""

    prefix: str
    values: Mapping[str, str]

    @classmethod
    def of(cls, text: str | None) -> Attributes | None:
        if text is None:
            return None
        try:
            data = json.loads(text)
            prefix, values = data["prefix"], data["values"]
            if not prefix.startswith("user.") or not all(isinstance(each, str) for each in values.values()):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise invalid("attributes are a prefix that begins with user., and values") from None
        return cls(prefix, dict(values))

    def put_on(self, fd: int) -> None:
        """A file system without them has none to lose."""
        try:
            for name in os.listxattr(fd):
                if name.startswith(self.prefix):
                    os.removexattr(fd, name)
            for name, value in self.values.items():
                os.setxattr(fd, self.prefix + name, value.encode())
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            if self.values:
                raise AgentError(Kind.UNSUPPORTED, "files there cannot have metadata") from error


class Files:
    def __init__(self, users: Users, reaper: Reaper) -> None:
        self._users = users
        self._reaper = reaper

    def stat(self, path: str, user: User, follow: bool = True, wanted: Wanted = PLAIN) -> JsonObject:
        with self._users.acting_as(user):
            return self._entry(path, os.stat(path) if follow else os.lstat(path), wanted)

    async def list(self, path: str, user: User, depth: int, wanted: Wanted = PLAIN) -> bytes:
        return await trees.in_steps(self._users, user, self._list(path, depth, wanted))

    def _list(self, path: str, depth: int, wanted: Wanted) -> trees.Steps[bytes]:
        """As encoded JSON: a hundred thousand entries are 25 MB that way and many times that as objects."""
        encoded = bytearray(b'{"entries":[')
        for number, found in enumerate(trees.walk_sorted(path, depth)):
            if number >= MAX_ENTRIES:
                raise AgentError(Kind.TOO_LARGE, f"more than {MAX_ENTRIES} entries: {path}")
            with suppress(FileNotFoundError):
                encoded += _json(self._entry(found.path, found.stat(follow_symlinks=False), wanted)) + b","
            if number % trees.ENTRIES_PER_STEP == 0:
                yield
        return bytes(encoded.rstrip(b",") + b"]}")

    def read(self, path: str, user: User, range_header: str | None) -> Content:
        with self._users.acting_as(user):
            fd = open_regular(path, os.O_RDONLY)
        file = io.FileIO(fd)
        try:
            status = os.fstat(fd)
            size = status.st_size
            data = _read_whole(file, size) if size <= SMALL else None
            size = len(data) if data is not None else size
            wanted = _wanted(range_header, size)
            start, end = wanted or (0, size)
            headers = [("Accept-Ranges", "bytes"), ("Last-Modified", formatdate(max(0, status.st_mtime), usegmt=True))]
            if wanted is not None:
                headers.append(("Content-Range", f"bytes {start}-{end - 1}/{size}"))
            answer = 200 if wanted is None else 206
            if data is None:
                return Content(file, start, end - start, answer, headers)
        except BaseException:
            file.close()
            raise
        file.close()
        return Content(data[start:end], status=answer, headers=headers)

    async def write(
        self,
        path: str,
        user: User,
        mode: int | None,
        overwrite: bool,
        pour_into: Callable[[int], Awaitable[None]],
        attributes: Attributes | None = None,
    ) -> JsonObject:
        with self._users.acting_as(user):
            target = _Target.of(end_of_links(path))
            if target.status is not None and not overwrite:
                raise AgentError(Kind.EXISTS, f"the file exists: {path}")
            if target.status is None:
                os.makedirs(os.path.dirname(target.path), exist_ok=True)
            fd, temporary = _open_for_writing(target, user, self._users.switching)
        try:
            await pour_into(fd)
            self._settle(fd, target, mode, in_place=temporary is None)
            if attributes is not None:
                attributes.put_on(fd)
            if temporary is not None:
                with self._users.acting_as(user):
                    _put_in_place(temporary, target.path, overwrite)
                temporary = None
        finally:
            os.close(fd)
            if temporary is not None:
                with suppress(OSError), self._users.acting_as(user):
                    os.unlink(temporary)
        return self.stat(target.path, user) | {"path": path, "name": os.path.basename(path)}

    def _settle(self, fd: int, target: _Target, mode: int | None, in_place: bool) -> None:
        """Root's hand is needed for a foreign group; it only ever gives back what the file had before."""
        old = target.status
        if old is not None and not in_place:
            new = os.fstat(fd)
            if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
                with suppress(PermissionError):
                    os.fchown(fd, old.st_uid, old.st_gid)
        if mode is None:
            mode = stat.S_IMODE(old.st_mode) if old is not None else DEFAULT_MODE
        elif old is not None and in_place:
            with suppress(PermissionError):
                os.fchmod(fd, mode)
            return
        if not in_place:
            os.fchmod(fd, mode)

    def mkdir(self, path: str, user: User, mode: int | None, exist_ok: bool = True) -> JsonObject:
        with self._users.acting_as(user):
            if not exist_ok and os.path.lexists(path):
                raise AgentError(Kind.EXISTS, f"there is something already: {path}")
            if not os.path.isdir(path):
                os.makedirs(path, exist_ok=True)
                if mode is not None:
                    os.chmod(path, mode)
            return self._entry(path, os.stat(path))

    def change(self, path: str, user: User, mode: int | None, uid: int | None, gid: int | None) -> JsonObject:
        """Of what a link points to."""
        with self._users.acting_as(user):
            if uid is not None or gid is not None:
                os.chown(path, -1 if uid is None else uid, -1 if gid is None else gid)
            if mode is not None:
                os.chmod(path, mode)
            return self._entry(path, os.stat(path))

    async def remove(self, path: str, user: User) -> int:
        if path == "/":
            raise invalid("the root directory stays")
        return await trees.in_steps(self._users, user, trees.remove(path))

    async def move(self, source: str, target: str, user: User) -> JsonObject:
        with self._users.acting_as(user):
            os.lstat(source)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            try:
                os.rename(source, target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            else:
                return self._entry(target, os.lstat(target))
        await self._move_across(source, target, user)
        return self.stat(target, user, follow=False)

    async def compose(self, sources: Sequence[str], target: str, user: User) -> JsonObject:
        """One file out of others, one behind the other. It appears whole."""

        def action() -> None:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            temporary = os.path.join(
                os.path.dirname(target), f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_NEW}"
            )
            try:
                with open(temporary, "xb") as joined:
                    for source in sources:
                        with io.FileIO(open_regular(source, os.O_RDONLY)) as file:
                            shutil.copyfileobj(file, joined, 1024 * 1024)
                os.chmod(temporary, DEFAULT_MODE)
                os.rename(temporary, target)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise

        for source in sources:
            with self._users.acting_as(user):
                os.close(open_regular(source, os.O_RDONLY))
        await in_child(self._users, self._reaper, user, action)
        return self.stat(target, user)

    async def _move_across(self, source: str, target: str, user: User) -> None:
        """Between file systems a move is a copy, which may take long: a child does it."""
        await in_child(self._users, self._reaper, user, lambda: shutil.move(source, target))

    def _entry(self, path: str, status: os.stat_result, wanted: Wanted = PLAIN) -> JsonObject:
        kind = _TYPES.get(stat.S_IFMT(status.st_mode), "other")
        more: JsonObject = {"leads_to": _end_of(path)} if wanted.links and kind == "symlink" else {}
        if wanted.attributes and kind in ("file", "directory"):
            more["attributes"] = _attributes(path, wanted.attributes)
        return {
            "name": os.path.basename(path) or "/",
            "path": path,
            "type": kind,
            "size": status.st_size,
            "mode": stat.S_IMODE(status.st_mode),
            "uid": status.st_uid,
            "gid": status.st_gid,
            "user": self._users.user_name(status.st_uid),
            "group": self._users.group_name(status.st_gid),
            "modified_at": status.st_mtime,
            "accessed_at": status.st_atime,
            "changed_at": status.st_ctime,
            "target": os.readlink(path) if kind == "symlink" else None,
            **more,
        }


def end_of_links(path: str) -> str:
    """The library takes a call of its own for each link."""
    try:
        return os.path.realpath(path)
    except RecursionError as error:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from error


def _end_of(link: str) -> JsonObject | None:
    """None: it leads nowhere."""
    try:
        status = os.stat(link)
        return {
            "path": os.path.realpath(link),
            "type": _TYPES.get(stat.S_IFMT(status.st_mode), "other"),
            "mode": stat.S_IMODE(status.st_mode),
        }
    except OSError:
        return None


def _attributes(path: str, prefix: str) -> dict[str, str]:
    found: dict[str, str] = {}
    with suppress(OSError):
        for name in os.listxattr(path, follow_symlinks=False):
            if name.startswith(prefix):
                value = os.getxattr(path, name, follow_symlinks=False)
                found[name[len(prefix) :]] = value.decode("utf-8", "replace")
    return found


class _Target(NamedTuple):
    path: str
    status: os.stat_result | None

    @classmethod
    def of(cls, path: str) -> _Target:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return cls(path, None)
        _require_regular(path, status)
        return cls(path, status)


def open_regular(path: str, flags: int) -> int:
    """Never waits for the other side of a FIFO, and takes no terminal or device."""
    fd = os.open(path, flags | _OPEN)
    try:
        _require_regular(path, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _require_regular(path: str, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise AgentError(Kind.IS_A_DIRECTORY, f"is a directory: {path}")
    if not stat.S_ISREG(status.st_mode):
        raise AgentError(Kind.NOT_REGULAR, f"not a regular file: {path}")


def _open_for_writing(target: _Target, user: User, switching: bool) -> tuple[int, str | None]:
    """A descriptor, and the temporary sibling's path when there is one.

    Another user's file that this user may write is written in place: a file of the same name but
    with a new owner would be something else, and root giving it the old owner would be a gift."""
    old = target.status
    if old is not None:
        if not os.access(target.path, os.W_OK, effective_ids=True):
            raise AgentError(Kind.PERMISSION, f"the file cannot be written: {target.path}")
        acting = user.uid if switching else os.geteuid()
        if acting not in (0, old.st_uid):
            return _open_in_place(target.path), None
    directory = os.path.dirname(target.path)
    suffix = TEMPORARY_NEW if old is None else TEMPORARY_OLD
    temporary = os.path.join(directory, f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{suffix}")
    try:
        return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), temporary
    except OSError as error:
        if old is None or not isinstance(error, PermissionError):
            error.filename = target.path  # what was asked for, not how it is done
            raise
        return _open_in_place(target.path), None


def _open_in_place(path: str) -> int:
    fd = open_regular(path, os.O_WRONLY)
    os.ftruncate(fd, 0)
    return fd


def _put_in_place(temporary: str, path: str, overwrite: bool) -> None:
    if overwrite:
        os.rename(temporary, path)
        return
    os.link(temporary, path)  # unlike rename, fails when somebody was faster
    os.unlink(temporary)


def _read_whole(file: io.FileIO, size: int) -> bytes:
    limit = SMALL if size else MAX_UNSIZED
    parts: list[bytes] = []
    while limit > 0 and (data := file.read(limit)):
        parts.append(data)
        limit -= len(data)
    return b"".join(parts)


def _wanted(range_header: str | None, size: int) -> tuple[int, int] | None:
    try:
        return parse_range(range_header, size)
    except UnsatisfiableRange:
        raise AgentError(Kind.INVALID, f"the range lies outside the file's {size} bytes", 416) from None


def _json(entry: JsonObject) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode()


async def in_child(users: Users, reaper: Reaper, user: User, action: Callable[[], object]) -> None:
    """For what cannot be cut into small steps. The child's exit code is the errno."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()
    pid = os.fork()
    if pid == 0:
        os._exit(_child(users, user, action))
    reaper.watch(pid, lambda status: None if ended.done() else ended.set_result(status))
    try:
        code = os.waitstatus_to_exitcode(await ended)
    except asyncio.CancelledError:
        os.kill(pid, signal.SIGKILL)
        raise
    if code > 0:
        raise OSError(code, os.strerror(code))
    if code < 0:
        raise AgentError(Kind.TOO_MANY, "the operation was killed; the sandbox may have run out of memory")


def _child(users: Users, user: User, action: Callable[[], object]) -> int:
    try:
        users.become_for_good(user)
        action()
    except OSError as error:
        return error.errno or errno.EIO
    except BaseException:
        return errno.EIO
    return 0
