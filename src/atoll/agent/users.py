"""Who a request acts as, and how the agent takes that user's rights for the length of one operation.

PID 1 is root of the sandbox's user namespace and single-threaded. For a path operation only the
*effective* ids change (`acting_as`). To start a program real and effective ids change and the saved ids
stay 0 (`becoming`), so that the child is forked by vfork with the final ids and needs no set-id step: on
exec the kernel copies the effective to the saved ids and the capabilities are gone. That is 0.25 ms
against 1.3 ms for a fork that changes ids in the child. While ids are switched the saved uid 0 keeps
the user from tracing the agent, and PID 1 has no handler that a signal from inside could reach.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import AgentError, Kind, invalid

DEFAULT_USER = "user"
DEFAULT_UID = 1000
_NO_ID = 2**32 - 1
_MAX_DATABASE = 1024 * 1024  # /etc/passwd is the sandbox's own file, so its size is the enemy's choice


@dataclass(frozen=True)
class User:
    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str


def from_home(path: str, user: User) -> str:
    """`~` and `~/x` begin at the user's home; every other path is what it is."""
    return user.home + path[1:] if path == "~" or path.startswith("~/") else path


# What a template without these lines in /etc/passwd (busybox) still has.
_FALLBACK = {
    "root": User("root", 0, 0, (0,), "/root", "/bin/sh"),
    DEFAULT_USER: User(DEFAULT_USER, DEFAULT_UID, DEFAULT_UID, (DEFAULT_UID,), "/home/user", "/bin/sh"),
}


class Users:
    """`switching` off: an ordinary process of an ordinary user, where every name means the caller."""

    def __init__(self, switching: bool, etc: Path = Path("/etc")) -> None:
        self.switching = switching
        self._passwd = _Database(etc / "passwd")
        self._group = _Database(etc / "group")

    def begin(self) -> None:
        """Root needs no groups; where giving them up is refused, a later switch would fail half-way."""
        if self.switching:
            os.setgroups(())

    def lookup(self, name: object = DEFAULT_USER) -> User:
        if not isinstance(name, str) or not name:
            raise invalid("a user is a name or a number as text")
        if not self.switching:
            return self._caller()
        for fields in self._passwd.rows():
            if len(fields) >= 7 and (fields[0] == name or fields[2] == name):
                return self._user(fields)
        if name in _FALLBACK:
            return _FALLBACK[name]
        raise AgentError(Kind.NO_USER, f"no such user: {name}")

    def user_name(self, uid: int) -> str:
        return _name_of(self._passwd, uid)

    def group_name(self, gid: int) -> str:
        return _name_of(self._group, gid)

    def give(self, fd: int, user: User) -> None:
        """A pipe is its user's: a program may open /dev/stdout, which opens the pipe anew, by its owner and mode."""
        if self.switching and user.uid != 0:
            os.fchown(fd, user.uid, user.gid)

    @contextmanager
    def acting_as(self, user: User) -> Iterator[None]:
        """For path operations. Never spans an await: the ids belong to the whole process."""
        if not self.switching or user.uid == 0:
            yield
            return
        try:
            os.setgroups(user.groups)
            os.setresgid(-1, user.gid, -1)
            os.setresuid(-1, user.uid, -1)
            yield
        finally:
            self._back_to_root()

    @contextmanager
    def becoming(self, user: User) -> Iterator[None]:
        """For the fork of a program. The same rule as `acting_as`."""
        if not self.switching:
            yield
            return
        try:
            os.setgroups(user.groups)
            os.setresgid(user.gid, user.gid, 0)
            os.setresuid(user.uid, user.uid, 0)
            yield
        finally:
            self._back_to_root()

    def become_for_good(self, user: User) -> None:
        """In a child, before work that needs no way back."""
        if self.switching:
            os.setgroups(user.groups)
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)

    def _back_to_root(self) -> None:
        """These need memory for new credentials. If they fail for ever the agent must not go on as somebody else."""
        for _ in range(1000):
            try:
                os.setresuid(0, 0, 0)
                os.setresgid(0, 0, 0)
                os.setgroups(())
            except OSError:
                continue
            return
        os._exit(70)

    def _user(self, fields: list[str]) -> User:
        try:
            uid, gid = _id(fields[2]), _id(fields[3])
        except ValueError as error:
            raise AgentError(Kind.INTERNAL, f"a broken line for {fields[0]} in /etc/passwd") from error
        groups = {gid, *self._groups_of(fields[0])}
        return User(fields[0], uid, gid, tuple(sorted(groups)), fields[5] or "/", fields[6] or "/bin/sh")

    def _groups_of(self, name: str) -> Iterator[int]:
        for fields in self._group.rows():
            if len(fields) >= 4 and name in fields[3].split(",") and fields[2].isdecimal():
                yield int(fields[2])

    def _caller(self) -> User:
        uid = os.getuid()
        fields = next((row for row in self._passwd.rows() if len(row) >= 7 and row[2] == str(uid)), None)
        if fields is None:
            home, shell = os.path.expanduser("~"), "/bin/sh"
            return User(str(uid), uid, os.getgid(), tuple(os.getgroups()), home, shell)
        return User(fields[0], uid, os.getgid(), tuple(os.getgroups()), fields[5], fields[6] or "/bin/sh")


class _Database:
    """A colon-separated file of /etc, read again when it changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._rows: list[list[str]] = []

    def rows(self) -> list[list[str]]:
        try:
            status = self._path.stat()
        except OSError:
            return []
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            self._rows, self._stamp = self._read(), stamp
        return self._rows

    def _read(self) -> list[list[str]]:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return []
        try:
            text = os.read(fd, _MAX_DATABASE) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
        finally:
            os.close(fd)
        return [line.split(":") for line in os.fsdecode(text).split("\n") if line and not line.startswith("#")]


def _id(text: str) -> int:
    """The highest 32-bit number is no id: to `setresuid` it means "leave as it is", which is root."""
    number = int(text)
    if not 0 <= number < _NO_ID:
        raise ValueError(text)
    return number


def _name_of(database: _Database, number: int) -> str:
    text = str(number)
    return next((row[0] for row in database.rows() if len(row) > 2 and row[2] == text), text)
