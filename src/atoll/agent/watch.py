"""Changes below a directory, from inotify.

The kernel watches single directories, so a recursive watch is one per directory, and a directory that appears
is looked through once it is watched: what it got in between is announced from that look, and the kernel's
own word of the same entry, if it comes, is dropped.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from . import trees
from .errors import AgentError, Kind
from .files import TEMPORARY_NEW, TEMPORARY_OLD, TEMPORARY_PREFIX
from .http_server import JsonObject
from .users import User, Users

MAX_DIRECTORIES = 8192
READ_BYTES = 64 * 1024
PAIR_WAIT_S = 0.02  # the two halves of a rename are queued one after the other, but may be read apart
ANNOUNCED_S = 1.0

IN_MODIFY, IN_ATTRIB, IN_MOVED_FROM, IN_MOVED_TO = 0x2, 0x4, 0x40, 0x80
IN_CREATE, IN_DELETE, IN_DELETE_SELF = 0x100, 0x200, 0x400
IN_Q_OVERFLOW, IN_IGNORED, IN_ISDIR = 0x4000, 0x8000, 0x40000000
IN_ONLYDIR, IN_DONT_FOLLOW, IN_EXCL_UNLINK = 0x1000000, 0x2000000, 0x4000000
_CHANGES = IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_EXCL_UNLINK
_HEADER = struct.Struct("iIII")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


class Notice(NamedTuple):
    watch: int
    mask: int
    cookie: int
    name: str

    @property
    def is_directory(self) -> bool:
        return bool(self.mask & IN_ISDIR)


def parse_notices(data: bytes) -> Iterator[Notice]:
    offset = 0
    while offset < len(data):
        watch, mask, cookie, length = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size
        name = data[offset : offset + length].rstrip(b"\0")
        offset += length
        yield Notice(watch, mask, cookie, os.fsdecode(name))


class Watch:
    """`emit` gets each event as the protocol's object; `pause` leaves events in the kernel's bounded queue."""

    def __init__(
        self,
        users: Users,
        user: User,
        root: str,
        recursive: bool,
        emit: Callable[[JsonObject], None],
        attributes: bool = False,
    ) -> None:
        """`attributes`: changes of mode, owner and times as well."""
        self._changes = _CHANGES | (IN_ATTRIB if attributes else 0)
        self._users = users
        self._user = user
        self._root = root
        self._recursive = recursive
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._paths: dict[int, str] = {}
        self._watches: dict[str, int] = {}
        """The reverse of `_paths`: a directory is looked into once."""
        self._moved: dict[int, tuple[str, bool]] = {}
        """First halves of renames, by cookie, until the second half or their time comes."""
        self._announced: set[str] = set()
        self._full = False
        self._paused = False
        self._last: JsonObject = {}
        self._fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise AgentError(Kind.TOO_MANY, "no more file watches")

    async def start(self) -> None:
        with self._users.acting_as(self._user):
            error = self._add(self._root, follow=True)
        if error:
            raise OSError(error, os.strerror(error), self._root)
        self._loop.add_reader(self._fd, self._readable)
        if self._recursive:
            await trees.in_steps(self._users, self._user, self._add_below(self._root))

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        if self._paused and self._fd >= 0:
            self._paused = False
            self._loop.add_reader(self._fd, self._readable)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _add_below(self, path: str) -> trees.Steps[None]:
        if not os.path.isdir(path):
            return
        for number, entry in enumerate(trees.walk_sorted(path, depth=1_000_000)):
            if entry.is_dir(follow_symlinks=False) and not self._full:
                self._add(entry.path)
            if number % trees.ENTRIES_PER_STEP == 0:
                yield

    def _add(self, path: str, follow: bool = False) -> int:
        """The errno; the caller has taken the user's rights."""
        if len(self._paths) >= MAX_DIRECTORIES:
            self._overflow()
            return errno.ENOSPC
        flags = self._changes if follow else self._changes | IN_ONLYDIR | IN_DONT_FOLLOW
        watch = _libc.inotify_add_watch(self._fd, os.fsencode(path), flags)
        if watch >= 0:
            self._paths[watch] = path
            self._watches[path] = watch
            return 0
        error = ctypes.get_errno()
        if error == errno.ENOSPC:
            self._overflow()
        return error

    def _overflow(self) -> None:
        if not self._full:
            self._full = True
            self._emit({"type": "overflow"})

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return
        self._last = {}
        for notice in parse_notices(data):
            self._handle(notice)

    def _handle(self, notice: Notice) -> None:
        if notice.mask & IN_Q_OVERFLOW:
            self._emit({"type": "overflow"})
            return
        directory = self._paths.get(notice.watch)
        if directory is None:
            return
        if notice.mask & IN_IGNORED:
            self._forget(notice.watch)
            return
        path = os.path.join(directory, notice.name) if notice.name else directory
        if notice.mask & IN_DELETE_SELF:
            if directory == self._root:
                self._tell("deleted", path, None, notice.is_directory)
        elif notice.mask & IN_MOVED_FROM:
            self._moved_from(notice, path)
        elif notice.mask & IN_MOVED_TO:
            self._moved_to(notice, path)
        elif notice.mask & IN_CREATE:
            self._created(path, notice.is_directory)
        elif notice.mask & IN_DELETE:
            self._unwatch(path)  # one of the same name may come before the kernel's word that this one is ignored
            self._tell("deleted", path, None, notice.is_directory)
        elif notice.mask & IN_MODIFY:
            self._tell("modified", path, None, notice.is_directory)
        elif notice.mask & IN_ATTRIB and (notice.name or os.path.lexists(path)):  # its own end changes a count of links
            self._tell("attributes", path, None, notice.is_directory)

    def _created(self, path: str, is_directory: bool) -> None:
        if path in self._announced:
            self._announced.discard(path)
        else:
            self._tell("created", path, None, is_directory)
        if is_directory and self._recursive:
            self._look_into(path)

    def _look_into(self, path: str) -> None:
        with self._users.acting_as(self._user), suppress(OSError):
            if self._full or path in self._watches or self._add(path):
                return
            for entry in trees.walk_sorted(path, depth=1):
                is_directory = entry.is_dir(follow_symlinks=False)
                self._announced.add(entry.path)
                self._loop.call_later(ANNOUNCED_S, self._announced.discard, entry.path)
                self._tell("created", entry.path, None, is_directory)
                if is_directory:
                    self._loop.call_soon(self._look_into, entry.path)

    def _moved_from(self, notice: Notice, path: str) -> None:
        self._moved[notice.cookie] = (path, notice.is_directory)
        self._loop.call_later(PAIR_WAIT_S, self._moved_away, notice.cookie)

    def _moved_to(self, notice: Notice, path: str) -> None:
        source, _ = self._moved.pop(notice.cookie, (None, False))
        if source is None:
            self._created(path, notice.is_directory)
            return
        if notice.is_directory:
            self._rename_watches(source, path)
        written = _written_by_us(source)
        if written is not None:
            self._tell(written, path, None, False, whole=True)
        else:
            self._tell("renamed", path, source, notice.is_directory)

    def _moved_away(self, cookie: int) -> None:
        source, is_directory = self._moved.pop(cookie, (None, False))
        if source is None or self._fd < 0:
            return
        for path in [path for path in self._watches if _is_below(path, source)]:
            self._unwatch(path)
        self._tell("deleted", source, None, is_directory)

    def _rename_watches(self, source: str, target: str) -> None:
        for path in [path for path in self._watches if _is_below(path, source)]:
            watch = self._watches.pop(path)
            self._paths[watch] = target + path[len(source) :]
            self._watches[self._paths[watch]] = watch

    def _forget(self, watch: int) -> None:
        path = self._paths.pop(watch, None)
        if path is not None and self._watches.get(path) == watch:
            del self._watches[path]

    def _unwatch(self, path: str) -> None:
        watch = self._watches.get(path)
        if watch is not None:
            self._forget(watch)
            _libc.inotify_rm_watch(self._fd, watch)

    def _tell(self, event: str, path: str, source: str | None, is_directory: bool, whole: bool = False) -> None:
        """A program that writes in small pieces makes one event per batch, not one per piece."""
        if _written_by_us(path) is not None:
            return
        told: JsonObject = {"type": "event", "path": path, "event": event, "from": source, "is_directory": is_directory}
        if whole:
            told["whole"] = True
        if event in ("modified", "attributes") and told == self._last:
            return
        self._last = told
        self._emit(told)


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + "/")


def _written_by_us(path: str) -> str | None:
    """What the rename of our temporary sibling means to a watcher; None for any other file."""
    name = os.path.basename(path)
    if not name.startswith(TEMPORARY_PREFIX):
        return None
    return {TEMPORARY_NEW: "created", TEMPORARY_OLD: "modified"}.get(name[-4:])
