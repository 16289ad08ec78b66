from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from atoll.core.limits import Limits
from atoll.engines.native.cgroup import Cgroup
from atoll.engines.native.ids import Slice
from atoll.engines.native.newborn import Newborn
from atoll.engines.native.zygotes import Generation, Helpers, TemplateSpec

SPEC = TemplateSpec("base.0123456789ab", "d" * 64, ("/layer",), ("json",), "/usr/bin/python3", "/runtime", ("/python",))
LIMITS = Limits()


async def no_helpers() -> Helpers:
    raise AssertionError("nothing is born here")


def generation(spec: TemplateSpec, number: int) -> Generation:
    return Generation(spec, number, os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC), no_helpers)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@pytest.fixture
async def newborn(process: subprocess.Popen[bytes]) -> AsyncIterator[Newborn]:
    older = generation(SPEC, 1)
    ours, theirs = socket.socketpair()
    pidfd = os.pidfd_open(process.pid)
    yield Newborn("slot", older, Slice(1, 1), LIMITS, Cgroup(2, {}), Path("/nowhere"), process.pid, 0, pidfd, ours)
    for sock in (ours, theirs):
        sock.close()
    os.close(pidfd)
    older.close()


async def test_one_of_an_earlier_generation_of_the_template_as_it_is_now_fits(newborn: Newborn) -> None:
    assert newborn.fits(replace(SPEC), LIMITS)


@pytest.mark.parametrize(
    "spec", [None, replace(SPEC, runtime="/runtime2"), replace(SPEC, digest="e" * 64), replace(SPEC, preload=())]
)
async def test_one_of_a_template_that_is_another_by_now_does_not(newborn: Newborn, spec: TemplateSpec | None) -> None:
    assert not newborn.fits(spec, LIMITS)


async def test_one_of_another_size_does_not(newborn: Newborn) -> None:
    assert not newborn.fits(SPEC, replace(LIMITS, memory_mib=LIMITS.memory_mib + 1))


async def test_one_that_has_ended_does_not(newborn: Newborn, process: subprocess.Popen[bytes]) -> None:
    end(process)
    assert not newborn.fits(SPEC, LIMITS)
