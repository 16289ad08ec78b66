"""Programs a caller started: their output, their limits in time, their records."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

from . import golang, system, trees
from .env import Env, Environment
from .errors import AgentError, Kind, invalid, not_found
from .http_server import Stream
from .pipes import PipeReader, PipeWriter, set_window
from .plumbing import LINEFLUSH, Plumbing, Streams, open_pipes, open_terminal, unbuffered
from .process_spec import Keep, Size, Spec
from .programs import Programs
from .reaper import Reaper
from .rings import Ring
from .signals import signal_name, signal_tree
from .spawn import spawn
from .users import User, Users, from_home

GRACE_S = 0.2  # after the exit, for output that a background child still holds the pipe of
KEEP_ENDED_S = 600
KEEP_ENDED = 256
KEEP_BRIEFLY_S = 30
KEEP_BRIEFLY = 4096
KEEP_ENDED_OUTPUT = 32 * 1024 * 1024  # of all ended records together; the oldest lose theirs first
KEPT = {Keep.FULL: (KEEP_ENDED_S, KEEP_ENDED), Keep.BRIEF: (KEEP_BRIEFLY_S, KEEP_BRIEFLY)}
"""Of ended ones: how long, and how many."""
SCRATCH_PARENT = "/tmp"  # noqa: S108  the sandbox's own


class Status(StrEnum):
    RUNNING = "running"
    EXITED = "exited"
    KILLED = "killed"
    TIMED_OUT = "timed_out"


@dataclass(eq=False)
class Attachment:
    stream: Stream
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Process:
    def __init__(self, pid: int, process_id: str, spec: Spec, user: User, plumbing: Plumbing, started: float) -> None:
        self.id = process_id
        self.pid = pid
        self.spec = spec
        self.user = user
        self.status = Status.RUNNING
        self.exit_code: int | None = None
        self.signal: str | None = None
        self.started_at = time.time() - (asyncio.get_running_loop().time() - started)
        """Unix seconds; lengths are measured on the loop's clock."""
        self.ended_at: float | None = None
        self.ring = Ring() if spec.keep is Keep.FULL else None
        self.attachments: list[Attachment] = []
        self.stdin = None if plumbing.stdin is None else PipeWriter(plumbing.stdin)
        self.on_end: list[Callable[[], None]] = []
        self.gone = asyncio.Event()
        """The kernel has nothing of it any more; what it wrote may still be on its way."""
        self.ended = asyncio.Event()
        self.timed_out = False
        self._cut_short = False
        self._loop = asyncio.get_running_loop()
        self._started = started
        self._ended_on: float | None = None
        self._wait_status: int | None = None
        self._terminal = plumbing.terminal
        self._readers = [self._reader(kind, fd) for kind, fd in plumbing.readers]
        self._timers: list[asyncio.TimerHandle] = []

    def record(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "pid": self.pid,
            "name": self.spec.name or os.path.basename(self.spec.argv[0]),
            "argv": self.spec.argv,
            "cwd": self.spec.cwd,
            "user": self.user.name,
            "status": self.status.value,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "pty": self._terminal,
            "tag": self.spec.tag,
        }

    @property
    def running(self) -> bool:
        return self.status is Status.RUNNING

    @property
    def exited(self) -> bool:
        return self._wait_status is not None

    @property
    def interactive(self) -> bool:
        return self._terminal

    @property
    def failed(self) -> bool:
        return not self.running and self.exit_code != 0

    @property
    def duration_s(self) -> float:
        return max(0.0, (self.ended_at or time.time()) - self.started_at)

    @property
    def is_recent(self) -> bool:
        """It runs, or has ended so lately that its pid is still its name."""
        return self._ended_on is None or self._loop.time() - self._ended_on <= KEEP_BRIEFLY_S

    def attach(self, stream: Stream, from_now: bool = False) -> Attachment:
        """What the ring holds goes out first; no output comes between, because nothing here awaits."""
        if self.ring is not None and not from_now:
            for kind, data in self.ring.segments():
                stream.send(kind, data)
        attachment = Attachment(stream)
        if not self.running:
            attachment.done.set_result(None)
            return attachment
        self.attachments.append(attachment)
        stream.on_writable = self._regulate
        self._regulate()
        return attachment

    def detach(self, attachment: Attachment) -> None:
        attachment.stream.on_writable = None
        if attachment in self.attachments:
            self.attachments.remove(attachment)
            self._regulate()

    def set_deadline(self, timeout_s: float, on_time: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(timeout_s, on_time))

    def resize(self, size: Size) -> None:
        if not self._terminal or self.stdin is None:
            raise invalid("this process has no terminal")
        if not self.stdin.closed:
            set_window(self.stdin.fd, size.cols, size.rows)

    def expect_input(self, terminal: bool) -> None:
        """What a caller takes its input for."""
        if terminal != self._terminal:
            raise invalid("this process has a terminal" if self._terminal else "this process has no terminal")

    async def write_stdin(self, data: bytes) -> None:
        if self.stdin is None:
            raise invalid("this process was started without stdin")
        try:
            await self.stdin.write(data)
        except OSError as error:
            raise invalid("the process does not read its input any more") from error

    async def close_stdin(self) -> None:
        if self.stdin is None:
            return
        if self._terminal:
            await self.write_stdin(b"\x04")
        else:
            self.stdin.close()

    def on_exit(self, wait_status: int) -> None:
        self._wait_status = wait_status
        self.gone.set()
        if self._drained():
            self._finish()
        elif not self.spec.drain or self._cut_short:
            self._wait_a_little()

    def cut_short(self) -> None:
        """It is being ended: for output that others hold open nobody waits any more."""
        self._cut_short = True
        if self.exited and self.running:
            self._wait_a_little()

    def _wait_a_little(self) -> None:
        self._timers.append(self._loop.call_later(GRACE_S, self._grace_over))

    def _reader(self, kind: bytes, fd: int) -> PipeReader:
        return PipeReader(fd, lambda data: self._output(kind, data), self._stream_ended)

    def _output(self, kind: bytes, data: bytes) -> None:
        if self.ring is not None:
            self.ring.append(kind, data)
        for attachment in self.attachments:
            attachment.stream.send(kind, data)
        if self.attachments:
            self._regulate()

    def _regulate(self) -> None:
        """The slowest attached reader sets the pace of the program."""
        slow = any(not attachment.stream.writable for attachment in self.attachments)
        for reader in self._readers:
            reader.pause() if slow else reader.resume()

    def _stream_ended(self) -> None:
        if self.exited and self._drained() and self.running:
            self._finish()

    def _drained(self) -> bool:
        return all(reader.ended for reader in self._readers)

    def _grace_over(self) -> None:
        if not self.running:
            return
        if any(not attachment.stream.writable for attachment in self.attachments):
            self._wait_a_little()
            return
        for reader in self._readers:
            reader.take_available()
        if self.running:
            self._finish()

    def _finish(self) -> None:
        """A descendant may hold the pipes for long. They are emptied further, so that it does not die of SIGPIPE."""
        assert self._wait_status is not None
        self._ended_on = self._loop.time()
        self.ended_at = self.started_at + (self._ended_on - self._started)
        self.status, self.exit_code, self.signal = outcome(self._wait_status, self.timed_out)
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self.stdin is not None:
            self.stdin.close()
        for attachment in self.attachments:
            attachment.stream.on_writable = None
            if not attachment.done.done():
                attachment.done.set_result(None)
        self.attachments.clear()
        self._regulate()
        self.ended.set()
        for callback in self.on_end:
            callback()


