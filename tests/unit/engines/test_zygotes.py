"""What a zygote may say, and when it is replaced. The lies are told over a real socket, about real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll.core.errors import AtollError, InternalError, Unavailable
from atoll.engines.native import zygotes
from atoll.engines.native.rotation import Limits
from atoll.engines.native.zygotes import Generation, Peer, TemplateSpec, Zygote

SPEC = TemplateSpec("t.1", "1", (), (), None, "", ())


@contextlib.contextmanager
def zygote(kind: type[Peer] = Zygote) -> Iterator[tuple[Peer, socket.socket, int]]:
    """A process with a child; its socket is in the hands of the test."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    script = "import subprocess, sys; p = subprocess.Popen(['cat'], stdin=0); print(p.pid, flush=True); p.wait()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        peer = kind("zygote", process.pid, ours)
        try:
            yield peer, theirs, child
        finally:
            peer.close()
            theirs.close()


def say(sock: socket.socket, answer: object, fds: list[int] | None = None) -> None:
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    socket.send_fds(sock, [data], fds or [])


def asked(peer: Peer) -> dict[str, object]:
    return asyncio.run(peer.request({}))[0]


def test_the_process_that_it_has_forked_is_taken():
    with zygote() as (peer, theirs, child):
        births = []
        peer.on_birth = lambda: births.append(1)
        say(theirs, {"pid": child, "more": "x"})
        assert asked(peer) == {"pid": child}
        assert births == [1]


def test_what_is_born_goes_before_programs_of_the_host_when_memory_runs_out():
    with zygote() as (peer, theirs, child):
        say(theirs, {"pid": child})
        asked(peer)
        assert Path(f"/proc/{child}/oom_score_adj").read_bytes().strip() == zygotes.OOM_SCORE_ADJ
        assert Path(f"/proc/{peer.pid}/oom_score_adj").read_text() == Path("/proc/self/oom_score_adj").read_text()


