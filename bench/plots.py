"""Pictures of what was measured, from the samples."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

Samples = dict[str, list[float]]
OURS, OTHERS = "#0b6e4f", ("#8d99ae", "#b08968", "#7f5539", "#4a4e69", "#c9ada7", "#adb5bd")
SIZE, DPI = (9, 4), 90


def draw(directory: Path, samples: Samples) -> None:
    for name, plot in PLOTS.items():
        figure, axes = pyplot.subplots(figsize=SIZE, dpi=DPI, layout="constrained")
        if plot(axes, samples):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.2)
            figure.savefig(directory / f"{name}.png", metadata={"Software": None})
        pyplot.close(figure)


def create(axes: Axes, samples: Samples) -> bool:
    """The share of creates that had ended after so many milliseconds."""
    shown = {
        "Atoll: create": "lifecycle: create",
        "Atoll: create → pandas cell": "lifecycle: create → first pandas cell",
        "fork of 100 MB": "floors: fork of 100 MB with pandas → the child answers",
        "bwrap true": "references: bwrap true",
        "runc run true": "references: runc run true",
        "runsc run true": next(
            (name for name in samples if name.startswith("references: runsc run") and "true" in name), ""
        ),
        "docker run true": "references: docker run true",
        "docker run python3": "references: docker run python3 -c 'print(1)'",
    }
    return _shares(axes, {label: samples[name] for label, name in shown.items() if name in samples})


def bursts(axes: Axes, samples: Samples) -> bool:
    ends = ": answered"
    shown = {
        name.removeprefix("bursts: ").removesuffix(ends): found
        for name, found in samples.items()
        if name.startswith("bursts: ") and name.endswith(ends) and "at once" in name
    }
    shown = {f"Atoll: {label}" if "pool" in label else label: found for label, found in shown.items()}
    if docker := samples.get("references: docker run python3, 100 at once"):
        shown["docker run python3, 100 at once"] = docker
    return _shares(axes, shown)


def density(axes: Axes, samples: Samples) -> bool:
    """What each of so many costs."""
    for number, what in enumerate(("PSS of a sandbox", "private memory of a sandbox", "MemAvailable less")):
        found = re.compile(rf"density: (\d+) live, idle: {what}").fullmatch
        points = sorted((int(match[1]), statistics.median(samples[name])) for name in samples if (match := found(name)))
        if points:
            axes.plot(*zip(*points, strict=True), label=what, color=(OURS, *OTHERS)[number], marker="o", linewidth=2)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="live sandboxes", ylabel="MB each", ylim=(0, None))
    if shown := bool(axes.lines):
        axes.legend(frameon=False, fontsize=8)
    return shown


def _shares(axes: Axes, shown: Samples) -> bool:
    others = iter(OTHERS * 2)
    for number, (label, found) in enumerate(shown.items()):
        ours = label.startswith("Atoll")
        style = {"color": OURS, "linewidth": 2.2} if ours else {"color": next(others), "linewidth": 1.4}
        axes.ecdf(found, label=label, linestyle="--" if ours and number else "-", **style)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="milliseconds", ylabel="share that had ended", ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return bool(shown)


PLOTS: dict[str, Callable[[Axes, Samples], bool]] = {"create": create, "bursts": bursts, "density": density}
