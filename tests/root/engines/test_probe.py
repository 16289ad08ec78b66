from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from atoll.engines.native import probe

pytestmark = pytest.mark.root


def loops_on(place: Path) -> list[str]:
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # somebody else's, gone meanwhile
            found.append(backing.read_text())
    return [each for each in found if each.startswith(str(place))]


def test_this_host_can_isolate_and_trying_leaves_nothing_behind(tmp_path: Path) -> None:
    checks = probe.run_checks(tmp_path)
    assert [check for check in checks if check.required and not check.ok] == []
    assert list(tmp_path.iterdir()) == []
    assert loops_on(tmp_path) == []


def test_the_step_that_fails_names_itself_and_the_later_ones_are_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(1, "no loop device for you")

    monkeypatch.setattr(probe.disk, "mount_image", refuse)
    image, loop, *rest = probe._storage(tmp_path)
    assert image.ok
    assert "no loop device for you" in loop.detail
    assert loop.fix
    assert all("not tried" in check.detail for check in rest)


def test_what_a_way_out_needs_is_tried_and_this_host_has_it() -> None:
    assert [(check.name, check.detail) for check in probe._way_out()] == [
        ("outbound rules", "works"),
        ("connection events", "works"),
        ("refusal log", "works"),
    ]


def test_a_rule_that_the_kernel_does_not_know_is_named_and_is_no_reason_not_to_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe.probe_egress, "RULES", "table inet x { chain y { no such rule; } }")
    rules, *_ = probe._way_out()
    assert (rules.ok, rules.required) == (False, False)
    assert "nft" in rules.detail
    assert "--uplink none" in rules.fix
