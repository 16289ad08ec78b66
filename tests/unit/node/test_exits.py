from __future__ import annotations

import asyncio
import os
import subprocess

from atoll.node.exits import ExitWatch, lives, start_time


class Exits:
    def __init__(self) -> None:
        self.seen: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self.watch = ExitWatch(lambda *exited: self.seen.put_nowait(exited))


def sleeper() -> tuple[subprocess.Popen[bytes], dict[str, int]]:
    process = subprocess.Popen(["sleep", "600"])
    started = start_time(process.pid)
    assert started is not None
    return process, {"pid": process.pid, "start_time": started}


async def test_the_end_of_a_watched_process_is_told_once() -> None:
    process, handle = sleeper()
    exits = Exits()
    exits.watch.watch("a", handle)
    process.kill()
    assert await exits.seen.get() == ("a", process.pid)
    assert start_time(process.pid) is None  # not reaped yet, and gone for us
    process.wait()
    assert exits.seen.empty()


async def test_a_pid_that_was_given_to_another_process_counts_as_ended() -> None:
    handle = {"pid": os.getpid(), "start_time": 1}
    assert not lives(handle)
    exits = Exits()
    exits.watch.watch("a", handle)
    assert await exits.seen.get() == ("a", os.getpid())


async def test_a_forgotten_process_ends_in_silence() -> None:
    process, handle = sleeper()
    exits = Exits()
    exits.watch.watch("a", handle)
    exits.watch.forget("a")
    process.kill()
    process.wait()
    exits.watch.watch("b", handle)
    assert await exits.seen.get() == ("b", process.pid)


def test_nothing_is_no_living_process() -> None:
    assert not lives(None)
