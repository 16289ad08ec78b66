from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import pytest

from atoll.core.errors import Conflict, InternalError, Unavailable
from atoll.engines.native.child import in_child


def children() -> set[int]:
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            found |= set(map(int, path.read_text().split()))
    return found


@pytest.fixture(autouse=True)
def _reaped():
    """As the launcher does; installations of other tests are not ours to wait for."""
    others = children()
    yield
    for pid in children() - others:
        os.waitpid(pid, 0)


async def test_the_answer_of_a_process_of_its_own():
    assert (await in_child(lambda: {"pid": os.getpid()}, "it"))["pid"] != os.getpid()


async def test_its_errors_are_ours():
    def refuse():
        raise Conflict("busy", cause="busy")

    with pytest.raises(Conflict, match="busy") as refused:
        await in_child(refuse, "it")
    assert refused.value.details == {"cause": "busy"}
    with pytest.raises(InternalError, match="no such thing"):
        await in_child(lambda: os.stat("/no such thing") and {}, "it")
    with pytest.raises(InternalError, match="without an answer"):
        await in_child(lambda: os._exit(3), "it")


async def test_one_that_takes_too_long_is_ended_and_holds_nobody_up():
    read, write = os.pipe()

    def hang():
        time.sleep(60)
        return {}

    given_up = asyncio.create_task(in_child(hang, "it", 0.2))
    assert (await in_child(lambda: {"ok": True}, "another"))["ok"] is True
    with pytest.raises(Unavailable, match="not done within"):
        await given_up
    os.close(write)
    assert os.read(read, 1) == b""  # its end of the pipe is closed: it has ended
    os.close(read)
