"""What Atoll costs, beside what else starts code on this machine, in one run.

Prints each figure and writes bench/results: latest.json, one object a metric with value, unit, samples and, where there
is something to compare with, reference and ratio; samples.json, every sample; pictures of some. It fails when a target
is missed, and when a metric stands beside a reference that was not measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bursts import bench_bursts
from clients import bench_clients
from density import bench_density
from e2b_surface import bench_e2b
from egress import bench_egress
from flame import bench_flame
from floors import bench_floors
from ingress import bench_ingress
from lifecycle import bench_lifecycle
from plots import draw
from references import bench_references
from report import Report
from streams import bench_streams
from transfers import bench_files

from atoll.testing.installation import Installation
from sdk import bench_sdk

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
FIGURES = PAGE.with_name("figures")
"""Copies of the pictures, where the pages find them."""
MARKS = ("<!-- figures -->", "<!-- end of figures -->")
RESULTS = HERE / "results" / "latest.json"
SAMPLES = HERE / "results" / "samples.json"


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


@dataclass(frozen=True)
class Part:
    title: str
    measure: Callable[[Report, Installation, int], None]
    """With so many samples a metric; warm calls take more, what is slow takes fewer."""
    after: tuple[str, ...] = ()
    """Its references: they are measured in the same run."""


PARTS = {
    "references": Part("references", lambda report, server, count: bench_references(report, base(server), count)),
    "floors": Part("what the kernel alone costs", bench_floors),
    "lifecycle": Part("Atoll through a plain HTTP client", bench_lifecycle, ("references", "floors")),
    "bursts": Part("from nothing to an answer", bench_bursts, ("references", "floors")),
    "clients": Part("the stock SDKs", bench_clients),
    "flame": Part("where a create goes", lambda report, server, count: bench_flame(report, server, count * 6)),
    "density": Part("many at once", lambda report, server, _: bench_density(report, server)),
    "sdk": Part("our SDK", bench_sdk),
    "e2b": Part("E2B's surface, through e2b", bench_e2b),
    "files": Part("files", lambda report, server, count: bench_files(report, server, max(5, count // 4))),
    "streams": Part("streams", lambda report, server, _: bench_streams(report, server)),
    "egress": Part("the way out", lambda report, server, _: bench_egress(report, server.places.data)),
    "ingress": Part("the way in", lambda report, server, _: bench_ingress(report, server.places.data)),
}


def base(server: Installation) -> Path:
    """The file tree of `base`: one layer, a whole root."""
    return template_layers(server, "base")[-1]


def wanted(parts: list[str]) -> list[str]:
    """With the parts that they stand beside; all when none is named."""
    asked = set(parts or PARTS)
    asked |= {other for name in asked for other in PARTS[name].after}
    return [name for name in PARTS if name in asked]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these of {', '.join(PARTS)}")
    parser.add_argument("--count", type=int, default=50, help="samples per metric (warm calls take more)")
    parser.add_argument("--write-page", action="store_true", help="put the tables into docs/performance.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    report, begun = Report(), time.monotonic()
    with Installation(data_dir(), "--ready", "auto", show=True) as server:
        for name in wanted(arguments.parts):
            with explained(PARTS[name].title):
                PARTS[name].measure(report, server, arguments.count)
    document = keep(report, merge=bool(arguments.parts))
    print(f"\nwritten to {RESULTS.parent.relative_to(HERE.parent)} after {time.monotonic() - begun:.0f} s")
    draw(RESULTS.parent, kept(SAMPLES))
    if arguments.write_page:
        write_page(document)
    for name in report.without:
        print(f"without its reference: {name}")
    for name in report.missed:
        print(f"not reached: {name}")
    return 1 if report.missed or report.without else 0


def keep(report: Report, merge: bool) -> dict[str, Any]:
    """What was not measured in this run stays as it is, when only parts were asked for."""
    RESULTS.parent.mkdir(exist_ok=True)
    before = kept(RESULTS).get("metrics", {}) if merge else {}
    samples = {**(kept(SAMPLES) if merge else {}), **report.samples}
    document = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "metrics": {**before, **report.metrics}}
    RESULTS.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    lines = ",\n".join(f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(each)}" for name, each in samples.items())
    SAMPLES.write_text(f"{{\n{lines}\n}}\n")
    return document


def kept(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text())) if file.exists() else {}


def write_page(document: dict[str, Any]) -> None:
    """The tables in docs/performance.md: figures there are this run's, never typed."""
    metrics, machine = document["metrics"], document["machine"]
    rows = [f"{document['date']}, {machine['cores']} cores, kernel {machine['kernel']}.", ""]
    for part, (title, reference) in SECTIONS.items():
        entries = {
            name.removeprefix(f"{part}: "): each for name, each in metrics.items() if name.startswith(f"{part}: ")
        }
        if entries:
            rows += [title, "", *_table(entries, reference), "", *_picture(part)]
    streams = [key.removesuffix(".p50") for key in metrics if key.endswith(".p50")]
    rows += ["Files and streams:", "", "| what | p50 ms | p99 ms | samples | against |", "|---|---|---|---|---|"]
    for name in streams:
        p50, p99 = metrics[f"{name}.p50"], metrics[f"{name}.p99"]
        against = f"{p50['ratio']} × {p50['reference']}" if "ratio" in p50 else "(a reference)"
        rows.append(f"| {name} | {p50['value']} | {p99['value']} | {p50['samples']} | {against} |")
    before, _, rest = PAGE.read_text().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    PAGE.write_text("\n".join([before + MARKS[0], *rows, MARKS[1] + after]))
    print(f"written to {PAGE.relative_to(HERE.parent)}")
    FIGURES.mkdir(exist_ok=True)
    for picture in (*RESULTS.parent.glob("*.png"), *RESULTS.parent.glob("*.svg")):
        shutil.copy(picture, FIGURES)


