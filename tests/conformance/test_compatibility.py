"""docs/compatibility/hopx.md is about the client that is installed here. Needs neither root nor an installation."""

from __future__ import annotations

import re

import compatibility


def rows() -> dict[str, str]:
    table = compatibility.DOCUMENT.read_text().partition(compatibility.MARKER)[2]
    return dict(re.findall(r"^\| `([\w.]+)` \| ([^|]+) \|", table, re.MULTILINE))


def test_every_public_name_of_the_client_has_a_row():
    assert list(rows()) == compatibility.public_names()


def test_nothing_is_claimed_to_fail_or_was_forgotten():
    """What is neither tested nor waiting is a gap that somebody has to see."""
    assert {name for name, verdict in rows().items() if verdict in ("**fails**", "not yet tested")} == set()
