"""Code that is run: what it says, shows, fails with, and in which language."""

from __future__ import annotations

import json
import time
from contextlib import closing

import httpx
import pytest
from place import PLACE
from subject import CORE, MODULE
from wire import ask, events

covers = pytest.mark.covers
WAY = {"address": "2.3 plain HTTP, named by fields", "domain": "2.3 a domain, with TLS"}[PLACE["way"]]


@covers("Sandbox.run_code", "POST /execute", "Execution.text", "17 code that fails is a result", WAY)
def test_a_cell_has_a_result_output_and_a_number(sandbox):
    found = sandbox.run_code("import sys\nprint('out')\nprint('err', file=sys.stderr)\n1 + 1")
    assert (found.text, found.error) == ("2", None)
    assert ("".join(found.logs.stdout), "".join(found.logs.stderr)) == ("out\n", "err\n")
    assert found.execution_count >= 1
    (result,) = found.results
    assert (result.text, result.is_main_result, result.formats()) == ("2", True, ["text"])
    assert result.extra in (None, {})


@covers("Sandbox.run_code", "OutputMessage.line", "ExecutionError.traceback")
def test_call_backs_hear_of_everything(sandbox):
    heard = {"stdout": [], "stderr": [], "result": [], "error": []}
    code = "import sys\nprint('out')\nprint('err', file=sys.stderr)\ndisplay('shown')\n1 / 0"
    calls = {f"on_{name}": found.append for name, found in heard.items()}
    found = sandbox.run_code(code=code, timeout=30, request_timeout=30, **calls)
    for name, line, error in (("stdout", "out\n", False), ("stderr", "err\n", True)):
        assert "".join(each.line for each in heard[name]) == line
        assert {each.error for each in heard[name]} == {error}
        assert all(each.timestamp for each in heard[name])
    assert heard["result"] == found.results
    assert heard["error"] == [found.error]


@covers("ExecutionError.name", "ExecutionError.value", "16.1 errors: IPython's names, a traceback with colours")
def test_code_that_fails_is_a_result(sandbox):
    found = sandbox.run_code("def f():\n    return 1 / 0\nf()")
    assert (found.error.name, found.error.value) == ("ZeroDivisionError", "division by zero")
    assert "\x1b[" in found.error.traceback
    assert "ZeroDivisionError" in found.error.traceback
    assert sandbox.run_code("1 +").error.name == "SyntaxError"
    assert sandbox.run_code("'alive'").text == "alive"


@covers("Execution.to_json", "ExecutionError.to_json", "Logs.to_json", "Result.text")
def test_everything_becomes_json(sandbox):
    found = sandbox.run_code("print('out')\n{'a': 1}")
    assert '"text": ' in found.to_json()
    assert "".join(found.logs.stdout) == "out\n"
    assert json.loads(found.logs.to_json()) == {"stdout": found.logs.stdout, "stderr": []}
    assert '"NameError"' in sandbox.run_code("nothing_here").error.to_json()


# ---- languages

LANGUAGES = {
    "python": ("6 * 7", "42"),
    "javascript": ("[6, 7].reduce((a, b) => a * b)", "42"),
    "js": ("6 * 7", "42"),
    "typescript": ("const n: number = 42; n", "42"),
    "ts": ("type N = number; const m: N = 42; m", "42"),
    "r": ("6 * 7", "[1] 42"),
    "java": ("6 * 7", "42"),
}
FACTS = {
    "python": "16 python is the default language",
    "javascript": "16 javascript and js",
    "js": "16 javascript and js",
    "typescript": "16 typescript and ts",
    "ts": "16 typescript and ts",
    "r": "16 r",
    "java": "16 java",
}


@pytest.mark.parametrize(
    "language", [pytest.param(each, marks=covers("Sandbox.run_code", FACTS[each])) for each in LANGUAGES]
)
def test_languages(sandbox, language):
    code, text = LANGUAGES[language]
    found = sandbox.run_code(code, language=language)
    assert (found.error, found.results[-1].text) == (None, text)


@covers("Sandbox.run_code", "16 bash")
def test_bash(sandbox):
    found = sandbox.run_code("answer=42; echo $((answer)) $COLOUR", language="bash")
    assert (found.error, "".join(found.logs.stdout)) == (None, "42 blue\n")


@covers("16 names of languages: any case, blanks around")
def test_names_of_languages_in_any_case(one):
    assert one.run_code("6 * 7", language=" PyThon ").text == "42"
    assert one.run_code("'a' + 1", language="JS").text == "a1"


@covers("16 a language of nobody")
def test_a_language_of_nobody(sandbox):
    for call in (
        lambda: sandbox.run_code("1", language="cobol"),
        lambda: sandbox.create_code_context(language="cobol"),
    ):
        with pytest.raises(CORE.SandboxException, match=r"^5\d\d.*cobol"):
            call()


# ---- results of every kind

SHOWN = {
    "html": ("text/html", "<b>bold</b>"),
    "markdown": ("text/markdown", "# Title"),
    "svg": ("image/svg+xml", "<svg/>"),
    "png": ("image/png", "iVBORw0KGgo="),
    "jpeg": ("image/jpeg", "/9j/4AAQ"),
    "pdf": ("application/pdf", "JVBERi0="),
    "latex": ("text/latex", "$x^2$"),
    "json": ("application/json", {"a": [1, None]}),
    "javascript": ("application/javascript", "alert(1)"),
}


