"""E2B's code interpreter (port 49999) of real sandboxes, by plain HTTP: what cells say, contexts, ends, who gets in."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from envd import token_of
from stack import Box, Stack

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

Event = dict[str, Any]
END = {"type": "end_of_execution"}


class Code:
    """The interpreter of one sandbox, as E2B's clients call it."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self._client = box.stack.client
        self.named = {"E2b-Sandbox-Id": box.id, "E2b-Sandbox-Port": "49999"}
        self.token = {"X-Access-Token": token_of(box)}

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {**self.named, **self.token, **more.pop("headers", {})}
        return self._client.request(method, path, headers=headers, **more)

    def run(self, code: str, **order: Any) -> list[Event]:
        with self.running(code, **order) as lines:
            return list(lines)

    @contextlib.contextmanager
    def running(self, code: str, **order: Any) -> Iterator[Iterator[Event]]:
        """Leaving it closes the connection."""
        with httpx.stream(
            "POST",
            f"{self.box.stack.url}/execute",
            json={"code": code, **order},
            headers={**self.named, **self.token},
            timeout=60,
            trust_env=False,
        ) as response:
            assert response.status_code == 200, response.read()
            yield (json.loads(line) for line in response.iter_lines())

    def text(self, code: str, **order: Any) -> str | None:
        """Of the main result; the cell must end well."""
        events = self.run(code, **order)
        assert not [event for event in events if event["type"] == "error"], events
        assert events[-1] == END
        return next((event["text"] for event in events if event.get("is_main_result")), None)

    def context(self, **order: Any) -> str:
        made = self.ask("POST", "/contexts", json=order)
        assert made.status_code == 200, made.text
        return str(made.json()["id"])


def of(kind: str, events: list[Event]) -> list[Event]:
    return [event for event in events if event["type"] == kind]


def said(events: list[Event], kind: str = "stdout") -> str:
    return "".join(event["text"] for event in of(kind, events))


@pytest.fixture(scope="module")
def code(stack: Stack) -> Iterator[Code]:
    with stack.box(inbound_auth="public", env_vars={"COLOUR": "green"}) as made:
        yield Code(made)


# ---- what a cell says


def test_output_results_and_the_count(code):
    context = code.context()
    events = code.run("import sys\nprint('one')\nprint('two', file=sys.stderr)\n'it'", context_id=context)
    assert events[0] == {"type": "number_of_executions", "execution_count": 1}
    assert (said(events), said(events, "stderr")) == ("one\n", "two\n")
    assert of("result", events) == [{"type": "result", "text": "it", "extra": {}, "is_main_result": True}]
    assert events[-1] == END
    assert code.run("1", context_id=context)[0]["execution_count"] == 2


def test_rich_results(code):
    cell = """
from IPython.display import *
display(HTML("<b>x</b>"), Markdown("*x*"), SVG("<svg/>"), Latex("$x$"), JSON({"a": [1]}), Javascript("x()"))
display({"application/x-mine": 5, "text/plain": "mine"}, raw=True)
display({"image/png": "iVBO", "image/jpeg": "/9j/", "application/pdf": "JVBE"}, raw=True)
"""
    shown = of("result", code.run(cell))
    assert not any(event["is_main_result"] for event in shown)
    found = [{name: value for name, value in event.items() if name not in ("text", "type")} for event in shown]
    plain: Event = {"extra": {}, "is_main_result": False}
    assert found == [
        {"html": "<b>x</b>", **plain},
        {"markdown": "*x*", **plain},
        {"svg": "<svg/>", **plain},
        {"latex": "$x$", **plain},
        {"json": {"a": [1]}, **plain},
        {"javascript": "x()", **plain},
        {**plain, "extra": {"application/x-mine": 5}},
        {"png": "iVBO", "jpeg": "/9j/", "pdf": "JVBE", **plain},
    ]


def test_figures_tables_and_dicts_bring_their_data(code):
    cell = """
import matplotlib.pyplot as plt, pandas as pd
figure, axes = plt.subplots()
axes.bar(["A", "B"], [1, 2.5], label="sold")
axes.set_title("Books")
axes.set_ylabel("Sales (k€)")
plt.show()
display(pd.DataFrame({"day": pd.to_datetime(["2024-01-02", None]), "n": [1.5, float("nan")]}))
{"a": [1]}
"""
    figure, table, words = of("result", code.run(cell))
    labels = {"x_label": None, "y_label": "Sales (k€)", "x_unit": None, "y_unit": "k€"}
    values = [{"label": label, "group": "sold", "value": value} for label, value in (("A", 1), ("B", 2.5))]
    assert figure["chart"] == {"type": "bar", "title": "Books", **labels, "elements": values}
    assert "png" in figure
    assert table["data"] == {"day": ["2024-01-02T00:00:00", None], "n": [1.5, None]}
    assert "html" in table
    assert words["json"] == {"a": [1]}
    assert {*figure["extra"], *table["extra"], *words["extra"]} == set()


