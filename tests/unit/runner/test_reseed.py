"""A zygote that has drawn from everything, and whose contexts cannot tell by their pid that they are others."""

import json
import os
import types

import pytest

from atoll.agent.runner import reseed
from siblings import SCIENCE, STANDARD, drawing, shared

from .conftest import Seed  # type: ignore[import-not-found]

NUMPY = {name: cell for name, cell in SCIENCE.items() if name.startswith("numpy")}
WARM = """
import os, sys
os.getpid = lambda: 7
exec({cell!r})
from atoll.agent.runner.__main__ import main
main()
"""


@pytest.fixture
def warm_seed():
    cell = drawing({**STANDARD, **NUMPY})
    made = Seed(["-c", WARM.format(cell=cell)])
    yield made
    assert made.close() == 0


def test_contexts_draw_nothing_that_another_drew(warm_seed):
    drawn = []
    for _ in range(3):
        context = warm_seed.fork()
        drawn.append(json.loads(context.run(drawing({**STANDARD, **NUMPY})).stdout))
        context.close()
        warm_seed.exit_of(context.pid)
    assert shared(drawn) == {}


@pytest.mark.parametrize(("pid", "told"), [(os.getpid(), [32]), (os.getpid() + 1, [])])
def test_openssl_is_told_when_it_cannot_see_the_fork(monkeypatch, pid, told):
    monkeypatch.setattr(reseed, "ORIGIN", pid)
    given = []
    reseed.RESEEDERS["_ssl"](types.SimpleNamespace(RAND_add=lambda data, entropy: given.append(len(data))))
    assert given == told


def test_a_module_that_is_not_there_costs_nothing(monkeypatch):
    monkeypatch.setattr(reseed.sys, "modules", {})
    reseed.reseed()
