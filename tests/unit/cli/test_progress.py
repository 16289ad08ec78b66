from __future__ import annotations

import io

from rich.console import Console

from atoll.cli.progress import reporting


def test_without_a_terminal_a_step_is_two_lines() -> None:
    output = io.StringIO()
    with reporting(Console(file=output)) as report:
        for fraction in (0.0, 0.3, 1.0, 1.0):
            report("template base", fraction)
    assert output.getvalue().splitlines() == ["template base …", "template base: done"]


def test_on_a_terminal_a_step_is_a_bar() -> None:
    output = io.StringIO()
    with reporting(Console(file=output, force_terminal=True, width=80)) as report:
        report("template base", 0.0)
        report("template base", 1.0)
    assert "template base" in output.getvalue()
    assert "100%" in output.getvalue()