def outcome(wait_status: int, timed_out: bool) -> tuple[Status, int, str | None]:
    code = os.waitstatus_to_exitcode(wait_status)
    name = signal_name(-code) if code < 0 else None
    if timed_out:
        return Status.TIMED_OUT, 124, name
    if code < 0:
        return Status.KILLED, 128 - code, name
    return Status.EXITED, code, None


class ProcessTable:
    def __init__(
        self, users: Users, environment: Environment, reaper: Reaper, workdir: str, lineflush: str = LINEFLUSH
    ) -> None:
        self.started_total = 0
        self.failed_total = 0
        """A terminal's exit status is the shell's last one and says nothing about a program."""
        self.compiled = Programs(users)
        self._users = users
        self._environment = environment
        self._reaper = reaper
        self._workdir = workdir
        self._lineflush = lineflush if os.path.exists(lineflush) else None
        self._processes: OrderedDict[str, Process] = OrderedDict()
        self._ended: dict[Keep, OrderedDict[str, Process]] = {keep: OrderedDict() for keep in (Keep.FULL, Keep.BRIEF)}
        self._cleanups: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Any:
        return iter(list(self._processes.values()))

    @property
    def running(self) -> int:
        return sum(process.running for process in self._processes.values())

    @property
    def executing(self) -> int:
        """What was started to run, not to be typed into."""
        return sum(process.running and not process.interactive for process in self._processes.values())

    def get(self, name: str) -> Process:
        """By id; by `pid:N` or `tag:TEXT` the newest of those that run or have ended in the last seconds."""
        kind, _, value = name.partition(":")
        match kind:
            case "pid":
                found = self._newest(lambda process: str(process.pid) == value)
            case "tag":
                found = self._newest(lambda process: process.spec.tag == unquote(value))
            case _:
                found = self._processes.get(name)
        if found is None:
            raise not_found(f"no such process: {name}")
        return found

    def _newest(self, is_meant: Callable[[Process], bool]) -> Process | None:
        newest_first = reversed(self._processes.values())
        return next((process for process in newest_first if process.is_recent and is_meant(process)), None)

    def start(self, spec: Spec) -> Process:
        user = self._users.lookup(spec.user)
        spec = replace(spec, cwd=os.path.normpath(from_home(spec.cwd, user)))
        if spec.make_cwd:
            ensure_directory(self._users, user, spec.cwd, self._workdir)
        else:
            expect_directory(self._users, user, spec.cwd)
        env = self._environment.for_program(user, spec.cwd, spec.env)
        scratch, argv = None, spec.argv
        if spec.files is not None:
            scratch = self._write_files(user, spec.files)
            argv = [argument.replace("{dir}", scratch) for argument in argv]
        try:
            if spec.compile is not None and scratch is not None:
                process = self._launch_compiled(spec, user, argv, {**golang.DEFAULTS, **env}, scratch)
            else:
                process = self._launch(spec, user, argv, env)
        except BaseException:
            if scratch is not None:
                self._remove_later(scratch)
            raise
        if scratch is not None:
            process.on_end.append(lambda: self._remove_later(scratch))
        process.on_end.append(lambda: self._ended_now(process))
        return process

    def send_signal(self, process: Process, number: int, tree: bool) -> None:
        """Success on an ended one; what it left behind in the background is still reached by its mark."""
        if number in (signal.SIGKILL, signal.SIGTERM):
            process.cut_short()
        if tree:
            signal_tree(self._users, None if process.exited else process.pid, process.id, number)
        elif not process.exited:
            os.kill(process.pid, number)

    def kill(self, process: Process) -> None:
        self.send_signal(process, signal.SIGKILL, tree=True)

    def _launch_compiled(self, spec: Spec, user: User, argv: list[str], env: Env, scratch: str) -> Process:
        """What was kept is only a try: where it cannot be started, it is compiled as if it had never been there."""
        with self._users.acting_as(user):
            program = golang.inspect(spec.files or {}, env)
        path, keep = os.path.join(scratch, golang.PROGRAM), None
        if program.key is not None:
            if self.compiled.take(user, program.key, path):
                with suppress(OSError):
                    process = self._launch(spec, user, argv, env)
                    self.compiled.hits += 1
                    return process
                self.compiled.drop(user, program.key, path)
            keep = self.compiled.place(user, program.key)
        process = self._launch(spec, user, [*program.building(scratch, keep), *argv[1:]], env)
        self.compiled.misses += 1
        process.on_end.append(lambda: self.compiled.trim(user))
        return process

    def _launch(self, spec: Spec, user: User, argv: list[str], env: Env) -> Process:
        process_id = secrets.token_hex(8)
        env = {**env, system.MARK: process_id}
        open_streams = open_terminal if spec.pty is not None else open_pipes
        with Streams() as streams:
            plumbing, stdio = open_streams(spec, streams, self._users, user)
            if spec.pty is None:
                env.update(unbuffered(env, stdio[1], self._lineflush))
            started = asyncio.get_running_loop().time()
            pid = spawn(self._users, user, argv, env, spec.cwd, stdio, terminal=spec.pty is not None)
            streams.keep_ours()
        process = Process(pid, process_id, spec, user, plumbing, started)
        self._reaper.watch(pid, process.on_exit)
        self._processes[process_id] = process
        self.started_total += 1
        if spec.timeout_s is not None:
            process.set_deadline(spec.timeout_s, lambda: self._time_is_up(process))
        return process

    def _time_is_up(self, process: Process) -> None:
        """A program that exited while a slow reader still takes its output was in time."""
        if process.exited:
            process.cut_short()
        else:
            process.timed_out = True
            self.kill(process)

    def _ended_now(self, process: Process) -> None:
        self.failed_total += process.failed and not process.interactive
        if process.spec.keep is Keep.NOTHING:
            self._processes.pop(process.id, None)
            return
        seconds, most = KEPT[process.spec.keep]
        kept = self._ended[process.spec.keep]
        kept[process.id] = process
        asyncio.get_running_loop().call_later(seconds, self._forget, process)
        while len(kept) > most:
            self._forget(next(iter(kept.values())))
        self._bound_output()

    def _bound_output(self) -> None:
        full = self._ended[Keep.FULL].values()
        held = sum(ended.ring.size for ended in full if ended.ring is not None)
        for ended in full:
            if held <= KEEP_ENDED_OUTPUT:
                break
            if ended.ring is not None:
                held -= ended.ring.size
                ended.ring.clear()

    def _forget(self, process: Process) -> None:
        self._ended[process.spec.keep].pop(process.id, None)
        self._processes.pop(process.id, None)
        process.ring = None

    def _write_files(self, user: User, files: Mapping[str, str]) -> str:
        with self._users.acting_as(user):
            directory = os.path.join(SCRATCH_PARENT, f"atoll-{secrets.token_hex(8)}")
            os.mkdir(directory, 0o700)
            try:
                for name, text in files.items():
                    path = os.path.join(directory, name)
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                        file.write(text)
            except BaseException:
                self._remove_later(directory)
                raise
        return directory

    def _remove_later(self, directory: str) -> None:
        """As root: the program may have left files of root's there."""

        async def remove() -> None:
            with suppress(OSError):
                await trees.in_steps(self._users, self._users.lookup("root"), trees.remove(directory))

        task = asyncio.get_running_loop().create_task(remove())
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)


def expect_directory(users: Users, user: User, path: str) -> None:
    with users.acting_as(user):
        if not os.path.isdir(path):
            raise invalid(f"cwd '{path}' does not exist")


def ensure_directory(users: Users, user: User, path: str, workdir: str) -> None:
    """Made when missing, parents too: by the user where the user may, by root only for the sandbox's work directory."""
    with users.acting_as(user):
        try:
            if os.path.isdir(path):
                return
            os.makedirs(path, exist_ok=True)
            return
        except (FileExistsError, NotADirectoryError):
            raise AgentError(Kind.NOT_A_DIRECTORY, f"not a directory: {path}") from None
        except PermissionError:
            if path != workdir or os.path.lexists(path):
                raise AgentError(Kind.PERMISSION, f"the directory cannot be made: {path}") from None
    os.mkdir(path)
    os.chown(path, user.uid, user.gid)
