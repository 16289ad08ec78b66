"""Every link inside the documents leads somewhere, as files (the checkout on a code host) and as the built site."""

from __future__ import annotations

from pathlib import Path

import pytest
import reading

ELSEWHERE = ("https://", "http://", "mailto:")


@pytest.mark.parametrize("page", reading.pages(), ids=reading.name)
def test_links_of_a_page_lead_somewhere(page) -> None:
    wrong = [
        f"{reading.name(page)}:{line}: {target}: {why}"
        for line, target in reading.links(page.read_text())
        if not target.startswith(ELSEWHERE) and (why := broken(page, target))
    ]
    assert not wrong, "\n".join(wrong)


def broken(page: Path, target: str) -> str | None:
    path, _, anchor = target.partition("#")
    place = (page.parent / path).resolve() if path else page
    if not place.is_relative_to(reading.ROOT):
        return "it leaves the checkout"
    if not place.exists():
        return "there is no such file"
    if anchor and place.suffix == ".md" and anchor not in reading.anchors(place.read_text()):
        return "there is no such heading"
    return None


def test_a_broken_link_is_found(tmp_path) -> None:
    """Or the tests above would say nothing."""
    page = reading.ROOT / "docs" / "index.md"
    assert broken(page, "quickstart.md") is None
    assert broken(page, "nowhere.md") == "there is no such file"
    assert broken(page, "concepts.md#nothing-like-it") == "there is no such heading"
    assert broken(page, "../../../etc/passwd") == "it leaves the checkout"