LIES = {
    "init": {"pid": 1},
    "the launcher": {"pid": os.getpid()},
    "the launcher's parent": {"pid": os.getppid()},
    "itself": "own",
    "its group": "group",
    "everybody": {"pid": -1},
    "nobody": {"pid": 0},
    "a number as text": {"pid": "1"},
    "a truth": {"pid": True},
    "a fraction": {"pid": 1.0},
    "beyond any": {"pid": 1 << 22},
    "beyond everything": {"pid": 10**4000},
    "nothing": {"pid": None},
    "no pid": {},
    "a list": [1],
    "a text": "pid",
    "a number": 1,
    "null": None,
    "no JSON": b"{",
    "no text": b"\xff\xfe",
    "half of it": b'{"pid": 1' + b" " * 200_000,
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_no_other_process_is_taken_and_nothing_stays_open(lie):
    with zygote() as (peer, theirs, _):
        words = {"own": {"pid": peer.pid}, "group": {"pid": -peer.pid}}
        answer = words.get(lie, lie) if isinstance(lie, str) else lie
        say(theirs, answer, [0] * 16)
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(Unavailable, match=r"^the zygote "):
            asked(peer)
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("fds", [1, 16, 200])
def test_descriptors_that_nobody_asked_for_are_closed(fds):
    with zygote() as (peer, theirs, child):
        say(theirs, {"pid": child}, [0] * fds)
        before = len(os.listdir("/proc/self/fd"))
        assert asked(peer) == {"pid": child}
        assert len(os.listdir("/proc/self/fd")) == before


def test_an_error_of_its_words_is_cut():
    with zygote() as (peer, theirs, _):
        say(theirs, {"error": "x" * 100_000})
        with pytest.raises(InternalError) as caught:
            asked(peer)
        assert len(str(caught.value)) < 1000


def test_a_child_that_has_ended_is_an_error_of_that_birth_alone():
    with zygote() as (peer, theirs, _):
        ended = subprocess.Popen(["true"])
        ended.wait()
        say(theirs, {"pid": ended.pid})
        with pytest.raises(InternalError, match="has ended"):
            asked(peer)


def test_no_answer_is_an_end_of_patience(monkeypatch):
    monkeypatch.setattr(zygotes, "REQUEST_TIMEOUT_S", 0.05)
    with zygote() as (peer, _, _), pytest.raises(Unavailable, match="does not answer"):
        asked(peer)


def test_who_has_asked_is_answered_before_the_end():
    async def scenario(peer: Peer, theirs: socket.socket, child: int) -> None:
        asking = [asyncio.create_task(peer.request({})) for _ in range(2)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(peer.close_when_idle())
        say(theirs, {"pid": child})
        say(theirs, {"pid": child})
        assert [(await each)[0] for each in asking] == [{"pid": child}] * 2
        await closing
        assert peer.control.fileno() < 0

    with zygote() as (peer, theirs, child):
        asyncio.run(scenario(peer, theirs, child))


class Scripted:
    """Helpers that are there when the test says so."""

    def __init__(self) -> None:
        self.made: list[Scripted.One] = []
        self.ready = asyncio.Event()
        self.ready.set()
        self.failing: AtollError | None = None

    class One:
        def __init__(self) -> None:
            self.agent = self
            self.on_birth = lambda: None
            self.left = asyncio.Event()
            self.closed = self.killed = self.has_ended = False

        async def close_when_idle(self) -> None:
            await self.left.wait()
            self.closed = True

        def close(self) -> None:
            self.closed = True

        def kill(self) -> None:
            self.killed = True

    async def start(self) -> One:
        await self.ready.wait()
        if self.failing:
            raise self.failing
        self.made.append(self.One())
        return self.made[-1]


@pytest.fixture
def scripted(monkeypatch):
    async def made(limits: Limits) -> tuple[Scripted, Generation]:
        script = Scripted()
        generation = Generation(SPEC, 0, os.open("/dev/null", os.O_RDONLY), script.start, limits)
        await generation.renew()
        return script, generation

    return made


async def settle(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 — made true by tasks and timers of this loop
            await asyncio.sleep(0)


async def test_worn_zygotes_are_replaced_while_births_go_on_from_them(scripted):
    script, generation = await scripted(Limits(births=2))
    old = generation.agent
    script.ready.clear()
    for _ in range(3):
        old.on_birth()
        await asyncio.sleep(0)
        assert generation.agent is old
        assert not generation.broken
    script.ready.set()
    await settle(lambda: generation.agent is not old)
    assert len(script.made) == 2
    assert not old.closed  # somebody may still wait for an answer
    old.left.set()
    await settle(lambda: old.closed)
    assert not old.killed
    generation.agent.on_birth()
    await asyncio.sleep(0)
    assert len(script.made) == 2  # counted anew
    generation.close()


async def test_zygotes_of_which_nobody_was_born_do_not_age(scripted):
    script, generation = await scripted(Limits(age_s=0.01))
    old = generation.agent
    await asyncio.sleep(0.05)
    assert generation.agent is old
    old.on_birth()
    await settle(lambda: generation.agent is not old)
    generation.close()
    assert all(one.closed for one in script.made)


async def test_a_replacement_that_fails_leaves_the_old_ones_and_is_tried_again_later(scripted):
    script, generation = await scripted(Limits(births=1, retry_s=1.0))
    old = generation.agent
    script.failing = Unavailable("no memory")
    tries = []
    script.start_ = script.start
    generation._start = lambda: tries.append(1) or script.start_()
    for _ in range(5):
        old.on_birth()
        await asyncio.sleep(0)
    await settle(lambda: tries)
    for _ in range(5):
        old.on_birth()
        await asyncio.sleep(0)
    assert tries == [1]  # not at each birth
    assert generation.agent is old
    script.failing = None
    await settle(lambda: generation.agent is not old)
    generation.close()


async def test_broken_helpers_end_at_once_when_there_are_new_ones(scripted):
    script, generation = await scripted(Limits())
    old = generation.agent
    await generation.renew()
    assert generation.agent is old  # nothing to do
    generation.broken = True
    await asyncio.gather(generation.renew(), generation.renew())
    assert old.killed
    assert len(script.made) == 2
    generation.close()


async def test_helpers_of_which_one_has_ended_by_itself_are_noticed_before_the_next_birth(scripted):
    script, generation = await scripted(Limits())
    generation.look_after()
    assert not generation.broken
    script.made[0].has_ended = True
    generation.look_after()
    assert generation.broken
    await generation.renew()
    generation.look_after()
    assert not generation.broken
    generation.close()


class Group:
    """A cgroup, of which this process is the one that keeps its dead."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self.killed = asyncio.Event()

    def pids(self) -> tuple[int, ...]:
        return self._pids

    def kill(self) -> None:
        self.killed.set()


def kept_dead() -> subprocess.Popen[bytes]:
    dead = subprocess.Popen(["true"])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    return dead


@pytest.mark.parametrize("keeps", [True, False])
async def test_helpers_that_keep_a_sandbox_from_ending_are_ended_and_no_others(monkeypatch, scripted, keeps):
    monkeypatch.setattr(zygotes, "UNREAPED_S", 0.01)
    monkeypatch.setattr(zygotes, "END_TIMEOUT_S", 5.0 if keeps else 0.1)
    monkeypatch.setattr(zygotes, "_is_in_namespace_below", lambda pid: True)
    _, generation = await scripted(Limits())
    group = generation._cgroup = Group(os.getpid() if keeps else zygotes.MAX_PID)
    dead = kept_dead()
    with contextlib.nullcontext() if keeps else pytest.raises(TimeoutError):
        await generation.see_end(group.killed.wait)
    assert generation.broken == group.killed.is_set() == keeps
    dead.wait()
    generation.close()


async def test_an_end_that_comes_soon_looks_at_nobody(scripted):
    _, generation = await scripted(Limits())
    group = generation._cgroup = Group(os.getpid())
    await generation.see_end(lambda: asyncio.sleep(0))
    assert not group.killed.is_set()
    generation.close()


async def test_at_rest_there_are_no_helpers_until_the_next_birth(scripted):
    script, generation = await scripted(Limits(births=1))
    old = generation.agent
    old.left.set()
    script.ready.clear()
    old.on_birth()  # a replacement begins
    await asyncio.sleep(0)
    generation.rest()
    script.ready.set()
    await settle(lambda: old.closed)
    assert generation.resting
    assert len(script.made) == 1  # and is given up
    with pytest.raises(Unavailable):
        generation.agent  # noqa: B018
    await generation.renew()
    assert generation.agent is script.made[1]
    generation.rest()
    generation.close()


MAPS = """\
00400000-00420000 r--p 00000000 08:01 1 /usr/bin/python3
00940000-00a7f000 rw-p 00540000 08:01 1 /usr/bin/python3
20000000-30000000000 rw-p 00000000 00:00 0
1f3a1000-20cb7000 rw-p 00000000 00:00 0                                  [heap]
7f7a9c2d3000-7f7a9c3d3000 rw-p 00000000 00:00 0
7f7a9c3d3000-7f7a9c4d3000 rw-s 00000000 00:01 7 /dev/shm/x
7ffce628d000-7ffce62ae000 rw-p 00000000 00:00 0                          [stack]
7ffce63ae000-7ffce63b0000 r-xp 00000000 00:00 0                          [vdso]
"""


def test_what_a_zygote_can_share_is_its_writable_private_memory_but_not_its_stack():
    assert zygotes.regions_in(MAPS.splitlines()) == [
        (0x940000, 0xA7F000),
        (0x1F3A1000, 0x20CB7000),
        (0x7F7A9C2D3000, 0x7F7A9C3D3000),
    ]


def test_the_list_stays_a_packet():
    many = [f"{number:x}000-{number:x}800 rw-p 0 00:00 0\n" for number in range(zygotes.MAX_REGIONS + 5)]
    assert len(zygotes.regions_in(many)) == zygotes.MAX_REGIONS
