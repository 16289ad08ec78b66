"""Rollouts for training: many sandboxes at once; each runs one sample's program against hidden tests.

pip install atoll

    rewards = asyncio.run(rollout_all(samples, at_once=50))
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from atoll import AsyncSandbox, AtollError

TIME_LIMIT_S = 10
CRASHED, TIMED_OUT = -1.0, -0.5


@dataclass(frozen=True)
class Sample:
    program: str
    """A shell program that reads one line and writes one: what the policy wrote."""
    cases: Sequence[tuple[str, str]]
    """Hidden tests: a line, and what is to come back. They never enter the sandbox as a whole."""


async def rollout(sample: Sample, template: str = "busybox") -> float:
    """The share of the cases that the program gets right. Its sandbox is its own: no sample reaches another."""
    async with AsyncSandbox.create(template, internet_access=False, timeout_seconds=300) as sandbox:
        await sandbox.files.write("/workspace/program.sh", sample.program)
        right = 0
        for line, wanted in sample.cases:
            run = await sandbox.commands.run(
                'printf "%s\\n" "$LINE" | sh /workspace/program.sh', env={"LINE": line}, timeout=TIME_LIMIT_S
            )
            if run.exit_code == 124:
                return TIMED_OUT
            right += run.exit_code == 0 and run.stdout.strip() == wanted
        return right / len(sample.cases)


async def rollout_all(samples: Sequence[Sample], at_once: int = 50) -> list[float]:
    """In the samples' order. A sandbox that breaks costs its own sample only."""
    gate = asyncio.Semaphore(at_once)

    async def one(sample: Sample) -> float:
        async with gate:
            try:
                return await rollout(sample)
            except AtollError:
                return CRASHED

    return await asyncio.gather(*(one(sample) for sample in samples))
