"""The agent's interpreter runs where there is nothing else: an empty root, read-only, as any user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from atoll.storage import runtime

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
]

PROBE = """
import asyncio, ctypes, json, os, socket, struct, subprocess, threading, pty, fcntl, termios, resource, signal
import atoll.core.errors, atoll.wire.frames, json.decoder, sys
ctypes.CDLL("/.atoll/lib/libseccomp.so.2").seccomp_init
mapped = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
print(json.dumps({"mapped": sorted(mapped), "path": sys.path, "uid": os.getuid(), "utf8": sys.flags.utf8_mode,
                  "cached": json.decoder.__cached__, "frames": atoll.wire.frames.__cached__}))
"""
SHELL = """
mkdir r; mount -t tmpfs none r; mkdir r/proc r/.atoll
mount -t proc proc r/proc
mount --bind "$1" r/.atoll; mount -o remount,bind,ro r/.atoll
shift
exec chroot --userspec=1000:1000 r "$@"
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy: an edit of the checkout while the tests run must not make another runtime."""
    copy = tmp_path_factory.mktemp("source") / "atoll"
    shutil.copytree(runtime._SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def built(tmp_path_factory, source) -> Path:
    return runtime.build(tmp_path_factory.mktemp("data"), source)


def inside(built: Path, where: Path, *argv: str) -> str:
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", SHELL, "sh", str(built), *argv]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, check=True).stdout


def test_it_runs_in_an_empty_root_and_uses_nothing_from_it(built, tmp_path):
    seen = json.loads(inside(built, tmp_path, *runtime.runtime_argv(built), "-c", PROBE))
    assert all(name.startswith("/.atoll/") for name in seen["mapped"])
    assert all(name.startswith("/.atoll/") for name in seen["path"])
    assert (seen["uid"], seen["utf8"]) == (1000, 1)


def test_library_and_code_are_compiled_for_where_they_are_mounted(built, tmp_path):
    seen = json.loads(inside(built, tmp_path, *runtime.runtime_argv(built), "-c", PROBE))
    for name in (seen["cached"], seen["frames"]):
        assert (built / Path(name).relative_to("/.atoll")).is_file()
    assert (built / "lib/lineflush.so").is_file()


def test_everyone_can_read_it_and_nobody_can_write(built):
    for path in [built, *built.rglob("*")]:
        mode = path.lstat().st_mode
        if not path.is_symlink():
            assert mode & 0o004, path
            assert not mode & 0o022, path


def test_new_code_shares_the_interpreter_and_leaves_the_old_one(built, source, tmp_path):
    edited = tmp_path / "edited"
    shutil.copytree(source, edited)
    (edited / "core" / "errors.py").write_text("changed = True\n")
    data_dir = built.parents[1]
    other = runtime.build(data_dir, edited)
    assert other != built
    assert (other / "bin/python3").stat().st_ino == (built / "bin/python3").stat().st_ino
    assert built.is_dir()
    assert runtime.current(data_dir) == other
    assert runtime.build(data_dir, source) == built
    assert runtime.current(data_dir) == built