@covers("16.1 MIME types of results", "16.1 other MIME types are in extra", "Result.extra", "Result.formats")
def test_results_of_every_kind(sandbox):
    bundle = dict(SHOWN.values()) | {"text/x-own": "mine"}
    (result,) = sandbox.run_code(f"display({bundle!r}, raw=True)").results
    assert {name: getattr(result, name) for name in SHOWN} == {name: value for name, (_, value) in SHOWN.items()}
    assert (result.extra, result.is_main_result) == ({"text/x-own": "mine"}, False)
    assert set(result.formats()) == {*SHOWN, "text/x-own"}
    assert result["html"] == "<b>bold</b>"


@covers("16.1 is_main_result: the last expression, not what is displayed", "Result.is_main_result")
def test_what_is_displayed_is_not_the_main_result(sandbox):
    found = sandbox.run_code("display(1)\ndisplay('two')\n3")
    assert [(each.text, each.is_main_result) for each in found.results] == [("1", False), ("two", False), ("3", True)]
    assert sandbox.run_code("x = 1").results == []


@covers("Result.data", "16.1 data of a DataFrame", "Result.html")
def test_a_data_frame(sandbox):
    code = "import pandas\npandas.DataFrame({'a': [1, 2], 'when': pandas.to_datetime(['2024-01-02', '2024-01-03'])})"
    (result,) = sandbox.run_code(code).results
    assert result.data["a"] == [1, 2]
    assert result.data["when"][0].startswith("2024-01-02T00:00:00")
    assert "<table" in result.html
    assert {"text", "html", "data"} <= set(result.formats())


# ---- what the client does not show: the lines


@covers(
    "16.1 number_of_executions, the first event, from 1 in each context",
    "16.1 end_of_execution is the last line",
    "16.1 nulls are left out",
)
def test_the_lines_of_an_execution(one, room):
    for number in (1, 2):
        found = list(events(one, code="print('x')\n5", context_id=room.id, language=None, env_vars=None))
        assert found[0] == {"type": "number_of_executions", "execution_count": number}
        assert found[-1] == {"type": "end_of_execution"}
        assert {each["type"] for each in found[1:-1]} == {"result", "stdout"}
        assert all(value is not None for each in found for value in each.values())


@covers("16.1 stdout and stderr come at once, with text and timestamp")
def test_output_comes_at_once(one, room):
    """What is said next waits until it has been heard."""
    heard = f"/tmp/heard-{room.id}"
    wait = f"while not os.path.exists({heard!r}): time.sleep(0.01)"
    code = f"import os, sys, time\nprint('first')\n{wait}\nprint('second', file=sys.stderr)"
    said = {"stdout": "", "stderr": ""}
    for each in events(one, code=code, context_id=room.id):
        if each["type"] in said:
            said[each["type"]] += each["text"]
            assert each.keys() == {"type", "text", "timestamp"}
            assert time.strptime(each["timestamp"][:19], "%Y-%m-%dT%H:%M:%S")
            if said == {"stdout": "first\n", "stderr": ""}:
                one.files.write(heard, "")
    assert said == {"stdout": "first\n", "stderr": "second\n"}


@covers("16.1 keepalive in silence")
def test_silence_is_filled(one, room):
    kinds = [each["type"] for each in events(one, code="import time; time.sleep(8)", context_id=room.id)]
    assert "keepalive" in kinds


@covers("16 a malformed body: 422", "16 GET /health", "16 context and language at once: 400")
def test_what_the_server_says_by_itself(one, room):
    health = ask(one, "GET", "/health")
    assert (health.status_code, health.json()) == (200, "OK")
    assert ask(one, "POST", "/execute", json={"language": "python"}).status_code == 422
    both = ask(one, "POST", "/execute", json={"code": "1", "context_id": room.id, "language": "python"})
    assert (both.status_code, both.text) == (400, "Only one of context_id or language can be provided")
    with pytest.raises(CORE.InvalidArgumentException):
        one.run_code("1", language="python", context=room)


# ---- time, and ends


@covers("Sandbox.run_code", "16 a closed connection interrupts the cell")
def test_a_time_limit_interrupts_the_cell(sandbox, context):
    code = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    ended = 'interrupted'\n    raise"
    with pytest.raises(CORE.TimeoutException, match="timeout"):
        sandbox.run_code(code, context=context, timeout=4, request_timeout=6)  # some versions take the longer one
    assert sandbox.run_code("ended", context=context).text == "interrupted"


@covers("Sandbox.run_code")
def test_no_time_limit(sandbox):
    assert sandbox.run_code("import time; time.sleep(1.2); 'slept'", timeout=0).text == "slept"


@covers("16 a closed connection interrupts the cell")
def test_leaving_interrupts_the_cell(one, room):
    code = (
        "import time\ntry:\n    print('begun')\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    left = 'interrupted'"
    )
    with closing(events(one, code=code, context_id=room.id)) as lines:
        assert next(each for each in lines if each["type"] == "stdout")["text"].startswith("begun")
    assert one.run_code("left", context=room).text == "interrupted"


@covers("16 a dead interpreter: UnexpectedEndOfExecution, and it comes back")
def test_an_interpreter_that_dies_comes_back(own):
    made = own()
    found = made.run_code("import os\nos.kill(os.getpid(), 9)")
    assert found.error.name == "UnexpectedEndOfExecution"
    assert made.run_code("'back'").text == "back"


@covers("17 killed in mid-execution: a TimeoutException that says so")
def test_a_sandbox_that_is_killed_meanwhile(own):
    made = own()
    with pytest.raises((CORE.TimeoutException, *KILLED)):
        made.run_code("import time\nprint('begun')\ntime.sleep(60)", on_stdout=lambda _: _kill(made))


KILLED = () if hasattr(MODULE.Sandbox, "_handle_connection_error") else (httpx.RemoteProtocolError,)
"""Older versions let their HTTP library's error through."""


def _kill(made):
    MODULE.Sandbox.kill(made.sandbox_id)
