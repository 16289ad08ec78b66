"""What else starts code on this machine, each from the distribution and on Atoll's own `base` tree."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from docker_reference import Docker, docker
from oci_reference import RUNC, gvisor, runtime
from report import Report
from timing import repeat, timed

BURST = 100
TRUE = ("true",)
PYTHON = ("python3", "-c", "print(1)")
BWRAP = ("bwrap", "--unshare-all", "--ro-bind", "{root}", "/", "--dev", "/dev", "--proc", "/proc")
SMALL = 4096


def bench_references(report: Report, root: Path, count: int) -> None:
    """`root` is a whole file tree. What takes longer is run less often."""
    bwrap = [each.format(root=root) for each in BWRAP]
    _runs(report, "bwrap", lambda *argv: _quietly([*bwrap, *argv]), count)
    with runtime(RUNC, root) as runc:
        _runs(report, "runc run", runc.run, count)
    _gvisor(report, root, fewer(count))
    with docker([root]) as client:
        _runs(report, "docker run", client.run, fewer(count))
        _running(report, client, fewer(count))
        _lives(report, client, fewer(count))
        _burst(report, client)


def fewer(count: int) -> int:
    return max(2, count * 2 // 5)


def _quietly(argv: list[str]) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def _runs(report: Report, name: str, run: Callable[..., None], count: int) -> None:
    report.measure(f"references: {name} true", repeat(count, lambda: run(*TRUE)))
    report.measure(f"references: {name} python3 -c 'print(1)'", repeat(count, lambda: run(*PYTHON)))


def _gvisor(report: Report, root: Path, count: int) -> None:
    try:
        with gvisor(root) as found:
            _runs(report, f"runsc run ({found.platform})", found.run, count)
    except RuntimeError as error:
        report.cannot("references: runsc run", str(error))


def _running(report: Report, client: Docker, count: int) -> None:
    """What is done in a container that runs."""
    with client.container() as name, tempfile.TemporaryDirectory() as scratch:
        source, back = f"{scratch}/source", f"{scratch}/back"
        Path(source).write_bytes(os.urandom(SMALL))
        calls: dict[str, Callable[[], object]] = {
            "exec true": lambda: client.exec(name, *TRUE),
            "exec python3 -c 'print(1)'": lambda: client.exec(name, *PYTHON),
            "exec echo → first byte": lambda: client.first_byte(name, "echo", "hello"),
            "cp of 4 KiB, in": lambda: client("cp", source, f"{name}:/tmp/small"),
            "cp of 4 KiB, out": lambda: client("cp", f"{name}:/tmp/small", back),
        }
        for what, call in calls.items():
            report.measure(f"references: docker {what}", repeat(count, call))
        turns = [(timed(lambda: client("pause", name)), timed(lambda: client("unpause", name))) for _ in range(count)]
    for what, samples in zip(("pause", "unpause"), zip(*turns, strict=True), strict=True):
        report.measure(f"references: docker {what}", list(samples))


def _lives(report: Report, client: Docker, count: int) -> None:
    names = [client.start() for _ in range(count)]
    report.measure("references: docker rm -f", [timed(lambda name=name: client("rm", "-f", name)) for name in names])


def _burst(report: Report, client: Docker) -> None:
    """Each counts from the beginning, as those of Atoll do."""
    begun = time.perf_counter()

    def one(_: int) -> float:
        client.run(*PYTHON)
        return (time.perf_counter() - begun) * 1000

    with ThreadPoolExecutor(BURST) as pool:
        samples = list(pool.map(one, range(BURST)))
    report.measure(f"references: docker run python3, {BURST} at once", samples)
    report.measure(f"references: docker run python3, {BURST} at once: all answered", [max(samples)])