def test_an_error_has_its_name_its_value_and_a_traceback(code):
    events = code.run("print('before')\n1/0")
    (error,) = of("error", events)
    assert (error["name"], error["value"]) == ("ZeroDivisionError", "division by zero")
    assert "1/0" in error["traceback"]
    assert (said(events), events[-1]) == ("before\n", END)


def test_each_word_comes_when_it_is_said(code):
    with code.running("print('a', flush=True)\nimport time\ntime.sleep(600)") as lines:
        assert next(lines)["type"] == "number_of_executions"
        assert next(lines)["text"] == "a\n"


def test_characters_that_others_take_for_ends_of_lines(code):
    assert said(code.run("print('a\\u2028b\\x85c\\U0001f600', end='')")) == "a\u2028b\x85c\U0001f600"


def test_a_figure_of_megabytes(code):
    (shown,) = of("result", code.run("display({'image/png': 'iVBO' * 1_000_000}, raw=True)"))
    assert len(shown["png"]) == 4_000_000


def test_silence_is_broken_every_five_seconds(code):
    begun = time.monotonic()
    with code.running("import time\ntime.sleep(600)", context_id=code.context()) as lines:
        assert [next(lines)["type"] for _ in range(2)] == ["number_of_executions", "keepalive"]
    assert 4.9 < time.monotonic() - begun < 15


# ---- contexts


def test_the_default_ones_are_listed_and_python_is_the_default(code):
    listed = code.ask("GET", "/contexts").json()
    assert [each["language"] for each in listed[:2]] == ["python", "javascript"]
    assert all(each["cwd"] == "/home/user" for each in listed[:2])
    code.run("kept = 41")
    for order in ({}, {"language": "python"}, {"language": " Python "}, {"context_id": listed[0]["id"]}):
        assert code.text("kept + 1", **order) == "42"


def test_each_has_its_own_variables_and_its_own_directory(code):
    first, second = code.context(), code.context(cwd="/tmp/elsewhere")
    code.run("x = 1", context_id=first)
    assert said(code.run("print('x' in globals())", context_id=second)) == "False\n"
    where = "import os; os.getcwd()"
    assert [code.text(where, context_id=each) for each in (first, second)] == ["/home/user", "/tmp/elsewhere"]
    assert code.text(where) == "/home/user"
    listed = {each["id"]: each for each in code.ask("GET", "/contexts").json()}
    assert listed[second] == {"id": second, "language": "python", "cwd": "/tmp/elsewhere"}


def test_a_removed_one_is_gone(code):
    context = code.context()
    removed = code.ask("DELETE", f"/contexts/{context}")
    assert (removed.status_code, removed.text) == (200, "null")
    assert context not in [each["id"] for each in code.ask("GET", "/contexts").json()]
    for answer in (
        code.ask("POST", "/execute", json={"code": "1", "context_id": context}),
        code.ask("POST", f"/contexts/{context}/restart"),
        code.ask("DELETE", f"/contexts/{context}"),
    ):
        assert (answer.status_code, answer.text) == (404, f"Context {context} not found")


def test_a_restarted_one_begins_anew(code):
    context = code.context()
    code.run("x = 1", context_id=context)
    restarted = code.ask("POST", f"/contexts/{context}/restart")
    assert (restarted.status_code, restarted.text) == (200, "null")
    events = code.run("x", context_id=context)
    assert (events[0]["execution_count"], of("error", events)[0]["name"]) == (1, "NameError")


def test_a_restart_ends_the_cell_that_runs(code):
    context = code.context()
    with code.running("print('here', flush=True)\nimport time\ntime.sleep(600)", context_id=context) as lines:
        assert [next(lines)["type"] for _ in range(2)] == ["number_of_executions", "stdout"]
        assert code.ask("POST", f"/contexts/{context}/restart").status_code == 200
        rest = list(lines)
    (error,) = of("error", rest)
    assert (error["name"], error["value"], rest[-1]) == ("ContextRestarting", "Context was restarted", END)


def test_a_kernel_that_dies_is_told_and_comes_back(code):
    context = code.context()
    events = code.run("import os\nos.kill(os.getpid(), 9)", context_id=context)
    assert of("error", events)[0]["name"] == "UnexpectedEndOfExecution"
    assert events[-1] == END
    assert code.text("1 + 1", context_id=context) == "2"


