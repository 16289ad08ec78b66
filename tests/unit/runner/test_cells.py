import pytest


def test_last_expression_is_the_result(context):
    outcome = context.run("x = 1\nx + 1")
    assert (outcome.text, outcome.status, outcome.count) == ("2", "ok", 1)


@pytest.mark.parametrize(
    "code", ["x = 1", "None", "3;", "(3) ; # quiet", "(3\n);", "", "# only a comment", "if 1:\n    3"]
)
def test_no_result_without_a_last_value(context, code):
    outcome = context.run(code)
    assert (outcome.of("result"), outcome.status) == ([], "ok")


def test_semicolon_inside_the_last_expression_is_not_quiet(context):
    assert context.run("'é;'  # ;").text == "'é;'"


def test_names_and_imports_stay(context):
    context.run("import math\ndef area(r):\n    return math.floor(r)")
    assert context.run("area(2.5)").text == "2"


def test_execution_count_counts_failures_too(context):
    assert [context.run(code).count for code in ("1", "1/0", "1 +", "2")] == [1, 2, 3, 4]


def test_underscores_are_the_last_results(context):
    for code in ("1", "2", "3"):
        context.run(code)
    assert context.run("(_, __, ___)").text == "(3, 2, 1)"


def test_underscore_of_the_program_is_left_alone(context):
    context.run("for _ in range(3): pass")
    context.run("'a result'")
    assert context.run("_").text == "2"


def test_main_is_a_real_module(context):
    code = (
        "import sys, types\nx = 5\nmain = sys.modules['__main__']\n(__name__, type(main) is types.ModuleType, main.x)"
    )
    assert context.run(code).text == "('__main__', True, 5)"


def test_our_future_imports_do_not_reach_cells(context):
    assert context.run("def f(a: undefined): pass").error["name"] == "NameError"


def test_future_imports_hold_for_later_cells(context):
    context.run("from __future__ import annotations")
    assert context.run("def f(a: undefined): pass").status == "ok"


def test_classes_of_cells_can_be_pickled(context):
    context.run("import pickle\nclass Point:\n    def __init__(self, x): self.x = x")
    assert context.run("pickle.loads(pickle.dumps(Point(7))).x").text == "7"


def test_multiprocessing_uses_functions_of_cells(context):
    context.run("import multiprocessing\ndef double(x):\n    return 2 * x")
    code = "with multiprocessing.get_context('fork').Pool(2) as pool:\n    found = pool.map(double, range(3))\nfound"
    assert context.run(code).text == "[0, 2, 4]"


def test_source_of_a_function_is_known(context):
    context.run("def f():\n    return 1")
    assert context.run("import inspect\nprint(inspect.getsource(f))").stdout == "def f():\n    return 1\n\n"


def test_indented_cell_is_dedented(context):
    assert context.run("    x = 1\n    x + 1").text == "2"


def test_exception_is_an_error_with_source_lines_and_without_our_frames(context):
    outcome = context.run("def f():\n    return 1 / 0\nf()")
    assert (outcome.status, outcome.error["name"], outcome.error["value"]) == (
        "error",
        "ZeroDivisionError",
        "division by zero",
    )
    lines = [line for line in outcome.error["traceback"].splitlines() if "^" not in line]
    assert lines == [
        "Traceback (most recent call last):",
        '  File "<cell 1>", line 3, in <module>',
        "    f()",
        '  File "<cell 1>", line 2, in f',
        "    return 1 / 0",
        "ZeroDivisionError: division by zero",
    ]


def test_error_of_an_earlier_cells_function_shows_its_source(context):
    context.run("def broken():\n    raise ValueError('the cause')")
    assert "    raise ValueError('the cause')\n" in context.run("broken()").error["traceback"]


def test_syntax_error_shows_the_line_and_nothing_of_ours(context):
    error = context.run("x = 1\nx = = 2").error
    assert error["name"] == "SyntaxError"
    assert error["traceback"].startswith('  File "<cell 1>", line 2\n    x = = 2\n')


def test_nothing_of_a_cell_with_a_syntax_error_runs(context):
    assert context.run("print('ran')\n)").stdout == ""


def test_chained_exceptions_are_both_told(context):
    text = context.run("try:\n    1/0\nexcept Exception as e:\n    raise KeyError('k') from e").error["traceback"]
    assert "ZeroDivisionError: division by zero" in text
    assert "direct cause" in text
    assert "KeyError: 'k'" in text
    assert "runner" not in text


