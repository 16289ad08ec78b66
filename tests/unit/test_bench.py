"""What the bench says is what it measured: it fails where a reference is missing or a target is missed."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules of the bench by name; they are a script's, beside each other."""
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)

    def get(name: str) -> ModuleType:
        return import_module(name)

    yield get
    for name in set(sys.modules) - before:
        if str(BENCH) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def report(module: Any) -> Any:
    return module("report").Report()


def test_metric_whose_reference_was_not_measured_is_told(report: Any) -> None:
    report.measure("reference", [100.0])
    report.measure("beside it", [4.0], beside="reference")
    report.measure("alone", [4.0], beside="never measured")
    assert report.without == ["alone"]
    assert report.metrics["beside it"]["ratio"] == 0.04


@pytest.mark.parametrize(
    ("given", "missed"), [({"ratio_at_most": 1 / 25}, False), ({"ratio_at_most": 1 / 26}, True), ({"at_most": 3}, True)]
)
def test_targets_are_for_the_median_and_for_the_ratio(report: Any, given: dict[str, float], missed: bool) -> None:
    report.measure("reference", [100.0])
    report.measure("ours", [1.0, 4.0, 90.0], beside="reference", **given)
    assert report.missed == (["ours"] if missed else [])
    assert report.metrics["ours"]["met"] is not missed


def test_all_samples_are_kept_in_their_order(report: Any) -> None:
    report.measure("m", [3.0, 1.0, 2.0])
    report.put("p", [2.0, 1.0], "ms", reference=[1.0, 1.0])
    report.add("a", [5.0, 4.0])
    assert report.samples == {"m": [3.0, 1.0, 2.0], "p": [2.0, 1.0], "p (reference)": [1.0, 1.0], "a": [5.0, 4.0]}


def test_what_does_not_run_here_is_told_with_its_words(report: Any) -> None:
    report.cannot("runsc", "FATAL:\n  no such platform")
    assert report.metrics["runsc"] == {"why": "FATAL: no such platform"}


@pytest.mark.parametrize(
    ("received", "found"),
    [
        (b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET", (b"abcde", b"GET")),
        (b"0\r\n\r\n", (b"", b"")),
        (b"3\r\nabc\r\n0\r\n", None),
    ],
)
def test_server_that_answers_at_once_waits_for_the_last_chunk(module: Any, received: bytes, found: Any) -> None:
    assert module("instant")._chunks(received) == found


def test_flame_graph_is_as_wide_as_what_it_shows(module: Any) -> None:
    drawing = module("drawing")
    picture = drawing.flame_graph([(("node", "create"), 3.0), (("edge",), 1.0), (("node", "a<b"), 0.0001)], "all")
    tree = ElementTree.fromstring(picture)
    titles = [each.text for each in tree.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["all: 4.00 ms", "node: 3.00 ms", "create: 3.00 ms", "edge: 1.00 ms"]


def test_samples_of_a_process_that_waits_are_not_counted(module: Any, tmp_path: Path) -> None:
    run = "run (asyncio/runners.py);create (atoll/node/sandboxes.py)"
    (tmp_path / "7").write_text(f"{run} 3\n{run};a (sqlalchemy/x.py);b (sqlalchemy/y.py) 2\nselect (selectors.py) 90\n")
    found = module("flame").samples(tmp_path / "7")
    create = "create (node/sandboxes.py)"
    assert found == {(create,): 3, (create, "sqlalchemy"): 2}
