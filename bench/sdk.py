"""What our SDK adds to the server's own time, and beside it hopx-ai; and what importing it costs.

Each call is measured through a plain keep-alive connection, our SDK and hopx-ai in turns, so that the machine's moods
meet all three alike. What the SDK adds is the median of the differences.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable

from plain_client import Api
from report import Report
from timing import timed

from atoll import Sandbox
from atoll.testing.installation import Installation

ADDED_MS = 2.0
TEMPLATE = "base"
IMPORT = "import time; begun = time.perf_counter(); from atoll import Sandbox; print(time.perf_counter() - begun)"


def bench_sdk(report: Report, server: Installation, count: int) -> None:
    from hopx_ai import Sandbox as HopxSandbox

    api = Api(server)
    where = {"api_key": server.api_key, "base_url": server.url}
    plain, ours, hopx = [], [], []
    for _ in range(count + 1):
        plain.append(_made(lambda: api.create(TEMPLATE)))
        ours.append(_made(lambda: Sandbox.create(TEMPLATE, **where)))
        hopx.append(_made(lambda: HopxSandbox.create(template=TEMPLATE, **where)))
    _compare(report, "create", plain[1:], ours[1:], hopx[1:])
    box = api.create("code-interpreter")
    mine, theirs = Sandbox(box.id, **where), HopxSandbox(box.id, **where)
    calls: tuple[Callable[[], object], ...] = (
        lambda: box.execute("1+1"),
        lambda: mine.run_code("1+1"),
        lambda: theirs.run_code("1+1"),
    )
    for call in calls:
        call()
    rows = [[timed(call) for call in calls] for _ in range(count * 2)]
    _compare(report, "run_code 1+1", *(list(column) for column in zip(*rows, strict=True)))
    box.kill()
    imports = [float(_python(IMPORT)) * 1000 for _ in range(max(5, count // 5))]
    report.put("sdk: import", imports, "ms")


def _made(create: Callable[[], object]) -> float:
    made: list[object] = []
    took = timed(lambda: made.append(create()))
    made[0].kill()  # type: ignore[attr-defined]
    return took


def _compare(report: Report, what: str, plain: list[float], ours: list[float], hopx: list[float]) -> None:
    report.put(f"sdk: {what}, plain connection", plain, "ms")
    report.put(f"sdk: {what}, atoll", ours, "ms", reference=plain)
    report.put(f"sdk: {what}, hopx-ai", hopx, "ms", reference=plain)
    added = statistics.median(each - other for each, other in zip(ours, plain, strict=True))
    if what == "create":
        report.need(f"sdk: {what}, added", added, "ms", at_most=ADDED_MS)
    else:
        report.put(f"sdk: {what}, added", [added], "ms")


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
