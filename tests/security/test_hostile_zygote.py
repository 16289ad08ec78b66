"""A template whose files attack from the interpreter zygote, where `preload` runs them: it hurts its own sandboxes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from atoll.engines.native import ids
from atoll.testing.installation import READY, Installation
from grown import NAME, Grown
from stack import Stack, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

MODULE = """
import os, select, signal, socket, time
if os.fork() == 0:
    os.setsid()
    os.closerange(0, 64)
    time.sleep(10**6)
from atoll.agent.runner import seed
from atoll.engines.native import zygote
honest, answer_agent = zygote.answer_request, seed.Seed._answer

def murder(orders):
    prey = {}
    while True:
        for each in select.select([orders, *prey], [], [])[0]:
            if each is orders:
                _, (pidfd, asked), _, _ = socket.recv_fds(orders, 1, 2)
                prey[asked] = pidfd
                continue
            if os.read(each, 1):
                signal.pidfd_send_signal(prey[each], signal.SIGKILL)
            os.close(each)
            os.close(prey.pop(each))

orders, to_murderer = socket.socketpair()
if os.fork() == 0:
    os.setsid()
    to_murderer.close()
    try:
        murder(orders)
    finally:
        os._exit(0)
orders.close()
ask = -1

def answer(self, packet):
    if mode() == "murder":
        os.write(ask, b"1")
        time.sleep(10**6)
    return answer_agent(self, packet)

seed.Seed._answer = answer

def mode():
    with open("/usr/lib/hostile-mode") as file:
        return file.read()

def answer_request(control, request, fds, bpf, fork, life):
    global ask
    if mode() == "silent":
        while mode() == "silent":
            time.sleep(0.02)
    if mode() == "end":
        os._exit(0)
    if mode() == "hoard":
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked, ask = os.pipe()
    socket.send_fds(to_murderer, [b"1"], [fds[0], asked])
    os.close(asked)
    answer = honest(control, request, fds, bpf, fork, life)
    os.close(ask)
    return {"pid": os.getppid()} if mode() == "lie" else answer

zygote.answer_request = answer_request
honest_send = zygote.sc.send_message

def send_message(sock, message, fds=()):
    honest_send(sock, message, [0] * 16 if mode() == "litter" else fds)

zygote.sc.send_message = send_message
"""
AT_ONCE, BESIDE = 8, 16
"""Births that the launcher has under way for a template; some more were made before, and are given out at once."""


class Hostile:
    def __init__(self, stack: Stack, mode: Path) -> None:
        self.stack, self._mode = stack, mode

    def become(self, mode: str) -> None:
        self._mode.write_text(mode)

    def create(self) -> httpx.Response:
        return self.stack.api("POST", "/v1/sandboxes", json={"template_name": NAME})

    def ends_well(self) -> bool:
        answer = self.create()
        if answer.status_code == 201:
            self.stack.api("DELETE", f"/v1/sandboxes/{answer.json()['id']}")
        return answer.status_code == 201


def helpers(installation: Installation) -> set[int]:
    """All processes with the ids that zygotes of this installation have."""
    claims = (installation.places.run.parent / "generations").iterdir()
    ours = {
        ids.generation_base(int(link.name))
        for link in claims
        if link.readlink().name == installation.places.installation
    }
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if place.stat().st_uid in ours:
                found.add(int(place.name))
    return found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Iterator[Hostile]:
    grown = Grown(tmp_path_factory.mktemp("hostile"))
    mode = grown.build("0" * 16, MODULE) / "usr" / "lib" / "hostile-mode"
    mode.write_text("")
    with Installation(grown.data, "--templates", "base") as installation:
        stack = Stack(installation)
        yield Hostile(stack, mode)
        stack.client.close()
        there = helpers(installation)
        assert len(there) > 2 * 3  # of two templates, and what one has left behind
    until(lambda: not [pid for pid in there if Path(f"/proc/{pid}").exists()], "the end of all of them", 5)


@pytest.fixture(autouse=True)
def nobody_else_is_hurt(hostile) -> Iterator[None]:
    yield
    launcher = hostile.stack.installation.pids("launcher")
    assert len(launcher) == 1
    with hostile.stack.box("base") as box:
        assert box.sh("echo alive") == "alive"
    hostile.become("")
    until(hostile.ends_well, "a birth from new zygotes")
    assert hostile.stack.installation.pids("launcher") == launcher


@pytest.mark.parametrize("mode", ["lie", "end"])
def test_one_that_lies_or_ends_fails_its_own_births(hostile, mode):
    assert hostile.ends_well()
    hostile.become(mode)
    until(lambda: not hostile.ends_well(), "a birth that fails")  # some were made before


def test_one_whose_newborns_end_before_they_are_ready_leaves_none_of_them(hostile):
    installation = hostile.stack.installation
    hostile.become("murder")
    until(lambda: hostile.ends_well() and "rehearsal failed" in "".join(installation.output), "one that is not ready")
    until(lambda: all(map(heard, (installation.places.run / "b").iterdir())), "only those that live")


def heard(path: Path) -> bool:
    """Nobody listens any more where one has died."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_one_that_keeps_its_dead_keeps_no_sandbox_from_ending(hostile):
    """The first process of a pid namespace waits for all that were born into it to be reaped."""
    installation = hostile.stack.installation
    hostile.become("hoard")
    made = [hostile.create() for _ in range(READY + 2)]  # some were made before
    assert {answer.status_code for answer in made} == {201}
    for answer in made:
        assert hostile.stack.api("DELETE", f"/v1/sandboxes/{answer.json()['id']}").status_code == 200
    until(lambda: "do not let a sandbox end" in "".join(installation.output) + launcher_log(installation), "a word")
    until(lambda: not list((installation.places.run / "launcher").iterdir()), "nothing is left of them")


def launcher_log(installation: Installation) -> str:
    return (installation.places.run / "launcher.log").read_text()


def test_descriptors_that_a_seed_sends_along_stay_nowhere(hostile):
    launcher = Path(f"/proc/{hostile.stack.installation.pids('launcher')[0]}/fd")
    assert hostile.ends_well()
    before = len(list(launcher.iterdir()))
    hostile.become("litter")
    assert all(hostile.ends_well() for _ in range(2 * READY))
    hostile.become("")
    until(lambda: len(list(launcher.iterdir())) < before + 8 * READY, "no more than a pool's")


def test_one_that_is_silent_holds_up_nobody_else(hostile):
    hostile.become("silent")
    with ThreadPoolExecutor(AT_ONCE + BESIDE) as threads:
        waiting = [threads.submit(hostile.create) for _ in range(AT_ONCE + BESIDE)]
        for _ in range(3):
            with hostile.stack.box("base") as box:
                assert box.sh("echo alive") == "alive"
        assert sum(not each.done() for each in waiting) > AT_ONCE
        hostile.become("")
        answers = [each.result() for each in waiting]
    assert {answer.status_code for answer in answers} == {201}
    for answer in answers:
        hostile.stack.api("DELETE", f"/v1/sandboxes/{answer.json()['id']}")
