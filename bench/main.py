"""What Atoll costs, beside what else starts code on this machine, in one run.

Prints a table and writes bench/results/latest.json: one object a metric with value, unit, samples and,
where there is something to compare with, reference and ratio. Times are medians (p50) and p99.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docker_reference import docker
from egress import bench_egress
from ingress import bench_ingress
from plain_client import Api
from streams import bench_streams
from transfers import bench_files

from atoll.testing.installation import Installation

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
MARKS = ("<!-- figures -->", "<!-- end of figures -->")
RESULTS = HERE / "results" / "latest.json"
PANDAS = "import pandas as pd; print(pd.DataFrame({'a': [1, 1, 2], 'b': [3, 4, 5]}).groupby('a').sum())"


@dataclass
class Report:
    metrics: dict[str, dict[str, object]] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    """Targets."""

    def add(self, name: str, samples_ms: list[float], reference: str | None = None) -> None:
        for suffix, value in (("p50", statistics.median(samples_ms)), ("p99", percentile(samples_ms, 99))):
            entry: dict[str, object] = {"value": round(value, 3), "unit": "ms", "samples": len(samples_ms)}
            other = self.metrics.get(f"{reference}.{suffix}") if reference else None
            if other:
                entry["reference"] = reference
                entry["ratio"] = round(value / float(str(other["value"])), 3)
            self.metrics[f"{name}.{suffix}"] = entry
        print_line(name, self.metrics[f"{name}.p50"], self.metrics[f"{name}.p99"])

    def put(
        self,
        name: str,
        samples: list[float],
        unit: str,
        reference: list[float] | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Medians, also of a reference's samples, taken in turns with these; the ratio is the median of the pairs'.
        A target is for the ratio, or for the value where there is no reference."""
        judged = statistics.median(samples)
        entry: dict[str, object] = {"value": round(judged, 3), "unit": unit, "samples": len(samples)}
        entry["p95"] = round(percentile(samples, 95), 3)
        if reference is not None:
            other = statistics.median(reference)
            entry |= {"reference": round(other, 3), "reference_p95": round(percentile(reference, 95), 3)}
            judged = statistics.median(ours / theirs for ours, theirs in zip(samples, reference, strict=True))
            entry["ratio"] = round(judged, 3)
        self._judge(name, entry, judged, at_least, at_most)

    def need(self, name: str, value: float, unit: str, at_most: float) -> None:
        self._judge(name, {"value": round(value, 3), "unit": unit}, value, None, at_most)

    def _judge(
        self, name: str, entry: dict[str, object], value: float, at_least: float | None, at_most: float | None
    ) -> None:
        met = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        if at_least is not None or at_most is not None:
            entry |= {"target": f"≥ {at_least:g}" if at_least is not None else f"≤ {at_most:g}", "met": met}
        if not met:
            self.missed.append(name)
        self.metrics[name] = entry
        told = "".join(f"   {key} {entry[key]}" for key in ("p95", "reference", "ratio", "target") if key in entry)
        print(f"{name:64} {entry['value']:>9} {entry['unit']}{told}{'' if met else '   MISSED'}", flush=True)


def percentile(samples: list[float], percent: int) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))]


def print_line(name: str, p50: dict[str, object], p99: dict[str, object]) -> None:
    beside = f"   {p50['ratio']} × {p50['reference']}" if "ratio" in p50 else ""
    print(f"{name:44} p50 {p50['value']:>9} ms   p99 {p99['value']:>9} ms   n={p50['samples']}{beside}", flush=True)


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


def repeat(count: int, action: Callable[[], object]) -> list[float]:
    action()  # the first one warms what is warm in use
    return [timed(action) for _ in range(count)]


def run(argv: list[str]) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def bench_bwrap(report: Report, count: int) -> None:
    command = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "true"]
    report.add("bwrap --unshare-all true", repeat(count, lambda: run(command)))


def bench_docker(report: Report, count: int, image_layers: list[Path]) -> None:
    with docker(image_layers) as client:
        report.add("docker run true", repeat(count, lambda: client.run("true")))
        report.add("docker run python3 -c 1+1", repeat(count, lambda: client.run("python3", "-c", "print(1+1)")))
        with client.container() as name:
            report.add("docker exec true", repeat(count, lambda: client.exec(name, "true")))
            report.add(
                "docker exec python3 -c 1+1", repeat(count, lambda: client.exec(name, "python3", "-c", "print(1+1)"))
            )


def bench_http(report: Report, server: Installation, count: int) -> None:
    """A plain keep-alive HTTP client: what the service costs, without any SDK."""
    api = Api(server)
    creates, first_pandas = [], []
    for _ in range(count + 1):
        start = time.perf_counter()
        sandbox = api.create("code-interpreter")
        created = time.perf_counter()
        assert "2  5" in sandbox.execute(PANDAS)["stdout"]
        first_pandas.append((time.perf_counter() - start) * 1000)
        creates.append((created - start) * 1000)
        sandbox.kill()
    report.add("http: create", creates[1:], "docker run true")
    report.add("http: create → first pandas cell", first_pandas[1:], "docker run python3 -c 1+1")
    sandbox = api.create("code-interpreter")
    report.add(
        "http: warm run_code 1+1", repeat(count * 4, lambda: sandbox.execute("1+1")), "docker exec python3 -c 1+1"
    )
    report.add("http: command true", repeat(count * 4, lambda: sandbox.command("true")), "docker exec true")
    sandbox.kill()


