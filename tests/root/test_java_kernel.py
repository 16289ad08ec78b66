"""The Java kernel of code-interpreter-v1, by Jupyter's own client: one kernel for all cells, in this order."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stack import Box, Stack

pytestmark = pytest.mark.root

PROGRAM = (Path(__file__).parent / "programs" / "kernel_cells.py").read_text()
INTERRUPTED = ("KeyboardInterrupt", "The cell was interrupted")

CELLS: dict[str, dict[str, Any]] = {
    "kept": {"code": "int kept = 7;"},
    "value": {"code": "kept * 6"},
    "several": {"code": 'int a = 1;\nString b = "é漢";\n\nb + a // shown\n'},
    "printed": {"code": 'System.out.println("one"); System.err.print("two");'},
    "thrown": {"code": "int half(int n) {\n  return 1 / n;\n}\n\nhalf(0)"},
    "cause": {"code": 'throw new IllegalStateException("outer", new RuntimeException("inner"));'},
    "wrong": {"code": 'int fine = 1;\nint n = "text";'},
    "incomplete": {"code": "class Open {"},
    "together": {"code": "class Left { Right other; int v = 5; }\nclass Right { Left other; }\nnew Left().v"},
    "unknown": {"code": "Missing missing() { return null; }"},
    "imports": {"code": "List.of(3, 1).stream().sorted().map(n -> n * 2).collect(Collectors.toList())"},
    "busy": {"code": 'System.out.println("on"); while (true) {}', "interrupt": True},
    "asleep": {"code": 'System.out.println("on"); Thread.sleep(600_000); kept = 0;', "interrupt": True},
    "after": {"code": "kept"},
    "silent": {"code": 'System.out.println("no"); kept = 8', "silent": True},
    "silent failure": {"code": 'throw new RuntimeException("no");', "silent": True},
    "set": {"code": 'atoll.jshell.Environment.set("MINE", "here");'},
    "seen": {"code": 'System.getenv("MINE") + System.getProperty("MINE")'},
    "child": {
        "code": 'var child = new ProcessBuilder("sh", "-c", "echo $MINE; echo bad >&2").inheritIO();\n'
        "child.environment();\nchild.start().waitFor()"
    },
    "taken": {"code": 'atoll.jshell.Environment.set("MINE", null); System.getenv("MINE") + System.getProperty("MINE")'},
    "given": {"code": 'System.getProperty("BORN")'},
    "much": {"code": "for (int n = 0; n < 20_000; n++) System.out.println(n);"},
    "no input": {"code": "System.in.read()"},
    "comment": {"code": "// nothing\n"},
    "deep": {"code": "int deep(int n) { return deep(n + 1) + 1; }\ndeep(0)"},
    "lives": {"code": "kept"},
    "exit": {"code": 'System.out.println("bye"); System.exit(3);'},
}


def cells(box: Box, kernel: str, given: list[dict[str, Any]]) -> dict[str, Any]:
    script = f"cd /tmp && printf %s {shlex.quote(PROGRAM)} > cells.py && BORN=so python3 cells.py {kernel}"
    return dict(json.loads(box.sh(f"{script} <<'END'\n{json.dumps(given)}\nEND")))


@pytest.fixture(scope="module")
def box(stack: Stack, code_interpreter_v1: str) -> Iterator[Box]:
    with stack.box(code_interpreter_v1) as made:
        yield made


@pytest.fixture(scope="module")
def told(box: Box) -> dict[str, Any]:
    return cells(box, "java", list(CELLS.values()))


@pytest.fixture(scope="module")
def seen(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(zip(CELLS, told["outcomes"], strict=True))


def failed(outcome: dict[str, Any]) -> tuple[str, str]:
    assert outcome["reply"]["status"] == "error"
    return outcome["error"]["ename"], outcome["error"]["evalue"]


def test_the_last_expression_is_the_result_and_cells_are_counted(seen):
    assert [seen[name]["result"] for name in ("kept", "value", "several")] == [None, "42", '"é漢1"']
    assert [seen[name]["reply"] for name in ("kept", "value")] == [
        {"status": "ok", "execution_count": 1},
        {"status": "ok", "execution_count": 2},
    ]


def test_what_is_printed_comes_by_its_own_stream_and_as_it_was_written(seen):
    assert seen["printed"]["streams"] == {"stdout": "one\n", "stderr": "two"}
    assert seen["printed"]["pieces"] == ["one", "\n", "two"]


def test_an_exception_has_its_name_its_message_and_where_in_the_cells_it_came_from(seen):
    assert failed(seen["thrown"]) == ("java.lang.ArithmeticException", "/ by zero")
    assert seen["thrown"]["error"]["traceback"] == [
        "java.lang.ArithmeticException: / by zero",
        "    at half in cell 5, line 2",
        "    at cell 5, line 5",
    ]
    assert "Caused by: java.lang.RuntimeException: inner" in seen["cause"]["error"]["traceback"]


def test_source_that_does_not_compile_says_which_line(seen):
    name, message = failed(seen["wrong"])
    assert (name, message.startswith("incompatible types")) == ("CompilationError", True)
    assert seen["wrong"]["error"]["traceback"][-3].startswith("Line 2: ")
    assert seen["wrong"]["error"]["traceback"][-2:] == ['    int n = "text";', "            ^"]
    assert failed(seen["incomplete"])[0] == "CompilationError"


def test_declarations_may_need_each_other_and_what_is_missing_is_said(seen):
    assert seen["together"]["result"] == "5"
    assert "class Missing" in seen["unknown"]["streams"]["stderr"]
    assert seen["unknown"]["reply"]["status"] == "ok"


def test_the_usual_imports_are_there(seen):
    assert seen["imports"]["result"] == "[2, 6]"


def test_an_interrupt_ends_what_runs_or_waits_and_the_state_lives_on(seen):
    assert [failed(seen["busy"]), failed(seen["asleep"])] == [INTERRUPTED] * 2
    assert seen["after"]["result"] == "7"


def test_a_silent_cell_shows_nothing_and_is_not_counted(seen):
    assert (seen["silent"]["streams"], seen["silent"]["result"]) == ({"stdout": "", "stderr": ""}, None)
    assert (seen["silent failure"]["error"], seen["silent failure"]["reply"]["status"]) == (None, "error")
    assert seen["set"]["reply"]["execution_count"] == seen["after"]["reply"]["execution_count"] + 1
    assert seen["lives"]["result"] == "8"


def test_variables_of_the_environment_are_set_and_taken_back(seen):
    assert (seen["seen"]["result"], seen["taken"]["result"]) == ('"herehere"', '"nullnull"')
    assert seen["child"]["streams"] == {"stdout": "here\n", "stderr": "bad\n"}
    assert seen["given"]["result"] == '"so"'


def test_much_output_is_whole_in_few_messages(seen):
    assert seen["much"]["streams"]["stdout"] == "".join(f"{number}\n" for number in range(20_000))
    assert seen["much"]["messages"] < 1000


def test_there_is_no_input_and_no_end_of_the_stack(seen):
    assert seen["no input"]["result"] == "-1"
    assert seen["comment"]["reply"]["status"] == "ok"
    assert failed(seen["deep"])[0] == "java.lang.StackOverflowError"


def test_exit_ends_the_kernel_and_what_was_printed_before_is_there(seen, told):
    assert seen["exit"]["streams"]["stdout"] == "bye\n"
    assert (seen["exit"]["reply"], told["alive"]) == (None, False)


@pytest.mark.parametrize(
    ("kernel", "code", "printed"),
    [
        ("bash", "for n in 1 2; do\n  echo $((n * 21))\ndone", "21\n42\n"),
        ("javascript", "console.log([6, 7].reduce((a, b) => a * b))", "42\n"),
        ("deno", "const n: number = 42; console.log(n)", "42\n"),
        ("ir", "cat(6 * 7)", "42"),
    ],
)
def test_every_other_kernel_starts_as_the_user_and_runs(box: Box, kernel: str, code: str, printed: str):
    (outcome,) = cells(box, kernel, [{"code": code}])["outcomes"]
    assert (outcome["reply"]["status"], outcome["streams"]["stdout"]) == ("ok", printed)


def test_what_went_before_leaves_no_java_behind(box: Box, told):
    assert box.sh("pgrep -c java || true") == "0"
