from __future__ import annotations

import asyncio
import os
import stat
import time
from dataclasses import replace

import pytest

from atoll.agent import cache as module
from atoll.agent.cache import Cache, Figures, rows_of
from atoll.agent.programs import PLACE, Programs
from atoll.agent.users import Users


class Place(Users):
    """Every name is the caller's, whose home is the test's own."""

    def __init__(self, home) -> None:
        super().__init__(switching=False)
        self._home = str(home)

    def lookup(self, name="user"):
        return replace(super().lookup(name), home=self._home)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


@pytest.fixture(autouse=True)
def no_packages_of_the_machine(monkeypatch, tmp_path):
    rows = tuple(replace(row, place=str(tmp_path / "archives")) if row.kind == "apt" else row for row in module.KEPT)
    monkeypatch.setattr(module, "KEPT", rows)


@pytest.fixture
def cache(home, work):
    users = Place(home)
    return Cache(users, Programs(users), str(work), inside=True)


def put(path, size=10, age_s=0.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    at = time.time() - age_s
    os.utime(path, (at, at))
    return path


def kept(home, work, tmp_path):
    return {
        "go": [
            put(home / PLACE / ("a" * 64)),
            put(home / ".cache/go-build/0f/0f1-a"),
            put(home / ".cache/go-build/0f/0f1-d"),
        ],
        "pip": [put(home / ".cache/pip/http/a/b/c"), put(home / ".cache/pip/wheels/x.whl", 1000)],
        "npm": [put(home / ".npm/_cacache/content-v2/sha512/aa/bb")],
        "apt": [put(tmp_path / "archives/x_1_all.deb")],
        "pycache": [put(work / "a/__pycache__/m.cpython-311.pyc"), put(home / "p/__pycache__/n.cpython-311.opt-1.pyc")],
    }


def others(home, work, tmp_path):
    return [
        put(work / "a/m.py"),
        put(home / "p/n.py"),
        put(work / "a/__pycache__/gone.cpython-311.pyc"),
        put(work / "a/m.cpython-311.pyc"),
        put(work / "a/__pycache__/m.txt"),
        put(home / ".cache/go-build/0f/0f2-d", age_s=-(10**9)),
        put(home / ".cache/go-build/README"),
        put(home / ".cache/other/file"),
        put(home / ".npm/other"),
        put(tmp_path / "archives/lock"),
        put(tmp_path / "archives/partial/y.deb"),
        put(work / "node_modules/a/__pycache__/m.cpython-311.pyc"),
        put(work / "node_modules/a/m.py"),
    ]


async def test_each_kind_is_counted(cache, home, work, tmp_path):
    expected = kept(home, work, tmp_path)
    others(home, work, tmp_path)
    measured = await cache.measure()
    assert measured.complete
    assert measured.kinds == {
        kind: Figures(sum(path.stat().st_size for path in paths), len(paths)) for kind, paths in expected.items()
    }
    assert measured.total == Figures(1080, 9)


async def test_clearing_takes_these_and_nothing_else(cache, home, work, tmp_path):
    gone, stay = kept(home, work, tmp_path), others(home, work, tmp_path)
    cache.compiled.hits, cache.compiled.misses = 4, 5
    assert await cache.clear() == 9
    assert not [path for paths in gone.values() for path in paths if path.exists()]
    assert all(path.exists() for path in stay)
    assert (cache.compiled.hits, cache.compiled.misses) == (0, 0)
    assert (await cache.measure()).total == Figures(0, 0)
    assert await cache.clear() == 0


async def test_symlinks_are_neither_counted_nor_followed(cache, home, work):
    precious = put(work / "precious")
    (home / ".cache/pip").mkdir(parents=True)
    (home / ".cache/pip/link").symlink_to(work)
    (home / ".cache/pip/file").symlink_to(precious)
    assert (await cache.measure()).total == Figures(0, 0)
    assert await cache.clear() == 0
    assert precious.exists()


async def test_outside_a_sandbox_home_and_packages_are_somebodys_own(home, work, tmp_path):
    expected = kept(home, work, tmp_path)
    put(work / "a/m.py")
    users = Place(home)
    outside = Cache(users, Programs(users), str(work), inside=False)
    assert await outside.clear() == 1
    assert [path.exists() for path in expected["pycache"]] == [False, True]
    assert all(path.exists() for kind, paths in expected.items() if kind != "pycache" for path in paths)


async def test_a_walk_ends_at_its_bound_and_says_so(cache, home, monkeypatch):
    monkeypatch.setattr(module, "MAX_SEEN", 50)
    for number in range(60):
        put(home / f".cache/pip/{number}")
    measured = await cache.measure()
    assert not measured.complete
    assert measured.total.entries < 60


async def test_others_have_their_turn_during_a_walk(cache, home):
    for number in range(2000):
        put(home / f".cache/pip/{number}")
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await cache.measure()
    task.cancel()
    assert turns >= 2000 // 256


async def test_figures_may_be_of_a_moment_ago(cache, home):
    assert (await cache.measure(60)).total.entries == 0
    put(home / ".cache/pip/new")
    assert (await cache.measure(60)).total.entries == 0
    assert (await cache.measure()).total.entries == 1
    assert (await cache.measure(60)).total.entries == 1


async def test_endless_depth_ends(cache, work):
    deep = work
    for _ in range(module.MAX_DEPTH + 5):
        deep /= "d"
    put(deep / "m.py")
    put(deep / "__pycache__/m.cpython-311.pyc")
    assert (await cache.measure()).total.entries == 0


async def test_special_files_are_left_alone(cache, home):
    (home / ".cache/pip").mkdir(parents=True)
    os.mkfifo(home / ".cache/pip/fifo")
    assert await cache.clear() == 0
    assert stat.S_ISFIFO((home / ".cache/pip/fifo").lstat().st_mode)


@pytest.mark.parametrize(
    ("home", "workdir", "places"),
    [
        ("/home/user", "/workspace", ["/workspace", "/home/user"]),
        ("/home/user", "/home/user", ["/home/user"]),
        ("/home/user", "/home/user/work", ["/home/user"]),
        ("/home/user", "/home", ["/home"]),
        ("relative", "/workspace", ["/workspace"]),
        ("", "/workspace", ["/workspace"]),
    ],
)
def test_byte_code_is_looked_for_once(home, workdir, places):
    assert [row.place for row in rows_of(home, workdir) if row.kind == "pycache"] == places
