"""Data beside rich results, through real contexts; what fails or is too large is left out and nothing else happens."""

import json

import pytest

FIGURE = "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()\n"
FRAME = "import pandas as pd, numpy as np, datetime, decimal\n"


def data_of(context, expression):
    outcome = context.run(FRAME + expression, describe=True)
    assert outcome.status == "ok"
    return outcome.result.get("e2b/data")


def json_of(context, expression):
    outcome = context.run(expression, describe=True)
    assert outcome.status == "ok"
    assert outcome.stderr == ""
    return outcome.result.get("application/json", "none")


@pytest.mark.parametrize(
    "code", [FRAME + "pd.DataFrame({'a': [1]})", "{'a': 1}", "[1]", FIGURE + "axes.plot([1]); figure"]
)
def test_nothing_is_described_unasked(science, code):
    for more in ({}, {"describe": False}, {"describe": "yes"}):
        result = science.run(code, **more).result
        assert not {"e2b/data", "e2b/chart", "application/json"} & set(result)


def test_description_lasts_for_its_cell(science):
    assert "application/json" in science.run("[1]", describe=True).result
    assert science.run("[1]").result == {"text/plain": "[1]"}


# Tables


def test_columns_are_values_and_the_index_is_not_among_them(science):
    assert data_of(science, "pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']}, index=[7, 8])") == {
        "a": [1, 2],
        "b": ["x", "y"],
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("[1.5, float('nan'), float('inf')]", [1.5, None, None]),
        ("np.array([1, 2], dtype='uint8')", [1, 2]),
        ("[True, False]", [True, False]),
        ("pd.array([1, None], dtype='Int64')", [1, None]),
        ("pd.array([True, None], dtype='boolean')", [True, None]),
        ("pd.to_datetime(['2024-01-02', None])", ["2024-01-02T00:00:00", None]),
        ("pd.to_datetime(['2024-01-02']).tz_localize('UTC')", ["2024-01-02T00:00:00+00:00"]),
        ("pd.to_timedelta(['1 days', None])", ["P1DT0H0M0S", None]),
        ("pd.period_range('2024-01', periods=2, freq='M')", ["2024-01", "2024-02"]),
        ("pd.Categorical(['x', None, 'x'])", ["x", None, "x"]),
        ("['x', None, 'é\\ud800']", ["x", None, "é\\ud800"]),
        ("[datetime.date(2024, 1, 2), datetime.time(3, 4)]", ["2024-01-02", "03:04:00"]),
        ("[decimal.Decimal('1.5'), {1: (2, np.int8(3))}]", [1.5, {"1": [2, 3]}]),
        ("[{1}, int]", ["{1}", "<class 'int'>"]),
        ("[1 + 2j]", ["(1+2j)"]),
        ("[np.datetime64('2024-01-02'), 'x', pd.NA]", ["2024-01-02T00:00:00", "x", None]),
    ],
)
def test_values_of_every_type(science, values, expected):
    assert data_of(science, f"pd.DataFrame({{'a': {values}}})")["a"] == expected


def test_names_of_columns_are_texts(science):
    assert data_of(science, "pd.DataFrame([[1, 2, 3]], columns=[0, ('x', 'y'), None])") == {
        "0": [1],
        "('x', 'y')": [2],
        "None": [3],
    }


def test_of_two_columns_of_one_name_the_last_counts(science):
    assert data_of(science, "pd.DataFrame([[1, 2]], columns=['a', 'a'])") == {"a": [2]}


def test_empty_table_is_described(science):
    assert data_of(science, "pd.DataFrame({'a': []})") == {"a": []}
    assert data_of(science, "pd.DataFrame()") == {}


@pytest.mark.parametrize(
    "frame",
    [
        "pd.DataFrame({'a': np.zeros(1_000_000)})",
        "pd.DataFrame(np.zeros((1, 20_000)))",
        "pd.DataFrame({'a': ['x' * 3_000_000]})",
    ],
)
def test_large_table_has_no_data(science, frame):
    assert data_of(science, frame) is None


def test_displayed_table_is_described_too(science):
    (shown,) = science.run(FRAME + "display(pd.DataFrame({'a': [1]}))", describe=True).displays
    assert shown["e2b/data"] == {"a": [1]}
    assert "text/html" in shown


def test_include_and_exclude_hold_for_descriptions(science):
    code = FRAME + "f = pd.DataFrame({'a': [1]})\ndisplay(f, include=['text/plain'])\ndisplay(f, exclude=['e2b/data'])"
    first, second = science.run(code, describe=True).displays
    assert set(first) == {"text/plain"}
    assert "e2b/data" not in second
    assert "text/html" in second


def test_cell_of_a_table_that_cannot_be_told_leaves_the_data_out(science):
    code = "class Bad:\n    bad = False\n    def __repr__(self): return 'b' if not Bad.bad else 1 / 0\n"
    outcome = science.run(f"{FRAME}{code}f = pd.DataFrame({{'a': [Bad()]}}); Bad.bad = True; f", describe=True)
    assert outcome.status == "ok"
    assert "e2b/data" not in outcome.result


