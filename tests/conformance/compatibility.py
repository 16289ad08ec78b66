"""What the clients' own suites showed, and the table that docs/compatibility/hopx.md makes of it.

A run of one client in one version leaves one file of JSON lines, `CLIENT-VERSION.jsonl` (a `/` in CLIENT is `_`), in
the directory of the fixture `records`. Each line is

    {"client": "hopx-ai", "version": "0.5.0", "member": "Files.read", "parameter": null, "test": null,
     "outcome": "exists"}

`member` is `Class.member` (a method, property, or field), or `Class` alone; with a `parameter` the row is that
parameter (or that option) of the member. `outcome` is

    exists           introspection of the installed package found this row (`test` is null): one line for each row,
                     in the package's own order, before all others
    passed, failed   the test `test` used it: asserted what the member does, really passed the parameter

A row is shown when a test passed and none failed. `check` raises for a row that is neither shown nor in `WAITS`, for
a row in `WAITS` that is shown, and when the document's column for this version says something else. With
ATOLL_WRITE_COMPATIBILITY set the columns are written instead, for the clients and versions that ran.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "compatibility" / "hopx.md"
MARKER = "<!-- Below: written by the tests, see tests/conformance/compatibility.py -->"
WORKS, FAILS, UNSHOWN, ABSENT = "works", "**fails**", "**not shown**", "–"

covers = pytest.mark.covers


class Row(NamedTuple):
    """Prints as documents and `WAITS` spell it: `Files.read`, `Files.read(path)`, `Sandbox(timeout)`."""

    member: str
    parameter: str | None = None

    def __str__(self) -> str:
        return self.member if self.parameter is None else f"{self.member}({self.parameter})"


@dataclass(frozen=True)
class Wait:
    """Rows that no test shows, and why; `versions` are those of the client that it is about."""

    pattern: str
    reason: str
    versions: str = "*"

    def is_about(self, row: Row, version: str) -> bool:
        return fnmatch.fnmatchcase(version, self.versions) and fnmatch.fnmatchcase(str(row), self.pattern)


WAITS: dict[str, tuple[Wait, ...]] = {
    "hopx-ai": (
        *(
            Wait(f"{name}.*", "desktop")
            for name in ("Desktop", "VNCInfo", "WindowInfo", "RecordingInfo", "DisplayInfo")
        ),
        *(Wait(f"{name}*", "template building") for name in ("Template(", "Template.", "TemplateBuildError")),
        *(Wait(f"{name}*", "template building") for name in ("create_template", "wait_for_", "get_logs")),
        *(Wait(f"{name}.*", "template building") for name in ("Step", "ReadyCheck", "BuildOptions", "BuildResult")),
        *(Wait(f"{name}.*", "template building") for name in ("CreateVMOptions", "VM", "LogsResponse")),
        Wait("Template", "template building"),
        Wait("TokenExpiredError", "never raised by the client"),
        Wait("ServerError", "only where Atoll fails"),
        Wait("CodeExecutionError*", "not used: code that fails is a result"),
        Wait("CommandExecutionError*", "not used: a command that fails is a result"),
        *(
            Wait(f"{name}*", "the client sends no credential", versions)
            for versions in ("0.1.*", "0.2.*")
            for name in ("*Sandbox.terminal", "*Sandbox.run_code_stream", "Files.watch", "Terminal.", "AsyncTerminal.")
        ),
        *(Wait("AsyncSandbox.run_code_async*", "the client names no call-back", each) for each in ("0.1.21", "0.2.9")),
        *(
            Wait(f"AsyncSandbox.create({name})", "its effect is out of the client's reach", "0.1.12")
            for name in ("internet_access", "env_vars")
        ),
        Wait("Sandbox.set_timeout*", "NotImplementedError of the client", "0.1.12"),
    ),
    "@hopx-ai/sdk": (
        Wait("Desktop.*", "desktop"),
        Wait("Sandbox.desktop", "desktop"),
        Wait("VNCInfoImpl.*", "desktop"),
        Wait("DisplayInfoImpl.*", "desktop"),
        Wait("RecordingInfoImpl.*", "desktop"),
        Wait("Template.*", "template building"),
        Wait("TemplateBuildError", "template building"),
        Wait("createTemplate*", "template building"),
        Wait("getLogs*", "template building"),
        Wait("waitFor*", "template building"),
        Wait("Sandbox.deleteTemplate*", "template building"),
        Wait("CodeExecutionError", "nothing in the client raises it"),
        Wait("CommandExecutionError", "nothing in the client raises it"),
        Wait("NetworkError", "nothing in the client raises it"),
        Wait("NotFoundError", "nothing in the client raises it"),
        Wait("ResourceLimitError", "nothing in the client raises it"),
        Wait("TemplateNotFoundError", "nothing in the client raises it"),
        Wait("TimeoutError", "nothing in the client raises it"),
        Wait("ValidationError", "nothing in the client raises it"),
        Wait("ServerError", "no answer of a whole installation is a 5xx"),
        Wait("Sandbox.runCodeAsync(options.preflight)", "the client does not send it"),
        Wait("Sandbox.runCodeBackground(options.preflight)", "the client does not send it"),
        Wait("Sandbox.runCodeStream(options.preflight)", "the client does not send it"),
        Wait("Sandbox.runIpython(options.preflight)", "the client does not send it"),
        Wait("Sandbox.runIpython(options.workingDir)", "the client does not send it"),
    ),
}


# ---- what one run found


@dataclass
class Run:
    """One client in one version."""

    client: str
    version: str
    rows: list[Row] = field(default_factory=list)
    passed: dict[Row, set[str]] = field(default_factory=dict)
    failed: dict[Row, set[str]] = field(default_factory=dict)

    def verdict(self, row: Row) -> str:
        if row in self.failed:
            return FAILS
        if row in self.passed:
            return WORKS
        return next((wait.reason for wait in self.waits() if wait.is_about(row, self.version)), UNSHOWN)

    def waits(self) -> tuple[Wait, ...]:
        return WAITS[self.client]

    def cells(self) -> dict[str, str]:
        """Member → what the document says about it and its parameters."""
        members: dict[str, dict[str | None, str]] = {}
        for row in self.rows:
            members.setdefault(row.member, {})[row.parameter] = self.verdict(row)
        shown = sum(1 for row in self.rows if self.verdict(row) == WORKS)
        return {TOTAL: f"{shown} of {len(self.rows)}"} | {name: _cell(found) for name, found in members.items()}

    def problems(self) -> list[str]:
        found = [f"{row}: {verdict}" for row in self.rows if (verdict := self.verdict(row)) in (FAILS, UNSHOWN)]
        for row in self.rows:
            if row in self.passed and any(wait.is_about(row, self.version) for wait in self.waits()):
                found.append(f"{row}: stands in WAITS, and is shown")
        unknown = (self.passed.keys() | self.failed.keys()) - set(self.rows)
        return found + [f"{row}: recorded, but {self.client} {self.version} has no such thing" for row in unknown]


def _cell(verdicts: dict[str | None, str]) -> str:
    first = next(iter(verdicts.values()))
    others = {verdict: [name for name, each in verdicts.items() if each == verdict] for verdict in verdicts.values()}
    del others[first]
    return "; ".join(
        [first, *(f"{verdict}: {', '.join(f'`{n}`' for n in names)}" for verdict, names in others.items())]
    )


def read(records: Path) -> Run:
    """The run that a suite recorded. A file without rows is a suite that did not begin."""
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    assert lines, f"{records} is empty"
    run = Run(lines[0]["client"], lines[0]["version"])
    for line in lines:
        assert (line["client"], line["version"]) == (run.client, run.version), line
        row = Row(line["member"], line["parameter"])
        if line["outcome"] == "exists":
            assert row not in run.rows, f"{row} is there twice"
            run.rows.append(row)
        else:
            {"passed": run.passed, "failed": run.failed}[line["outcome"]].setdefault(row, set()).add(line["test"])
    return run


def check(records: Path) -> None:
    """Everything that the installed client has is shown or waits, and the document says just that."""
    run = read(records)
    problems = run.problems()
    assert not problems, f"{run.client} {run.version}:\n" + "\n".join(problems)
    if os.environ.get("ATOLL_WRITE_COMPATIBILITY"):
        write([run])
    said = tables().get(run.client, Table()).column(run.version)
    assert said == run.cells(), (
        f"{DOCUMENT.name} does not say what {run.client} {run.version} does; "
        "write it anew with ATOLL_WRITE_COMPATIBILITY=1:\n" + "\n".join(_differences(said, run.cells()))
    )


def _differences(said: dict[str, str], found: dict[str, str]) -> list[str]:
    names = dict.fromkeys([*found, *said])
    return [
        f"{name}: says {said.get(name)!r}, is {found.get(name)!r}"
        for name in names
        if said.get(name) != found.get(name)
    ]


# ---- the document

TOTAL = "shown by tests"


@dataclass
class Table:
    """Of one client: member → its parameters in any version, and version → cell."""

    versions: list[str] = field(default_factory=list)
    parameters: dict[str, list[str]] = field(default_factory=dict)
    cells: dict[str, dict[str, str]] = field(default_factory=dict)

    def column(self, version: str) -> dict[str, str]:
        return {name: cells[version] for name, cells in self.cells.items() if cells.get(version, ABSENT) != ABSENT}

    def put(self, run: Run) -> None:
        self.versions = sorted({*self.versions, run.version}, key=_in_order)
        for name in self.cells:
            self.cells[name].pop(run.version, None)
        for name, cell in run.cells().items():
            self.cells.setdefault(name, {})[run.version] = cell
        for row in run.rows:
            known = self.parameters.setdefault(row.member, [])
            if row.parameter is not None and row.parameter not in known:
                known.append(row.parameter)

    def render(self) -> str:
        head = [f"| | {' | '.join(self.versions)} |", "|" + "---|" * (1 + len(self.versions))]
        return "\n".join([*head, *(self._line(name) for name in self.cells if any(self.cells[name].values())), ""])

    def _line(self, name: str) -> str:
        parameters = " ".join(f"`{each}`" for each in self.parameters.get(name, []))
        first = f"`{name}` {parameters}".strip()
        return f"| {first} | {' | '.join(self.cells[name].get(version, ABSENT) for version in self.versions)} |"


def _in_order(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def tables() -> dict[str, Table]:
    generated = DOCUMENT.read_text().partition(MARKER)[2]
    sections = re.split(r"^## Table: `(.+)`$", generated, flags=re.MULTILINE)
    return {name: _parse(text) for name, text in zip(sections[1::2], sections[2::2], strict=True)}


def _parse(section: str) -> Table:
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    table = Table(versions=[each.strip() for each in lines[0] if each.strip()])
    for first, *cells in lines[2:]:
        name, *parameters = re.findall(r"`([^`]+)`", first)
        table.parameters[name] = parameters
        table.cells[name] = dict(zip(table.versions, cells, strict=True))
    return table


def write(runs: Iterable[Run]) -> None:
    text, marker, _ = DOCUMENT.read_text().partition(MARKER)
    assert marker, f"{DOCUMENT} has lost its marker line"
    found = tables()
    for run in runs:
        found.setdefault(run.client, Table()).put(run)
    body = "\n".join(f"## Table: `{name}`\n\n{found[name].render()}" for name in sorted(found, reverse=True))
    DOCUMENT.write_text(f"{text}{MARKER}\n\n{body}")
