"""The rules of the compatibility table. Needs neither root nor a client."""

from __future__ import annotations

import json
from collections.abc import Iterator

import compatibility
import pytest
from compatibility import Row, Run, Table, Wait


@pytest.fixture
def run(monkeypatch) -> Run:
    monkeypatch.setitem(compatibility.WAITS, "hopx-ai", (Wait("Files.watch*", "waits", "0.5.*"),))
    rows = [Row("Files.read"), Row("Files.read", "path"), Row("Files.watch"), Row("Files.list")]
    return Run("hopx-ai", "0.5.0", rows)


def test_a_row_without_a_test_is_a_problem(run):
    run.passed = {row: {"t"} for row in run.rows[:2]}
    assert run.problems() == ["Files.list: **not shown**"]


def test_a_row_that_one_test_fails_is_not_saved_by_another(run):
    run.passed = {row: {"t"} for row in run.rows if row.member != "Files.watch"}
    run.failed = {Row("Files.read", "path"): {"u"}}
    assert run.problems() == ["Files.read(path): **fails**"]
    assert run.cells()["Files.read"] == "works; **fails**: `path`"


def test_an_exception_that_is_not_needed_is_a_problem(run):
    run.passed = {row: {"t"} for row in run.rows}
    assert run.problems() == ["Files.watch: stands in WAITS, and is shown"]


def test_an_exception_is_about_its_versions_only(run):
    run.version = "0.3.8"
    assert "Files.watch: **not shown**" in run.problems()


def test_what_the_client_does_not_have_cannot_be_recorded(run):
    run.passed = {Row("Files.reed"): {"t"}}
    assert run.problems()[-1] == "Files.reed: recorded, but hopx-ai 0.5.0 has no such thing"


def test_records_are_read_as_they_are_described(tmp_path):
    about = {"client": "hopx-ai", "version": "0.5.0", "member": "Files.read", "parameter": "path"}
    lines = [{**about, "test": None, "outcome": "exists"}, {**about, "test": "t", "outcome": "passed"}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = compatibility.read(tmp_path / "x.jsonl")
    assert (found.rows, found.passed, found.failed) == (
        [Row("Files.read", "path")],
        {Row("Files.read", "path"): {"t"}},
        {},
    )


def test_a_table_is_read_as_it_was_written(run):
    run.passed = {row: {"t"} for row in run.rows[:2]}
    table = Table()
    table.put(run)
    again = compatibility._parse(table.render())
    assert (again.column("0.5.0"), again.render()) == (run.cells(), table.render())


SPANS = [
    (["a", "a", "a", "a"], "a"),
    ([None, "a", "a", "a"], "since 1.9: a"),
    (["a", "a", None, None], "until 1.9: a"),
    ([None, "a", None, "a"], "1.9: a · since 1.11: a"),
    (["a", "b", "b", "a"], "1.2: a · 1.9 to 1.10: b · since 1.11: a"),
    (["works; x: `p`", None, None, None], "1.2: works; x: `p`"),
]


@pytest.mark.parametrize(("cells", "text"), SPANS)
def test_what_versions_have_in_common_is_said_once(cells, text):
    versions = ["1.2", "1.9", "1.10", "1.11"]
    found = {version: cell for version, cell in zip(versions, cells, strict=True) if cell}
    table = Table(versions, {"x": []}, {compatibility.TOTAL: {}, "x": found})
    assert f"| `x` | {text} |" in table.render()
    assert table.read_spans(text) == found


def written() -> Iterator[tuple[str, Table]]:
    for document in dict.fromkeys(compatibility.DOCUMENTS.values()):
        yield from compatibility.tables(document).items()


def test_every_exception_is_about_a_row_of_the_document():
    for client, table in written():
        rows = [Row(name) for name in table.parameters]
        rows += [Row(name, each) for name, found in table.parameters.items() for each in found]
        for wait in compatibility.WAITS[client]:
            assert any(wait.is_about(row, version) for row in rows for version in table.versions), wait


def test_nothing_in_the_document_fails_or_was_forgotten():
    for _, table in written():
        for name, cells in table.cells.items():
            for verdict in (compatibility.FAILS, compatibility.UNSHOWN):
                assert not any(verdict in cell for cell in cells.values()), name