# Dicts and lists


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("{'a': [1, 2.5, None, True]}", {"a": [1, 2.5, None, True]}),
        ("[]", []),
        ("{1: 2, None: 3, True: 4, 1.5: 5}", {"1": 4, "null": 3, "1.5": 5}),
        ("[float('nan'), float('-inf')]", [None, None]),
        ("import datetime\n{'at': datetime.datetime(2024, 1, 2)}", {"at": "2024-01-02T00:00:00"}),
        ("import collections\ncollections.OrderedDict(a=(1, 2))", {"a": [1, 2]}),
        ("import enum\nE = enum.Enum('E', 'x y')\n{E.x: E.y}", {"1": 2}),
        ("['\\ud800']", ["\\ud800"]),
    ],
)
def test_dict_and_list_are_json(context, expression, expected):
    assert json_of(context, expression) == expected


def test_numbers_of_numpy_are_json(science):
    assert json_of(
        science, "import numpy as np\n{'a': np.int64(1), 'b': np.array([[1.5, np.nan]]), np.int8(3): np.bool_(True)}"
    ) == {
        "a": 1,
        "b": [[1.5, None]],
        "3": True,
    }


@pytest.mark.parametrize(
    "expression",
    [
        "[object()]",
        "{(1, 2): 3}",
        "[{1}]",
        "[b'x']",
        "[2 ** 64]",
        "[10 ** 5000]",
        "a = []\na.append(a)\na",
        "[0] * 1_000_000",
        "['x' * 3_000_000]",
        "a = []\nfor _ in range(200): a = [a]\na",
        "class D(dict):\n    def items(self): raise ValueError\nD(a=1)",
    ],
)
def test_what_is_not_json_or_too_large_stays_text(context, expression):
    assert json_of(context, expression) == "none"


@pytest.mark.parametrize("expression", ["1", "'x'", "(1, 2)", "{1}", "None is None"])
def test_other_values_are_text_alone(context, expression):
    assert set(context.run(expression, describe=True).result) == {"text/plain"}


# Figures


@pytest.mark.parametrize("last", ["figure", "display(figure)", "figure.show()", "plt.show()", "None"])
def test_shown_figure_has_its_chart_once(science, last):
    outcome = science.run(f"{FIGURE}lines = axes.plot([1, 2])\n{last}", describe=True)
    (shown,) = [one["data"] for one in outcome.objects if "image/png" in one.get("data", {})]
    assert shown["e2b/chart"]["type"] == "line"
    assert set(shown) == {"image/png", "text/plain", "e2b/chart"}
    assert outcome.stderr == ""


def test_figure_without_an_image_has_no_chart(science):
    outcome = science.run(FIGURE + "axes.plot([1]); axes.set_title('$\\\\frac$'); figure", describe=True)
    assert set(outcome.result) == {"text/plain"}


HOSTILE = {
    "label that cannot be told": (
        "class Bad(str):\n    def __str__(self): raise ValueError('told')\naxes.plot([1])[0]._label = Bad('x')"
    ),
    "axes that refuse": (
        "class Bad(plt.Axes):\n    @property\n    def containers(self): raise ValueError('told')\n"
        "axes.__class__ = type('Axes', (Bad, type(axes)), {})\naxes.plot([1])"
    ),
    "artists that are none": "axes.containers.append(None); axes.plot([1]); axes.containers.append((1, 2, 3))",
    "million points": "import numpy as np\naxes.plot(np.zeros(1_000_000))",
    "many lines": "import numpy as np\naxes.plot(np.zeros((30_000, 4)))",
    "endless label": "axes.plot([1])[0].set_label('x' * 3_000_000)",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_figure_is_shown_without_a_chart_or_with_a_right_one(science, name):
    outcome = science.run(
        f"import matplotlib as m\nm.rcParams['figure.dpi'] = 20\n{FIGURE}{HOSTILE[name]}\nNone", describe=True
    )
    assert outcome.status == "ok"
    assert outcome.stderr == ""
    (shown,) = outcome.displays
    assert "image/png" in shown
    if name != "artists that are none":
        assert "e2b/chart" not in shown


def test_lone_surrogates_do_not_leave(science):
    outcome = science.run(FIGURE + "axes.plot([1])[0]._label = 'a\\ud800'\nNone", describe=True)
    (shown,) = outcome.displays
    assert shown["e2b/chart"]["elements"][0]["label"] == "a\\ud800"
    json.dumps(shown).encode()


def test_unit_of_a_label_that_never_closes_its_brackets_is_found_quickly(science):
    outcome = science.run(
        FIGURE + "axes.plot([1]); axes.set_xlabel(' (' * 100_000); axes.xaxis.label.set_visible(False)\nNone",
        describe=True,
    )
    (shown,) = outcome.displays
    assert shown["e2b/chart"]["x_unit"] is None