def test_a_language_without_a_kernel_is_refused_in_words(code):
    for answer in (
        code.ask("POST", "/contexts", json={"language": "cobol"}),
        code.ask("POST", "/execute", json={"code": "1", "language": "cobol"}),
    ):
        assert answer.status_code == 500
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert "kernel" in answer.text


# ---- variables of the environment


def test_those_of_the_sandbox_are_in_every_context(code):
    for context in (code.context(), None):
        assert code.text("import os; os.environ['COLOUR']", context_id=context) == "green"


def test_those_of_an_execution_are_taken_back(code):
    context = code.context()
    read = "import os; [os.environ.get(name) for name in ('COLOUR', 'MINE')]"
    env = {"COLOUR": "red", "MINE": "x"}
    assert code.text(read, context_id=context, env_vars=env) == "['red', 'x']"
    assert code.text(read, context_id=context) == "['green', None]"


# ---- turns and ends


def test_one_context_runs_one_cell_at_a_time_and_others_run_beside_it(code):
    first, second = code.context(), code.context()
    answers: list[str | None] = []
    with code.running("print('here', flush=True)\nx = 1\nimport time\ntime.sleep(600)", context_id=first) as it:
        assert [next(it)["type"] for _ in range(2)] == ["number_of_executions", "stdout"]
        waiting = threading.Thread(target=lambda: answers.append(code.text("x + 1", context_id=first)))
        waiting.start()
        assert code.text("6 * 7", context_id=second) == "42"
        assert answers == []
    waiting.join(30)
    assert answers == ["2"]


def test_a_client_that_leaves_interrupts_its_cell_and_the_state_stays(code):
    context = code.context()
    with code.running("x = 5\nprint('here', flush=True)\nimport time\ntime.sleep(600)", context_id=context) as lines:
        assert [next(lines)["type"] for _ in range(2)] == ["number_of_executions", "stdout"]
    begun = time.monotonic()
    assert code.text("x", context_id=context) == "5"
    assert time.monotonic() - begun < 20


def test_a_sandbox_that_goes_breaks_the_answer_off_and_is_not_found_then(stack):
    with stack.box(inbound_auth="public") as made:
        code = Code(made)
        with code.running("print('here', flush=True)\nimport time\ntime.sleep(600)") as lines:
            assert [next(lines)["type"] for _ in range(2)] == ["number_of_executions", "stdout"]
            made.kill()
            with pytest.raises(httpx.TransportError):
                list(lines)
        for method, path, more in (("GET", "/health", {}), ("POST", "/execute", {"json": {"code": "1"}})):
            answer = code.ask(method, path, **more)
            assert (answer.status_code, "was not found" in answer.json()["message"]) == (502, True)


# ---- who gets in


def test_code_needs_the_access_token_and_contexts_what_ports_need(stack, code):
    def bare(box: Box, method: str, path: str, **more: Any) -> int:
        named = {"E2b-Sandbox-Id": box.id, "E2b-Sandbox-Port": "49999", **more.pop("headers", {})}
        return box.stack.client.request(method, path, headers=named, **more).status_code

    order = {"json": {"code": "1"}}
    assert bare(code.box, "POST", "/execute", **order) == 401
    assert bare(code.box, "GET", "/contexts") == 200
    network = {"allow_public_traffic": False}
    with stack.box(inbound_auth="public", network=network) as made:
        guarded = Code(made)
        traffic = {"E2B-Traffic-Access-Token": made.control("GET").json()["traffic_access_token"]}
        for method, path, more in (("POST", "/execute", order), ("GET", "/contexts", {}), ("GET", "/health", {})):
            assert guarded.ask(method, path, **more).status_code == 403
            assert guarded.ask(method, path, headers=traffic, **more).status_code == 200
        assert bare(made, "POST", "/execute", headers=traffic, **order) == 401
        assert made.stack.client.get("/health", headers=made_envd(guarded)).status_code == 204, "49983 is not guarded"


def made_envd(code: Code) -> dict[str, str]:
    return {**code.named, "E2b-Sandbox-Port": "49983"}


def test_an_execution_resumes_a_paused_sandbox_whose_state_is_there(stack):
    with stack.box(inbound_auth="public", auto_resume=True) as made:
        code = Code(made)
        code.run("x = 7")
        made.control("POST", "/pause").raise_for_status()
        assert stack.client.post("/execute", headers=code.named, json={"code": "1"}).status_code == 401
        assert made.state() == "paused"
        assert code.text("x") == "7"
