"""Signals by name, and sent to all that one program became."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from . import system
from .errors import invalid
from .users import Users

KILL_ROUNDS = 16  # against programs that fork while they are being killed
LOOKS, LOOK_AGAIN_S = 40, 0.0005  # an execve takes well under a millisecond; the agent waits meanwhile


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def signal_number(value: object) -> int:
    """SIGTERM, TERM or 15."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= signal.SIGRTMAX:
        return value
    name = str(value).upper()
    known = signal.Signals.__members__
    for candidate in (name, f"SIG{name}"):
        if candidate in known:
            return known[candidate].value
    raise invalid(f"unknown signal: {value}")


def signal_tree(users: Users, root: int | None, mark: str, number: int) -> None:
    """SIGKILL is repeated until a look at /proc finds nobody new; other signals are sent once.

    The look comes before the first kill: a child is found by its parent, and loses it then."""
    reached: set[int] = set()
    for _ in range(KILL_ROUNDS if number == signal.SIGKILL else 1):
        members = _members(users, root, mark) - reached
        if not members:
            return
        reached |= members
        for pid in members:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def _members(users: Users, root: int | None, mark: str) -> set[int]:
    """Looks again while somebody is just becoming another program and cannot be told from a stranger."""
    for _ in range(LOOKS):
        found, is_certain = _look(users, root, mark)
        if is_certain:
            break
        time.sleep(LOOK_AGAIN_S)
    return found


def _look(users: Users, root: int | None, mark: str) -> tuple[set[int], bool]:
    table = {pid: stat for pid, stat in system.read_processes().items() if stat.alive}
    marked: list[bool | None] = []

    def is_marked(stat: system.ProcStat) -> bool:
        marked.append(system.carries_mark(users, stat.pid, mark))
        return marked[-1] is True

    return system.tree_of(root, table, is_marked, os.getpid()), None not in marked
