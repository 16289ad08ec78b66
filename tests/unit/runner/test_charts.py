"""Charts of figures whose values are known, through a real context. The clients take each only whole."""

import json

import pytest

from .plots import PLOTS, PREPARE  # type: ignore[import-not-found]

LABELS = {"x_label", "y_label", "x_unit", "y_unit"}
TICKS = {f"{side}_{name}" for side in "xy" for name in ("ticks", "tick_labels", "scale")}
POINTS = {"label", "points"}
KEYS = {  # of a chart, besides type, title and elements; of an element
    "line": (LABELS | TICKS, POINTS),
    "scatter": (LABELS | TICKS, POINTS),
    "bar": (LABELS, {"label", "group", "value"}),
    "pie": (set(), {"label", "angle", "radius"}),
    "box_and_whisker": (
        LABELS,
        {"label", "min", "first_quartile", "median", "third_quartile", "max", "outliers"},
    ),
    "unknown": (set(), set()),
}


@pytest.fixture(scope="module")
def context(science_seed):
    context = science_seed.fork()
    context.run(PREPARE)
    yield context
    context.close()
    science_seed.exit_of(context.pid)


def chart_of(context, code):
    outcome = context.run(f"plt.close('all')\n{code}\nNone", describe=True)
    assert outcome.status == "ok", outcome.error["traceback"]
    (shown,) = (one for one in outcome.displays if "image/png" in one)
    return shown.get("e2b/chart")


def assert_is(found, expected):
    """Every key that is named, and every element whole."""
    if found["type"] == "superchart":
        assert len(found["elements"]) == len(expected["elements"])
        for one, other in zip(found["elements"], expected["elements"], strict=True):
            assert_is(one, other)
        assert found["title"] == expected["title"]
        assert set(found) == {"type", "title", "elements"}
        return
    assert {key: found.get(key) for key in expected} == expected
    chart_keys, element_keys = KEYS[found["type"]]
    assert set(found) == {"type", "title", "elements"} | chart_keys
    assert all(set(element) == element_keys for element in found["elements"])


@pytest.mark.parametrize("name", PLOTS)
def test_chart_has_the_values_that_were_plotted(context, name):
    plot = PLOTS[name]
    found = chart_of(context, plot.code)
    if plot.chart is None:
        assert found is None
        return
    assert found is not None
    assert_is(found, plot.chart)
    json.dumps(found, allow_nan=False)
