"""E2B's surfaces by the unmodified packages: a command, a cell, a login shell, large files, a hundred streams at once.

Each beside its reference, in turns, so that the machine's moods meet both alike. For commands, cells and files that is
a server that costs next to nothing (plain_envd.py), asked by the same client: its figure is what the client takes.
"""

from __future__ import annotations

import asyncio
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from plain_envd import PlainEnvd
from report import Report
from transfers import encrypted_directory

from atoll.core.access import ENVD_VERSION
from atoll.testing.installation import Installation

MIB = 1 << 20
SIZE_MIB = 256
STREAMS, STREAM_MIB = 100, 2
COMMAND_MS, SHELL_MS, FILES = 8.0, 3.0, 0.6
CELL_MS, FIRST_CELL_MS = 5.0, 30.0
TEMPLATE = "code-interpreter"
Box = Any
"""A Sandbox of e2b, which is imported when it is measured."""
PROBE = """
import os, time
kinds = (["/bin/true"], ["/bin/bash", "-c", "true"], ["/bin/bash", "-l", "-c", "true"])
for number in range({count} + 1):
    for argv in kinds:
        begun = time.perf_counter()
        os.waitpid(os.posix_spawn(argv[0], argv, os.environ), 0)
        print(1000 * (time.perf_counter() - begun), end=" ")
    print()
"""


def bench_e2b(report: Report, server: Installation, count: int) -> None:
    from e2b_code_interpreter import Sandbox

    with _pointed_at(server), tempfile.TemporaryDirectory() as scratch:
        sandbox = Sandbox.create(TEMPLATE, timeout=1800, retries=0)
        try:
            with PlainEnvd(Path(scratch)) as url:
                _commands(report, sandbox, _plain(url), count * 4)
                _cells(report, sandbox, _plain(url), count * 4)
                _shells(report, sandbox, count * 4)
                _files(report, sandbox, _plain(url), max(5, count // 8), "a plain server")
            with encrypted_directory(Path(scratch)) as sealed, PlainEnvd(sealed) as url:
                _files(report, sandbox, _plain(url), max(5, count // 8), "one that stores to an encrypted image")
        finally:
            sandbox.kill()
        asyncio.run(_streams(report))


@contextmanager
def _pointed_at(server: Installation) -> Iterator[None]:
    """As a user points the package: by the environment."""
    before = dict(os.environ)
    os.environ |= {"E2B_API_URL": server.url, "E2B_SANDBOX_URL": server.url, "E2B_API_KEY": server.api_key}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _plain(url: str) -> Box:
    from e2b import ConnectionConfig
    from e2b_code_interpreter import Sandbox
    from packaging.version import Version

    return Sandbox(
        sandbox_id="plain",
        sandbox_domain=None,
        envd_version=Version(ENVD_VERSION),
        envd_access_token="",
        traffic_access_token=None,
        connection_config=ConnectionConfig(api_url=url, sandbox_url=url),
    )


def _timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _commands(report: Report, sandbox: Box, plain: Box, count: int) -> None:
    calls = [lambda: sandbox.commands.run("true"), lambda: plain.commands.run("true")]
    for call in calls:
        call()
    rows = [[1000 * _timed(call) for call in calls] for _ in range(count)]
    ours, clients = map(list, zip(*rows, strict=True))
    report.put("e2b: commands.run true", ours, "ms", at_most=COMMAND_MS)
    report.put("e2b: commands.run true, beside a server that answers at once", ours, "ms", reference=clients)


def _cells(report: Report, sandbox: Box, plain: Box, count: int) -> None:
    """The first cell of a context: with what it takes to make the context. Each is removed before the next."""
    calls = [partial(box.run_code, "1+1") for box in (sandbox, plain)]
    for call in calls:
        call()
    cells = [[1000 * _timed(call) for call in calls] for _ in range(count)]
    firsts = [[1000 * _first_cell(box) for box in (sandbox, plain)] for _ in range(count)]
    for what, rows, most in (("run_code 1+1", cells, CELL_MS), ("first cell of a new context", firsts, FIRST_CELL_MS)):
        ours, clients = map(list, zip(*rows, strict=True))
        report.put(f"e2b: {what}", ours, "ms", at_most=most)
        report.put(f"e2b: {what}, beside a server that answers at once", ours, "ms", reference=clients)


def _first_cell(box: Box) -> float:
    begun = time.perf_counter()
    context = box.create_code_context()
    assert box.run_code("1+1", context=context).text == "2"
    took = time.perf_counter() - begun
    box.remove_code_context(context)
    return took


def _shells(report: Report, sandbox: Box, count: int) -> None:
    sandbox.files.write("/tmp/probe.py", PROBE.format(count=count))
    said = sandbox.commands.run("python3 /tmp/probe.py", timeout=300).stdout.splitlines()
    fork, shell, login = (list(column) for column in zip(*(map(float, line.split()) for line in said[1:]), strict=True))
    report.put("e2b: bash -l -c true, inside", login, "ms", at_most=SHELL_MS)
    report.put("e2b: bash -l -c true, inside, beside bash -c true", login, "ms", reference=shell)
    report.put("e2b: bash -l -c true, inside, beside a program alone", login, "ms", reference=fork)


def _files(report: Report, sandbox: Box, plain: Box, count: int, beside: str) -> None:
    content = os.urandom(MIB) * SIZE_MIB
    path = "/home/user/large"
    rates: dict[str, list[float]] = {name: [] for name in ("up", "plain up", "down", "plain down")}
    for _ in range(count + 1):
        for name, box in (("", sandbox), ("plain ", plain)):
            rates[f"{name}up"].append(len(content) / 1e9 / _timed(partial(_write, box, path, content)))
            rates[f"{name}down"].append(len(content) / 1e9 / _timed(partial(_read, box, path, len(content))))
    for name, way in (("up", "upload"), ("down", "download")):
        ours, theirs = rates[name][1:], rates[f"plain {name}"][1:]
        report.put(f"e2b: {way} of 256 MiB, beside {beside}", ours, "GB/s", reference=theirs, at_least=FILES)


def _write(box: Box, path: str, content: bytes) -> None:
    box.files.write(path, io.BytesIO(content))


def _read(box: Box, path: str, size: int) -> None:
    with box.files.read(path, format="stream") as pieces:
        assert sum(map(len, pieces)) == size


async def _streams(report: Report) -> None:
    """All begin at once; one alone is the reference."""
    from e2b import AsyncSandbox

    box = await AsyncSandbox.create(TEMPLATE, timeout=600, retries=0)
    size = STREAM_MIB * MIB
    command = f"head -c {size} /tmp/source"
    try:
        await box.files.write("/tmp/source", os.urandom(size // 2).hex())

        async def one() -> float:
            came: list[int] = []
            begun = time.perf_counter()
            await box.commands.run(command, on_stdout=lambda text: came.append(len(text)), retain_output=False)
            assert sum(came) == size
            return time.perf_counter() - begun

        alone = [size / 1e6 / await one() for _ in range(20)]
        together = []
        for _ in range(5):
            begun = time.perf_counter()
            await asyncio.gather(*(one() for _ in range(STREAMS)))
            together.append(STREAMS * size / 1e6 / (time.perf_counter() - begun))
    finally:
        await box.kill()
    alone = [statistics.median(alone)] * len(together)
    report.put(f"e2b: {STREAMS} outputs at once, all together, beside one alone", together, "MB/s", reference=alone)
