"""From nothing to an answer: sandboxes made and asked one after the other, five a second, and a hundred at once.

A burst meets the pool as it is by default, and a second one follows while the first one's sandboxes live and their
places in the pool have not been filled again. The same client meets a server that answers at once: what it takes then
is its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from instant import Instant
from plain_client import Api
from quiet import settle
from report import Report

from atoll.testing.installation import Installation

BURST, ROUNDS, EVERY_MS = 100, 3, 200
WALL_MS = 1500
TEMPLATE = "code-interpreter"
CLIENT = Path(__file__).with_name("burst_client.py")
TRUE_RUN = "references: docker run true"
PYTHON_RUN = "references: docker run python3 -c 'print(1)'"
PYTHON_BURST = "references: docker run python3, 100 at once"
Found = dict[str, Any]
"""What the client says."""


def bench_bursts(report: Report, server: Installation, count: int, at_once: int = BURST) -> None:
    """`count` sandboxes in turn and as many staggered."""
    client(server.url, server.api_key, in_turn=2, kill=True)
    settle(server)
    found = [client(server.url, server.api_key, in_turn=count, kill=True)]
    _answers(report, "in turn", found, TRUE_RUN, PYTHON_RUN)
    settle(server)
    found = [client(server.url, server.api_key, due_ms=[EVERY_MS * number for number in range(count)], kill=True)]
    _answers(report, f"one every {EVERY_MS} ms", found, TRUE_RUN, PYTHON_RUN)
    full, drained = [], []
    for _ in range(ROUNDS):
        settle(server)
        full.append(_burst(server, at_once))
        drained.append(_burst(server, at_once))
        kill_all(server, [*full[-1]["ids"], *drained[-1]["ids"]])
    with Instant(server.url) as url:
        client(url, server.api_key, in_turn=1, kill=False)
        idle = [client(url, server.api_key, due_ms=[0.0] * at_once, kill=False) for _ in range(ROUNDS)]
    for what, rounds in (("default pool", full), ("drained pool", drained)):
        name = f"{at_once} at once, {what}"
        _answers(report, name, rounds, PYTHON_BURST, PYTHON_BURST)
        _wall(report, name, rounds, f"{PYTHON_BURST}: all answered", WALL_MS)
    name = f"{at_once} at once, a server that answers at once"
    _answers(report, name, idle)
    _wall(report, name, idle)


def client(url: str, api_key: str, **plan: object) -> Found:
    """One run of the client, in a process of its own."""
    whole = {"url": url, "api_key": api_key, "template": TEMPLATE, "code": "print(6 * 7)", "answer": "42", **plan}
    ran = subprocess.run([sys.executable, str(CLIENT)], input=json.dumps(whole), capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"the client failed: {ran.stderr[-2000:]}")
    return dict(json.loads(ran.stdout))


def _burst(server: Installation, at_once: int) -> Found:
    return client(server.url, server.api_key, due_ms=[0.0] * at_once, kill=False)


def kill_all(server: Installation, ids: list[str]) -> None:
    control = Api(server).control
    for sandbox_id in ids:
        control.call("DELETE", f"/v1/sandboxes/{sandbox_id}")


def _answers(
    report: Report, name: str, rounds: list[Found], created: str | None = None, answered: str | None = None
) -> None:
    """Beside these references."""
    failed = [why for each in rounds for why in each["failed"]]
    report.need(f"bursts: {name}: failed", len(failed), "", at_most=0)
    for why in failed[:3]:
        print(f"    {why}")
    report.measure(f"bursts: {name}: created", [ms for each in rounds for ms in each["created_ms"]], created)
    report.measure(f"bursts: {name}: answered", [ms for each in rounds for ms in each["answered_ms"]], answered)


def _wall(
    report: Report, name: str, rounds: list[Found], beside: str | None = None, at_most: float | None = None
) -> None:
    """Until the last answer; what the client itself used of the processors meanwhile is said besides."""
    report.measure(f"bursts: {name}: all answered", [max(each["answered_ms"]) for each in rounds], beside, at_most)
    report.measure(f"bursts: {name}: processor time of the client", [each["cpu_ms"] for each in rounds])
