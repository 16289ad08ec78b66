"""What a live sandbox costs in memory, and what calls cost beside ten, a hundred and a thousand of them, in turns.

All processes of a sandbox are those of its pid namespace. Their memory is the kernel's account of it (`smaps_rollup`):
PSS divides each page by the processes that map it, private is what would come back if this sandbox alone went. Beside
it stands what the machine has less of (`MemAvailable`), which also counts what the kernel keeps for a sandbox.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from docker_reference import docker
from plain_client import Api, SandboxClient
from report import Report

from atoll.testing.installation import Installation

PANDAS = "import pandas as pd; print(pd.DataFrame({'a': [1, 1, 2], 'b': [3, 4, 5]}).groupby('a').sum())"
TEMPLATE = "code-interpreter"
PORT = 8000
AT_ONCE = 8
CALLS = 50
"""Of each kind, at each count, in each turn."""
TURNS = 3
"""From few to many and back again: what the machine does to one minute falls on every count alike."""
PART = 100
"""At most so many run a cell, of the idle ones."""
FORKS = 10
SETTLE_S = 12.0
"""What ends with a call ends within it: MemAvailable is read when nothing is under way."""
LIFE_S = 3600
SERVER = f"""
import http.server, threading
class Quiet(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", 65536
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", {PORT}), Quiet)
threading.Thread(target=server.serve_forever, daemon=True).start()
"""
LONE_FORKS = f"""
import os, signal, pandas, gc
gc.collect(); gc.freeze()
for _ in range({FORKS}):
    if not (pid := os.fork()):
        signal.pause()
    print(pid, flush=True)
signal.pause()
"""


@dataclass(frozen=True)
class Memory:
    """Of one sandbox, in MB of 2**20 bytes."""

    pss: float
    private: float
    page_tables: float

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.pss + other.pss, self.private + other.private, self.page_tables + other.page_tables)


class Crowd:
    """The living sandboxes, the oldest first."""

    def __init__(self, server: Installation) -> None:
        self.server = server
        self.living: list[SandboxClient] = []
        self.failed: list[str] = []
        self._api = threading.local()

    def api(self) -> Api:
        """A kept connection for each thread."""
        if not hasattr(self._api, "value"):
            self._api.value = Api(self.server)
        api: Api = self._api.value
        return api

    def shrink(self, count: int) -> None:
        """To so many, the oldest ones."""
        self._api = threading.local()
        self.living, gone = self.living[:count], self.living[count:]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(self._kill, gone))

    def grow(self, count: int) -> float:
        """To so many; returns how long it took."""
        start = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as threads:
            made = list(threads.map(lambda _: self._create(), range(count - len(self.living))))
        self.living += [sandbox for sandbox in made if sandbox is not None]
        return time.perf_counter() - start

    def _create(self) -> SandboxClient | None:
        try:
            return self.api().create(TEMPLATE, timeout_seconds=LIFE_S)
        except (RuntimeError, OSError) as error:
            self.failed.append(str(error))
            return None

    def _kill(self, sandbox: SandboxClient) -> None:
        self.api().control.call("DELETE", f"/v1/sandboxes/{sandbox.id}")


def bench_density(report: Report, server: Installation, counts: Sequence[int] = (10, 100, 1000)) -> None:
    described = json.loads((server.places.data / "node" / "templates" / "base" / "template.json").read_text())
    bench_references(report, [Path(layer) for layer in described["layers"]])
    crowd = Crowd(server)
    warm = crowd.api().create(TEMPLATE)
    warm.execute(PANDAS)
    warm.kill()
    time.sleep(SETTLE_S)
    before = kernel_memory()
    took: dict[int, list[float]] = defaultdict(list)
    calls: dict[int, dict[str, list[float]]] = {count: defaultdict(list) for count in sorted(counts)}
    try:
        for turn in range(TURNS):
            crowd.shrink(min(calls))
            for count, found in calls.items():
                took[count].append(crowd.grow(count))
                time.sleep(SETTLE_S)
                if not turn:
                    where = f"{count} live, idle"
                    tell_kernel(report, where, before, count)
                    tell_memory(report, where, memory_of(server, crowd.living), 7.0 if count >= PART else None)
                for name, samples in bench_calls(crowd).items():
                    found[name] += samples
        tell_growth(report, crowd, took)
        tell_calls(report, calls)
        fresh = [image_mib(server, sandbox) for sandbox in crowd.living]
        report.put("density: a fresh image on the host's disk", fresh, "MiB", at_most=1.0)
        bench_after_pandas(report, crowd)
    finally:
        crowd.shrink(0)


def tell_growth(report: Report, crowd: Crowd, took: dict[int, list[float]]) -> None:
    few, *more = took  # that are never ended, so they are made once
    report.put(f"density: {few} live: made within", took[few][:1], "s")
    for count in more:
        report.put(f"density: {count} live: made within", took[count], "s")
    report.need("density: creates that failed", len(crowd.failed), "", 0)


def tell_calls(report: Report, calls: dict[int, dict[str, list[float]]]) -> None:
    """Beside the same call when few were live; in order, so that the ratio is that of two distributions."""
    few, *more = calls
    for name, beside_few in calls[few].items():
        report.put(f"density: {few} live: {name}", sorted(beside_few), "ms")
        at_most = None if name == "kill" else 1.2
        for count in more:
            samples = sorted(calls[count][name])
            report.put(f"density: {count} live: {name}", samples, "ms", sorted(beside_few), at_most=at_most)


def tell_memory(report: Report, where: str, each: list[Memory], pss_at_most: float | None) -> None:
    report.put(f"density: {where}: PSS of a sandbox", [memory.pss for memory in each], "MB", at_most=pss_at_most)
    report.put(f"density: {where}: private memory of a sandbox", [memory.private for memory in each], "MB")
    report.put(f"density: {where}: page tables of a sandbox", [memory.page_tables for memory in each], "MB")


def tell_kernel(report: Report, where: str, before: dict[str, float], count: int) -> None:
    now = kernel_memory()
    report.put(f"density: {where}: MemAvailable less", [(before["MemAvailable"] - now["MemAvailable"]) / count], "MB")
    report.put(f"density: {where}: slab more", [(now["Slab"] - before["Slab"]) / count], "MB")


def bench_calls(crowd: Crowd) -> dict[str, list[float]]:
    """Beside all of those that live. What is made for it is gone afterwards."""
    api = Api(crowd.server)  # a connection kept since the last time has been closed meanwhile
    made: list[SandboxClient] = []
    creates = [timed(lambda: made.append(api.create(TEMPLATE, timeout_seconds=LIFE_S))) for _ in range(CALLS)]
    one = made[0]
    one.execute(SERVER)
    url = f"/s/{one.id}/{PORT}/"
    guest = Guest(one, url)
    guest.get()
    one.execute("1+1")
    runs = [timed(lambda: one.execute("1+1")) for _ in range(CALLS)]
    gets = [timed(guest.get) for _ in range(CALLS)]
    lists = [timed(lambda: api.control.call("GET", "/v1/sandboxes?limit=20")) for _ in range(CALLS)]
    kills = [timed(sandbox.kill) for sandbox in made]
    return {"create": creates, "list": lists, "warm run_code": runs, "GET to a port": gets, "kill": kills}


class Guest:
    """A server inside, over a kept connection."""

    def __init__(self, sandbox: SandboxClient, path: str) -> None:
        self._connection, self._path = sandbox.agent.connection, path
        self._headers = sandbox.agent.headers

    def get(self) -> None:
        self._connection.request("GET", self._path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if (answer.status, body) != (200, b"ok"):
            raise RuntimeError(f"GET {self._path}: {answer.status} {body[:300]!r}")


def bench_after_pandas(report: Report, crowd: Crowd) -> None:
    """On a part of those that live; the others stay idle."""
    part = crowd.living[:PART]
    before = kernel_memory()
    for sandbox in part:
        sandbox.agent.connection.close()
        assert "2  5" in str(sandbox.execute(PANDAS)["stdout"])
        sandbox.agent.connection.close()
    time.sleep(SETTLE_S)
    where = f"{len(crowd.living)} live, after a pandas cell"
    tell_memory(report, where, memory_of(crowd.server, part), 10.0)
    now = kernel_memory()
    less = (before["MemAvailable"] - now["MemAvailable"]) / len(part)
    report.put(f"density: {where}: MemAvailable less than idle", [less], "MB")


def bench_references(report: Report, layers: list[Path]) -> None:
    """What a fork of a Python with pandas costs that does nothing at all, and what a container does."""
    with lone_forks() as pids:
        tell_memory(report, "a plain fork of a Python with pandas", [memory_of_process(pid) for pid in pids], None)
    if shutil.which("dockerd"):
        bench_docker(report, layers)


def bench_docker(report: Report, layers: list[Path]) -> None:
    with docker(layers) as client, contextlib.ExitStack() as containers:
        before = kernel_memory()["MemAvailable"]
        for _ in range(FORKS):
            containers.enter_context(client.container())
        time.sleep(SETTLE_S)
        less = (before - kernel_memory()["MemAvailable"]) / FORKS
        report.put(f"density: {FORKS} × docker run sleep: MemAvailable less", [less], "MB")


@contextlib.contextmanager
def lone_forks() -> Iterator[list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", LONE_FORKS], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    try:
        yield [int(process.stdout.readline()) for _ in range(FORKS)]
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def memory_of(server: Installation, sandboxes: Sequence[SandboxClient]) -> list[Memory]:
    inside = processes_by_namespace()
    found = []
    for sandbox in sandboxes:
        record = server.places.run / "launcher" / f"{sandbox.id}.json"
        pid = int(json.loads(record.read_text())["pid"])
        parts = [memory_of_process(each) for each in inside[namespace_of(pid)]]
        found.append(sum(parts, Memory(0, 0, 0)))
    return found


def processes_by_namespace() -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                found[namespace_of(int(name))].append(int(name))
    return found


def namespace_of(pid: int) -> int:
    return os.stat(f"/proc/{pid}/ns/pid").st_ino


def memory_of_process(pid: int) -> Memory:
    rollup = fields(Path(f"/proc/{pid}/smaps_rollup").read_text())
    status = fields(Path(f"/proc/{pid}/status").read_text())
    return Memory(rollup["Pss"], rollup["Private_Clean"] + rollup["Private_Dirty"], status["VmPTE"])


def kernel_memory() -> dict[str, float]:
    return fields(Path("/proc/meminfo").read_text())


def fields(text: str) -> dict[str, float]:
    """Lines of `name: 123 kB`, in MB."""
    return {name: int(value) / 1024 for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def image_mib(server: Installation, sandbox: SandboxClient) -> float:
    """Of a sandbox in which nothing has been run."""
    return (server.places.data / "node" / "disks" / f"{sandbox.id}.img").stat().st_blocks * 512 / 2**20


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000
