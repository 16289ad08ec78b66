from __future__ import annotations

import pytest

from atoll.storage.progress import DebootstrapLines, apt_fraction, part


def test_packages_fetched_unpacked_and_set_up_make_the_fraction():
    lines = DebootstrapLines()
    text = [
        "Get:1 bookworm InRelease",
        "0 upgraded, 2 newly installed, 0 to remove",
        "Get:1 bookworm/main amd64 a",
        "Unpacking a (1) ...",
        "Setting up a (1) ...",
    ]
    assert [lines.feed(line) for line in text] == [0.0, 0.0, 1 / 6, 2 / 6, 3 / 6]


def test_the_fraction_never_shrinks_and_never_ends_early():
    lines = DebootstrapLines()
    lines.feed("1 newly installed")
    assert lines.feed("Unpacking a") == 1 / 3
    assert lines.feed("9 newly installed") == 1 / 3
    for _ in range(40):
        last = lines.feed("Setting up a")
    assert last == 0.99


@pytest.mark.parametrize(
    ("line", "fraction"),
    [
        ("dlstatus:1:50.0:Retrieving file 1 of 2", 0.125),
        ("pmstatus:golang-go:50.0:Installing", 0.625),
        ("pmstatus:dpkg-exec:100:Running dpkg", 1.0),
        ("Get:1 something", None),
        ("pmstatus:broken", None),
    ],
)
def test_apt_status_lines(line, fraction):
    assert apt_fraction(line) == fraction


def test_a_part_fills_its_stretch_and_no_more():
    seen = []
    advance = part(lambda step, fraction: seen.append((step, fraction)), "whole", 0.5, 0.75)
    for fraction in (-1, 0, 0.5, 1, 7):
        advance("inner", fraction)
    assert seen == [("whole", 0.5), ("whole", 0.5), ("whole", 0.625), ("whole", 0.75), ("whole", 0.75)]
