from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from atoll.engines.native import probe


def test_a_child_that_worked_says_nothing() -> None:
    assert probe._in_child(lambda: None) is None


def test_a_child_that_failed_says_why() -> None:
    def fail() -> None:
        raise OSError(1, "Operation not permitted", "unshare")

    assert probe._in_child(fail) == "[Errno 1] Operation not permitted: 'unshare'"


def test_a_child_that_was_killed_says_by_what() -> None:
    assert probe._in_child(lambda: os.kill(os.getpid(), signal.SIGSYS)) == "ended by SIGSYS"


def test_a_bug_in_a_probe_is_a_failed_check_and_no_crash() -> None:
    assert probe._in_child(lambda: [][0]) == "IndexError('list index out of range')"


def test_a_limit_that_stands_in_the_way_of_sandboxes_is_named_with_its_command(monkeypatch) -> None:
    assert probe._limits().ok
    monkeypatch.setattr(probe.host_limits.Limits, "open_files", 1 << 40)
    monkeypatch.setattr(probe.host_limits.resource, "setrlimit", refuse)
    check = probe._limits()
    assert (check.ok, check.required) == (False, True)
    assert check.detail.endswith(f": ulimit -Hn {1 << 40}")


def refuse(*_: object) -> None:
    raise ValueError("not allowed to raise maximum limit")


def test_a_tool_that_is_missing_names_its_package() -> None:
    check = probe._tool("no-such-program", "some-package")
    assert (check.ok, check.required, check.fix) == (False, True, "apt-get install some-package")


def test_a_taken_port_is_a_note() -> None:
    import socket

    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        check = probe.port_free(*taken.getsockname())
    assert (check.ok, check.required) == (False, False)
    assert check.detail.endswith(": Address already in use")
    assert "--listen" in check.fix


def test_without_root_nothing_else_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert [check.name for check in probe.run_checks(tmp_path) if not check.ok] == ["root"]


def test_where_a_data_directory_is_not_made_yet_its_parent_is_measured(tmp_path: Path) -> None:
    assert str(tmp_path) in probe._disk(tmp_path / "not" / "yet").detail
