from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from atoll import compose, supervisor
from atoll.cli import main as entry
from atoll.cli.main import cli
from atoll.cli.up import require_isolation
from atoll.core.check import Check
from atoll.core.errors import Unsupported
from atoll.core.settings import Places
from atoll.storage.builds import noted


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


def invoke(*arguments: object, data: Path | None = None) -> Result:
    result = CliRunner().invoke(cli, [*map(str, arguments), *(("--data-dir", str(data)) if data else ())])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


# ---- keys


def test_a_key_is_made_listed_and_revoked(data: Path) -> None:
    made = json.loads(invoke("keys", "create", "laptop", "--json", data=data).output)
    assert made["key"].startswith("e2b_")
    assert len(made["key"]) == 44
    invoke("keys", "revoke", made["id"], data=data)
    (listed,) = json.loads(invoke("keys", "list", "--json", data=data).output)
    assert (listed["id"], listed["name"]) == (made["id"], "laptop")
    assert listed["revoked"] is not None
    assert made["key"] not in json.dumps(listed)


def test_a_key_is_made_with_limits_and_these_are_changed(data: Path) -> None:
    made = json.loads(
        invoke(
            "keys", "create", "ci", "--max-sandboxes", 3, "--max-memory", 4096, "--rates", "hopx", "--json", data=data
        ).output
    )
    assert made["quota"] == {"sandboxes": 3, "vcpu": None, "memory_mib": 4096, "disk_mib": None}
    assert made["rates"] == {"control": 100, "create": 20, "agent": 300}
    options = ("--max-sandboxes", "unlimited", "--max-vcpu", 0, "--max-disk", 5, "--creates-per-minute", 7)
    changed = json.loads(invoke("keys", "limit", made["id"], *options, "--json", data=data).output)
    assert changed["quota"] == {"sandboxes": None, "vcpu": 0, "memory_mib": 4096, "disk_mib": 5}
    assert changed["rates"] == {"control": 100, "create": 7, "agent": 300}
    (listed,) = json.loads(invoke("keys", "list", "--json", data=data).output)
    assert {name: listed[name] for name in ("quota", "rates")} == {name: changed[name] for name in ("quota", "rates")}
    assert "memory_mib=4096" in invoke("keys", "list", data=data).output
    assert "vcpu=0 memory_mib=4096" in invoke("keys", "limit", made["id"], data=data).output


def test_a_preset_is_where_single_rates_start_from(data: Path) -> None:
    options = ("--rates", "unlimited", "--agent-calls-per-minute", 5, "--json")
    made = json.loads(invoke("keys", "create", "x", *options, data=data).output)
    assert made["rates"] == {"control": None, "create": None, "agent": 5}


@pytest.mark.parametrize(
    "option",
    [
        ("--max-sandboxes", "-1"),
        ("--max-vcpu", "1.5"),
        ("--max-memory", "lots"),
        ("--max-disk", str(2**31)),
        ("--calls-per-minute", "0"),
        ("--rates", "slow"),
    ],
)
def test_a_limit_that_is_none_is_refused(data: Path, option: tuple[str, str]) -> None:
    with pytest.raises(click.UsageError):
        cli.main(["keys", "create", "x", *option, "--data-dir", str(data)], standalone_mode=False)
    assert not (data / "server").exists()


def test_the_text_of_create_is_the_key_alone(data: Path) -> None:
    output = invoke("keys", "create", "ci", data=data).output
    assert output.strip() == output.split()[0]


def test_the_table_of_no_keys_says_how_to_make_one(data: Path) -> None:
    assert "atoll keys create" in invoke("keys", "list", data=data).output


