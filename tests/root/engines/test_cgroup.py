"""Doors of version 1: descriptors that a template's files come to hold."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from atoll.core.limits import Limits
from atoll.engines.native.cgroup import Cgroup, Cgroups

pytestmark = pytest.mark.root
OWNER = 0x7FFF_FFF0  # nobody's


@pytest.fixture
def group() -> Iterator[Cgroup]:
    groups = Cgroups(f"test-{os.getpid()}")
    made = groups.of("doors")
    made.create(Limits())
    if made.version == 2:
        made.remove()
        groups.remove()
        pytest.skip("has no doors: this host has version 2 of cgroups")
    yield made
    assert made.remove()
    groups.remove()


def as_owner(work: Callable[[], None]) -> int:
    """Of a process that is the owner's: 0, or the number of the error."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            os.setresuid(OWNER, OWNER, OWNER)
            work()
            status = 0
        except OSError as error:
            status = error.errno
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def enter(doors: list[int], pid: int) -> None:
    for fd in doors:
        os.write(fd, str(pid).encode())


def test_the_owners_process_enters_by_them(group):
    doors = group.doors(OWNER)
    assert os.geteuid() == 0

    def check() -> None:
        enter(doors, 0)
        assert os.getpid() in set(group.pids())

    assert as_owner(check) == 0


def test_nobody_else_can_be_put_in(group):
    doors = group.doors(OWNER)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as of_root:
        for fd in doors:
            assert as_owner(lambda fd=fd: enter([fd], of_root.pid)) == 13
        assert of_root.pid not in set(group.pids())
        of_root.communicate()
