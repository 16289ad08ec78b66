"""Charts of figures. What is plotted comes back as numbers; tests of the extraction itself are beside it."""

from __future__ import annotations

import base64

import pytest
from subject import charts

covers = pytest.mark.covers
BEGIN = "import matplotlib.pyplot as plt\nfrom datetime import datetime\n"


@pytest.fixture
def plotted(sandbox):
    def plot(code, shown=1):
        found = sandbox.run_code(f"{BEGIN}{code}\nplt.show()")
        assert found.error is None, found.error
        assert len(found.results) == shown
        assert all(base64.b64decode(each.png).startswith(b"\x89PNG") for each in found.results)
        return found.results[0].chart

    return plot


@covers("LineChart.elements", "Result.chart", "Result.png", "16.2 line", "16.2 units of labels", "PointData.points")
def test_lines(plotted):
    chart = plotted(
        "plt.plot([1, 2, 3], [4.5, 5.5, 9], label='speed')\nplt.plot([1, 2, 3], [1, 2, 3], label='other')\n"
        "plt.title('A title'); plt.xlabel('Time (s)'); plt.ylabel('Speed [km/h]')"
    )
    assert isinstance(chart, charts.LineChart)
    assert (chart.type, chart.title) == (charts.ChartType.LINE, "A title")
    assert (chart.x_label, chart.x_unit, chart.y_label, chart.y_unit) == ("Time (s)", "s", "Speed [km/h]", "km/h")
    assert (chart.x_scale, chart.y_scale) == (charts.ScaleType.LINEAR, charts.ScaleType.LINEAR)
    assert len(chart.x_ticks) == len(chart.x_tick_labels) > 0
    assert len(chart.y_ticks) == len(chart.y_tick_labels) > 0
    assert [(each.label, each.points) for each in chart.elements] == [
        ("speed", [(1, 4.5), (2, 5.5), (3, 9)]),
        ("other", [(1, 1), (2, 2), (3, 3)]),
    ]
    assert chart.to_dict()["title"] == "A title"


@covers("ScatterChart.elements", "16.2 scatter", "16.2 scales, dates as ISO text")
def test_scatter_with_scales(plotted):
    chart = plotted(
        "plt.scatter([datetime(2024, 1, 2), datetime(2024, 1, 3)], [10, 1000], label='a')\nplt.yscale('log')"
    )
    assert isinstance(chart, charts.ScatterChart)
    assert (chart.type, chart.title, chart.x_label, chart.y_label) == (charts.ChartType.SCATTER, None, None, None)
    assert (chart.x_unit, chart.y_unit) == (None, None)
    assert (chart.x_scale, chart.y_scale) == (charts.ScaleType.DATETIME, charts.ScaleType.LOG)
    assert chart.x_ticks[0].startswith("202")
    assert len(chart.x_tick_labels) == len(chart.x_ticks)
    assert (len(chart.y_ticks), 100 in chart.y_ticks) == (len(chart.y_tick_labels), True)
    (series,) = chart.elements
    assert (series.label, [y for _, y in series.points]) == ("a", [10, 1000])
    assert series.points[0][0].startswith("2024-01-02T00:00:00")
    assert chart.to_dict()["type"] == "scatter"


@covers("BarChart.elements", "BarData.value", "16.2 bar")
def test_bars(plotted):
    chart = plotted(
        "plt.bar(['x', 'y'], [3, 4], label='g')\nplt.xlabel('Name'); plt.ylabel('Height (m)'); plt.title('B')"
    )
    assert isinstance(chart, charts.BarChart)
    assert (chart.type, chart.title) == (charts.ChartType.BAR, "B")
    assert (chart.x_label, chart.x_unit, chart.y_label, chart.y_unit) == ("Name", None, "Height (m)", "m")
    assert [(each.label, each.group, float(each.value)) for each in chart.elements] == [("x", "g", 3), ("y", "g", 4)]
    assert chart.to_dict()["type"] == "bar"


@covers("PieChart.elements", "PieData.angle", "16.2 pie")
def test_pies(plotted):
    chart = plotted("plt.pie([1, 3], labels=['small', 'large'], radius=1)\nplt.title('P')")
    assert isinstance(chart, charts.PieChart)
    assert (chart.type, chart.title) == (charts.ChartType.PIE, "P")
    assert [(each.label, round(each.angle), each.radius) for each in chart.elements] == [
        ("small", 90, 1),
        ("large", 270, 1),
    ]
    assert chart.to_dict()["type"] == "pie"


@covers("BoxAndWhiskerChart.elements", "BoxAndWhiskerData.median", "16.2 box_and_whisker")
def test_boxes(plotted):
    chart = plotted("plt.boxplot([[1, 2, 3, 4, 5, 100]])\nplt.ylabel('Score (pt)'); plt.xlabel('Who'); plt.title('W')")
    assert isinstance(chart, charts.BoxAndWhiskerChart)
    assert (chart.type, chart.title) == (charts.ChartType.BOX_AND_WHISKER, "W")
    assert (chart.x_label, chart.x_unit, chart.y_label, chart.y_unit) == ("Who", None, "Score (pt)", "pt")
    (box,) = chart.elements
    assert (box.min, box.first_quartile, box.median, box.third_quartile, box.max) == (1, 2.25, 3.5, 4.75, 5)
    assert (box.label, box.outliers) == ("1", [100])
    assert chart.to_dict()["type"] == "box_and_whisker"


@covers("SuperChart.elements", "16.2 superchart", "Chart.title", "Chart2D.x_label", "PointChart.x_scale")
def test_several_charts_in_one_figure(plotted):
    chart = plotted("f, (a, b) = plt.subplots(1, 2)\na.plot([1], [2])\nb.bar(['x'], [1])\nf.suptitle('Both')")
    assert isinstance(chart, charts.SuperChart)
    assert (chart.type, chart.title) == (charts.ChartType.SUPERCHART, "Both")
    assert [each.type for each in chart.elements] == [charts.ChartType.LINE, charts.ChartType.BAR]
    assert len(chart.to_dict()["elements"]) == 2


@covers("16.2 an empty figure gives no chart")
def test_an_empty_figure(sandbox):
    found = sandbox.run_code(f"{BEGIN}plt.figure()\nplt.show()")
    assert [each.chart for each in found.results if "chart" in each.formats()] == []
