import base64
import json

import pytest

from atoll.agent.runner import display

RICH = """
class Rich:
    def _repr_html_(self): return '<b>x</b>'
    def _repr_markdown_(self): return '**x**'
    def _repr_latex_(self): return '$x$'
    def _repr_svg_(self): return '<svg/>'
    def _repr_png_(self): return b'\\x89PNG'
    def _repr_jpeg_(self): return 'already base64'
    def _repr_json_(self): return {'x': 1}
    def __repr__(self): return 'Rich()'
"""


def test_every_repr_method_fills_its_mime(context):
    assert context.run(RICH + "Rich()").result == {
        "text/html": "<b>x</b>",
        "text/markdown": "**x**",
        "text/latex": "$x$",
        "image/svg+xml": "<svg/>",
        "image/png": base64.b64encode(b"\x89PNG").decode(),
        "image/jpeg": "already base64",
        "application/json": {"x": 1},
        "text/plain": "Rich()",
    }


def test_mimebundle_wins_over_single_methods(context):
    code = """
class Bundle:
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {'text/html': 'bundle', 'application/x+json': [1]}, {'text/html': {'isolated': True}}
    def _repr_html_(self): return 'method'
    def __repr__(self): return 'Bundle()'
Bundle()
"""
    (result,) = context.run(code).of("result")
    assert result["data"] == {"text/html": "bundle", "application/x+json": [1], "text/plain": "Bundle()"}
    assert result["metadata"] == {"text/html": {"isolated": True}}


def test_display_in_a_loop_keeps_order(context):
    outcome = context.run("for n in range(3): display(n)")
    assert [one["text/plain"] for one in outcome.displays] == ["0", "1", "2"]


def test_object_that_displays_itself_has_no_result(context):
    code = "class Own:\n    def _ipython_display_(self): display('mine')\nOwn()"
    outcome = context.run(code)
    assert (outcome.displays, outcome.of("result")) == ([{"text/plain": "'mine'"}], [])


def test_display_raw_include_and_handle(context):
    outcome = context.run("handle = display({'text/html': 'raw'}, raw=True, display_id=True)\nhandle.update('again')")
    assert outcome.displays == [{"text/html": "raw"}, {"text/plain": "'again'"}]
    assert context.run(RICH + "display(Rich(), include=['text/html'])").displays == [{"text/html": "<b>x</b>"}]


def test_classes_and_mocks_are_not_rich(context):
    assert set(context.run(RICH + "Rich").result) == {"text/plain"}
    assert set(context.run("class Yes:\n    def __getattr__(self, name): return lambda *a: 'x'\nYes()").result) == {
        "text/plain"
    }


def test_repr_that_raises_becomes_a_traceback_text(context):
    outcome = context.run("class Broken:\n    def __repr__(self): raise ValueError('no repr')\nBroken()")
    assert outcome.status == "ok"
    assert outcome.text.startswith("<Broken object: its repr failed>\nTraceback")
    assert outcome.text.endswith("ValueError: no repr\n")
    assert context.run("1").text == "1"


def test_rich_form_that_raises_is_told_and_left_out(context):
    outcome = context.run("class Half:\n    def _repr_html_(self): raise ValueError('no html')\nHalf()")
    assert set(outcome.result) == {"text/plain"}
    assert "ValueError: no html" in outcome.stderr


def test_huge_repr_is_cut(context):
    text = context.run("'x' * 5_000_000").text
    assert len(text) < 1024 * 1024 + 100
    assert text.endswith("… [cut: 5,000,002 characters in all]")


def test_rich_value_above_the_limit_becomes_a_note(context):
    code = "class Big:\n    def _repr_html_(self): return 'x' * (33 * 2**20)\n    def __repr__(self): return 'Big()'\n"
    result = context.run(code + "Big()").result
    assert set(result) == {"text/plain"}
    assert result["text/plain"].splitlines()[0] == "Big()"
    assert "text/html left out: 34,603,010 bytes" in result["text/plain"]


def test_json_that_is_not_json_is_made_so(context):
    code = (
        "class J:\n    def _repr_json_(self): return {'nan': float('nan'), 1: object, 's': '\\ud800', 'l': (1, 2)}\nJ()"
    )
    found = context.run(code).result["application/json"]
    assert found == {"nan": None, "1": "<class 'object'>", "s": "\\ud800", "l": [1, 2]}
    json.dumps(found, allow_nan=False).encode()


def test_long_containers_are_wrapped_and_strings_are_not_split(context):
    assert context.run("{name: 'word ' * 20 for name in 'ab'}").text.count("\n") == 1
    assert context.run("'word ' * 50").text.count("\n") == 0


def test_ipython_display_works_without_a_shell(science):
    outcome = science.run(
        "from IPython.display import display, HTML, Markdown\ndisplay(HTML('<i>x</i>'))\nMarkdown('*y*')"
    )
    assert outcome.displays[0]["text/html"] == "<i>x</i>"
    assert outcome.result["text/markdown"] == "*y*"


def test_ipython_image_is_base64(science):
    code = "from IPython.display import Image\nImage(data=b'\\x89PNG\\r\\n\\x1a\\nrest', format='png')"
    assert base64.b64decode(science.run(code).result["image/png"]) == b"\x89PNG\r\n\x1a\nrest"


def test_ipython_clear_output_and_publish_work_without_a_shell(science):
    code = (
        "from IPython.display import clear_output, publish_display_data\n"
        "clear_output(wait=True)\npublish_display_data({'image/png': b'x'})"
    )
    assert science.run(code).displays == [{"image/png": "eA=="}]


def test_data_frame_is_html_and_text(science):
    result = science.run("import pandas as pd\npd.DataFrame({'name': ['a', 'b']})").result
    assert '<table border="1" class="dataframe">' in result["text/html"]
    assert result["text/plain"].splitlines()[0].split() == ["name"]


def test_series_is_text(science):
    assert "dtype: int64" in science.run("import pandas as pd\npd.Series([1, 2])").text


@pytest.fixture
def published():
    found = []
    display.connect(lambda kind, data, metadata: found.append((kind, data)) is None)
    yield found
    display.connect(None)


def test_publish_of_a_scalar_is_plain_text_only(published):
    display.publish("result", 5)
    assert published == [("result", {"text/plain": "5"})]


def test_nobody_connected_prints_text(capsys):
    display.display("x")
    assert capsys.readouterr().out == "'x'\n"