def bench_hopx(report: Report, server: Installation, count: int) -> None:
    """The unmodified hopx-ai package, as its users call it."""
    from hopx_ai import Sandbox

    where = {"api_key": server.api_key, "base_url": server.url}
    creates, first_pandas = [], []
    for _ in range(count + 1):
        start = time.perf_counter()
        sandbox = Sandbox.create(template="code-interpreter", **where)
        created = time.perf_counter()
        assert "2  5" in sandbox.run_code(PANDAS).stdout
        first_pandas.append((time.perf_counter() - start) * 1000)
        creates.append((created - start) * 1000)
        sandbox.kill()
    report.add("hopx-ai: create", creates[1:], "docker run true")
    report.add("hopx-ai: create → first pandas cell", first_pandas[1:], "docker run python3 -c 1+1")
    with Sandbox.create(template="code-interpreter", **where) as sandbox:
        report.add(
            "hopx-ai: warm run_code 1+1",
            repeat(count * 2, lambda: sandbox.run_code("1+1")),
            "docker exec python3 -c 1+1",
        )
        report.add("hopx-ai: command true", repeat(count * 2, lambda: sandbox.commands.run("true")), "docker exec true")


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    print(f"\n{what}", flush=True)
    yield


def data_dir() -> Path:
    """Kept between runs, for the templates."""
    return Path(os.environ.get("ATOLL_DATA_DIR") or Path.home() / ".cache" / "atoll" / "bench")


def template_layers(server: Installation, name: str) -> list[Path]:
    described = json.loads((server.places.data / "node" / "templates" / name / "template.json").read_text())
    return [Path(layer) for layer in described["layers"]]


def machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
    }


def bench_references(report: Report, server: Installation, arguments: argparse.Namespace) -> None:
    bench_bwrap(report, arguments.count)
    if not arguments.no_docker:
        bench_docker(report, max(5, arguments.count // 4), template_layers(server, "base"))


Part = Callable[[Report, Installation, argparse.Namespace], None]
PARTS: dict[str, tuple[str, Part]] = {
    "references": ("references", bench_references),
    "http": (
        "Atoll through a plain HTTP client",
        lambda report, server, given: bench_http(report, server, given.count),
    ),
    "hopx": ("Atoll through hopx-ai", lambda report, server, given: bench_hopx(report, server, given.count)),
    "files": ("files", lambda report, server, given: bench_files(report, server, max(5, given.count // 4))),
    "streams": ("streams", lambda report, server, given: bench_streams(report, server)),
    "egress": ("the way out", lambda report, server, given: bench_egress(report, server.places.data)),
    "ingress": ("the way in", lambda report, server, given: bench_ingress(report, server.places.data)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these of {', '.join(PARTS)}")
    parser.add_argument("--count", type=int, default=50, help="samples per metric (warm calls take more)")
    parser.add_argument("--no-docker", action="store_true", help="leave the Docker reference out")
    parser.add_argument("--write-page", action="store_true", help="put the tables into docs/performance.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    report = Report()
    with Installation(data_dir(), show=True) as server:
        for name in arguments.parts or PARTS:
            title, part = PARTS[name]
            with explained(title):
                part(report, server, arguments)
    RESULTS.parent.mkdir(exist_ok=True)
    before = json.loads(RESULTS.read_text())["metrics"] if arguments.parts and RESULTS.exists() else {}
    metrics = {**before, **report.metrics}
    document = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "metrics": metrics}
    RESULTS.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(f"\nwritten to {RESULTS.relative_to(HERE.parent)}")
    if arguments.write_page:
        write_page(document)
    for name in report.missed:
        print(f"not reached: {name}")
    return 1 if report.missed else 0


def write_page(document: dict[str, Any]) -> None:
    """The table in docs/performance.md: figures there are this run's, never typed."""
    metrics, machine = document["metrics"], document["machine"]
    rows = [f"{document['date']}, {machine['cores']} cores, kernel {machine['kernel']}.", ""]
    rows += ["| what | p50 ms | p99 ms | samples | against |", "|---|---|---|---|---|"]
    for name in (key.removesuffix(".p50") for key in metrics if key.endswith(".p50")):
        p50, p99 = metrics[f"{name}.p50"], metrics[f"{name}.p99"]
        against = f"{p50['ratio']} × {p50['reference']}" if "ratio" in p50 else "(a reference)"
        rows.append(f"| {name} | {p50['value']} | {p99['value']} | {p50['samples']} | {against} |")
    for part, (title, reference) in SECTIONS.items():
        entries = {name: entry for name, entry in metrics.items() if name.startswith(f"{part}: ")}
        if entries:
            rows += [
                "",
                title,
                "",
                f"| what | median | p95 | {reference} | ratio | target |",
                "|---|---|---|---|---|---|",
            ]
            rows += [_row(name.removeprefix(f"{part}: "), entry) for name, entry in entries.items()]
    before, _, rest = PAGE.read_text().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    PAGE.write_text("\n".join([before + MARKS[0], *rows, MARKS[1] + after]))
    print(f"written to {PAGE.relative_to(HERE.parent)}")


SECTIONS = {
    "egress": ("The way out, beside a path of as many links and hops without Atoll:", "without Atoll"),
    "ingress": ("The way in, beside other proxies in front of the same program in the same sandbox:", "the other"),
}


def _row(name: str, entry: dict[str, Any]) -> str:
    cells = [f"{entry['value']} {entry['unit']}", *(entry.get(key, "") for key in ("p95", "reference", "ratio"))]
    target = f"{entry['target']}{'' if entry['met'] else ' (missed)'}" if "target" in entry else ""
    return f"| {name} | " + " | ".join(map(str, [*cells, target])) + " |"


if __name__ == "__main__":
    sys.exit(main())
