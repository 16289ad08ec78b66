from __future__ import annotations

import json

import pytest

from atoll.cli.render import moment, show

COLUMNS = {"id": "ID", "name": "NAME"}
ROWS = [{"id": "x" * 60, "name": None, "more": 1}, {"id": "y", "name": "n" * 90, "more": 2}]


def test_without_a_terminal_one_row_is_one_whole_line(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, COLUMNS, as_json=False, empty="none")
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["ID", "NAME"]
    assert first.split() == ["x" * 60, "–"]
    assert second.split() == ["y", "n" * 90]


def test_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, COLUMNS, as_json=True, empty="none")
    assert json.loads(capsys.readouterr().out) == ROWS


def test_no_rows_are_said_in_words_and_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    show([], COLUMNS, as_json=False, empty="none")
    show([], COLUMNS, as_json=True, empty="none")
    assert capsys.readouterr().out.split("\n")[:2] == ["none", "[]"]


def test_times_are_utc() -> None:
    assert (moment(0), moment(None)) == ("1970-01-01 00:00:00Z", None)