SECTIONS = {
    "references": ("References, in ms:", None),
    "floors": ("Floors, in ms:", None),
    "lifecycle": ("One call after the other at a plain keep-alive HTTP client, in ms:", None),
    "bursts": ("From nothing to an answer, in ms:", None),
    "flame": ("Processor time of a create, by process:", ""),
    "density": ("Memory and density:", "the other"),
    "clients": ("The stock SDKs, beside a server that answers at once:", "at once"),
    "sdk": (
        "Our SDK and hopx-ai, beside a plain keep-alive connection; added: the median of the differences:",
        "plain",
    ),
    "e2b": ("E2B's surfaces through the unmodified packages, each beside what it says:", "the other"),
    "egress": ("The way out, beside a path of as many links and hops without Atoll:", "without Atoll"),
    "ingress": ("The way in, beside other proxies in front of the same program in the same sandbox:", "the other"),
}


def _picture(part: str) -> list[str]:
    name, shows = PICTURES.get(part, ("", ""))
    return [f"![{shows}]({FIGURES.name}/{name})", ""] if name and (RESULTS.parent / name).exists() else []


PICTURES = {
    "lifecycle": (
        "create.png",
        "Creates that had ended after so many milliseconds: Atoll's, and those of bwrap, runc, gVisor, Docker",
    ),
    "bursts": (
        "bursts.png",
        "Sandboxes of a hundred begun at once that had answered after so many milliseconds",
    ),
    "flame": ("create.svg", "Flame graph: processor time of a create, by process"),
    "density": ("density.png", "Memory of each sandbox beside the number of live ones"),
}


def _table(entries: dict[str, dict[str, Any]], reference: str | None) -> list[str]:
    """Without a reference's name the rows are of milliseconds, and each names its own. No column is empty."""
    if reference is not None:
        head, cells = ["median", "p95", "p99", "samples", reference, "ratio", "target"], _row
    else:
        head, cells = ["p50", "p95", "p99", "samples", "beside", "ratio", "target"], _times
    rows = [[str(cell) for cell in cells(entry)] for entry in entries.values()]
    used = [number for number in range(len(head)) if any(row[number] for row in rows)]
    lines = [["what", *(head[number] for number in used)], ["---"] * (1 + len(used))]
    lines += [[name, *(row[number] for number in used)] for name, row in zip(entries, rows, strict=True)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _row(entry: dict[str, Any]) -> list[object]:
    told = (entry.get(key, "") for key in ("p95", "p99", "samples", "reference", "ratio"))
    return [f"{entry['value']} {entry['unit']}", *told, _target(entry)]


def _times(entry: dict[str, Any]) -> list[object]:
    if "why" in entry:
        return [f"does not run here: {entry['why'].replace('|', ' ')}", *[""] * 6]
    told = (entry.get(key, "") for key in ("value", "p95", "p99", "samples"))
    return [*told, entry.get("beside", "").removeprefix("references: "), entry.get("ratio", ""), _target(entry)]


def _target(entry: dict[str, Any]) -> str:
    return f"{entry['target']}{'' if entry['met'] else ' (missed)'}" if "target" in entry else ""


if __name__ == "__main__":
    sys.exit(main())
