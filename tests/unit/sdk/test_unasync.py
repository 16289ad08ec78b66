"""`_sync` is what scripts/unasync makes of `_async`, to the byte, and no rule is left over."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "unasync"
LOADER = importlib.machinery.SourceFileLoader("unasync", str(SCRIPT))
unasync = importlib.util.module_from_spec(importlib.util.spec_from_loader("unasync", LOADER))
LOADER.exec_module(unasync)


def test_the_whole_file_set_is_the_generated_one():
    assert unasync.differences(unasync.generated()) == []


def test_a_change_by_hand_and_a_file_too_many_are_found(tmp_path):
    wanted = unasync.generated()
    for name, text in wanted.items():
        (tmp_path / name).write_text(text)
    assert unasync.differences(wanted, tmp_path) == []
    (tmp_path / "files.py").write_text(wanted["files.py"] + "\n")
    (tmp_path / "left_over.py").write_text("")
    (tmp_path / "env.py").unlink()
    assert unasync.differences(wanted, tmp_path) == ["env.py", "files.py", "left_over.py"]


def test_a_rule_that_replaces_nothing_fails(monkeypatch):
    monkeypatch.setattr(unasync, "RULES", (*unasync.RULES, (r"\bno_such_word\b", "x")))
    with pytest.raises(SystemExit, match="no_such_word"):
        unasync.generated()


def test_nothing_asynchronous_is_left():
    for path in sorted(unasync.TARGET.glob("*.py")):
        text = path.read_text().replace("Generated from `_async`", "")
        assert not re.findall(r"\b(?:async|await|\w*[Aa]sync[A-Z]\w*|_aio|__a\w+__)\b", text), path.name


def test_the_pair_that_is_written_by_hand_has_equal_names():
    from atoll.sdk import _aio, _aio_sockets, _sio, _sio_sockets

    assert {*_aio.__all__} - {"Opening"} == {*_sio.__all__}
    assert _aio_sockets.__all__ == _sio_sockets.__all__
    for ours, theirs in (
        (_aio.Pool, _sio.Pool),
        (_aio.Incoming, _sio.Incoming),
        (_aio_sockets.Socket, _sio_sockets.Socket),
    ):
        assert {name for name in vars(ours) if not name.startswith("_")} == {
            name for name in vars(theirs) if not name.startswith("_")
        }
