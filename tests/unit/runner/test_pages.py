"""A zygote's memory in a file: what a fork only read is shared again, what it wrote is its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.storage import runtime

SOURCE = Path(runtime.__file__).parents[1]
ZYGOTE = """
import ctypes, gc, mmap, os, sys, threading
from atoll.agent.runner import pages

def fields(path):
    return {line.split(":")[0]: int(line.split()[1]) for line in open(path) if line.rstrip().endswith("kB")}

def private_kb():
    return fields("/proc/self/smaps_rollup")["Private_Dirty"]

def regions():
    for line in open("/proc/self/maps"):
        bounds, permissions, *rest = line.split()
        if permissions == "rw-p" and rest[-1] != "[stack]":
            yield [int(bound, 16) for bound in bounds.split("-")]

def in_fork(work):
    pid = os.fork()
    if pid == 0:
        try:
            pages.look_ahead()
            work()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0

objects = [str(number) * 8 for number in range(100_000)]
place = mmap.mmap(-1, 4 * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
place[:] = b"x" * len(place)
gc.collect()
gc.freeze()
pages.prepare(sys.argv[1])
given_back = mmap.mmap(-1, 8 * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
where = list(regions())
given_back.close()  # between the look and the move
shared = pages.share(where)
"""
PROGRAMS = {
    "what was only read": """
        def read():
            before = private_kb()
            for each in objects: pass
            copied = private_kb() - before
            assert copied > 4000, copied
            given = pages.give_back() * 4
            assert given > copied * 0.8, (given, copied)
            assert private_kb() - before < copied * 0.2
            assert objects[77_777] == "77777" * 8 and len(set(objects)) == 100_000
        in_fork(read)
        """,
    "what was written": """
        def write():
            mine = [number * 3 for number in range(1000, 100_000)]
            objects[5] = "changed"
            place[:3] = b"new"
            pages.give_back()
            assert mine[-1] == 299_997 and sum(mine) == 3 * sum(range(1000, 100_000))
            assert objects[5] == "changed" and place[:4] == b"newx"
            objects.clear()
            gc.collect()
            pages.give_back()
            assert [str(number) for number in range(100_000)][99_999] == "99999"
        in_fork(write)
        assert objects[5] == "55555555" and place[:3] == b"xxx"
        """,
    "what is at the same place by another mapping": """
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
        address = ctypes.addressof(ctypes.c_char.from_buffer(place))
        def map_anew():
            anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 16
            assert libc.mmap(address, 4096, 3, anonymous, -1, 0) == address
            ctypes.memmove(address, b"x" * 4096, 4096)
            pages.give_back()
            assert ctypes.string_at(address, 2 * 4096) == b"x" * 8192
        in_fork(map_anew)
        """,
    "nothing while a second thread lives": """
        def with_a_thread():
            for each in objects: pass
            gone = threading.Event()
            thread = threading.Thread(target=gone.wait)
            thread.start()
            assert pages.give_back() == 0
            gone.set()
            thread.join()
            while len(os.listdir("/proc/self/task")) > 1:
                os.sched_yield()  # the kernel's part of its end is not waited for
            assert pages.give_back() > 1000
        in_fork(with_a_thread)
        """,
    "the fork of a fork": """
        def fork_again():
            def inner():
                pages.forget()
                for each in objects: pass
                assert pages.give_back() > 1000
                assert objects[-1] == "99999" * 8
            for each in objects[::7]: pass
            in_fork(inner)
            assert pages.give_back() > 100
        in_fork(fork_again)
        """,
    "nobody can write to the file": """
        assert os.geteuid() == 0
        name = next(line.split()[0] for line in open("/proc/self/maps") if "/memfd:" + pages.NAME in line)
        start, end = name.split("-")
        def write():
            fd = os.open(f"/proc/self/map_files/{start.lstrip('0')}-{end.lstrip('0')}", os.O_RDWR)
            for attempt in (lambda: os.pwrite(fd, b"x", 0), lambda: os.ftruncate(fd, 0), lambda: mmap.mmap(fd, 4096)):
                try:
                    attempt()
                except PermissionError:
                    continue
                raise AssertionError("it was written to")
        in_fork(write)
        """,
}
NEEDS_ROOT = ("nobody can write to the file",)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler")
    target = tmp_path_factory.mktemp("pages") / "pages.so"
    runtime.compile_library(SOURCE / "agent/native/pages.c", target, *runtime.FREESTANDING)
    return target


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_fork_shares_again(library: Path, name: str) -> None:
    if name in NEEDS_ROOT and os.geteuid() != 0:
        pytest.skip("only root can try")
    program = "\n".join(line.removeprefix(" " * 8) for line in PROGRAMS[name].splitlines())
    check = "assert shared > 10_000_000, shared\n"
    run = subprocess.run(
        [sys.executable, "-c", ZYGOTE + check + program, str(library)], check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def test_without_the_library_nothing_is_shared_and_nothing_fails() -> None:
    program = ZYGOTE + "assert shared == 0\nassert pages.give_back() == 0\n"
    subprocess.run([sys.executable, "-c", program, "/nonexistent"], check=True)


def test_it_needs_no_other_library(library: Path) -> None:
    """So it serves the template's Python, whatever its C library."""
    undefined = subprocess.run(["nm", "-D", "-u", str(library)], check=True, capture_output=True, text=True)
    assert undefined.stdout.strip() == ""
