"""A context: forked from the seed, becomes a process of the user, runs cells until its stream ends.

`env` of a request holds for that cell: its names are set before and put back afterwards.
`cwd` of a request is entered when it differs from the one requested *before*, not from where the program
is: so an `os.chdir` of the program lasts as long as the caller keeps naming the same directory. It is not
put back afterwards.

One that is made ahead is the user's only with its first request, which holds the variables of its life: until then it
is root's, so that nothing of the user's can end it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import site
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from . import display, pages, reseed, stdio, tracebacks
from . import kernel as bridge
from .cells import Cells
from .channel import Channel
from .interrupts import Interrupts

OOM_SCORE_ADJ = b"600"  # memory runs out: a context goes before the agent
STREAM = 3
MAX_DATABASE = 1024 * 1024  # of /etc/passwd and /etc/group, which the sandbox may write
PR_SET_DUMPABLE = 4


@dataclass(frozen=True)
class Identity:
    uid: int
    gid: int
    home: str
    cwd: str
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Kernel:
    """What a context that runs no cells itself is the bridge to."""

    language: str
    directory: str


def run(
    identity: Identity, stream: int, output: int, error: int, kernel: Kernel | None = None, ahead: bool = False
) -> NoReturn:
    """Never returns and never falls back into the seed's code."""
    try:
        _take_descriptors(stream, output, error)
        if not ahead:
            become(identity)
        stdio.install()
        ours = socket.socket(fileno=STREAM)
        if kernel is None:
            serve(ours, identity, ahead)
        else:
            bridge.serve(ours, kernel.language, kernel.directory)
    except BaseException:
        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
        os._exit(1)
    os._exit(0)


def _take_descriptors(stream: int, output: int, error: int) -> None:
    """0 to 2, the stream, and nothing else of what the seed holds."""
    null = os.open("/dev/null", os.O_RDONLY)
    above = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 16) for fd in (null, output, error, stream)]
    for target, fd in enumerate(above):
        os.dup2(fd, target, inheritable=target != STREAM)
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd > STREAM:
            with contextlib.suppress(OSError):  # the directory's own descriptor is closed by now
                os.close(fd)


def become(identity: Identity) -> None:
    """What must be done as root first; a step that fails ends the context."""
    os.setsid()
    drop(identity.uid, identity.gid)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        file.write(OOM_SCORE_ADJ)  # not before: the seed's kind of process may not open its own files in /proc
    _enter_first(identity.cwd, identity.home, "/")
    adopt(identity)


def adopt(identity: Identity) -> None:
    """What Python itself must know of its new user."""
    for name in [name for name in os.environ if name not in identity.env]:
        del os.environ[name]
    os.environ.update(identity.env)
    os.environ.setdefault("HOME", identity.home)
    if "TZ" in os.environ:
        time.tzset()
    _adopt_user_site()
    reseed.reseed()


def drop(uid: int, gid: int) -> None:
    if os.geteuid() != 0 or uid == 0:
        return  # an ordinary user's seed has nothing to give up; root asked for root
    os.setgroups(groups_of(uid, gid))
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3:
        raise PermissionError("the rights of root are still there")
    # the kernel took /proc/self away with the old user id; programs list /proc/self/fd
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def groups_of(uid: int, gid: int) -> list[int]:
    """As initgroups, but from the files alone: as root, no name service module of the sandbox is loaded."""
    names = {fields[0] for fields in _records("/etc/passwd", 4) if fields[2] == str(uid)}
    groups = {
        int(fields[2])
        for fields in _records("/etc/group", 4)
        if fields[2].isdigit() and not names.isdisjoint(fields[3].split(","))
    }
    return sorted({gid, *groups})[:64]


def _records(path: str, width: int) -> Iterator[list[str]]:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            text = file.read(MAX_DATABASE).decode("utf-8", "replace")
    except OSError:
        return
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= width:
            yield fields


def _enter_first(*directories: str) -> None:
    for directory in directories:
        with contextlib.suppress(OSError, ValueError):
            os.chdir(directory)
            return


_user_site = ""


