from __future__ import annotations

import pytest

from atoll.core.errors import InternalError, Unsupported
from atoll.storage import tools


def test_a_missing_tool_is_named_by_its_package(monkeypatch):
    monkeypatch.setattr(tools, "find", lambda tool: None)
    assert tools.missing(["mkfs.ext4", "unshare", "setpriv"]) == ["e2fsprogs", "util-linux"]
    with pytest.raises(Unsupported, match="apt-get install mmdebstrap") as caught:
        tools.require("mmdebstrap")
    assert caught.value.details == {"packages": ["mmdebstrap"]}


def test_a_failure_says_what_failed_and_keeps_the_last_lines():
    with pytest.raises(InternalError, match=r"the work failed \(exit 3\): two") as caught:
        tools.run(["sh", "-c", "echo one; echo two >&2; exit 3"], what="the work")
    assert caught.value.details["output"] == ["one", "two"]


def test_lines_are_handed_over_in_order():
    lines: list[str] = []
    tools.follow(["sh", "-c", "echo a; echo b >&2; echo c"], lines.append, what="talking")
    assert lines == ["a", "b", "c"]


def test_following_a_failure_says_its_last_line():
    with pytest.raises(InternalError, match=r"exit 1\): b"):
        tools.follow(["sh", "-c", "echo a; echo b; exit 1"], lambda line: None, what="talking")


def test_a_reader_that_gives_up_ends_the_command():
    def refuse(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="a"):
        tools.follow(["sh", "-c", "echo a; exec sleep 1000"], refuse, what="talking")
