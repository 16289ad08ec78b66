from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from atoll.cli.progress import reporting, transfer


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


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("total", [2_000_000, None])
def test_a_transfer_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Screen())
    with transfer(total, quiet=False) as on_bytes:
        on_bytes(1_500_000)
    assert "MB" in sys.stderr.getvalue()


@pytest.mark.parametrize(("quiet", "screen"), [(True, Screen()), (False, io.StringIO())])
def test_elsewhere_a_transfer_says_nothing(monkeypatch: pytest.MonkeyPatch, quiet: bool, screen: io.StringIO) -> None:
    monkeypatch.setattr(sys, "stderr", screen)
    with transfer(10, quiet) as on_bytes:
        on_bytes(10)
    assert screen.getvalue() == ""
