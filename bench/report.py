"""What the parts of the bench say their figures to.

A figure that names a reference is worth nothing without it: when the reference was not measured in the same run the
figure is written down as one without, and the bench fails.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from timing import percentile

Entry = dict[str, object]


@dataclass
class Report:
    metrics: dict[str, Entry] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)
    """As they were taken, in their order."""
    missed: list[str] = field(default_factory=list)
    """Targets."""
    without: list[str] = field(default_factory=list)
    """Metrics whose reference is not there."""

    def measure(
        self,
        name: str,
        samples: list[float],
        beside: str | None = None,
        at_most: float | None = None,
        ratio_at_most: float | None = None,
    ) -> None:
        """Milliseconds: p50, p95 and p99, the ratio of the medians to those of the metric `beside`, and targets for the
        median and for the ratio. Without `beside` it is a reference itself."""
        value = statistics.median(samples)
        entry: Entry = {"value": round(value, 3), "unit": "ms", "samples": len(samples)}
        entry |= {f"p{percent}": round(percentile(samples, percent), 3) for percent in (95, 99)}
        met = at_most is None or value <= at_most
        targets = [] if at_most is None else [f"≤ {at_most:g} ms"]
        if beside is not None:
            entry["beside"] = beside
            if beside in self.samples:
                ratio = value / statistics.median(self.samples[beside])
                entry["ratio"] = round(ratio, 4)
                met = met and (ratio_at_most is None or ratio <= ratio_at_most)
            else:
                self.without.append(name)
        if ratio_at_most is not None:
            targets.append(f"≤ 1/{1 / ratio_at_most:g}")
        self.samples[name] = [round(each, 4) for each in samples]
        self._keep(name, entry, met, " and ".join(targets))

    def cannot(self, name: str, why: str) -> None:
        """What does not run on this machine is said, with its own words."""
        self.metrics[name] = {"why": " ".join(why.split())[-300:]}
        print(f"{name:64} does not run here: {self.metrics[name]['why']}", flush=True)

    def add(self, name: str, samples_ms: list[float], reference: str | None = None) -> None:
        self.samples[name] = [round(each, 4) for each in samples_ms]
        for suffix, value in (("p50", statistics.median(samples_ms)), ("p99", percentile(samples_ms, 99))):
            entry: Entry = {"value": round(value, 3), "unit": "ms", "samples": len(samples_ms)}
            other = self.metrics.get(f"{reference}.{suffix}") if reference else None
            if other:
                entry["reference"] = reference
                entry["ratio"] = round(value / float(str(other["value"])), 3)
            elif reference:
                self.without.append(name)
            self.metrics[f"{name}.{suffix}"] = entry
        p50, p99 = self.metrics[f"{name}.p50"], self.metrics[f"{name}.p99"]
        beside = f"   {p50['ratio']} × {p50['reference']}" if "ratio" in p50 else ""
        print(f"{name:44} p50 {p50['value']:>9} ms   p99 {p99['value']:>9} ms   n={p50['samples']}{beside}", flush=True)

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
        entry: Entry = {"value": round(judged, 3), "unit": unit, "samples": len(samples)}
        entry |= {f"p{percent}": round(percentile(samples, percent), 3) for percent in (95, 99)}
        self.samples[name] = [round(each, 4) for each in samples]
        if reference is not None:
            other = statistics.median(reference)
            entry |= {"reference": round(other, 3), "reference_p95": round(percentile(reference, 95), 3)}
            judged = statistics.median(ours / theirs for ours, theirs in zip(samples, reference, strict=True))
            entry["ratio"] = round(judged, 3)
            self.samples[f"{name} (reference)"] = [round(each, 4) for each in reference]
        self._judge(name, entry, judged, at_least, at_most)

    def need(self, name: str, value: float, unit: str, at_most: float) -> None:
        self._judge(name, {"value": round(value, 3), "unit": unit}, value, None, at_most)

    def _judge(self, name: str, entry: Entry, value: float, at_least: float | None, at_most: float | None) -> None:
        met = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        target = f"≥ {at_least:g}" if at_least is not None else f"≤ {at_most:g}" if at_most is not None else ""
        self._keep(name, entry, met, target)

    def _keep(self, name: str, entry: Entry, met: bool, target: str) -> None:
        if target:
            entry |= {"target": target, "met": met}
        if not met:
            self.missed.append(name)
        self.metrics[name] = entry
        shown = ("p95", "p99", "samples", "reference", "beside", "ratio", "target")
        told = "".join(f"   {key} {entry[key]}" for key in shown if key in entry)
        print(f"{name:64} {entry['value']:>9} {entry['unit']}{told}{'' if met else '   MISSED'}", flush=True)
