import base64
import struct

import pytest

PLOT = "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()\nlines = axes.plot([1, 2])\n"


def size_of(png: str) -> tuple[int, int]:
    data = base64.b64decode(png)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def test_open_figure_appears_at_the_end_of_the_cell_and_is_closed(science):
    outcome = science.run(PLOT)
    (shown,) = outcome.displays
    width, height = size_of(shown["image/png"])
    assert 400 < width < 700
    assert 300 < height < 500
    assert shown["text/plain"] == "<Figure size 640x480 with 1 Axes>"
    assert science.run("plt.get_fignums()").text == "[]"


def test_show_publishes_at_once(science):
    outcome = science.run(PLOT + "plt.show()\ndisplay('after')")
    assert ["image/png" in one for one in outcome.displays] == [True, False]


@pytest.mark.parametrize("last", ["figure", "display(figure)", "figure.show()", "plt.show()"])
def test_figure_is_shown_once(science, last):
    outcome = science.run(PLOT + last)
    shown = [one for one in outcome.objects if "image/png" in one.get("data", {})]
    assert len(shown) == 1


def test_figure_changed_after_display_is_shown_again(science):
    outcome = science.run(PLOT + "display(figure)\naxes.set_title('new')\nNone")
    assert [sorted(one) for one in outcome.displays] == [["image/png", "text/plain"]] * 2


def test_closed_figure_is_not_shown(science):
    assert science.run(PLOT + "plt.close()").displays == []


def test_saved_figure_is_still_shown(science, tmp_path):
    outcome = science.run(PLOT + "figure.savefig('saved.png')")
    assert len(outcome.displays) == 1
    assert (tmp_path / "saved.png").read_bytes()[:4] == b"\x89PNG"


def test_figures_of_a_failing_cell_are_shown(science):
    outcome = science.run(PLOT + "1/0")
    assert [one["type"] for one in outcome.objects] == ["display", "error", "end"]


def test_several_figures_come_in_order(science):
    code = "import matplotlib.pyplot as plt\nfor n in (1, 2):\n    plt.figure(figsize=(n, 1))\n    plt.plot([1])"
    widths = [size_of(one["image/png"])[0] for one in science.run(code).displays]
    assert widths == sorted(widths)
    assert len(widths) == 2


def test_program_that_chooses_agg_itself_is_shown_too(science):
    assert len(science.run("import matplotlib\nmatplotlib.use('Agg')\n" + PLOT + "plt.show()").displays) == 1


def test_dpi_of_the_figure_counts(science):
    science.run("import matplotlib.pyplot as plt")
    sizes = [
        size_of(science.run(f"f = plt.figure(dpi={dpi}); a = f.add_axes([0, 0, 1, 1])").displays[0]["image/png"])[0]
        for dpi in (50, 100)
    ]
    assert 1.9 < sizes[1] / sizes[0] < 2.1


def test_pandas_plot_is_shown(science):
    outcome = science.run("import pandas as pd\npd.Series([1, 2]).plot();")
    assert len(outcome.displays) == 1


def test_figure_that_cannot_be_drawn_is_told_and_closed(science):
    outcome = science.run(PLOT + "axes.set_title('$\\\\frac$')\nNone")
    assert outcome.displays == []
    assert "ValueError" in outcome.stderr
    assert science.run("plt.get_fignums()").text == "[]"


def test_plotly_shape_is_published_without_ipython(plain, tmp_path):
    """plotly itself is large; a package of its shape shows that our adjustments reach it."""
    package = tmp_path / "plotly"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "io.py").write_text("def show(*a, **k): raise ValueError('needs a browser')")
    (package / "basedatatypes.py").write_text(
        "class BaseFigure:\n"
        "    def to_json(self): return '{\"data\": [1]}'\n"
        "    def to_html(self, **options): return '<div>'\n"
        "    def show(self): raise ValueError('needs a browser')\n"
        "    def _ipython_display_(self): raise ValueError('needs IPython')\n"
    )
    plain.run("import plotly.io\nfrom plotly.basedatatypes import BaseFigure")
    outcome = plain.run("f = BaseFigure()\nf.show()\nplotly.io.show(f)\nf")
    expected = {
        "application/vnd.plotly.v1+json": {"data": [1]},
        "application/json": {"data": [1]},
        "text/html": "<div>",
        "text/plain": "<plotly figure with 1 traces>",
    }
    assert outcome.displays == [expected, expected]
    assert outcome.result == expected
