"""Zygotes are made for each build of a template, and made again in place when they have ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll.testing.installation import Installation
from grown import NAME, Grown
from stack import Box, Stack, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def grown(tmp_path_factory) -> Grown:
    made = Grown(tmp_path_factory.mktemp("grown"))
    made.build("a" * 16, "VALUE = 1")
    return made


@pytest.fixture(scope="module")
def growing(grown) -> Iterator[Stack]:
    with Installation(grown.data, "--templates", "base") as installation:
        stack = Stack(installation)
        yield stack
        stack.client.close()


def value(box: Box) -> str:
    """As the zygote has imported it."""
    return str(box.python("import sys\nprint(sys.modules['grown'].VALUE)")["stdout"].strip())


def hashed(box: Box) -> str:
    return str(box.python("print(hash('x'), object.__repr__(print))")["stdout"].strip())


def generation(stack: Stack, box: Box) -> int:
    record = stack.installation.places.run / "launcher" / f"{box.id}.json"
    return int(json.loads(record.read_text())["generation"])


def interpreter_zygotes(stack: Stack) -> set[int]:
    (launcher,) = stack.installation.pids("launcher")
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return {int(pid) for pid in children if b"interpreter_zygote import main" in command_of(pid)}


def command_of(pid: str) -> bytes:
    with contextlib.suppress(OSError):  # it has ended meanwhile
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def test_another_build_of_a_template_has_zygotes_of_its_own(grown, growing):
    with growing.box(NAME) as old:
        assert value(old) == "1"
        grown.build("b" * 16, "VALUE = 2")
        with growing.box(NAME) as new:
            assert (value(new), value(old)) == ("2", "1")
        assert old.control("POST", "/stop").status_code == 200
        assert old.control("POST", "/start").status_code == 200
        old.token = old.control("POST", "/token/refresh").json()["auth_token"]
        assert value(old) == "1"


def test_zygotes_that_have_ended_are_made_again_in_place(growing):
    def born_of_others() -> bool:
        """What was born of the dead ones before may still be given out; nothing is asked of them."""
        answer = growing.api("POST", "/v1/sandboxes", json={"template_name": "base"})
        assert answer.status_code == 201, answer.text
        box = Box(growing, answer.json()["id"], answer.json()["auth_token"])
        try:
            assert generation(growing, box) == generation(growing, one)
            return hashed(box) != hashed(one)
        finally:
            box.kill()

    with growing.box("base") as one, growing.box("base") as sibling:
        assert hashed(one) == hashed(sibling)  # docs/security.md says so
        before = interpreter_zygotes(growing)
        assert before
        for pid in before:
            with open(os.pidfd_open(pid), "rb") as ended:
                os.kill(pid, signal.SIGKILL)
                assert select.select([ended], [], [], 10)[0]
        until(born_of_others, "a birth from new zygotes")
        assert not interpreter_zygotes(growing) & before
        assert one.python("import subprocess\nprint(6 * 7)")["stdout"] == "42\n"
        assert hashed(one) == hashed(sibling)
