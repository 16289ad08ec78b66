"""Forks, and nothing else: what the kernel alone takes to make what a sandbox is made of.   forking.py COUNT → JSON

First by a small process, as Atoll's own is that makes namespaces; then by one as large as the interpreter of
`code-interpreter` with what it preloads, so that page tables as large are copied and pages as many are written to.
Milliseconds; `forks` and `cells` are a hundred at once, until the last has answered.
"""

from __future__ import annotations

import ctypes
import gc
import io
import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout

from cells import PANDAS, PANDAS_ANSWER
from timing import repeat, timed

NAMESPACES = {
    "user": 0x10000000,
    "mount": 0x00020000,
    "pid": 0x20000000,
    "network": 0x40000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "cgroup": 0x02000000,
}
BURST, ROUNDS = 100, 3
Work = Callable[[], object]
Child = tuple[int, int]
"""Pid, and the pipe that it answers on."""


def executed(unshare: int) -> None:
    pid = os.fork()
    if pid == 0:
        if unshare and ctypes.CDLL(None).unshare(unshare):
            os._exit(9)
        os.execv("/bin/true", ["true"])
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError(f"this kernel refuses new namespaces: {', '.join(NAMESPACES)}")


def forked(work: Work) -> Child:
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        work()
        os.write(tell, b"1")
        os._exit(0)
    os.close(tell)
    return pid, told


def answered(children: Iterable[Child]) -> None:
    for _, told in children:
        if os.read(told, 1) != b"1":
            raise RuntimeError("a fork ended without an answer")


def reaped(children: list[Child]) -> None:
    for pid, told in children:
        os.close(told)
        os.waitpid(pid, 0)
    children.clear()


def forks(work: Work, at_once: int, count: int) -> list[float]:
    """The first is left out."""
    children: list[Child] = []

    def all_of_them() -> None:
        children.extend(forked(work) for _ in range(at_once))
        answered(children)

    found = []
    for _ in range(count + 1):
        found.append(timed(all_of_them))
        reaped(children)
    return found[1:]


def main(count: int) -> dict[str, list[float]]:
    samples = {
        "exec": repeat(count, lambda: executed(0)),
        "namespaces": repeat(count, lambda: executed(sum(NAMESPACES.values()))),
    }
    import pandas  # noqa: F401

    code = compile(PANDAS, "cell", "exec")

    def cell() -> None:
        with redirect_stdout(io.StringIO()) as said:
            exec(code, {})
        if PANDAS_ANSWER not in said.getvalue():
            raise RuntimeError(said.getvalue())

    gc.collect()
    gc.freeze()
    return samples | {
        "fork": forks(lambda: None, 1, count),
        "cell": forks(cell, 1, count),
        "forks": forks(lambda: None, BURST, ROUNDS),
        "cells": forks(cell, BURST, ROUNDS),
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
