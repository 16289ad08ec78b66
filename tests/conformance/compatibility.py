"""What the clients' own suites showed, and the tables that docs/compatibility makes of it.

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
a row in `WAITS` that is shown, and when the document says something else of this version. With
ATOLL_WRITE_COMPATIBILITY set it is written instead, for the clients and versions that ran.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

HOPX, E2B, NOVITA = (
    Path(__file__).resolve().parents[2] / "docs" / "compatibility" / f"{name}.md" for name in ("hopx", "e2b", "novita")
)
DOCUMENTS = {"hopx-ai": HOPX, "@hopx-ai/sdk": HOPX, "e2b": E2B, "e2b (npm)": E2B}
DOCUMENTS |= {"e2b-code-interpreter": E2B, "@e2b/code-interpreter": E2B}
DOCUMENTS |= {"novita-sandbox": NOVITA, "novita-sandbox (code interpreter)": NOVITA, "novita-sandbox (npm)": NOVITA}
"""By client. Some have a Python package and an npm package of one name."""
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


BUILDING = "template building"
COPIES = "copies of memory"
GATEWAY = "the MCP gateway"
IDENTITY = "identity tokens"
DESKTOP = "no template with a desktop"

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
    "e2b": (
        *(
            Wait(f"*Template.{name}*", BUILDING)
            for name in ("build*", "get_build_status", "assign_tags", "remove_tags", "from_*", "to_*", "skip_cache")
        ),
        *(
            Wait(f"{name}*", BUILDING)
            for name in ("BuildInfo.", "BuildStatusReason.", "TemplateBuildStatusResponse.", "TemplateTagInfo.")
        ),
        *(Wait(f"{name}*", BUILDING) for name in ("ReadyCmd.", "wait_for_", "LogEntry", "default_build_logger")),
        *(Wait(name, BUILDING) for name in ("BuildException", "FileUploadException", "DockerfileSyntaxError")),
        *(
            Wait(name, BUILDING)
            for name in ("* /templates/tags", "*/builds/*", "*/files/{hash_}", "POST /v3/templates")
        ),
        Wait("8.2 *", BUILDING),
        *(Wait(f"*Sandbox.{name}*", COPIES) for name in ("fork", "create_snapshot")),
        *(Wait(name, COPIES) for name in ("SnapshotInfo.*", "POST */fork", "POST */snapshots", "7 snapshots and *")),
        *(Wait(f"*Sandbox.{name}", GATEWAY) for name in ("create(mcp)", "beta_create(mcp)", "get_mcp_token")),
        Wait("20 MCP gateway", GATEWAY),
        Wait("*GitHubMcpServerConfig*", GATEWAY),
        *(Wait(name, IDENTITY) for name in ("*Sandbox.create(iam)", "*Secret.iam_token*", "SandboxIam*")),
        *(Wait(name, IDENTITY) for name in ("SandboxNetworkTransformContext.iam", "11.5 identity tokens in rules")),
        *(
            Wait("ApiParams(proxy)", "the client keeps its first connections", f"2.{minor}.*")
            for minor in (9, 12, 15, 18, 21, 24)
        ),
        Wait("TemplateException", "only with agents older than ours"),
        Wait("ServiceBusyException", "only where the host is full"),
        Wait("SandboxUnreachableException", "only where the agent of a running sandbox does not answer"),
        Wait("GuestUnresponsiveException", "no pause of ours waits for the agent"),
    ),
    "novita-sandbox": (
        *(
            Wait(f"*Template.{name}*", BUILDING)
            for name in ("build*", "get_build_status", "assign_tags", "remove_tags", "from_*", "to_*", "skip_cache")
        ),
        *(
            Wait(f"Novita.template.{name}*", BUILDING)
            for name in ("build", "get_build_status", "assign_tags", "remove_tags", "from_", "to_", "skip_cache")
        ),
        *(
            Wait(f"Novita.template.{name}*", BUILDING)
            for name in ("new", "create", "wait_for_", "default_build_logger")
        ),
        *(
            Wait(f"{name}*", BUILDING)
            for name in ("BuildInfo.", "BuildStatusReason.", "TemplateBuildStatusResponse.", "TemplateTagInfo.")
        ),
        *(Wait(f"{name}*", BUILDING) for name in ("ReadyCmd.", "wait_for_", "LogEntry", "default_build_logger")),
        *(Wait(f"{name}*", BUILDING) for name in ("ImageConfig.", "*_image_config", "effective_start_cmd")),
        *(Wait(f"{name}*", BUILDING) for name in ("parse_image_ref", "unsupported_base", "*Template.image_config")),
        *(Wait(f"*Sandbox.create({name})", BUILDING) for name in ("image", "build")),
        *(Wait(name, BUILDING) for name in ("BuildException", "FileUploadException", "8.2 *", "POST /v3/templates")),
        *(Wait(name, BUILDING) for name in ("* /templates/tags", "*/builds/*", "*/files/{hash_}")),
        *(Wait(f"*Sandbox.{name}*", COPIES) for name in ("clone", "commit", "create_snapshot")),
        *(Wait(f"Novita.*.{name}*", COPIES) for name in ("clone", "commit", "create_snapshot")),
        *(Wait(name, COPIES) for name in ("SnapshotInfo.*", "POST */snapshots", "7 snapshots and *")),
        *(Wait(f"*Sandbox.{name}", GATEWAY) for name in ("create(mcp)", "beta_create(mcp)", "get_mcp_token")),
        Wait("20 MCP gateway", GATEWAY),
        Wait("*GitHubMcpServerConfig*", GATEWAY),
        Wait("11.5 identity tokens in rules", "not in this package"),
        Wait("Novita.desktop.[!S]*", DESKTOP),
        Wait("ApiParams(proxy)", "the client keeps its first connections"),
        Wait("TemplateException", "only with agents older than ours"),
    ),
    "e2b-code-interpreter": (),
    "novita-sandbox (code interpreter)": (),
    "@e2b/code-interpreter": (Wait("OutputMessage.toString", "declared by the client, and not there"),),
    "e2b (npm)": (
        *(Wait(f"{name}*", "copies of memory") for name in ("Sandbox.fork", "Sandbox#fork", "SnapshotPaginator.")),
        *(Wait(f"Sandbox{name}Snapshot*", "copies of memory") for name in (".create", "#create", ".delete")),
        *(Wait(f"Sandbox{name}listSnapshots*", "copies of memory") for name in (".", "#")),
        *(
            Wait(f"TemplateBase.{name}*", "template building")
            for name in (
                "toJSON",
                "toDockerfile",
                "build",
                "getBuildStatus",
                "assignTags",
                "removeTags",
                "from",
                "copy",
                "make",
                "run",
                "set",
                "pip",
                "npm",
                "bun",
                "apt",
                "addMcp",
                "gitClone",
                "skipCache",
                "beta",
                "remove(",
                "rename",
            )
        ),
        Wait("TemplateBase.remove", "template building"),
        *(Wait(f"{name}*", "template building") for name in ("LogEntry", "ReadyCmd.", "waitFor", "defaultBuildLogger")),
        *(Wait(name, "template building") for name in ("BuildError", "FileUploadError")),
        *(Wait(f"Sandbox.{name}", "the MCP gateway") for name in ("create(opts.mcp)", "getMcpUrl", "getMcpToken")),
        *(Wait(name, "identity tokens") for name in ("Sandbox.create(opts.iam)", "Secret.iamToken*")),
        Wait("*ConnectionConfig.*", "reaches no server"),
        Wait("TemplateError", "only for templates older than any here"),
        Wait("ServiceBusyError", "only where Atoll is too busy"),
        *(
            Wait(f"{name}(logger)", "the client's own error", f"2.{minor}.*")
            for minor in (24, 27, 30, 33, 36, 39, 45)
            for name in ("ConnectionOpts", "VolumeApiOpts")
        ),
        *(
            Wait(f"Sandbox{name}getMetrics(opts.{when})", "the client does not send it", f"2.{minor}.*")
            for minor in (9, 12, 15, 18, 21, 24, 27)
            for name in (".", "#")
            for when in ("start", "end")
        ),
        Wait("Sandbox.betaCreate(opts.mcp)", "the MCP gateway"),
        *(
            Wait(f"Sandbox#connect({what}*", "the client does not send it", f"2.{minor}.*")
            for minor in (9, 12)
            for what in ("opts.[!t]", "network.")
        ),
        *(Wait(name, "template building") for name in ("Template", "Template(options.*")),
    ),
    "novita-sandbox (npm)": (
        *(
            Wait(f"TemplateBase.{name}*", BUILDING)
            for name in (
                *("toJSON", "toDockerfile", "build", "getBuildStatus", "assignTags", "removeTags", "from", "copy"),
                *("make", "run", "set", "pip", "npm", "bun", "apt", "addMcp", "gitClone", "skipCache", "beta"),
                *("imageConfigFailure", "remove(", "rename"),
            )
        ),
        Wait("TemplateBase.remove", BUILDING),
        *(Wait(f"{name}*", BUILDING) for name in ("LogEntry", "ReadyCmd.", "waitFor", "defaultBuildLogger")),
        *(
            Wait(f"{name}*", BUILDING)
            for name in ("*mageConfig", "effectiveStartCmd", "parseImageRef", "unsupportedBase")
        ),
        *(Wait(f"{name}Error", BUILDING) for name in ("Build", "FileUpload", "ImageConfig", "InvalidImageReference")),
        *(
            Wait(f"{name}Error", BUILDING)
            for name in ("RegistryAuthentication", "SandboxCreate", "TemplateBuildTimeout")
        ),
        *(Wait(f"*reate(opts.{name})", BUILDING) for name in ("image", "build")),
        *(Wait(name, BUILDING) for name in ("Template", "Template(*")),
        *(Wait(f"Sandbox.{name}*", COPIES) for name in ("clone", "commit", "createSnapshot")),
        *(Wait(f"Sandbox#{name}*", COPIES) for name in ("commit", "createSnapshot")),
        *(Wait(name, GATEWAY) for name in ("*reate(opts.mcp)", "Sandbox.getMcpUrl", "Sandbox.getMcpToken")),
        Wait("DesktopSandbox*", DESKTOP),
        Wait("*(opts.nodeId)", "one machine: a name would be that of no machine"),
        *(Wait(f"ConnectionConfig.{name}*", "reaches no server") for name in ("getSandboxUrl", "getSignal")),
        Wait("OutputMessage.toString", "the client gives objects without it"),
        Wait("ConnectionOpts(sync)", "only with hosts of the vendor"),
        Wait("TemplateError", "only for templates older than any here"),
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
    document = DOCUMENTS[run.client]
    said = tables(document).get(run.client, Table()).column(run.version)
    assert said == run.cells(), (
        f"{document.name} does not say what {run.client} {run.version} does; "
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
HEAD_OF_VERSIONS = ["| Version | Members and parameters shown by tests |", "|---|---|"]
HEAD_OF_MEMBERS = ["| Member and its parameters | |", "|---|---|"]
BETWEEN_SPANS = " · "
_VERSION = r"\d+(?:\.\d+)+"
SPAN = re.compile(
    rf"(?:since (?P<since>{_VERSION}): |until (?P<until>{_VERSION}): "
    rf"|(?P<first>{_VERSION})(?: to (?P<last>{_VERSION}))?: )?(?P<cell>.*)"
)


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
        totals = [f"| {version} | {self.cells[TOTAL].get(version, ABSENT)} |" for version in self.versions]
        members = [self._line(name) for name in self.cells if name != TOTAL and any(self.cells[name].values())]
        return "\n".join([*HEAD_OF_VERSIONS, *totals, "", *HEAD_OF_MEMBERS, *members, ""])

    def _line(self, name: str) -> str:
        parameters = " ".join(f"`{each}`" for each in self.parameters.get(name, []))
        return f"| {f'`{name}` {parameters}'.strip()} | {BETWEEN_SPANS.join(self._spans(self.cells[name]))} |"

    def _spans(self, cells: dict[str, str]) -> Iterator[str]:
        """What is the same in versions that follow each other is said once."""
        for cell, found in itertools.groupby(self.versions, key=lambda version: cells.get(version, ABSENT)):
            versions = list(found)
            if cell != ABSENT:
                yield self._span(versions[0], versions[-1]) + cell

    def _span(self, first: str, last: str) -> str:
        """
        >>> Table(versions=["1.0", "1.1", "1.2"])._span("1.1", "1.2")
        'since 1.1: '
        """
        oldest, newest = self.versions[0], self.versions[-1]
        if (first, last) == (oldest, newest):
            return ""
        if first == last and first != newest:
            return f"{first}: "
        if last == newest:
            return f"since {first}: "
        return f"until {last}: " if first == oldest else f"{first} to {last}: "

    def read_spans(self, text: str) -> dict[str, str]:
        """The cells that `_spans` wrote."""
        found: dict[str, str] = {}
        for span in text.split(BETWEEN_SPANS):
            parts = SPAN.fullmatch(span)
            assert parts is not None, span
            first = parts["since"] or parts["first"] or self.versions[0]
            last = parts["until"] or parts["last"] or (parts["first"] if parts["first"] else self.versions[-1])
            begin, end = (self.versions.index(each) for each in (first, last))
            found |= dict.fromkeys(self.versions[begin : end + 1], parts["cell"])
        return found


def _in_order(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def tables(document: Path) -> dict[str, Table]:
    generated = document.read_text().partition(MARKER)[2]
    sections = re.split(r"^## Table: `(.+)`$", generated, flags=re.MULTILINE)
    return {name: _parse(text) for name, text in zip(sections[1::2], sections[2::2], strict=True)}


def _parse(section: str) -> Table:
    versions, members = (
        [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")][2:]
        for part in section.strip().split("\n\n")
    )
    table = Table(versions=[version for version, _ in versions], parameters={TOTAL: []}, cells={TOTAL: dict(versions)})
    for first, spans in members:
        name, *parameters = re.findall(r"`([^`]+)`", first)
        table.parameters[name] = parameters
        table.cells[name] = table.read_spans(spans)
    return table


def write(runs: Iterable[Run]) -> None:
    for run in runs:
        document = DOCUMENTS[run.client]
        text, marker, _ = document.read_text().partition(MARKER)
        assert marker, f"{document} has lost its marker line"
        found = tables(document)
        found.setdefault(run.client, Table()).put(run)
        order = [client for client in DOCUMENTS if client in found]
        body = "\n".join(f"## Table: `{name}`\n\n{found[name].render()}" for name in order)
        document.write_text(f"{text}{MARKER}\n\n{body}")
