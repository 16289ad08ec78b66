"""What a model gets of a sandbox's output: bounded, without control characters, pictures only where they are some."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp_types import ImageContent, TextContent

from atoll.mcp.output import (
    MAX_FIGURE,
    MAX_FIGURES,
    MAX_TEXT,
    clean,
    clip,
    image,
    outcome,
    rich,
    sections,
    shown,
)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPdevice\x1b\\after", "after"),
        ("10%\r20%\r\ndone", "10%\n20%\ndone"),
        ("bell\x07 and \x9b31m", "bell\ufffd and \ufffd31m"),
        ("half \ud83d of a character", "half \ufffd of a character"),
        ("user\u202etxt.exe", "user\ufffdtxt.exe"),
        ("grün 漢字 🎉", "grün 漢字 🎉"),
    ],
)
def test_what_a_terminal_would_obey_is_taken_away(given, seen):
    assert clean(given) == seen


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_sent_and_shown(text):
    made = shown(text, 100)
    made.encode()  # no half of a character is left
    assert not set(made) & {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))}
    assert len(made) < 300


def test_a_long_text_keeps_its_beginning_and_its_end():
    text = "".join(f"{number:05}\n" for number in range(100_000))
    cut = shown(text)
    assert cut.startswith("00000\n00001\n")
    assert cut.endswith("99998\n99999\n")
    assert "characters left out" in cut
    assert len(cut) < MAX_TEXT + 200


def test_what_was_left_out_is_counted():
    assert "970 characters left out" in clip("x" * 1000, 30)
    assert clip("x" * 30, 30) == "x" * 30


def test_only_parts_that_say_something_are_shown():
    text = sections({"stdout": "hello\n", "stderr": "", "result": " \n"}, outcome(0, 0.123))
    assert text == "stdout:\nhello\n\nexit code 0 after 0.12 s"


def test_figures_are_pictures_and_text_is_text():
    blocks = rich([{"image/png": encoded(PNG)}, {"text/markdown": "# hi"}, {"application/json": {"a": 1}}], None)
    assert isinstance(blocks[0], ImageContent)
    assert (blocks[0].mime_type, base64.b64decode(blocks[0].data)) == ("image/png", PNG)
    assert [each.text for each in blocks[1:]] == ["text/markdown:\n# hi", 'application/json:\n{"a": 1}']


def test_html_is_shown_only_where_no_plain_text_says_it():
    table = {"text/html": "<table></table>"}
    assert rich([table], "   a\n0  1") == []
    assert [each.text for each in rich([table], None)] == ["text/html:\n<table></table>"]


@pytest.mark.parametrize("value", ["not base64!", encoded(b"GIF87"), encoded(b"<svg>"), 7, None, ["x"], ""])
def test_a_figure_that_is_none_is_named_not_sent(value):
    (block,) = rich([{"image/png": value}], None)
    assert isinstance(block, TextContent)
    assert "no image/png" in block.text


def test_a_huge_figure_is_left_out_with_advice():
    (block,) = rich([{"image/png": encoded(PNG + bytes(MAX_FIGURE))}], None)
    assert "make it smaller" in block.text


def test_more_figures_than_a_host_shows_are_counted():
    blocks = rich([{"image/png": encoded(PNG)}] * (MAX_FIGURES + 3), None)
    assert sum(isinstance(each, ImageContent) for each in blocks) == MAX_FIGURES
    assert "3 more figures left out" in blocks[-1].text


def test_a_value_that_is_nested_very_deeply_is_not_shown():
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    (block,) = rich([{"application/json": value}], None)
    assert "nested too deeply" in block.text


def test_unknown_media_types_are_not_passed_on():
    assert rich([{"application/x-shell": "rm", "text/plain": "seen in the result"}], None) == []


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a...", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"<svg/>", None),
        (b"", None),
    ],
)
def test_a_picture_is_known_by_its_first_bytes(data, mime):
    found = image(data)
    assert (found.mime_type if found else None) == mime


@settings(max_examples=30)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_is_shown_within_the_limit(value):
    blocks = rich([{"application/vnd.dataframe+json": value}], None)
    assert all(len(each.text) < MAX_TEXT + 300 for each in blocks)
    assert json.dumps([each.model_dump(mode="json") for each in blocks])