# ---- errors and exit codes


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["keys", "list", "--data-dir", "/nonexistent"], 1, "atoll up"),
        (["up", "--listen", "nonsense"], 2, "--listen"),
        (["up", "--inactivity", "soon"], 2, "--inactivity"),
        (["keys", "create", " ", "--data-dir", "."], 2, "name"),
        (["nonsense"], 2, "No such command 'nonsense'."),
        (["kil", "abcd"], 2, "No such command 'kil'. Did you mean 'kill'?"),
        (["ps", "--data-dir", "/nonexistent"], 1, "atoll up"),
    ],
)
def test_errors_are_one_line_and_a_status(
    arguments: list[str],
    status: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["atoll", *arguments])
    with pytest.raises(SystemExit) as end:
        entry.main()
    assert end.value.code == status
    shown = capsys.readouterr().err
    assert text in shown
    assert "Traceback" not in shown


# ---- templates


def test_built_templates_are_listed(data: Path) -> None:
    directory = data / "node" / "templates" / "base"
    directory.mkdir(parents=True)
    written = {"name": "base", "digest": "d" * 64, "layers": ["/l"], "language": "bash", "created_at": 0}
    (directory / "template.json").write_text(json.dumps(written))
    listed, *others = json.loads(invoke("template", "list", "--json", data=data).output)
    assert {(other["name"], other["built"]) for other in others} >= {("busybox", "no"), ("code-interpreter", "no")}
    assert listed == {
        "name": "base",
        "language": "bash",
        "digest": "d" * 12,
        "layers": 1,
        "built": "1970-01-01 00:00:00Z",
    }
    assert "base" in invoke("template", "list", data=data).output


def test_a_build_shows_how_far_it_is_and_why_it_gave_up(data: Path) -> None:
    with noted(data / "node" / "templates" / "base", lambda step, fraction: None) as progress:
        progress("building base", 0.5)
        assert "being built, 50 %" in invoke("template", "list", data=data).output
    (data / "node" / "templates" / "base" / "failed").write_text("no more space\n")
    assert "no: no more space" in invoke("template", "list", data=data).output


# ---- doctor and up


GOOD = Check("kernel", True, "6.1")
BAD = Check("loop device", False, "no /dev/loop-control", "modprobe loop")
NOTE = Check("memory", False, "1 MiB free", "buy some", required=False)


def with_checks(monkeypatch: pytest.MonkeyPatch, *checks: Check) -> None:
    monkeypatch.setattr(compose, "host_checks", lambda *_: list(checks))


def test_doctor_says_what_to_do_and_fails(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    with_checks(monkeypatch, GOOD, BAD, NOTE)
    result = invoke("doctor", data=data)
    assert result.exit_code == 1
    assert "modprobe loop" in result.output
    assert "cannot isolate" in result.output


def test_a_note_does_not_fail_the_doctor(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    with_checks(monkeypatch, GOOD, NOTE)
    result = invoke("doctor", "--json", data=data)
    assert result.exit_code == 0
    assert [check["name"] for check in json.loads(result.output)] == ["kernel", "memory"]


def test_up_never_starts_where_it_cannot_isolate(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    with_checks(monkeypatch, GOOD, BAD)
    monkeypatch.setattr(supervisor, "data_lock", lambda places: pytest.fail("went on without isolation"))
    with pytest.raises(Unsupported, match="doctor"):
        invoke("up", data=data)
    assert list(data.iterdir()) == []


def test_up_mentions_notes_and_goes_on(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    with_checks(monkeypatch, GOOD, NOTE)
    console = Console(record=True)
    require_isolation(compose.read_config({"data_dir": str(data)}, {}), console)
    assert "buy some" in console.export_text()


def test_every_setting_is_a_flag_of_up() -> None:
    shown = invoke("up", "--help").output
    assert [setting.flag for setting in compose.SETTINGS if setting.flag not in shown] == []


def test_the_first_key_and_the_url_are_read_where_up_writes_them(tmp_path: Path) -> None:
    places = Places.of(tmp_path / "data", tmp_path / "run")
    assert (compose.first_key(places), compose.running_url(places)) == (None, None)