@pytest.mark.parametrize("code", ["raise SystemExit(0)", "import sys; sys.exit()", "exit()", "quit(0)"])
def test_clean_exit_ends_the_cell_and_not_the_context(context, code):
    context.run("kept = 5")
    outcome = context.run(f"{code}\nprint('not reached')")
    assert (outcome.status, outcome.stdout, outcome.of("error")) == ("ok", "", [])
    assert context.run("kept").text == "5"


@pytest.mark.parametrize(
    ("code", "value", "exit_code"),
    [("3", "3", 3), ("'a message'", "a message", 1), ("-1", "-1", 255), ("[]", "[]", 1), ("7 + 256", "263", 7)],
)
def test_exit_with_a_code_is_an_error_with_that_code(context, code, value, exit_code):
    outcome = context.run(f"import sys; sys.exit({code})")
    assert (outcome.status, outcome.error["name"], outcome.error["value"]) == ("error", "SystemExit", value)
    assert outcome.objects[-1]["exit_code"] == exit_code


def test_a_byte_order_mark_is_no_part_of_the_code(context):
    assert context.run("\ufeffprint('ok')").stdout == "ok\n"


def test_input_says_that_there_is_none(context):
    error = context.run("input('name? ')").error
    assert (error["name"], "no standard input" in error["value"]) == ("EOFError", True)


def test_exception_that_cannot_be_printed_is_still_an_error(context):
    context.run("class Broken(Exception):\n    def __str__(self): raise ValueError('no')")
    assert context.run("raise Broken").error["value"] == "<exception str() failed>"
    assert context.run("1").status == "ok"


def test_huge_exception_text_is_cut(context):
    error = context.run("raise ValueError('x' * 5_000_000)").error
    assert len(error["value"]) < 70_000
    assert len(error["traceback"]) < 1_100_000


def test_deep_recursion_is_an_error(context):
    error = context.run("def f(): f()\nf()").error
    assert error["name"] == "RecursionError"
    assert "Previous line repeated" in error["traceback"]


def test_null_byte_and_surrogate_are_errors(context):
    assert context.run("a\0b").status == "error"
    assert context.run("'\ud800'").status in ("ok", "error")
    assert context.run("1").text == "1"


def test_await_at_the_top_level(context):
    assert context.run("import asyncio\nawait asyncio.sleep(0, 'slept')").text == "'slept'"


def test_async_for_and_with_at_the_top_level(context):
    context.run("async def numbers():\n    for n in range(3):\n        yield n")
    assert context.run("found = []\nasync for n in numbers():\n    found.append(n)\nfound").text == "[0, 1, 2]"


def test_error_after_an_await_has_no_frames_of_the_event_loop(context):
    context.run("import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    1/0")
    text = context.run("await f()").error["traceback"]
    assert text.count("  File ") == 2
    assert "asyncio" not in text


def test_asyncio_run_works_in_a_plain_cell(context):
    assert context.run("import asyncio\nasyncio.run(asyncio.sleep(0, 3))").text == "3"


def test_task_created_without_await_goes_on_between_cells(context):
    code = "import asyncio\nasync def later():\n    await asyncio.sleep(0)\n    print('from a task', flush=True)\n"
    outcome = context.run(code + "task = asyncio.create_task(later())")
    context.until_prints("from a task", outcome)
    assert context.run("await task\ntask.done()").text == "True"


def test_task_that_exits_does_not_end_the_context(context):
    code = "import asyncio, sys\nasync def leave():\n    await asyncio.sleep(0)\n    sys.exit(3)\n"
    context.run(code + "task = asyncio.create_task(leave())")
    assert context.run("1 + 1").text == "2"


def test_thread_left_over_goes_on_printing(context):
    context.run("import threading\ngo = threading.Event()")
    context.run("threading.Thread(target=lambda: (go.wait(), print('from a thread')), daemon=True).start()")
    outcome = context.run("go.set()")
    context.until_prints("from a thread", outcome)


def test_display_after_the_end_of_a_cell_prints_text(context):
    context.run("import asyncio\nasync def later():\n    await asyncio.sleep(0)\n    display({'a': 1})")
    outcome = context.run("t = asyncio.create_task(later())")
    context.until_prints("{'a': 1}", outcome)
    assert outcome.displays == []


def test_fork_in_a_cell_does_not_answer_twice(context):
    code = "import os\npid = os.fork()\nif pid == 0:\n    display('child'); raise SystemExit(7)\n"
    outcome = context.run(code + "os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])")
    assert (outcome.text, outcome.displays, outcome.stdout) == ("7", [], "'child'\n")


def test_child_that_runs_off_the_end_of_the_cell_ends(context):
    code = "import os\npid = os.fork()\nif pid:\n    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    assert context.run(code).stdout == "0\n"
    assert context.run("1").count == 2
