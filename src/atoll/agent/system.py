"""What /proc says. Parsing and choosing are pure; reading tolerates processes that vanish meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from .users import User, Users

MARK = "ATOLL_PROCESS"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MAX_ENVIRON = 256 * 1024  # times a thousand processes is what one look may cost
_MAX_SMALL = 64 * 1024
_ENVIRONMENT = slice(47, 49)  # its start and end in the fields after the name, see proc(5)
_PSS_PROCESSES = 64  # reading a proportional size walks page tables; beyond this many the resident size must do

_STATUS = {
    "R": "running",
    "S": "sleeping",
    "D": "disk-sleep",
    "T": "stopped",
    "t": "tracing-stop",
    "Z": "zombie",
    "X": "dead",
    "I": "idle",
}


@dataclass(frozen=True)
class ProcStat:
    pid: int
    name: str
    state: str
    ppid: int
    pgrp: int
    session: int
    cpu_ticks: int
    waited_ticks: int
    """Of its children that are gone."""
    started_ticks: int
    """Since boot."""
    rss_bytes: int

    @property
    def alive(self) -> bool:
        return self.state not in "ZX"


def parse_stat(text: str) -> ProcStat:
    """The name may hold blanks and parentheses; only the last `)` ends it."""
    left, _, right = text.rpartition(")")
    pid, _, name = left.partition(" (")
    fields = right.split()
    return ProcStat(
        pid=int(pid),
        name=name,
        state=fields[0],
        ppid=int(fields[1]),
        pgrp=int(fields[2]),
        session=int(fields[3]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        waited_ticks=int(fields[13]) + int(fields[14]),
        started_ticks=int(fields[19]),
        rss_bytes=int(fields[21]) * _PAGE,
    )


def read_processes() -> dict[int, ProcStat]:
    return {stat.pid: stat for stat in _stats()}


def _stats() -> Iterator[ProcStat]:
    for name in os.listdir("/proc"):
        if name.isdecimal() and (text := _read(f"/proc/{name}/stat")):
            yield parse_stat(text.decode(errors="replace"))


def tree_of(root: int | None, table: dict[int, ProcStat], is_marked: Callable[[ProcStat], bool], init: int) -> set[int]:
    """`root`, its group, its session, all their descendants, and what init adopted that carries the mark.

    Each test catches what slips by another: a daemon leaves group and session, `sudo` clears the mark,
    an orphan has lost its parent."""
    members = {stat.pid for stat in table.values() if root is not None and root in (stat.pid, stat.pgrp, stat.session)}
    members |= {
        stat.pid for stat in table.values() if stat.ppid == init and stat.pid not in members and is_marked(stat)
    }
    members.discard(init)
    children = _children(table.values())
    pending = list(members)
    while pending:
        for child in children.get(pending.pop(), ()):
            if child not in members:
                members.add(child)
                pending.append(child)
    return members


def _children(stats: Iterable[ProcStat]) -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for stat in stats:
        children.setdefault(stat.ppid, []).append(stat.pid)
    return children


def carries_mark(users: Users, pid: int, mark: str) -> bool | None:
    """None: cannot be told now. A process that is just becoming another program (execve) has no environment for a
    moment, or one that nobody may read; so has one with more rights than its owner, for as long as it lives."""
    try:
        environ = _read_as_owner(users, pid, "environ", _MAX_ENVIRON)
        if environ:
            return f"{MARK}={mark}".encode() in environ.split(b"\0")
        stat = _read_as_owner(users, pid, "stat", _MAX_SMALL)
    except PermissionError:
        return None
    except OSError:
        return False
    return False if has_empty_environment(stat.decode(errors="replace")) else None


def has_empty_environment(stat: str) -> bool:
    """In a program that has begun: where the environment is, is known, and it ends where it starts."""
    start, end = stat.rpartition(")")[2].split()[_ENVIRONMENT]
    return start == end != "0"


def _read_as_owner(users: Users, pid: int, name: str, limit: int) -> bytes:
    """Root of the sandbox has no CAP_SYS_PTRACE, so what shows a process's memory opens only to its owner's ids."""
    owner = os.stat(f"/proc/{pid}")
    with users.acting_as(User("", owner.st_uid, owner.st_gid, (owner.st_gid,), "", "")):
        return _read_or_fail(f"/proc/{pid}/{name}", limit)


def started_in_sandbox(table: dict[int, ProcStat], own_pid: int) -> list[ProcStat]:
    """Without PID 1 and without what was joined from outside (parent 0): the pristine interpreter."""
    return [stat for stat in table.values() if stat.pid != own_pid and (stat.ppid != 0 or own_pid != 1)]


def process_row(stat: ProcStat, users: Users, uptime_s: float) -> dict[str, object]:
    age_s = max(uptime_s - stat.started_ticks / _TICKS, 0.01)
    command = _read(f"/proc/{stat.pid}/cmdline").rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    try:
        uid = os.stat(f"/proc/{stat.pid}").st_uid
    except OSError:
        uid = 0
    return {
        "pid": stat.pid,
        "ppid": stat.ppid,
        "user": users.user_name(uid),
        "name": stat.name,
        "status": _STATUS.get(stat.state, "unknown"),
        "cpu_percent": round(100 * stat.cpu_ticks / _TICKS / age_s, 1),
        "memory_mb": round(stat.rss_bytes / 2**20, 1),
        "started_at": round(time.time() - age_s, 3),
        "command": command or f"[{stat.name}]",
    }


def os_release() -> dict[str, str]:
    """The few facts of os-release(5) that are shown; its file belongs to whoever is root inside."""
    wanted = ("ID", "NAME", "VERSION_ID", "PRETTY_NAME")
    found = parse_os_release(_read("/etc/os-release") or _read("/usr/lib/os-release"))
    return {name.lower(): found[name][:256] for name in wanted if name in found}


def parse_os_release(text: bytes) -> dict[str, str]:
    lines = (line.partition("=") for line in text.decode(errors="replace").splitlines())
    return {name.strip(): value.strip().strip("\"'") for name, equals, value in lines if equals}


def timezone() -> str:
    name = _read("/etc/timezone", 256).decode(errors="replace").strip()
    return os.environ.get("TZ", "") or name or "UTC"


def cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(b":")
        if name.strip() in (b"model name", b"Model"):
            return value.strip().decode(errors="replace")[:256]
    return ""


def addresses() -> list[str]:
    """The IPv4 addresses of this place, loopback left away: the local ones of the routing tables."""
    lines = [line.strip() for line in _read("/proc/net/fib_trie", 1024 * 1024).decode(errors="replace").splitlines()]
    local = {before[3:] for before, line in pairwise(lines) if "host LOCAL" in line and before.startswith("|-- ")}
    return sorted(address.strip() for address in local if not address.strip().startswith("127."))


def uptime_s() -> float:
    return float(_read("/proc/uptime").split()[0] or 0)


def load1() -> float:
    return float(_read("/proc/loadavg").split()[0] or 0)


def cpu_seconds(table: dict[int, ProcStat]) -> float:
    return sum(stat.cpu_ticks + stat.waited_ticks for stat in table.values()) / _TICKS


def memory_bytes(table: dict[int, ProcStat], users: Users) -> int:
    stats = sorted(table.values(), key=lambda stat: stat.rss_bytes, reverse=True)
    proportional = sum(_pss(stat, users) for stat in stats[:_PSS_PROCESSES])
    return proportional + sum(stat.rss_bytes for stat in stats[_PSS_PROCESSES:])


def open_files(own_pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{own_pid}/fd"))
    except OSError:
        return 0


def _pss(stat: ProcStat, users: Users) -> int:
    with suppress(OSError):
        for line in _read_as_owner(users, stat.pid, "smaps_rollup", _MAX_SMALL).splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return stat.rss_bytes


def _read(path: str, limit: int = _MAX_SMALL) -> bytes:
    try:
        return _read_or_fail(path, limit)
    except OSError:
        return b""


def _read_or_fail(path: str, limit: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        parts = []
        while limit > 0 and (data := os.read(fd, limit)):
            parts.append(data)
            limit -= len(data)
        return b"".join(parts)
    finally:
        os.close(fd)
