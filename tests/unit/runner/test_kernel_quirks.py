from __future__ import annotations

import stat

import pytest

from atoll.agent.runner import kernel_quirks

WORDLESS = {"ename": "Error", "evalue": "Execution failed", "traceback": []}
PRINTED = """error: SyntaxError: Expression expected
  |
1 | let x = ;
  |         ~
    at file:///home/user/_stdin.ts:1:9
"""


def test_what_is_wrong_with_the_code_is_an_error_with_its_place():
    assert kernel_quirks.complaint(PRINTED) == {
        "ename": "SyntaxError",
        "evalue": "Expression expected",
        "traceback": [
            "SyntaxError: Expression expected",
            "  |",
            "1 | let x = ;",
            "  |         ~",
            "    at <anonymous>:1:9",
        ],
    }


@pytest.mark.parametrize("printed", ["", "\n", "error: No such command", "Killed"])
def test_what_is_no_complaint_about_code_is_none(printed):
    assert kernel_quirks.complaint(printed) is None


@pytest.fixture
def deno(tmp_path):
    """It says of all code that it is wrong, and repeats it."""
    program = tmp_path / "deno"
    program.write_text('#!/bin/sh\necho "error: SyntaxError: $NO_COLOR $* $(cat)" >&2\nexit 1\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_deno_is_asked_what_its_kernel_does_not_say(deno):
    error = kernel_quirks.explained(WORDLESS, [deno, "jupyter"], {"PATH": "/usr/bin:/bin"}, "let \ud800")
    assert (error["ename"], error["evalue"]) == ("SyntaxError", "1 fmt --no-config --ext ts - let ?")


@pytest.mark.parametrize(
    "error", [{**WORDLESS, "ename": "TypeError"}, {**WORDLESS, "evalue": "x"}, {**WORDLESS, "traceback": ["x"]}, {}]
)
def test_an_error_that_says_something_stays(deno, error):
    assert kernel_quirks.explained(error, [deno], {}, "x") is error


def test_so_does_one_of_a_program_that_cannot_be_asked(tmp_path):
    assert kernel_quirks.explained(WORDLESS, ["/usr/bin/R"], {}, "x") is WORDLESS
    assert kernel_quirks.explained(WORDLESS, [str(tmp_path / "deno")], {}, "x") is WORDLESS
