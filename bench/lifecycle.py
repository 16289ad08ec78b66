"""One sandbox after the other, at a plain keep-alive HTTP client: what each call of the service costs.

Every figure stands beside what Docker takes for the same, measured in the same run.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict

from cells import PANDAS, PANDAS_ANSWER
from plain_client import Api, SandboxClient
from quiet import settle
from report import Report
from timing import repeat, timed
from websockets.sync.client import connect

from atoll.testing.installation import Installation

TEMPLATE = "code-interpreter"
SMALL = "x" * 4096
PRINTS = {"type": "execute", "code": "print('hello')", "language": "python", "timeout": 60}
DOCKER = "references: docker"
# what: (its reference, target in ms, target as a ratio)
FIGURES: dict[str, tuple[str, float | None, float | None]] = {
    "create": (f"{DOCKER} run true", 6, 1 / 25),
    "create → first pandas cell": (f"{DOCKER} run python3 -c 'print(1)'", 25, 1 / 6),
    "warm run_code 1+1": (f"{DOCKER} exec python3 -c 'print(1)'", 2, None),
    "command true": (f"{DOCKER} exec true", 5, 1 / 10),
    "stream: cell sent → first byte": (f"{DOCKER} exec echo → first byte", None, None),
    "file of 4 KiB, written": (f"{DOCKER} cp of 4 KiB, in", None, None),
    "file of 4 KiB, read": (f"{DOCKER} cp of 4 KiB, out", None, None),
    "pause": (f"{DOCKER} pause", 3, None),
    "resume": (f"{DOCKER} unpause", 3, None),
    "kill": (f"{DOCKER} rm -f", None, None),
}


def bench_lifecycle(report: Report, server: Installation, count: int) -> None:
    api = Api(server)
    samples: dict[str, list[float]] = defaultdict(list)
    _life(api)
    settle(server)
    for _ in range(count):
        for what, took in _life(api).items():
            samples[what].append(took)
    sandbox = api.create(TEMPLATE)
    try:
        samples |= {
            "warm run_code 1+1": repeat(count * 4, lambda: sandbox.execute("1+1")),
            "command true": repeat(count * 4, lambda: sandbox.command("true")),
            "stream: cell sent → first byte": _first_bytes(sandbox, count * 2),
            "file of 4 KiB, written": repeat(count * 4, lambda: sandbox.write("/workspace/small", SMALL)),
            "file of 4 KiB, read": repeat(count * 4, lambda: sandbox.read("/workspace/small")),
        }
    finally:
        sandbox.kill()
    for what, (beside, at_most, ratio) in FIGURES.items():
        report.measure(f"lifecycle: {what}", samples[what], beside, at_most, ratio)


def _life(api: Api) -> dict[str, float]:
    begun = time.perf_counter()
    sandbox = api.create(TEMPLATE)
    created = time.perf_counter()
    said = sandbox.execute(PANDAS)["stdout"]
    answered = time.perf_counter()
    if PANDAS_ANSWER not in str(said):
        raise RuntimeError(f"not the cell's answer: {said}")
    return {
        "create": (created - begun) * 1000,
        "create → first pandas cell": (answered - begun) * 1000,
        "pause": timed(sandbox.pause),
        "resume": timed(sandbox.resume),
        "kill": timed(sandbox.kill),
    }


def _first_bytes(sandbox: SandboxClient, count: int) -> list[float]:
    """Each on a WebSocket that is open already."""
    url = sandbox.api.url.replace("http", "ws", 1) + f"/s/{sandbox.id}/execute/stream"
    headers = {"Authorization": sandbox.agent.headers["Authorization"]}
    found = []
    for _ in range(count + 1):
        with connect(url, additional_headers=headers, proxy=None) as socket:
            begun = time.perf_counter()
            socket.send(json.dumps(PRINTS))
            while json.loads(socket.recv(60))["type"] != "stdout":
                pass
            found.append((time.perf_counter() - begun) * 1000)
            while json.loads(socket.recv(60))["type"] != "complete":
                pass
    return found[1:]