def _adopt_user_site() -> None:
    """`pip install --user` must work though the zygote was started by another user in another home."""
    global _user_site
    if sys.path[:1] != [""]:
        sys.path.insert(0, "")
    if sys.prefix != sys.base_prefix:
        return  # a virtual environment leaves the user's packages out
    site.USER_BASE = site.USER_SITE = None
    _user_site = site.getusersitepackages()
    if _user_site not in sys.path:
        places = [place for place, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages"))]
        sys.path.insert(places[0] if places else len(sys.path), _user_site)


def _notice_user_site() -> None:
    """A directory that was missing at the last import is looked at again: pip may have made it."""
    if _user_site and sys.path_importer_cache.get(_user_site, True) is None:
        del sys.path_importer_cache[_user_site]


def serve(stream: socket.socket, identity: Identity, ahead: bool = False) -> None:
    """Run cells until the agent closes the stream."""
    interrupts = Interrupts()
    interrupts.install()
    channel = Channel(stream, interrupts)
    cells = Cells()
    sys.modules["__main__"] = cells.main
    sys.argv = [""]
    os.register_at_fork(after_in_child=lambda: _in_forked_child(stream))
    if ahead:
        born = channel.receive()
        if born is None:
            return
        become(replace(identity, env=dict(born["env"])))
    run_cells(channel, cells, interrupts, identity.cwd)


def run_cells(channel: Channel, cells: Cells, interrupts: Interrupts, cwd: str) -> None:
    display.connect(channel.publish)
    session = Session(channel, cells, interrupts, cwd)
    while True:
        if not channel.has_request():
            if cells.loop.is_open():
                cells.loop.wait_readable(channel.fileno())
            elif _is_quiet(channel.fileno()):
                pages.give_back()
        request = channel.receive()
        if request is None:
            return
        session.execute(request)


def _is_quiet(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    try:
        return not poll.poll(pages.QUIET_S * 1000)
    except OSError:
        return False


def _in_forked_child(stream: socket.socket) -> None:
    """A process that a cell forks has no say on our stream, and an interrupt ends it as any other program."""
    stream.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Session:
    def __init__(self, channel: Channel, cells: Cells, interrupts: Interrupts, cwd: str) -> None:
        self._channel = channel
        self._cells = cells
        self._interrupts = interrupts
        self._requested_cwd: str | None = cwd
        self._pid = os.getpid()

    def execute(self, request: Mapping[str, Any]) -> None:
        """Exactly one `end`, whatever the cell does, unless it ends the process."""
        self._interrupts.begin()
        self._channel.begin(ordered=request.get("ordered") is True)
        display.describe(request.get("describe") is True)
        self._cells.count += 1
        _notice_user_site()
        failure = self._run(request)
        if os.getpid() != self._pid:
            _end_child(failure)
        stdio.settle()
        if failure is not None and not _is_clean_exit(failure):
            self._channel.error(tracebacks.name_of(failure), tracebacks.value_of(failure), tracebacks.text_of(failure))
        status = self._status(failure)
        self._interrupts.end()
        self._channel.end(status, self._cells.count, _exit_code(failure) if status == "error" else None)

    def _run(self, request: Mapping[str, Any]) -> BaseException | None:
        env = dict(request.get("env") or {})
        before = {name: os.environ.get(name) for name in env}
        try:
            failure = self._attempt(lambda: self._prepare(env, request.get("cwd")))
            if failure is None:
                failure = self._attempt(lambda: self._cells.run(str(request.get("code", ""))))
            later = None if os.getpid() != self._pid else self._attempt(self._cells.finish)
        finally:
            _set_environment(before)
        return failure or later

    def _attempt(self, function: Any) -> BaseException | None:
        try:
            self._interrupts.call(function)
        except BaseException as error:
            return error
        return None

    def _prepare(self, env: Mapping[str, str | None], cwd: str | None) -> None:
        _set_environment(env)
        if cwd is None or cwd == self._requested_cwd:
            return
        os.chdir(cwd)
        self._requested_cwd = cwd

    def _status(self, failure: BaseException | None) -> str:
        if failure is None or _is_clean_exit(failure):
            return "ok"
        return "interrupted" if self._interrupts.fired else "error"


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is not None:
            os.environ[name] = value
        elif name in os.environ:
            del os.environ[name]
    if "TZ" in values:
        time.tzset()


def _is_clean_exit(failure: BaseException) -> bool:
    return isinstance(failure, SystemExit) and failure.code in (None, 0)


def _end_child(failure: BaseException | None) -> NoReturn:
    """A cell that forked runs on in the child too; there it must not come back to our loop."""
    if failure is not None and not isinstance(failure, SystemExit):
        print(tracebacks.text_of(failure), file=sys.stderr, end="")
    stdio.settle()
    os._exit(_exit_code(failure))


def _exit_code(failure: BaseException | None) -> int:
    """What the same code as a program would have ended with."""
    code = failure.code if isinstance(failure, SystemExit) else failure is not None
    return code & 0xFF if isinstance(code, int) else 0 if code is None else 1
