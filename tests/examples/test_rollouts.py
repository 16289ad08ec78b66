"""Fifty rollouts at once, each in a sandbox of its own."""

from __future__ import annotations

import pytest

from atoll import AsyncSandbox
from examples import rollouts
from examples.rollouts import CRASHED, TIMED_OUT, Sample, rollout_all

pytestmark = [pytest.mark.root, pytest.mark.timeout(120), pytest.mark.usefixtures("none_left")]

CASES = (("2", "4"), ("5", "10"))
DOUBLES, CONSTANT, FAILS = "read x; echo $((x * 2))", "echo 4", "read x; echo $((x * 2)); exit 1"
LEAKS = "read x; cat /workspace/* | grep -c 10"


async def test_fifty_samples_at_once_get_their_rewards_in_order():
    programs = [DOUBLES, CONSTANT, FAILS, LEAKS, "syntax error ("] * 10
    rewards = await rollout_all([Sample(program, CASES) for program in programs], at_once=50)
    assert rewards == [1.0, 0.5, 0.0, 0.0, 0.0] * 10


async def test_an_endless_program_costs_its_time_limit_only(monkeypatch):
    monkeypatch.setattr(rollouts, "TIME_LIMIT_S", 1)
    rewards = await rollout_all([Sample("while :; do :; done", CASES), Sample(DOUBLES, CASES)])
    assert rewards == [TIMED_OUT, 1.0]


async def test_a_sandbox_that_breaks_costs_its_own_sample_only(monkeypatch):
    rollout = rollouts.rollout

    async def broken_once(sample: Sample) -> float:
        if sample.program != "broken":
            return await rollout(sample)
        async with AsyncSandbox.create("busybox") as sandbox:
            await sandbox.kill()
            await sandbox.commands.run("true")
        return 1.0

    monkeypatch.setattr(rollouts, "rollout", broken_once)
    rewards = await rollout_all([Sample("broken", CASES), Sample(DOUBLES, CASES)])
    assert rewards == [CRASHED, 1.0]
